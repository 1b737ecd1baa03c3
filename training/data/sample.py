"""Reading one sample from its shard: members at their offsets, texts, pictures.

Only ``.mp4`` and ``.json`` are read, each in one piece. Sizes are checked, and that the ``.json``
is of the sample that the index speaks of. The checksum of the ``.mp4`` is not computed at every
reading: ``clipmill verify`` does that once for all, and what the decoder finds wrong is raised.
"""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from curation.errors import CatalogError, ConfigError, ErrorCode, MediaError
from curation.ids import hash64
from curation.storage import Storage
from training.data.buckets import Bucket
from training.data.captions import caption_number, choose_caption, may_flip
from training.data.decode import Decode, decode_clip
from training.data.geometry import Draws, target_times_s, view_of, window_start_s
from training.data.latents import one_sample, tensors_in
from training.data.settings import ReadSettings

OPEN_FILES = 32
"""Files that a reader keeps open."""
TRIES = 3
PAUSE_S = 0.5


@dataclass(frozen=True)
class Part:
    """One member of a tar.

    Attributes:
        file: The tar, relative to the dataset root.
        offset: Of the member's first byte.
        num_bytes: Its size.
    """

    file: str
    offset: int
    num_bytes: int


@dataclass(frozen=True)
class Place:
    """All that a worker must know of a sample to read it.

    Attributes:
        position: In the source's index.
        key_hash: Of its clip id.
        frames: Of the stored clip.
        fps: Of the stored clip.
        mp4: The clip.
        json: The texts.
        latents: The sibling; None without a set.
        encoded: It is one of ``clipmill encode``, with windows and texts to choose from; otherwise
            its tensors are handed out as they are.
    """

    position: int
    key_hash: int
    frames: int
    fps: float
    mp4: Part
    json: Part
    latents: Part | None = None
    encoded: bool = False


@dataclass
class Sample:
    """One sample as read.

    Attributes:
        record: Content of the ``.json``.
        caption: The text drawn; empty without one.
        caption_kind: Its kind; empty without one.
        start_s: Time of the first frame in the clip.
        flipped: Mirrored left to right.
        latents: Tensors of the sibling by name.
    """

    record: dict[str, Any]
    caption: str
    caption_kind: str
    start_s: float
    flipped: bool
    latents: dict[str, torch.Tensor]


class Parts:
    """Reads members of the tars of one dataset root; keeps the latest files open.

    Args:
        root: Path or URL.
    """

    def __init__(self, root: str) -> None:
        self._files: OrderedDict[str, int] = OrderedDict()
        self._storage = Storage(root)

    def read(self, part: Part) -> bytes:
        """The bytes of a member.

        Raises:
            CatalogError: There is no such file.
            MediaError: It ends before the member does, or the store fails again and again.
        """
        for tried in range(TRIES):
            try:
                data = self._read(part)
            except FileNotFoundError as exc:
                raise CatalogError(
                    "a shard of the index is missing",
                    where=self._storage.uri(part.file),
                    mend="`clipmill verify` tells what is damaged",
                ) from exc
            except Exception as exc:  # aiohttp and botocore raise families of their own
                if self._storage.local and not isinstance(exc, OSError):
                    raise
                if tried + 1 == TRIES:
                    kind = (
                        ErrorCode.NOT_READABLE if self._storage.local else ErrorCode.NETWORK_ERROR
                    )
                    raise MediaError(kind, f"{part.file}: {type(exc).__name__}: {exc}") from exc
                time.sleep(PAUSE_S * 2**tried)
                continue
            if len(data) != part.num_bytes:
                raise MediaError(
                    ErrorCode.NOT_READABLE, f"{part.file} ends inside of a member of it"
                )
            return data
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close all files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def _read(self, part: Part) -> bytes:
        if self._storage.local:
            return os.pread(self._open(part.file), part.num_bytes, part.offset)
        path = self._storage.path(part.file)
        end = part.offset + part.num_bytes
        return cast(bytes, self._storage.fs.cat_file(path, start=part.offset, end=end))

    def _open(self, name: str) -> int:
        if name not in self._files:
            self._files[name] = os.open(self._storage.path(name), os.O_RDONLY | os.O_CLOEXEC)
            if len(self._files) > OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(name)
        return self._files[name]


class SampleReader:
    """Reads samples as the settings say. Not shared between threads.

    Args:
        settings: How to read.
        seed: Of the run's draws.
        pixels: Decode the clips too.
    """

    def __init__(self, settings: ReadSettings, seed: int, *, pixels: bool = True) -> None:
        self.settings, self.seed, self.pixels = settings, seed, pixels
        self._parts: dict[str, Parts] = {}

    def read(
        self, root: str, place: Place, bucket: Bucket, epoch: int, out: NDArray[np.uint8] | None
    ) -> Sample:
        """Read a sample.

        Args:
            root: Dataset root.
            place: Where it lies.
            bucket: Its training shape.
            epoch: Of its source.
            out: uint8 of shape (T, H, W, 3), C order: the pictures are written here. None without
                pixels.

        Raises:
            MediaError: It is damaged or cannot be read.
            CatalogError: The index is of other shards.
        """
        parts = self._of(root)
        record = record_of(parts.read(place.json), place)
        draws, settings = Draws(self.seed, epoch, place.key_hash), self.settings
        flipped = draws.of("flip") < settings.flip and may_flip(record)
        latents, start_s = self._latents(parts, place, record, draws)
        if start_s is None:
            start_s = 0.0 if out is None else self._start_s(place, draws, bucket)
        if out is not None:
            view = view_of(
                bucket, draws, crop=settings.crop, scaling=settings.scaling, mirror=flipped
            )
            self._decode(parts.read(place.mp4), target_times_s(start_s, bucket), view, out)
        kind, text = choose_caption(record, draws.of("caption"))
        return Sample(record, text, kind, start_s, flipped, latents)

    def close(self) -> None:
        """Close all files."""
        for parts in self._parts.values():
            parts.close()

    @cached_property
    def _decode(self) -> Decode:
        return decoder_of(self.settings.decoder)

    def _start_s(self, place: Place, draws: Draws, bucket: Bucket) -> float:
        return window_start_s(
            self.settings.window, draws, frames=place.frames, fps=place.fps, bucket=bucket
        )

    def _latents(
        self, parts: Parts, place: Place, record: dict[str, Any], draws: Draws
    ) -> tuple[dict[str, torch.Tensor], float | None]:
        """Tensors of the sibling, and where its window begins if that decides for the pixels too.

        Raises:
            MediaError: It is damaged, or the clip could not be encoded.
        """
        if place.latents is None:
            return {}, None
        data = parts.read(place.latents)
        if not place.encoded:
            return tensors_in(data), None
        number = caption_number(record, draws.of("caption"))
        return one_sample(data, draws, self.settings.window, number)

    def _of(self, root: str) -> Parts:
        if root not in self._parts:
            self._parts[root] = Parts(root)
        return self._parts[root]


def decoder_of(name: str) -> Decode:
    """The function that decodes clips.

    Raises:
        ConfigError: It is torchcodec, and that is not installed or finds no FFmpeg.
    """
    if name == "pyav":
        return decode_clip
    try:
        from training.data.decode_torchcodec import decode_clip as decode
    except (ImportError, OSError, RuntimeError) as exc:
        raise ConfigError(
            f"torchcodec cannot be used here: {str(exc).splitlines()[0]}",
            where="read.decoder",
            mend="install torchcodec and the shared libraries of FFmpeg, or set decoder: pyav",
        ) from exc
    return decode


def record_of(data: bytes, place: Place) -> dict[str, Any]:
    """Content of a ``.json``, of the sample that was meant.

    Raises:
        MediaError: It is damaged.
        CatalogError: It is of another sample.
    """
    try:
        record = json.loads(data)
        key = record["clip_id"]
    except (ValueError, KeyError, TypeError) as exc:
        raise MediaError(
            ErrorCode.NOT_READABLE, f"the .json in {place.json.file} is damaged: {exc}"
        ) from exc
    if not isinstance(key, str) or hash64(key) != place.key_hash:
        raise CatalogError(
            f"holds {key!r} where the index has another sample: the index is of other shards",
            where=place.json.file,
            mend="`clipmill verify` tells more; `clipmill shard --repack` packs the clips anew",
        )
    return record
