"""The footage bank: single shots as small pictures, from any folder of videos and photographs.

Run: ``python -m infra.shotnet.bank OUT FOLDER...``. Each video becomes one ``.npz`` of uint8
[n, 54, 96, 3] pictures and the half-open spans in which neither TransNetV2 nor the content value
sees anything like a transition, so that what is composed later has exact labels.
"""

from __future__ import annotations

import argparse
import hashlib
from itertools import pairwise
from pathlib import Path

import av.error
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from curation.errors import MediaError
from curation.media.decode import open_video, walk_frames
from curation.models.registry import TRANSNET_V2, require_weights
from curation.models.transnet import MARGIN_FRAMES, STRIDE_FRAMES, TransNet

WIDTH_PX, HEIGHT_PX = 96, 54
MAX_FRAMES = 20_000
MIN_SHOT_FRAMES = 24
GUARD_FRAMES = 8
CHANGE_LAG = 12
STILL = 8.0
"""Below this change over half a second nothing can be a transition: the network is spared."""
NO_SPANS = np.zeros((0, 2), np.int64)
PHOTOS = {".jpg", ".jpeg", ".png"}


def main() -> None:
    """Build the bank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--textures", type=int, default=0, help="generated textures to add")
    parser.add_argument("--one-shot", action="store_true", help="known by eye: each is one shot")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.textures:
        for number in range(options.textures):
            np.savez(options.out / f"texture-{number}.npz", frames=_texture(number), spans=NO_SPANS)
    files = sorted(f for folder in options.folders for f in folder.rglob("*") if f.is_file())
    for number, path in enumerate(files):
        target = (
            options.out / f"{hashlib.sha256(path.name.encode()).hexdigest()[:8]}-{path.stem}.npz"
        )
        if target.exists():
            continue
        found = _photo(path) if path.suffix.lower() in PHOTOS else _video(path, options.one_shot)
        if found is None:
            continue
        frames, spans = found
        np.savez(target, frames=frames, spans=np.array(spans).reshape(-1, 2))
        used = sum(b - a for a, b in spans)
        text = f"{len(frames)} frames, {used} in {len(spans)} shots"
        print(f"{number + 1}/{len(files)} {path.name}: {text}", flush=True)


def _photo(path: Path) -> tuple[np.ndarray, list[tuple[int, int]]] | None:
    """A photograph at four times the bank's size, for moves over it."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None or min(image.shape[:2]) < 300:
        return None
    size = (WIDTH_PX * 3, HEIGHT_PX * 3)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small[None, :, :, ::-1], []


def _texture(seed: int) -> np.ndarray:
    """Coloured noise of a random grain, like a photograph: uint8 [1, h, w, 3]."""
    rng = np.random.default_rng(seed)
    size = (WIDTH_PX * 3, HEIGHT_PX * 3)
    picture = np.zeros((size[1], size[0], 3), np.float32)
    falloff = rng.uniform(0.4, 0.9)
    for octave in range(1, 7):
        grain = rng.standard_normal((2**octave, 2**octave, 3)).astype(np.float32)
        picture += falloff**octave * cv2.resize(grain, size, interpolation=cv2.INTER_CUBIC)
    picture = picture / picture.std() * rng.uniform(20, 70) + rng.uniform(60, 180, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)[None]


def _video(path: Path, one_shot: bool) -> tuple[np.ndarray, list[tuple[int, int]]] | None:
    scaler = VideoReformatter()
    frames = []
    try:
        with open_video(str(path), threads=2) as (container, stream):
            for decoded in walk_frames(container, stream):
                small = scaler.reformat(
                    decoded.frame,
                    width=WIDTH_PX,
                    height=HEIGHT_PX,
                    format="rgb24",
                    interpolation="AREA",
                )
                frames.append(small.to_ndarray())
                if len(frames) >= MAX_FRAMES:
                    break
    except (MediaError, av.error.FFmpegError, ValueError):
        return None
    if len(frames) < MIN_SHOT_FRAMES:
        return None
    pictures = np.stack(frames)
    return pictures, [(0, len(pictures))] if one_shot else _quiet_spans(pictures)


def _quiet_spans(frames: np.ndarray) -> list[tuple[int, int]]:
    """Spans without anything like a transition."""
    thumbs = np.stack([cv2.resize(f, (48, 27), interpolation=cv2.INTER_AREA) for f in frames])
    net = TransNet(require_weights(TRANSNET_V2))
    loud: list[int] = []
    for start in range(0, len(thumbs), STRIDE_FRAMES):
        part = thumbs[start : start + STRIDE_FRAMES]
        if len(part) > CHANGE_LAG and _change(part) < STILL:
            continue
        window = np.arange(start - MARGIN_FRAMES, start + STRIDE_FRAMES + MARGIN_FRAMES)
        single, many = net.windows(thumbs[window.clip(0, len(thumbs) - 1)][None])
        heads = np.maximum(single, many)[0, MARGIN_FRAMES:-MARGIN_FRAMES]
        loud += (start + np.flatnonzero(heads > 0.1)).tolist()
    edges = [-GUARD_FRAMES, *loud, len(frames) + GUARD_FRAMES]
    spans = [(a + GUARD_FRAMES, b - GUARD_FRAMES) for a, b in pairwise(edges)]
    return [(a, b) for a, b in spans if b - a >= MIN_SHOT_FRAMES]


def _change(part: np.ndarray) -> float:
    """Largest mean difference over ``CHANGE_LAG`` frames, 0-255."""
    late, early = part[CHANGE_LAG:].astype(np.int16), part[:-CHANGE_LAG]
    return float(np.abs(late - early).mean((1, 2, 3)).max())


if __name__ == "__main__":
    main()
