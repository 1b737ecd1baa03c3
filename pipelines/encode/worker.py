"""The one who encodes: opens the models once, then takes shard after shard.

Clips are decoded ahead in threads and go through the autoencoder in batches of consecutive windows
of one bucket, so what a shard's tar holds depends on the shard alone: not on who wrote it, nor on
how many did. On a CPU one thread computes, whatever the machine has.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from curation.catalog.lease import holds
from curation.errors import CatalogError, ClipmillError, MediaError
from curation.shards.siblings import SiblingSet
from curation.storage import Storage
from pipelines.encode.ahead import Decoded, decoded
from pipelines.encode.items import Facts, Question, Setup, ShardDone, ShardItem
from training.data.captions import texts_of
from training.data.latents import as_float16, error_metadata
from training.models.open_autoencoder import open_autoencoder
from training.models.text_encoders import open_text_encoder

Note = Callable[[int], None]


class Encoder:
    """Encodes shards, and answers what it is.

    Args:
        setup: How.

    Raises:
        ConfigError: A model cannot be opened.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._storage = Storage(setup.root)
        self._set: SiblingSet | None = None
        self._vae = self._text = None
        if setup.vae is not None:
            self._vae = open_autoencoder(
                setup.vae,
                device=setup.device,
                dtype=getattr(torch, setup.vae_dtype),
                tiling=setup.tiling,
            )
        if setup.text_encoder is not None:
            self._text = open_text_encoder(
                setup.text_encoder,
                device=setup.device,
                dtype=getattr(torch, setup.text_dtype),
                max_tokens=setup.max_tokens,
            )

    def __call__(self, item: Question | ShardItem, note: Note) -> Facts | ShardDone:
        """Do an item.

        Args:
            item: A shard, or what asks for the facts.
            note: Told how many samples are done.

        Raises:
            ClipmillError: The shard changed, cannot be read, or another run took over.
        """
        with _pinned(self.setup.device):
            if isinstance(item, Question):
                return self._facts()
            return self._shard(item, note)

    def _facts(self) -> Facts:
        vae, text = self._vae, self._text
        empty = b""
        if text is not None:
            empty = save({"text": as_float16(text.encode([""])[0], "the empty prompt")})
        return Facts(None if vae is None else vae.spec, None if text is None else text.spec, empty)

    def _shard(self, item: ShardItem, note: Note) -> ShardDone:
        self._check_lease()
        if self._set is None or self._set.fingerprint != item.fingerprint:
            described = item.described.model_dump(mode="json")
            self._set = SiblingSet(self._storage, item.fingerprint, described, item.reads)
        done, began = ShardDone(item.shard), time.perf_counter()
        inside = [0.0]

        def members() -> Iterator[tuple[str, bytes]]:
            made = self._members(item, done)
            while True:
                start = time.perf_counter()
                member = next(made, None)
                inside[0] += time.perf_counter() - start
                if member is None:
                    break
                done.clips += 1
                note(done.clips)
                yield member
            self._check_lease()  # before the tar gets its name

        self._set.write_shard(item.shard, members(), state=item.state)
        done.times.write_s = time.perf_counter() - began - inside[0]
        return done

    def _members(self, item: ShardItem, done: ShardDone) -> Iterator[tuple[str, bytes]]:
        """Key and bytes of each sample, in order."""
        line = _Line(self._batch, self.setup.batch_size)
        clips = decoded(self.setup.root, item, self.setup.decode_threads)
        while True:
            began = time.perf_counter()
            clip = next(clips, None)
            done.times.wait_s += time.perf_counter() - began
            if clip is None:
                break
            done.times.decode_s += clip.decode_s
            for ready in line.add(clip, done):
                yield ready.clip.record["clip_id"], self._member(ready, done)
        for ready in line.end(done):
            yield ready.clip.record["clip_id"], self._member(ready, done)

    def _batch(self, windows: list[NDArray[np.uint8]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Mean and logvar (C, t, h, w) of each of some windows, uint8 (T, H, W, 3)."""
        assert self._vae is not None
        video = torch.from_numpy(np.stack(windows)).to(self.setup.device)
        video = video.permute(0, 4, 1, 2, 3).contiguous().float().div_(127.5).sub_(1)
        try:
            posterior = self._vae.encode(video)
        except torch.OutOfMemoryError as exc:
            raise ClipmillError(
                f"the GPU's memory ran out over {len(windows)} windows of {tuple(video.shape[2:])}",
                mend="batch_size=1, then tiling=true",
            ) from exc
        return list(zip(posterior.mean.cpu(), posterior.logvar.cpu(), strict=True))

    def _member(self, ready: _Clip, done: ShardDone) -> bytes:
        clip = ready.clip
        try:
            if clip.error is not None:
                raise clip.error
            tensors: dict[str, torch.Tensor] = {}
            if ready.moments:
                means, logvars = zip(*ready.moments, strict=True)
                tensors["mean"] = as_float16(torch.stack(means), "the mean")
                tensors["logvar"] = as_float16(torch.stack(logvars), "the variance's logarithm")
                tensors["start_s"] = torch.tensor(clip.starts_s, dtype=torch.float32)
        except MediaError as exc:
            done.failed += 1
            return save({}, metadata=error_metadata(exc))
        return save(tensors | self._texts(clip, done))

    def _texts(self, clip: Decoded, done: ShardDone) -> dict[str, torch.Tensor]:
        if self._text is None:
            return {}
        began = time.perf_counter()
        texts = texts_of(clip.record)
        states = self._text.encode(texts)
        lengths = torch.tensor([len(one) for one in states], dtype=torch.int32)
        try:
            found = {"text": as_float16(torch.cat(states), "a state"), "text_lengths": lengths}
        except MediaError as exc:  # of no text that people write: the encoder is at fault
            raise ClipmillError(
                exc.message, where=self._text.spec.name, mend="text_dtype=float32"
            ) from exc
        done.texts += len(texts)
        done.times.text_s += time.perf_counter() - began
        return found

    def _check_lease(self) -> None:
        if not holds(self._storage, self.setup.run_id):
            raise CatalogError(
                "another run writes here now, or the one that began this work ended",
                where=self._storage.url,
            )


@dataclass
class _Clip:
    """A sample that is being encoded.

    Attributes:
        clip: As read.
        left: Windows that are not encoded yet.
        moments: Mean and logvar of those that are.
    """

    clip: Decoded
    left: int
    moments: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)


class _Line:
    """Samples in order, of which some wait until a batch is full.

    Args:
        encode: Encodes some windows of one bucket.
        batch_size: So many, but for the last of a bucket.
    """

    def __init__(
        self,
        encode: Callable[[list[NDArray[np.uint8]]], list[tuple[torch.Tensor, torch.Tensor]]],
        batch_size: int,
    ) -> None:
        self._encode, self._size = encode, batch_size
        self._clips: deque[_Clip] = deque()
        self._windows: deque[tuple[_Clip, NDArray[np.uint8]]] = deque()

    def add(self, clip: Decoded, done: ShardDone) -> Iterator[_Clip]:
        """Take a sample; gives those that are ready, in order."""
        pixels = clip.pixels
        one = _Clip(clip, 0 if pixels is None else len(pixels))
        if pixels is not None and self._windows and self._windows[0][1].shape != pixels.shape[1:]:
            self._run(len(self._windows), done)
        self._clips.append(one)
        if pixels is not None:
            self._windows.extend((one, window) for window in pixels)
            clip.pixels = None  # the windows hold it as long as they are needed
        while len(self._windows) >= self._size:
            self._run(self._size, done)
        yield from self._ready()

    def end(self, done: ShardDone) -> Iterator[_Clip]:
        """No more come."""
        if self._windows:
            self._run(len(self._windows), done)
        yield from self._ready()

    def _run(self, count: int, done: ShardDone) -> None:
        began = time.perf_counter()
        taken = [self._windows.popleft() for _ in range(count)]
        for (clip, window), moments in zip(
            taken, self._encode([window for _, window in taken]), strict=True
        ):
            clip.moments.append(moments)
            clip.left -= 1
            done.frames += len(window)
        done.times.encode_s += time.perf_counter() - began

    def _ready(self) -> Iterator[_Clip]:
        while self._clips and not self._clips[0].left:
            yield self._clips.popleft()


@contextlib.contextmanager
def _pinned(device: str) -> Iterator[None]:
    """Arithmetic that gives the same bytes on every machine of a kind; undone at the end."""
    threads = torch.get_num_threads()
    exact = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    with exact:
        if device == "cpu":
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
