"""Camera classes scored: virtual cameras of known movement over real footage.

    python -m tests.bench.camera            sources the thresholds were set on, and held-out ones

A virtual camera is a window that shifts, grows, turns or shakes over a still or over footage whose
own camera stands, resampled below the pixel, encoded with H.264 and decoded again. Every case draws
its frame rate, size, encoder quality and length from its number, so that runs repeat.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from curation.media.decode import open_video, time_base, walk_frames
from curation.signals.analysis import Shrinker
from curation.signals.camera_moves import RADIUS
from curation.signals.flow import FlowMeter
from curation.signals.scan import _motion_values
from curation.stages.camera import Camera
from tests.bench.shots import ASSETS
from tests.curation.chain import run_stage
from tests.media import Recording, write_video

Source = tuple[str, float, bool]
"""File below the videos' folder, second it starts at, whether it is one still picture."""
TUNED: tuple[Source, ...] = (
    ("real/02_cups.mp4", 0.0, False),
    ("real/02_cups.mp4", 2.0, True),
    ("real/bottle-detection.mp4", 5.5, False),
    ("real/01_dog.mp4", 0.0, False),
    ("real/one-by-one-person-detection.mp4", 5.0, False),
)
HELD_OUT: tuple[Source, ...] = (
    ("odd/mov.mov", 0.0, False),
    ("real/flower.mp4", 0.0, False),
    ("real/nasa_13013.mp4", 0.0, False),
    ("real/bikes.mp4", 6.0, True),
    ("real/elf.mp4", 0.0, True),
    ("real/cityCC0.mpg", 6.0, True),
    ("real/bbb-480p-30s.mp4", 10.0, True),
    ("odd/VID_20191220_170832.mp4", 0.0, True),
)
MOVES = (
    *("pan_right", "pan_left", "tilt_up", "tilt_down"),
    *("zoom_in", "zoom_out", "roll_cw", "roll_ccw"),
)
KINDS = (*MOVES, "static", "handheld")
SPEEDS = (0.02, 0.05, 0.15, 0.5)
"""Flow, diagonals per second; zooms and rolls stop at 0.15: a picture that doubles in a second."""
SHAKES = (0.003, 0.006, 0.012)
"""Root mean square of a hand-held camera's shift, diagonals."""
LIMIT = {"p": 1.0, "t": 0.9, "z": float(np.log(3)) * RADIUS}
"""Way that fits into a source: diagonals; zooms up to three times."""
FPS, SIZES_PX, CRF = (12, 24, 30, 60), ((640, 360), (1280, 720)), (18, 35)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One virtual camera.

    Attributes:
        kind: One of ``KINDS``.
        speed_per_s: Flow of the move, diagonals per second.
        shake: Root mean square of the hand's shift, diagonals.
        seed: Which hand.
        fps: Frame rate.
        size_px: Width and height.
        crf: Encoder's quality.
        seconds: Length.
    """

    kind: str
    speed_per_s: float = 0.0
    shake: float = 0.0
    seed: int = 0
    fps: float = 24
    size_px: tuple[int, int] = (640, 360)
    crf: int = 18
    seconds: float = 3.0


@lru_cache(maxsize=2)
def plate(path: Path, start_s: float, still: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """Times from the start and RGB pictures of three seconds of a source."""
    times_s, pictures = [], []
    with av.open(str(path)) as source:
        for frame in source.decode(video=0):
            time_s = float(frame.time or 0.0) - start_s
            if time_s < -1e-3:
                continue
            if time_s > 3.1:
                break
            times_s.append(time_s)
            pictures.append(frame.to_ndarray(format="rgb24"))
            if still:
                break
    return np.array(times_s), pictures


def camera_path(case: Case, times_s: np.ndarray) -> np.ndarray:
    """Shift right and down in diagonals, log of the zoom and angle clockwise, float [4, n]."""
    path = np.zeros((4, len(times_s)))
    way = case.speed_per_s * (times_s - times_s.mean())
    if case.kind in MOVES:
        axis, sign = divmod(MOVES.index(case.kind), 2)
        sign = 1 - 2 * sign
        path[axis] = (-sign if axis == 1 else sign) * way / (RADIUS if axis > 1 else 1)
    if case.shake:
        rng = np.random.default_rng(case.seed)
        hand = np.zeros((4, len(times_s)))
        for axis, share in ((0, 1.0), (1, 1.0), (3, 0.3 / RADIUS)):
            for hz in rng.uniform(0.7, 5, 8):
                wave = np.sin(2 * np.pi * hz * times_s + rng.uniform(0, 2 * np.pi))
                hand[axis] += share * rng.normal() / hz * wave
        path += hand * case.shake / np.sqrt((hand[:2] ** 2).sum(axis=0).mean())
    return path


def shoot(source: tuple[np.ndarray, list[np.ndarray]], case: Case) -> Iterator[np.ndarray]:
    """RGB pictures of the largest window that stays inside the source all along the path."""
    plate_s, plates = source
    times_s = np.arange(round(case.seconds * case.fps)) / case.fps
    shift_x, shift_y, zoom, angle = camera_path(case, times_s)
    (width, height), (high, wide) = case.size_px, plates[0].shape[:2]
    diagonal = float(np.hypot(width, height))
    scale = np.exp(-zoom) / diagonal
    half_x = (np.abs(np.cos(angle)) * width + np.abs(np.sin(angle)) * height) * scale / 2
    half_y = (np.abs(np.sin(angle)) * width + np.abs(np.cos(angle)) * height) * scale / 2
    left, right = (shift_x - half_x).min(), (shift_x + half_x).max()
    top, bottom = (shift_y - half_y).min(), (shift_y + half_y).max()
    unit = 0.98 * min(wide / (right - left), high / (bottom - top))
    corner = np.array([wide - unit * (right + left), high - unit * (bottom + top)]) / 2
    for i, time_s in enumerate(times_s):
        step = unit * scale[i]
        fine = 2 if step > 1.3 else 1  # shrinking: draw larger, then average
        cos, sin = step / fine * np.cos(angle[i]), step / fine * np.sin(angle[i])
        linear = np.array([[cos, -sin], [sin, cos]])
        middle = np.array([fine * width - 1, fine * height - 1]) / 2
        centre = corner + unit * np.array([shift_x[i], shift_y[i]])
        picture = cv2.warpAffine(
            plates[int(np.abs(plate_s - time_s).argmin())],
            np.column_stack([linear, centre - linear @ middle]),
            (fine * width, fine * height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        yield cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def motion_row(path: Path) -> dict[str, Any]:
    """A row for the stage as the signals pass makes it: a whole file as one clip."""
    lists: dict[str, list[Any]] = {"frame_time_s": [], "frame_luma_mean": []}
    shrink, meter, first = Shrinker(), FlowMeter(), None
    with open_video(str(path)) as (container, stream):
        unit_s = float(time_base(stream))
        for decoded in walk_frames(container, stream):
            first = decoded.pts if first is None else first
            time_s = round((decoded.pts - first) * unit_s, 6)
            small = shrink(decoded.frame)
            pair = _motion_values(meter.push(small.luma, time_s))
            luma = float(small.luma.mean()) / 255
            for name, value in (pair | dict(frame_time_s=time_s, frame_luma_mean=luma)).items():
                lists.setdefault(name, []).append(value)
        size_px = stream.width, stream.height
    times = lists["frame_time_s"]
    end_s = times[-1] + (times[-1] - times[0]) / max(1, len(times) - 1)
    place = dict(clip_id="c", video_id="v", start_s=0.0, end_s=end_s)
    facts = dict(sample_aspect_ratio=1.0, rotation_deg=0, width_px=size_px[0], height_px=size_px[1])
    return lists | place | facts


def camera_score(row: dict[str, Any], **fields: float) -> dict[str, Any]:
    """The stage's row for one clip."""
    tables, failures = run_stage(Camera.model_validate(fields), [row])
    assert not failures
    return tables["scores_camera"].to_pylist()[0]


def measured(source: Source, case: Case, folder: Path, root: Path = ASSETS) -> dict[str, Any]:
    """The score of a case: drawn, encoded, decoded, measured."""
    name, start_s, still = source
    pictures = shoot(plate(root / name, start_s, still), case)
    path = write_video(folder / "case.mp4", pictures, Recording(fps=case.fps, crf=case.crf))
    return camera_score(motion_row(path))


def cases(seed: int) -> list[Case]:
    """The cases of one source."""
    rng = np.random.default_rng(seed)
    found = []
    for kind in KINDS:
        steps: Sequence[float] = SPEEDS if kind[0] in "pt" else SPEEDS[:3]
        steps = SHAKES if kind == "handheld" else (0.0,) if kind == "static" else steps
        for i, step in enumerate(steps):
            hand = step if kind == "handheld" else 0.003 * (i == 1)  # one move in three by hand
            speed = 0.0 if kind == "handheld" else step
            longest = LIMIT.get(kind[0], 9.0) / speed if kind in MOVES else 9.0
            found.append(
                Case(
                    kind=kind,
                    speed_per_s=speed,
                    shake=hand,
                    seed=int(rng.integers(1 << 30)),
                    fps=float(rng.choice(FPS)),
                    size_px=SIZES_PX[int(rng.random() < 0.2)],
                    crf=int(rng.choice(CRF)),
                    seconds=min(float(rng.uniform(2, 3)), longest),
                )
            )
    return found


def confusion(counts: Counter[tuple[str, str]]) -> str:
    """True classes down, found classes across."""
    names = [*KINDS, "mixed"]
    lines = [f"{'':10}" + "".join(f"{n[:9]:>10}" for n in names)]
    for kind in KINDS:
        row = (counts[kind, n] for n in names)
        lines.append(f"{kind:10}" + "".join(f"{v or '.':>10}" for v in row))
    return "\n".join(lines)


def report(name: str, sources: Sequence[Source], folder: Path) -> float:
    """Print the confusion table of some sources; the share that is right."""
    counts: Counter[tuple[str, str]] = Counter()
    sure: dict[bool, list[float]] = {True: [], False: []}
    for index, source in enumerate(s for s in sources if (ASSETS / s[0]).is_file()):
        for case in cases(index + 1000 * len(name)):
            score = measured(source, case, folder)
            right = score["camera_class"] == case.kind
            counts[case.kind, score["camera_class"]] += 1
            sure[right].append(score["camera_confidence"])
            if not right:
                print(f"  {source[0]} {case} -> {score}")
    share = len(sure[True]) / max(1, counts.total())
    means = ", ".join(f"{np.mean(v):.2f} when {k}" for k, v in sure.items() if v)
    print(f"{name}: {share:.3f} of {counts.total()} right; confidence {means}")
    print(confusion(counts))
    return share


def main() -> None:
    """Print the tables."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report("tuned", TUNED, Path(folder))
        report("held-out", HELD_OUT, Path(folder))


if __name__ == "__main__":
    main()
