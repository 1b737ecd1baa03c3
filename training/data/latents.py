"""What `clipmill encode` writes beside a clip, and what of it one sample of a batch is given.

A member ``<clip_id>.safetensors`` of such a set holds, for a clip in a bucket of T x H x W:

    mean, logvar    float16 (W, C, t, h, w)   of W windows; absent where the clip fits no bucket
    start_s         float32 (W,)              of each window's first frame, seconds
    text            float16 (sum of L, D)     states of all captions that can be drawn, in a row
    text_lengths    int32 (N,)                L of each, in the order of ``captions.texts_of``

or no tensor and ``error`` in its metadata: code and message as JSON. ``set.json`` describes the
set: :class:`SetDescription`, of which all but the names makes up the set's fingerprint. ``files``
beside it holds the empty prompt's states, which guidance needs.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from curation.errors import ErrorCode, MediaError
from curation.ids import json_digest
from curation.schema import ENCODE
from training.data.buckets import Assignment, Bucket, BucketSettings, assign
from training.data.decode import Scaling
from training.data.geometry import Draws, Window
from training.data.index import ShardIndex

VERSION = 1
"""Of the members: raised when the same settings give other tensors."""
EMPTY_PROMPT = "empty_prompt.safetensors"
FINGERPRINT_DIGITS = 16
HEADER_LENGTH_BYTES = 8


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AutoencoderPart(_Part):
    """The autoencoder; the fields of ``LatentSpec``, and how it was run.

    Attributes:
        dtype: Precision of its network.
        tiling: Large pictures went through it in tiles.
    """

    name: str
    fingerprint: str
    latent_channels: int
    temporal_stride: int
    spatial_stride: int
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    dtype: str
    tiling: bool


class TextPart(_Part):
    """The text encoder; the fields of ``TextSpec``, and the precision of its network."""

    name: str
    fingerprint: str
    dim: int
    max_tokens: int
    dtype: str


class SetShape(_Part):
    """A bucket, as far as it decides shape and assignment.

    Attributes:
        preference: Rank among the buckets by tokens, from 0: the higher is taken of two that show
            equally much of a clip.
    """

    frames: int
    height_px: int
    width_px: int
    fps: float
    preference: int


class SetBuckets(_Part):
    """The buckets, sorted, and what a clip may lose; see ``BucketSettings``."""

    shapes: tuple[SetShape, ...]
    max_crop: float
    max_upscale: float
    max_rate: float

    @classmethod
    def of(cls, settings: BucketSettings) -> SetBuckets:
        """Of a training's buckets."""
        buckets = settings.buckets()
        ranks = sorted({b.tokens for b in buckets})
        shapes = [
            SetShape(
                frames=b.frames,
                height_px=b.height_px,
                width_px=b.width_px,
                fps=b.fps,
                preference=ranks.index(b.tokens),
            )
            for b in buckets
        ]
        return cls(
            shapes=tuple(shapes),
            max_crop=settings.max_crop,
            max_upscale=settings.max_upscale,
            max_rate=settings.max_rate,
        )

    def assign(self, index: ShardIndex) -> Assignment:
        """Which clip goes into which of them: as a training with these buckets does it."""
        buckets = tuple(
            Bucket(s.frames, s.height_px, s.width_px, s.fps, 1, s.preference) for s in self.shapes
        )
        losses = BucketSettings(
            max_crop=self.max_crop, max_upscale=self.max_upscale, max_rate=self.max_rate
        )
        return assign(index, buckets, losses)


class SetDescription(_Part):
    """What ``set.json`` says of a set that ``clipmill encode`` made.

    Attributes:
        autoencoder: None: texts alone.
        text_encoder: None: latents alone.
        buckets: None without an autoencoder.
        windows: Most windows of a clip: fewer where it has no room for so many.
        window: Where the one window lies, if it is one.
        crop: Where in a larger picture.
        scaling: Filter that scaled the pictures.
        stored: Of means, variances and states.
    """

    made_by: Literal["clipmill encode"] = ENCODE
    version: Literal[1] = VERSION
    autoencoder: AutoencoderPart | None
    text_encoder: TextPart | None
    buckets: SetBuckets | None
    windows: int = 1
    window: Literal["start", "middle"] = "middle"
    crop: Literal["center"] = "center"
    scaling: Scaling = "bicubic"
    stored: Literal["float16"] = "float16"

    def fingerprint(self) -> str:
        """16 hex digits of all but the names."""
        data = self.model_dump(mode="json")
        for part in ("autoencoder", "text_encoder"):
            if data[part] is not None:
                del data[part]["name"]
        return json_digest(data)[:FINGERPRINT_DIGITS]

    def starts_s(self, frames: int, fps: float, bucket: Bucket) -> list[float]:
        """Times at which the windows of a clip begin, seconds from its first frame, rising.

        One window lies in the middle of the room or at its start; several are spread evenly from
        the start to the end of it, and are no more than it has frames.

        Args:
            frames: Of the clip.
            fps: Of the clip.
            bucket: That it is in.

        Returns:
            Numbers that float32 holds exactly.
        """
        room_s = max(0.0, (frames - 1) / fps - bucket.span_s)
        count = min(self.windows, 1 + math.floor(room_s * fps + 1e-3))
        if count > 1:
            shares = [number / (count - 1) for number in range(count)]
        else:
            shares = [0.5 if self.window == "middle" else 0.0]
        return [float(np.float32(room_s * share)) for share in shares]


def description_of(about: object) -> SetDescription | None:
    """The description in a parsed ``set.json``; None for a set of another program.

    Raises:
        ValueError: It says that ``clipmill encode`` made it, and this version cannot read it.
    """
    description = about.get("description") if isinstance(about, dict) else None
    if not isinstance(description, dict) or description.get("made_by") != ENCODE:
        return None
    try:
        return SetDescription.model_validate(description)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in error["loc"])
        raise ValueError(f"its set.json cannot be read by this version: {where}") from exc


def misfit(
    described: SetDescription, index: ShardIndex, wanted: Assignment, buckets: BucketSettings
) -> str:
    """Why a set's latents are not those that a training asks for, in words; empty when they are.

    Args:
        described: The set; with an autoencoder.
        index: The samples.
        wanted: Their buckets in the training.
        buckets: The training's.
    """
    vae = described.autoencoder
    assert vae is not None and described.buckets is not None
    mine, theirs = ((b.temporal_stride, b.spatial_stride) for b in (vae, buckets))
    if mine != theirs:
        return (
            f"the autoencoder {vae.name} has the strides temporal {mine[0]} and spatial {mine[1]}, "
            f"this training's buckets temporal {theirs[0]} and spatial {theirs[1]}"
        )
    own = described.buckets.assign(index)
    numbers = {_shape(bucket): number for number, bucket in enumerate(wanted.buckets)}
    known = np.array([*(numbers.get(_shape(b), -1) for b in own.buckets), -1], np.int64)
    differ = (wanted.bucket >= 0) & (known[own.bucket] != wanted.bucket)
    if not differ.any():
        return ""
    first = int(np.flatnonzero(differ)[0])
    was = own.buckets[own.bucket[first]].name if own.bucket[first] >= 0 else "none"
    return (
        f"{int(differ.sum())} of {len(index)} samples were encoded for other buckets, such as "
        f"{was} where this training has {wanted.buckets[wanted.bucket[first]].name}"
    )


def _shape(bucket: Bucket) -> tuple[int, int, int, float]:
    return bucket.frames, bucket.height_px, bucket.width_px, bucket.fps


def error_in(data: bytes) -> MediaError | None:
    """The failure that a member tells of; None when it has tensors.

    Raises:
        MediaError: It is damaged.
    """
    try:
        length = int.from_bytes(data[:HEADER_LENGTH_BYTES], "little")
        header = json.loads(data[HEADER_LENGTH_BYTES : HEADER_LENGTH_BYTES + length])
        told = header.get("__metadata__", {}).get("error")
        if told is None:
            return None
        error = json.loads(told)
        return MediaError(error["code"], error["message"])
    except (ValueError, AttributeError, KeyError, TypeError) as exc:
        raise MediaError(ErrorCode.NOT_READABLE, f"damaged latents: {exc}") from exc


def tensors_in(data: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a member, of any set.

    Raises:
        MediaError: It is damaged.
    """
    try:
        return load_tensors(data)
    except SafetensorError as exc:
        raise MediaError(ErrorCode.NOT_READABLE, f"damaged latents: {exc}") from exc


def one_sample(
    data: bytes, draws: Draws, window: Window, caption: int
) -> tuple[dict[str, torch.Tensor], float | None]:
    """One window's latents and one caption's states, of a member.

    Args:
        data: The member.
        draws: Of the sample; ``window`` chooses among several windows.
        window: ``random`` draws one, ``start`` and ``middle`` take that one.
        caption: Number of the caption that was drawn.

    Returns:
        ``mean`` and ``logvar`` (C, t, h, w), ``text`` (L, D), what of them there is; and the start
        of the window, seconds, where there are latents.

    Raises:
        MediaError: The clip could not be encoded, or the member is damaged.
    """
    error = error_in(data)
    if error is not None:
        raise error
    stored = tensors_in(data)
    found: dict[str, torch.Tensor] = {}
    start_s = None
    try:
        if "mean" in stored:
            starts = stored["start_s"]
            number = _window_number(window, draws, len(starts))
            start_s = float(starts[number])
            found |= {name: stored[name][number].clone() for name in ("mean", "logvar")}
        if "text" in stored:
            ends = stored["text_lengths"].cumsum(0).tolist()
            start = ends[caption - 1] if caption else 0
            found["text"] = stored["text"][start : ends[caption]].clone()
    except (KeyError, IndexError) as exc:
        raise MediaError(ErrorCode.NOT_READABLE, f"latents that lack {exc}") from exc
    return found, start_s


def _window_number(window: Window, draws: Draws, count: int) -> int:
    if window == "random":
        return int(draws.of("window") * count)
    return 0 if window == "start" else (count - 1) // 2


def padded(samples: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """Samples with texts of one length: zeros after the shorter ones, and ``text_mask``, bool."""
    longest = max((len(one["text"]) for one in samples if "text" in one), default=0)
    return [_to_length(one, longest) for one in samples]


def _to_length(one: dict[str, torch.Tensor], length: int) -> dict[str, torch.Tensor]:
    if "text" not in one:
        return one
    text = one["text"]
    room = text.new_zeros((length, text.shape[1]))
    room[: len(text)] = text
    return one | {"text": room, "text_mask": torch.arange(length) < len(text)}


def as_float16(values: torch.Tensor, name: str) -> torch.Tensor:
    """Numbers as they are stored, on the CPU.

    Raises:
        MediaError: One is not finite, or is too large for float16.
    """
    found = values.detach().to("cpu", torch.float16)
    if not bool(found.isfinite().all()):
        raise MediaError(
            ErrorCode.ENCODE_FAILED,
            f"{name} has numbers that are not finite or beyond float16: up to "
            f"{float(values.abs().nan_to_num(torch.inf).max()):g}",
        )
    return found.contiguous()


def error_metadata(error: MediaError) -> dict[str, str]:
    """Metadata of the member of a clip that could not be encoded."""
    told = {"code": error.code, "message": error.message[:200]}
    # One key: safetensors writes several in any order, and the bytes are to be the same each time.
    return {"error": json.dumps(told, sort_keys=True, ensure_ascii=False)}


def latent_bytes(described: SetDescription, bucket: Bucket, windows: NDArray[Any]) -> NDArray[Any]:
    """Bytes of mean and logvar of clips of a bucket, by the number of their windows."""
    vae = described.autoencoder
    assert vae is not None
    numbers = vae.latent_channels * ((bucket.frames - 1) // vae.temporal_stride + 1)
    numbers *= bucket.height_px // vae.spatial_stride * (bucket.width_px // vae.spatial_stride)
    return windows.astype(np.int64) * (numbers * 2 * torch.float16.itemsize)
