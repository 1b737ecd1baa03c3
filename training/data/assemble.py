"""Between plan and workers: what must be read for a microbatch, and the batch it becomes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from curation.errors import ConfigError
from training.data.batch import Batch
from training.data.index import ShardIndex
from training.data.keys import draw64
from training.data.latents import SetDescription
from training.data.order import Microbatch
from training.data.plan import DataPlan
from training.data.sample import Part, Place
from training.data.settings import DataSettings
from training.data.siblings import Siblings
from training.data.tasks import Read, Task

SPARES = 8
"""Samples that are tried when not one of a microbatch can be read."""


class Assembler:
    """Makes tasks of microbatches, and batches of what was read.

    Args:
        plan: Which sample comes when.
        settings: The data.
        world_size: Ranks.

    Raises:
        CatalogError: Latents are missing, stale, or made for other buckets.
        ConfigError: Pictures are to be read in a way in which their latents were not made.
    """

    def __init__(self, plan: DataPlan, settings: DataSettings, world_size: int) -> None:
        self._plan, self._settings, self._world_size = plan, settings, world_size
        self._siblings = self._open_siblings()

    def task(self, at: Microbatch) -> Task:
        """What the workers must know of a microbatch."""
        index = self._plan.index_at(at.step, at.number)
        positions = at.samples.tolist()
        number = {position: n for n, position in enumerate(dict.fromkeys(positions))}
        return Task(
            root=index.root,
            bucket=at.bucket,
            epoch=at.epoch,
            places=tuple(self._place(index, p) for p in number),
            slots=tuple(number[p] for p in positions),
            pixels=self._settings.pixels,
        )

    def with_spares(self, at: Microbatch, task: Task) -> Task:
        """The same task with samples that may stand in; drawn by the key of its first sample."""
        source, number = self._plan.order.locate(
            at.step * self._plan.order.num_microbatches + at.number
        )
        order = self._plan.sources[source].phase(number).order
        members, first = order.members(at.bucket), task.places[0].key_hash
        seed = self._settings.order.seed
        spares = [
            int(members[draw64(seed, at.epoch, f"spare-{n}", first) % len(members)])
            for n in range(SPARES)
        ]
        return replace(
            task, spares=tuple(self._place(order.index, p) for p in dict.fromkeys(spares))
        )

    def failures(self, at: Microbatch, read: Read) -> list[tuple[str, str, str, str]]:
        """Root, clip id, shard and reason of each sample that could not be read."""
        if not read.failures:
            return []
        index = self._plan.index_at(at.step, at.number)
        keys = index.clip_ids([position for position, _ in read.failures])
        return [
            (index.root, key, _shard(index, position), reason)
            for key, (position, reason) in zip(keys, read.failures, strict=True)
        ]

    def batch(self, at: Microbatch, read: Read) -> Batch:
        """What is handed out."""
        weights = torch.from_numpy(np.array(at.weights, np.float32))
        weights[read.replaced] = 0
        failed: list[str] = []
        if read.replaced:
            index = self._plan.index_at(at.step, at.number)
            failed = list(dict.fromkeys(index.clip_ids(at.samples[read.replaced])))
        return Batch(
            video=None if read.video is None else read.video.permute(0, 4, 1, 2, 3),
            weights=weights,
            captions=[s.caption for s in read.samples],
            caption_kinds=[s.caption_kind for s in read.samples],
            keys=[s.record["clip_id"] for s in read.samples],
            records=[s.record for s in read.samples],
            start_s=torch.tensor([s.start_s for s in read.samples], dtype=torch.float32),
            flipped=torch.tensor([s.flipped for s in read.samples], dtype=torch.bool),
            bucket=at.bucket,
            step=at.step,
            microbatch=at.number,
            source=at.source,
            epoch=at.epoch,
            last=at.number + self._world_size >= self._plan.order.num_microbatches,
            latents=read.latents,
            failed=failed,
        )

    def empty_prompt(self) -> torch.Tensor | None:
        """States of the empty prompt, float16 (L, D); None where the latents have none.

        Raises:
            CatalogError: They are missing or damaged.
        """
        return next((s.empty_prompt() for s in self._siblings.values()), None)

    @property
    def latent_set(self) -> SetDescription | None:
        """What the latents say of themselves; None without, or of another program's."""
        return next((s.described for s in self._siblings.values()), None)

    def _place(self, index: ShardIndex, position: int) -> Place:
        shard = _shard(index, position)
        mp4, texts = (
            Part(
                shard, int(index[f"{kind}_offset"][position]), int(index[f"{kind}_bytes"][position])
            )
            for kind in ("mp4", "json")
        )
        siblings = self._siblings.get(id(index))
        return Place(
            position=position,
            key_hash=int(index["key_hash"][position]),
            frames=int(index["frames"][position]),
            fps=float(index["fps"][position]),
            mp4=mp4,
            json=texts,
            latents=None if siblings is None else siblings.place(position),
            encoded=siblings is not None and siblings.described is not None,
        )

    def _open_siblings(self) -> dict[int, Siblings]:
        """The latents beside every index in use, by the index's identity."""
        wanted = self._settings.latents
        if wanted is None:
            return {}
        phases = [phase for source in self._plan.sources for phase in source.phases]
        indexes = {id(phase.order.index): phase.order.index for phase in phases}
        found = {number: Siblings(index, wanted) for number, index in indexes.items()}
        for stream, source in zip(self._plan.streams, self._plan.sources, strict=True):
            for phase in source.phases:
                index = phase.order.index
                found[id(index)].check_fit(
                    self._plan.assign(stream, index),
                    self._plan.bucket_settings,
                    self._settings,
                    pictures=stream.pictures,
                )
        if self._settings.read.flip and any("mp4" in s.reads for s in found.values()):
            raise ConfigError(
                "clips are to be mirrored, but their latents are not",
                where="read.flip",
                mend="set flip: 0, or train without latents",
            )
        return found


def _shard(index: ShardIndex, position: int) -> str:
    return index.words["shard"][index["shard"][position]]
