"""One microbatch read: every sample once, repeats copied, stand-ins for what cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from curation.errors import CatalogError, MediaError
from training.data.buckets import Bucket
from training.data.latents import padded
from training.data.sample import Place, Sample, SampleReader


@dataclass(frozen=True)
class Task:
    """One microbatch to read; travels to workers, so it holds numbers and names only.

    Attributes:
        root: Dataset root.
        bucket: Shape of the samples.
        epoch: Of the source.
        places: The different samples, in order.
        slots: For each of the B samples of the batch its number in ``places``.
        spares: Samples of the same bucket that stand in when none of ``places`` can be read.
        pixels: The clips are decoded.
    """

    root: str
    bucket: Bucket
    epoch: int
    places: tuple[Place, ...]
    slots: tuple[int, ...]
    spares: tuple[Place, ...] = ()
    pixels: bool = True

    @property
    def num_bytes(self) -> int:
        """Bytes of the batch: of its pixels, and of its latents as they are stored."""
        shape = self.bucket
        pixels = len(self.slots) * shape.frames * shape.height_px * shape.width_px * 3
        parts = (self.places[number].latents for number in self.slots)
        latents = sum(part.num_bytes for part in parts if part is not None)
        return latents + (pixels if self.pixels else 0)


@dataclass
class Read:
    """What became of a task.

    Attributes:
        video: uint8 of shape (B, T, H, W, 3), RGB; None without pixels.
        samples: B samples; those of a failed one's slot are its stand-in's. Empty when nothing
            could be read.
        latents: Tensors by name, first dimension B.
        failures: Position in the index and reason of each sample that could not be read.
        replaced: Slots that show a stand-in.
    """

    video: torch.Tensor | None
    samples: list[Sample]
    latents: dict[str, torch.Tensor]
    failures: list[tuple[int, str]] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)

    def pin_memory(self) -> None:
        """Move the tensors to page-locked memory."""
        self.video = None if self.video is None else self.video.pin_memory()
        self.latents = {name: tensor.pin_memory() for name, tensor in self.latents.items()}


def read_task(reader: SampleReader, task: Task) -> Read:
    """Read a microbatch. Each sample is decoded once, however often it stands in the batch.

    In the slot of a sample that cannot be read stands the next one, cyclically, that can; if there
    is none, the first of the spares that can.
    """
    bucket = task.bucket
    video: torch.Tensor | None = None
    pictures: NDArray[np.uint8] | None = None
    if reader.pixels:
        shape = (len(task.slots), bucket.frames, bucket.height_px, bucket.width_px, 3)
        video = torch.empty(shape, dtype=torch.uint8)
        pictures = video.numpy()
    failures: list[tuple[int, str]] = []
    read: dict[int, Sample] = {}  # by slot

    def attempt(place: Place, slot: int) -> None:
        out = None if pictures is None else pictures[slot]
        try:
            read[slot] = reader.read(task.root, place, bucket, task.epoch, out)
        except MediaError as exc:
            failures.append((place.position, str(exc)))

    for number, place in enumerate(task.places):
        attempt(place, task.slots.index(number))
    if read:
        shown = [_shown(task.slots, slot, read) for slot in range(len(task.slots))]
        replaced = [
            s for s, number in enumerate(task.slots) if task.slots.index(number) not in read
        ]
    else:
        for spare in task.spares:
            if not read:
                attempt(spare, 0)
        shown = [0] * len(task.slots)
        replaced = list(range(len(task.slots)))
    if not read:
        return Read(None, [], {}, failures)
    if pictures is not None:
        for slot, source in enumerate(shown):
            if slot != source:
                pictures[slot] = pictures[source]
    samples = [read[slot] for slot in shown]
    return Read(video, samples, _stacked(samples, task), failures, replaced)


def _shown(slots: tuple[int, ...], slot: int, read: dict[int, Sample]) -> int:
    """The slot whose sample a slot shows: its own, or that of the next one that was read."""
    around = (slots[(slot + step) % len(slots)] for step in range(len(slots)))
    return next(first for number in around if (first := slots.index(number)) in read)


def _stacked(samples: list[Sample], task: Task) -> dict[str, torch.Tensor]:
    """The samples' latents as a batch; texts of several lengths are padded.

    Raises:
        CatalogError: They differ in name or shape.
    """
    latents = [s.latents for s in samples]
    if any(place.encoded for place in task.places):
        latents = padded(latents)
    kinds = [{n: (t.shape, t.dtype) for n, t in one.items()} for one in latents]
    if any(kind != kinds[0] for kind in kinds):
        raise CatalogError(
            f"latents of samples of the bucket {task.bucket.name} differ in shape",
            where=task.root,
            mend="encode them for the buckets of this training",
        )
    return {name: torch.stack([one[name] for one in latents]) for name in kinds[0]}
