"""What would take dropped clips in: one setting more generous, or one shorter bucket.

Every number is counted with the settings as they would be, not estimated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from training.data.buckets import (
    SLACK_S,
    Assignment,
    Bucket,
    BucketSettings,
    Shape,
    fit,
    misfits,
    stored_shapes,
)
from training.data.index import ShardIndex

LIMITS = {"max_upscale": 4.0, "max_crop": 0.75, "max_rate": 4.0}
"""Beyond these nobody should go: the picture would be another one."""
MOST_SHORTER = 2
HALF = 0.5


@dataclass(frozen=True)
class Taker:
    """A change and what it would bring.

    Attributes:
        change: As it is written: ``max_upscale=1.5``, or a shape for the buckets file.
        clips: Dropped clips that it would take in.
        hours: Their length.
    """

    change: str
    clips: int
    hours: float


def takers(
    index: ShardIndex, assigned: Assignment, settings: BucketSettings, *, pictures: bool = False
) -> list[Taker]:
    """Changes that would take dropped clips in, the most effective first.

    Args:
        index: N clips.
        assigned: Where they go now.
        settings: The buckets and limits.
        pictures: Single frames of the clips are wanted.
    """
    dropped = np.flatnonzero(assigned.bucket < 0)
    if not len(dropped):
        return []
    part = index.take(dropped)
    shapes, which = stored_shapes(part)
    counts = np.bincount(which, minlength=len(shapes))
    hours = counts * (shapes[:, 0] / shapes[:, 3]) / 3600
    single = pictures or all(b.frames == 1 for b in assigned.buckets)
    # A clip goes into buckets of clips, a stored picture into those of one frame.
    alone = (shapes[:, 0] == 1) | single
    found: list[Taker] = []
    for change, fits in _changes(shapes, counts, alone, assigned.buckets, settings):
        if fits.any():
            found.append(Taker(change, int(counts[fits].sum()), float(hours[fits].sum())))
    return sorted(found, key=lambda t: -t.clips)


Change = tuple[str, NDArray[np.bool_]]


def _changes(
    shapes: NDArray[np.float64],
    counts: NDArray[np.int64],
    alone: NDArray[np.bool_],
    buckets: tuple[Bucket, ...],
    settings: BucketSettings,
) -> list[Change]:
    changes: list[Change] = []
    for name, limit in LIMITS.items():
        needed = _needed(name, shapes, alone, buckets, settings)
        reached = needed <= limit
        if not reached.any():
            continue
        order = np.argsort(needed)
        share = np.cumsum(counts[order] * reached[order]) / counts[reached].sum()
        values = {_up(needed[order][int(np.searchsorted(share, s - 1e-9))]) for s in (HALF, 1.0)}
        for value in sorted(values):
            wider = settings.model_copy(update={name: value})
            changes.append((f"{name}={value:g}", _fits(shapes, alone, buckets, wider)))
    return changes + _shorter(shapes, counts, alone, buckets, settings)


def _needed(
    name: str,
    shapes: NDArray[np.float64],
    alone: NDArray[np.bool_],
    buckets: tuple[Bucket, ...],
    settings: BucketSettings,
) -> NDArray[np.float64]:
    """The least value of one setting that takes each shape in; infinite where none does."""
    free = settings.model_copy(update={name: math.inf if name != "max_crop" else 1.0})
    needed = np.full(len(shapes), math.inf)
    for bucket in buckets:
        usable = (alone == (bucket.frames == 1)) & (misfits(bucket, shapes, free) < 0)
        scale, crop = fit(bucket, shapes)
        own = {"max_upscale": scale, "max_crop": crop, "max_rate": bucket.fps / shapes[:, 3]}[name]
        needed = np.where(usable, np.minimum(needed, own), needed)
    return needed


def _shorter(
    shapes: NDArray[np.float64],
    counts: NDArray[np.int64],
    alone: NDArray[np.bool_],
    buckets: tuple[Bucket, ...],
    settings: BucketSettings,
) -> list[Change]:
    """Buckets of the sizes there are, with fewer frames."""
    shortest: dict[tuple[int, int, float], Bucket] = {}
    for bucket in sorted(buckets, key=lambda b: -b.frames):
        if bucket.frames > 1:
            shortest[bucket.height_px, bucket.width_px, bucket.fps] = bucket
    span_s = (shapes[:, 0] - 1) / shapes[:, 3]
    found: list[tuple[int, Change]] = []
    for (height, width, fps), bucket in shortest.items():
        best: tuple[int, Change] | None = None
        for frames in range(bucket.frames - settings.temporal_stride, 1, -settings.temporal_stride):
            if not (span_s + SLACK_S >= (frames - 1) / fps).any():
                continue
            shape = Shape(frames=frames, height_px=height, width_px=width, fps=fps)
            try:
                more = BucketSettings.model_validate(
                    settings.model_dump() | {"shapes": [*settings.shapes, shape]}
                )
            except ValidationError:
                continue  # it would cost too little, or not fill the model's patches
            fits = _fits(shapes, alone, more.buckets(), more)
            clips = int(counts[fits].sum())
            if clips and (best is None or clips > best[0]):
                text = (
                    f"a shape {{frames: {frames}, height_px: {height}, "
                    f"width_px: {width}, fps: {fps:g}}}"
                )
                best = clips, (text, fits)
        if best is not None:
            found.append(best)
    found.sort(key=lambda f: -f[0])
    return [change for _, change in found[:MOST_SHORTER]]


def _fits(
    shapes: NDArray[np.float64],
    alone: NDArray[np.bool_],
    buckets: tuple[Bucket, ...],
    settings: BucketSettings,
) -> NDArray[np.bool_]:
    fits = np.zeros(len(shapes), bool)
    for bucket in buckets:
        fits |= (alone == (bucket.frames == 1)) & (misfits(bucket, shapes, settings) < 0)
    return fits


def _up(value: float) -> float:
    """Rounded up to hundredths."""
    return math.ceil(value * 100 - 1e-6) / 100
