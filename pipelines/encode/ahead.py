"""Clips decoded ahead of the encoders, in threads, a few at a time, handed out in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import CatalogError, MediaError
from pipelines.encode.items import ShardItem
from training.data.buckets import Bucket
from training.data.decode import View, decode_clip
from training.data.geometry import target_times_s
from training.data.sample import Part, Parts, Place, record_of

AHEAD = 1
"""Clips that wait decoded, beside the one that each thread decodes."""


@dataclass
class Decoded:
    """One sample as read.

    Attributes:
        record: Content of its ``.json``.
        bucket: None: it fits none.
        starts_s: Where its W windows begin.
        pixels: uint8 (W, T, H, W, 3); None without a bucket, or when it does not decode.
        error: Why it does not.
        decode_s: Time that it took.
    """

    record: dict[str, Any]
    bucket: Bucket | None
    starts_s: list[float]
    pixels: NDArray[np.uint8] | None = None
    error: MediaError | None = None
    decode_s: float = 0.0


def decoded(root: str, item: ShardItem, threads: int) -> Iterator[Decoded]:
    """Read and decode the samples of a shard.

    Args:
        root: Dataset root.
        item: The shard.
        threads: That decode; at most one clip more than these is held.

    Raises:
        CatalogError: The shard itself cannot be read.
    """
    own = threading.local()
    opened: list[Parts] = []

    def read(place: Place, bucket: Bucket | None) -> Decoded:
        if not hasattr(own, "parts"):
            own.parts = Parts(root)
            opened.append(own.parts)
        return _read(own.parts, item, place, bucket)

    waiting: deque[Future[Decoded]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="clipmill-decode")
    try:
        for place, bucket in zip(item.places, item.buckets, strict=True):
            waiting.append(pool.submit(read, place, bucket))
            if len(waiting) > threads + AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        for parts in opened:
            parts.close()


def _read(parts: Parts, item: ShardItem, place: Place, bucket: Bucket | None) -> Decoded:
    began = time.perf_counter()
    try:
        record = record_of(parts.read(place.json), place)
    except MediaError as exc:
        raise _damaged(item, exc) from exc
    if bucket is None:
        return Decoded(record, None, [], decode_s=time.perf_counter() - began)
    starts_s = item.described.starts_s(place.frames, place.fps, bucket)
    found = Decoded(record, bucket, starts_s)
    data = _media(parts, item, place.mp4)
    view = View(bucket.height_px, bucket.width_px, scaling=item.described.scaling)
    shape = (len(starts_s), bucket.frames, bucket.height_px, bucket.width_px, 3)
    pixels = np.empty(shape, np.uint8)
    try:
        for number, start_s in enumerate(starts_s):
            decode_clip(data, target_times_s(start_s, bucket), view, pixels[number])
        found.pixels = pixels
    except MediaError as exc:
        # What FFmpeg logged last may be another thread's: no two runs would write the same.
        found.error = MediaError(exc.code, exc.message.partition("; last error log")[0])
    found.decode_s = time.perf_counter() - began
    return found


def _media(parts: Parts, item: ShardItem, part: Part) -> bytes:
    try:
        return parts.read(part)
    except MediaError as exc:
        raise _damaged(item, exc) from exc


def _damaged(item: ShardItem, exc: MediaError) -> CatalogError:
    """Nothing that may be well tomorrow is written down as a clip's failure."""
    return CatalogError(
        f"a sample cannot be read: {exc}",
        where=item.shard,
        mend="run the command again; `clipmill verify OUT` tells whether the shard is damaged",
    )
