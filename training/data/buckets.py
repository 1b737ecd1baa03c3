"""Training buckets: the shapes a model is trained on, and which stored clip goes into which.

A stored clip keeps its own size and rate; a bucket says how it is read: so many frames at so many
per second, scaled to cover ``height x width`` and cropped to it. Nothing is packed anew. A clip
goes into one bucket, the one that loses least of it; one that fits none is dropped with a reason.

Frame counts must be ``k * temporal_stride + 1`` and sides divisible by ``spatial_stride * patch``:
what does not fit an autoencoder is refused here, since some of them cut frames off in silence
(8 frames become 5 in a causal one of stride 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data.index import ShardIndex

REASONS = ("too_short", "too_small", "too_slow", "too_cropped")
"""Why a clip fits no bucket: fewer seconds than any; fewer pixels; fewer frames per second; too
much of the picture would be cut off. Where reasons differ by bucket, the one that came closest to
fitting counts: the later in this list."""
MOST_FRAMES, MOST_SIDE_PX, MOST_SAMPLES = 2**16 + 1, 2**15, 2**20
MOST_TOKENS = 2**31
MOST_BYTES = 2**40
"""Beyond what anybody trains on: numbers above are slips of the pen, and are told as such instead
of ending in a lack of memory."""
SLACK = 1e-6
SLACK_S = 1e-3
"""Rates are stored as means: a clip of exactly the bucket's span must not fail by a rounding."""


@dataclass(frozen=True, order=True)
class Bucket:
    """One shape of training samples.

    Attributes:
        frames: Frames of a sample; 1: a picture.
        height_px: Height.
        width_px: Width.
        fps: Frames per second at which the clip is read.
        samples: Samples of a microbatch.
        tokens: Tokens of a sample.
    """

    frames: int
    height_px: int
    width_px: int
    fps: float
    samples: int
    tokens: int

    @property
    def name(self) -> str:
        """``frames x height x width @ fps``, e.g. ``17x256x256@8``."""
        return f"{self.frames}x{self.height_px}x{self.width_px}@{self.fps:g}"

    @property
    def span_s(self) -> float:
        """Time from the first frame to the last, seconds."""
        return (self.frames - 1) / self.fps

    @property
    def cost(self) -> int:
        """Tokens of a microbatch."""
        return self.samples * self.tokens


class Shape(BaseModel):
    """A bucket as it is written in a file.

    Attributes:
        frames: ``k * temporal_stride + 1``; 1: a picture.
        height_px: Divisible by ``spatial_stride * patch``.
        width_px: Likewise.
        fps: Rate at which clips are read.
        samples: Samples of a microbatch; None: as many as fit into ``microbatch_tokens``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int = Field(ge=1, le=MOST_FRAMES)
    height_px: int = Field(ge=1, le=MOST_SIDE_PX)
    width_px: int = Field(ge=1, le=MOST_SIDE_PX)
    fps: float = Field(default=8.0, ge=1e-3, le=1000)
    samples: int | None = Field(default=None, ge=1, le=MOST_SAMPLES)


class BucketSettings(BaseModel):
    """Which buckets there are and what a clip may lose to fit one.

    Attributes:
        shapes: The buckets; empty: proposed from the clips at hand.
        microbatch_tokens: Tokens of a microbatch: every one costs about the same.
        cost_tolerance: Largest share by which a bucket's microbatch may cost less than the
            dearest one.
        temporal_stride: Frames per latent frame, after the first.
        spatial_stride: Pixels per side of a latent cell.
        patch: Latent cells per token: time, height, width.
        max_crop: Largest share of the picture that may be cut off, 0 to 1.
        max_upscale: Largest factor by which a picture may be enlarged.
        max_rate: Largest factor by which a clip's frame rate may lie below the bucket's: above 1
            frames are shown twice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shapes: tuple[Shape, ...] = ()
    microbatch_tokens: int = Field(default=8192, ge=1, le=MOST_TOKENS)
    cost_tolerance: float = Field(default=0.25, ge=0, lt=1)
    temporal_stride: int = Field(default=4, ge=1, le=1024)
    spatial_stride: int = Field(default=8, ge=1, le=1024)
    patch: tuple[int, int, int] = (1, 2, 2)
    max_crop: float = Field(default=0.5, ge=0, lt=1)
    max_upscale: float = Field(default=1.0, ge=1, le=1e6)
    max_rate: float = Field(default=1.02, ge=1, le=1e6)

    @model_validator(mode="after")
    def _fits(self) -> BucketSettings:
        if min(self.patch) < 1 or max(self.patch) > 1024:
            raise ValueError(f"patch {self.patch}: all three sides are at least 1 and at most 1024")
        for shape in self.shapes:
            self.check(shape)
        self.buckets()
        return self

    def check(self, shape: Shape) -> None:
        """Refuse a shape that the autoencoder or the model cannot hold exactly.

        Raises:
            ValueError: With the nearest numbers that fit.
        """
        stride, where = self.temporal_stride, f"{shape.frames}x{shape.height_px}x{shape.width_px}"
        if (shape.frames - 1) % stride:
            low = (shape.frames - 1) // stride * stride + 1
            raise ValueError(
                f"bucket {where}: {shape.frames} frames are not k * {stride} + 1; "
                f"nearest: {low} and {low + stride}"
            )
        latent = (shape.frames - 1) // stride + 1
        if latent % self.patch[0] and shape.frames > 1:
            raise ValueError(
                f"bucket {where}: {latent} latent frames are not divisible by a patch of "
                f"{self.patch[0]}"
            )
        for side, px, patch in (
            ("height", shape.height_px, self.patch[1]),
            ("width", shape.width_px, self.patch[2]),
        ):
            step = self.spatial_stride * patch
            if px % step:
                low = px // step * step
                near = f"{low} and {low + step}" if low else f"{step}"
                raise ValueError(
                    f"bucket {where}: {side} {px} is not divisible by {step} "
                    f"(stride {self.spatial_stride} x patch {patch}); nearest: {near}"
                )

    def tokens(self, frames: int, height_px: int, width_px: int) -> int:
        """Tokens of a sample of a shape that fits."""
        time = -(-((frames - 1) // self.temporal_stride + 1) // self.patch[0])
        high = height_px // (self.spatial_stride * self.patch[1])
        wide = width_px // (self.spatial_stride * self.patch[2])
        return time * high * wide

    def buckets(self) -> tuple[Bucket, ...]:
        """The buckets with their microbatches, in the order of their shapes.

        Raises:
            ValueError: Two are equal, one is larger than a microbatch, or costs differ too much.
        """
        found = [self._bucket(shape) for shape in self.shapes]
        if len({b.name for b in found}) < len(found):
            names = sorted(b.name for b in found)
            twice = next(a for a, b in pairwise(names) if a == b)
            raise ValueError(f"bucket {twice} stands there twice")
        dearest = max((b.cost for b in found), default=0)
        for bucket in found:
            if bucket.cost < (1 - self.cost_tolerance) * dearest:
                raise ValueError(
                    f"bucket {bucket.name}: a microbatch of {bucket.samples} x {bucket.tokens} = "
                    f"{bucket.cost} tokens costs {1 - bucket.cost / dearest:.0%} less than the "
                    f"dearest ({dearest}), more than cost_tolerance={self.cost_tolerance:g}: "
                    "ranks would wait for one another; choose a size nearer to a divisor of "
                    f"microbatch_tokens={self.microbatch_tokens}, or raise either setting"
                )
        return tuple(sorted(found))

    def _bucket(self, shape: Shape) -> Bucket:
        tokens = self.tokens(shape.frames, shape.height_px, shape.width_px)
        samples = shape.samples or self.microbatch_tokens // tokens
        bucket = Bucket(shape.frames, shape.height_px, shape.width_px, shape.fps, samples, tokens)
        if samples * tokens > self.microbatch_tokens or not samples:
            raise ValueError(
                f"bucket {bucket.name}: {max(1, samples)} x {tokens} tokens are more than "
                f"microbatch_tokens={self.microbatch_tokens}"
            )
        size = samples * shape.frames * shape.height_px * shape.width_px * 3
        if size > MOST_BYTES:
            raise ValueError(
                f"bucket {bucket.name}: a microbatch of {samples} samples has {size} bytes of "
                f"pixels; at most {MOST_BYTES}"
            )
        return bucket


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which clip of an index goes into which bucket.

    Attributes:
        buckets: All of them.
        bucket: int16 of shape (N,): index into ``buckets``; -1: dropped.
        reason: int8 of shape (N,): index into ``REASONS`` where dropped; -1 where not.
        crop: float32 of shape (N,): share of the picture that is cut off; 0 where dropped.
        scale: float32 of shape (N,): factor of a side; 0 where dropped.
    """

    buckets: tuple[Bucket, ...]
    bucket: NDArray[np.int16]
    reason: NDArray[np.int8]
    crop: NDArray[np.float32]
    scale: NDArray[np.float32]


def assign(
    index: ShardIndex,
    buckets: tuple[Bucket, ...],
    settings: BucketSettings,
    *,
    pictures: bool = False,
) -> Assignment:
    """Give every clip its bucket: of those it fits, the one that shows most of it.

    Most means the largest product of seconds and picture area kept (as shares of the clip's own),
    then the most tokens, then the first by name. Clips of equal shape and rate go together.

    Args:
        index: N clips.
        buckets: Of :meth:`BucketSettings.buckets`.
        settings: What a clip may lose.
        pictures: Clips go into the buckets of one frame, of which each shows one frame of its
            clip. Otherwise those buckets take only what is stored as a single frame, unless there
            are no others.
    """
    pictures = pictures or all(b.frames == 1 for b in buckets)
    shapes, which = stored_shapes(index)
    chosen = np.full(len(shapes), -1, np.int16)
    reason = np.zeros(len(shapes), np.int8)
    shown, tokens = np.full(len(shapes), -1.0), np.zeros(len(shapes), np.int64)
    crop, scale = np.zeros(len(shapes), np.float32), np.zeros(len(shapes), np.float32)
    frames, fps = shapes[:, 0], shapes[:, 3]
    for number, bucket in enumerate(buckets):
        usable = pictures if bucket.frames == 1 else np.full(len(shapes), not pictures)
        usable = usable | (frames == 1) if bucket.frames == 1 else usable & (frames != 1)
        scaled, cropped = fit(bucket, shapes)
        why = misfits(bucket, shapes, settings)
        reason = np.where(usable & (why > reason), why, reason)
        seconds = np.minimum(1, np.maximum(bucket.frames / bucket.fps, 1 / fps) / (frames / fps))
        shows = np.round(seconds * (1 - cropped), 6)
        better = (shows > shown) | ((shows == shown) & (bucket.tokens > tokens))
        better &= usable & (why < 0)
        chosen[better], shown[better], tokens[better] = number, shows[better], bucket.tokens
        crop[better], scale[better] = cropped[better], scaled[better]
    reason = np.where(chosen < 0, reason, -1).astype(np.int8)
    return Assignment(buckets, chosen[which], reason[which], crop[which], scale[which])


def stored_shapes(index: ShardIndex) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The different stored shapes of an index.

    Returns:
        float64 of shape (U, 4): frames, height, width, frames per second, in that order; and int64
        of shape (N,): which of them each sample has.
    """
    names = ("frames", "height_px", "width_px", "fps")
    count, kinds = 0, np.zeros(len(index), np.int64)
    for name in names:
        own, codes = _coded(index[name])
        count, codes = _coded(kinds * own + codes)
        kinds = codes.astype(np.int64)
    first = np.zeros(count, np.int64)
    first[kinds[::-1]] = np.arange(len(kinds))[::-1]  # of equal places the last one stays
    shapes = np.stack([index[name][first].astype(np.float64) for name in names], axis=1)
    turn = np.lexsort(shapes.T[::-1])
    place = np.empty(count, np.int64)
    place[turn] = np.arange(count)
    return shapes[turn], place[kinds]


def _coded(values: NDArray[Any]) -> tuple[int, NDArray[Any]]:
    """How many different numbers there are, and which one each is, by first appearance.

    By Arrow's hash table: sorting a million takes ten times as long.
    """
    kind, buffer = pa.from_numpy_dtype(values.dtype), pa.py_buffer(np.ascontiguousarray(values))
    coded = pa.Array.from_buffers(kind, len(values), [None, buffer]).dictionary_encode()
    return len(coded.dictionary), np.from_dlpack(coded.indices)


def fit(
    bucket: Bucket, shapes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factor of a side, and share of the picture cut off, of stored shapes in a bucket.

    Args:
        bucket: It is covered by the scaled picture.
        shapes: float64 of shape (U, 4), as of :func:`stored_shapes`.

    Returns:
        Two float64 of shape (U,).
    """
    height, width = shapes[:, 1], shapes[:, 2]
    scale = np.maximum(bucket.height_px / height, bucket.width_px / width)
    kept = (bucket.height_px * bucket.width_px) / (scale * scale * height * width)
    return scale, np.maximum(0, 1 - kept)


def misfits(
    bucket: Bucket, shapes: NDArray[np.float64], settings: BucketSettings
) -> NDArray[np.int8]:
    """Why stored shapes do not fit a bucket: int8 of shape (U,), index into ``REASONS``; -1: fit.

    Of several reasons the first in the list.
    """
    scale, crop = fit(bucket, shapes)
    frames, fps = shapes[:, 0], shapes[:, 3]
    return np.select(
        [
            bucket.span_s > (frames - 1) / fps + SLACK_S,
            scale > settings.max_upscale + SLACK,
            (bucket.frames > 1) & (fps * settings.max_rate < bucket.fps),
            crop > settings.max_crop + SLACK,
        ],
        [np.int8(0), np.int8(1), np.int8(2), np.int8(3)],
        default=np.int8(-1),
    )
