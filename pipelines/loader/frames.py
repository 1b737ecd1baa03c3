"""Frames of a sample to look at: spread over the clip as stored, or as the loader delivers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.buckets import Bucket
from training.data.captions import choose_caption, may_flip
from training.data.decode import View, decode_clip
from training.data.geometry import Draws, target_times_s, view_of, window_start_s
from training.data.index import ShardIndex
from training.data.settings import DataSettings

NUM_FRAMES = 6
Frames = tuple[list[float], NDArray[np.uint8], str]
"""Times, pixels and notes of one sample."""
Show = Callable[[bytes, ShardIndex, int, dict[str, Any], Bucket | None], Frames]


def as_loaded(settings: DataSettings, epoch: int) -> Show:
    """Frames as the loader delivers them in an epoch: window, crop, size, mirrored or not.

    Args:
        settings: Of the training; its seed, ``read.window``, ``read.crop``, ``read.flip``.
        epoch: Of the source.
    """
    read = settings.read

    def show(
        data: bytes, index: ShardIndex, position: int, record: dict[str, Any], bucket: Bucket | None
    ) -> Frames:
        if bucket is None:
            return stored_frames(data, index, position, record, bucket)
        draws = Draws(settings.order.seed, epoch, int(index["key_hash"][position]))
        mirror = draws.of("flip") < read.flip and may_flip(record)
        start_s = window_start_s(
            read.window,
            draws,
            frames=int(index["frames"][position]),
            fps=float(index["fps"][position]),
            bucket=bucket,
        )
        view = view_of(bucket, draws, crop=read.crop, scaling=read.scaling, mirror=mirror)
        times = target_times_s(start_s, bucket)
        kind, text = choose_caption(record, draws.of("caption"))
        flipped = ", mirrored" if mirror else ""
        said = f"{kind}: {text}" if kind else "none"
        notes = f"epoch {epoch}: from {start_s:.2f} s{flipped}; caption drawn: {said}"
        return times, decode_clip(data, times, view), notes

    return show


def stored_frames(
    data: bytes, index: ShardIndex, position: int, record: dict[str, Any], bucket: Bucket | None
) -> Frames:
    """Frames spread over a whole clip, as stored but for their size."""
    fps = float(index["fps"][position])
    frames = int(index["frames"][position])
    count = min(NUM_FRAMES, frames)
    places = spread(frames, count)
    times = [place / fps for place in places]
    height, width = int(index["height_px"][position]), int(index["width_px"][position])
    return times, decode_clip(data, times, View(height, width)), ""


def spread(num: int, count: int) -> list[int]:
    """Places from the first to the last of ``num``, evenly; all where they are fewer."""
    if num <= count:
        return list(range(num))
    return [round(i * (num - 1) / (count - 1)) for i in range(count)] if count > 1 else [num // 2]
