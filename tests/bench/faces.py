"""Faces found and missed on labelled frames of real footage, at several confidences, and the cost.

    CLIPMILL_MODELS=FOLDER python -m tests.bench.faces

A frame counts as right when the detector and the person who labelled it agree on whether a human
face is to be seen. Backs of heads, animals, dolls and drawings are no faces; frames where people
would disagree (a strip of cheek seen from behind) are left out.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from curation.media.decode import open_video, walk_frames
from curation.models.yunet import Face, FaceFinder
from curation.signals.analysis import Sampler
from curation.stages.sampled import picture

REPO = Path(__file__).resolve().parents[2]
ASSETS = Path(os.environ.get("CLIPMILL_ASSETS", REPO.parent / "shared" / "assets")) / "videos"
LONG_SIDE_PX, QUALITY = 512, 90


@dataclass(frozen=True)
class Labels:
    """What is to be seen in the first frame at or after 0, step, 2 step ... seconds.

    Attributes:
        step_s: Seconds between labelled frames.
        faces_s: Times with a human face.
        unsure_s: Times left out.
    """

    step_s: int = 1
    faces_s: frozenset[int] = frozenset()
    unsure_s: frozenset[int] = frozenset()


LABELS: dict[str, Labels] = {
    "real/video.mp4": Labels(1, frozenset(range(25)) - {11, 13, 20, 22}),
    "real/01_dog.mp4": Labels(1, frozenset(range(10))),  # a woman, half turned and bending down
    "real/bikes.mp4": Labels(1, frozenset({5})),  # a cyclist
    "real/one-by-one-person-detection.mp4": Labels(5, frozenset({135}), frozenset({75, 85})),
    "real/wannaworktogether.mp4": Labels(5, frozenset({45, 80}), frozenset({40})),  # photographs
    "real/nasa_13013.mp4": Labels(1, frozenset(), frozenset({6, 7, 8})),  # a hood from behind
    "odd/VID_20191220_170832.mp4": Labels(),  # a white dog
    "real/bigbuckbunny.mp4": Labels(),  # a drawn rabbit
    "real/bbb-480p-30s.mp4": Labels(),
    **{f"real/{name}.mp4": Labels() for name in ("frog", "elf", "monster", "crystal")},  # toys
    **{f"real/{name}.mp4": Labels() for name in ("02_cups", "flower", "example")},
    "real/car-detection.mp4": Labels(2),
    "real/bottle-detection.mp4": Labels(2),
    "real/cityCC0.mpg": Labels(),
}


def samples(path: Path, step_s: int) -> Iterator[tuple[int, np.ndarray]]:
    """Times and uint8 BGR pictures as the signals pass stores them."""
    with open_video(str(path)) as (source, stream):
        sampler = Sampler(LONG_SIDE_PX, QUALITY, 0, float(stream.sample_aspect_ratio or 1))
        first, due_s = None, 0
        for decoded in walk_frames(source, stream):
            at_s = float(decoded.pts * (stream.time_base or 0))
            first = at_s if first is None else first
            if at_s - first >= due_s:
                yield due_s, picture(sampler(decoded.frame)[0])
                due_s += step_s


Seen = dict[tuple[str, int], tuple[bool, list[Face]]]
"""For each labelled frame (file, second): whether a face is there, and the faces found."""


def look(finder: FaceFinder, folder: Path = ASSETS, names: Collection[str] = tuple(LABELS)) -> Seen:
    """Look at the labelled frames of some files."""
    seen: Seen = {}
    for name in names:
        labels = LABELS[name]
        for at_s, image in samples(folder / name, labels.step_s):
            if at_s not in labels.unsure_s:
                seen[name, at_s] = at_s in labels.faces_s, finder(image)
    return seen


def precision_recall(seen: Seen, confidence: float, min_height: float) -> tuple[float, float]:
    """Of the frames with a found face the share that has one, and the other way round."""
    hits = false = missed = 0
    for there, faces in seen.values():
        found = any(f.confidence >= confidence and f.height >= min_height for f in faces)
        hits += there and found
        false += found and not there
        missed += there and not found
    return hits / max(1, hits + false), hits / max(1, hits + missed)


def main() -> None:
    """Print the table, the errors at the default, and the cost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--min-height", type=float, default=0.03, help="share of the picture")
    args = parser.parse_args()
    finder = FaceFinder(0.3)
    seen = look(finder)
    print(f"{len(seen)} frames, {sum(there for there, _ in seen.values())} with a face")
    print("confidence  precision  recall")
    for confidence in (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9):
        precision, recall = precision_recall(seen, confidence, args.min_height)
        print(f"{confidence:10.2f}  {precision:9.3f}  {recall:6.3f}")
    for (name, at_s), (there, faces) in seen.items():
        best = max((f.confidence for f in faces if f.height >= args.min_height), default=0.0)
        if there != (best >= 0.7):
            print(f"{'missed' if there else 'false '} {name} {at_s} s, confidence {best:.2f}")
    frame = cv2.resize(next(samples(ASSETS / "real/01_dog.mp4", 1))[1], (512, 288))
    start = time.process_time()
    for _ in range(50):
        finder(frame)
    print(f"{(time.process_time() - start) / 50 * 1000:.1f} ms of CPU for 512x288 pixels")


if __name__ == "__main__":
    main()
