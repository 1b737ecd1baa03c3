"""The loader: batch after batch of one rank, read ahead, in an order that nothing can disturb.

    loader = ClipLoader("data/clips", settings)
    for batch in loader:
        loss = model(batch.video, batch.captions, batch.weights)
        loss.backward()
        if batch.last:
            optimizer.step(), save(loader.state_dict())

Which samples come when is planned (:mod:`training.data.order`); how each is cut is drawn by key
(:mod:`training.data.geometry`). So the position is one number, the step, and it is counted where
batches are handed out, not where they are read ahead. The same stream comes out for any number of
ranks, workers of either kind, and any prefetch, also after a state was taken from one to the other.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

from curation.errors import BudgetError, CatalogError, ClipmillError, ConfigError
from training.data.assemble import Assembler
from training.data.batch import Batch
from training.data.latents import SetDescription
from training.data.order import Microbatch, check_world
from training.data.plan import DataPlan, open_plan, restarted
from training.data.ranks import agreed, of_first, together
from training.data.settings import DataSettings
from training.data.tasks import Read, Task
from training.data.workers import Workers

log = logging.getLogger(__name__)

STATE_VERSION = 1
AHEAD_PER_WORKER = 4
"""Microbatches that wait or are being read, for each worker; ``prefetch_bytes`` may allow fewer."""


@dataclass(frozen=True, eq=False)
class _Coming:
    """A microbatch that was given to the workers."""

    microbatch: Microbatch
    task: Task
    future: Future[Read]


class ClipLoader:
    """Batches of one rank, step by step, for ever or up to a step.

    Iterating goes on where the batches handed out end; a step of which some were handed out begins
    anew. So a loop may be left and entered again, and a state taken between two steps is exact.

    Args:
        root: Dataset root of sources that name none.
        settings: The data; None: the defaults, with buckets proposed from the clips.
        rank: This process among those that train with different data; None: of
            ``torch.distributed`` if that is set up, else of the environment (``RANK``), else 0.
        world_size: How many there are; None: likewise (``WORLD_SIZE``), else 1.
        stop_step: First step that is not handed out; None: no end.

    Attributes:
        plan: Which sample comes when.
        failed: Samples that could not be read so far, (root, clip id), and why.

    Raises:
        ConfigError: The settings do not fit the clips or the number of ranks.
        CatalogError: There are no shards here, or the latents are missing or stale.
    """

    def __init__(
        self,
        root: str | None = None,
        settings: DataSettings | None = None,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        stop_step: int | None = None,
    ) -> None:
        self._root, self._settings = root, settings or DataSettings()
        self.rank, self.world_size = _place_among(rank, world_size)
        self._together = rank is None and world_size is None and together()
        self.stop_step = stop_step
        self.failed: dict[tuple[str, str], str] = {}
        self._coming: deque[_Coming] = deque()
        self._workers: Workers | None = None
        self._adopt(self._open(None), 0)

    @property
    def step(self) -> int:
        """The first step of which not all batches were handed out."""
        return self._step

    @property
    def empty_prompt(self) -> torch.Tensor | None:
        """States of the empty prompt, float16 (L, D), of latents that ``clipmill encode`` made.

        Raises:
            CatalogError: They are missing or damaged.
        """
        return self._assembler.empty_prompt()

    @property
    def latent_set(self) -> SetDescription | None:
        """What latents that ``clipmill encode`` made say of themselves; None without such."""
        return self._assembler.latent_set

    def __iter__(self) -> Iterator[Batch]:
        if self._number != self.rank:
            self._go_to(self._step)
        while self.stop_step is None or self._step < self.stop_step:
            yield self._next()

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Where the training stands: plain JSON, under 1 KB, the same on every rank.

        Args:
            step: Steps that are done; None: those whose batches have all been handed out here.
        """
        done = self._step if step is None else step
        return {"version": STATE_VERSION, **self.plan.state(done)}

    def load_state_dict(
        self, state: dict[str, Any], *, accept_changed_shards: bool = False
    ) -> None:
        """Go on where a state was taken, by any number of ranks and workers.

        Args:
            state: Of :meth:`state_dict`.
            accept_changed_shards: When shards or settings of the order are others than those of the
                state: begin a new epoch at its step, instead of refusing.

        Raises:
            CatalogError: The shards or the settings of the order are not those of the state.
            ConfigError: The state is of another version, or of other sources.
        """
        if state.get("version") != STATE_VERSION:
            raise ConfigError(
                f"the state is of version {state.get('version')!r}, this loader reads "
                f"{STATE_VERSION}",
                where="state",
            )
        step = int(state["step"])
        try:
            plan = self._open(state)
        except CatalogError:
            if not accept_changed_shards:
                raise
            plan = self._restarted(state)
            log.warning("the shards or settings changed: a new epoch begins at step %d", step)
        self._adopt(plan, step)

    def take_new_shards(self) -> list[str]:
        """Let shards in that were added since, each source's at its next epoch.

        To be called on every rank at the same step, between steps. What was read ahead is dropped.

        Returns:
            What was taken in, in words; empty when there is nothing new.

        Raises:
            CatalogError: Shards that are in use were written anew meanwhile, or the new ones lack
                latents; nothing is taken in then.
        """
        done = self._step + (self._number != self.rank)
        before = self.plan.state(done)
        try:
            said = self._take(done)
            if said:
                self._assembler = Assembler(self.plan, self._settings, self.world_size)
        except ClipmillError:  # such as: the new shards have no latents yet; without them, then
            self.plan = open_plan(self._settings, self._root, state=before)
            self._assembler = Assembler(self.plan, self._settings, self.world_size)
            self._drop()
            raise
        if said:
            self._drop()
        return said

    def _take(self, done: int) -> list[str]:
        """Let new shards in: on every rank those that rank 0 sees."""
        plan = self.plan
        if not self._together:
            return plan.take_new_shards(done)

        def first() -> tuple[list[str], list[int]]:
            return plan.take_new_shards(done), plan.newest()

        said, newest = of_first(first)

        def take() -> str:
            plan.take_new_shards(done, newest)
            return plan.fingerprint()

        agreed(take, str)
        return said

    def close(self) -> None:
        """End the workers. The loader can still tell its state."""
        self._drop()
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def __enter__(self) -> ClipLoader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, state: dict[str, Any] | None) -> DataPlan:
        """The plan of a state, or of what is there now: on every rank what rank 0 sees."""
        settings, root = self._settings, self._root
        check_world(settings.order.microbatches, self.world_size, self.rank)
        if not self._together:
            return open_plan(settings, root, state=state)
        if state is None:
            state = of_first(lambda: open_plan(settings, root).state(0))
        return agreed(lambda: open_plan(settings, root, state=state), DataPlan.fingerprint)

    def _restarted(self, state: dict[str, Any]) -> DataPlan:
        """A plan with a new epoch of the shards as they are now."""
        settings, root = self._settings, self._root
        if not self._together:
            return restarted(settings, root, state)
        seen = of_first(lambda: restarted(settings, root, state).state(int(state["step"])))
        return agreed(lambda: open_plan(settings, root, state=seen), DataPlan.fingerprint)

    def _adopt(self, plan: DataPlan, step: int) -> None:
        self._assembler = Assembler(plan, self._settings, self.world_size)
        self.plan = plan
        self._go_to(step)

    def _go_to(self, step: int) -> None:
        """Hand out the first batch of a step next."""
        self._step, self._number = step, self.rank
        self._drop()

    def _drop(self) -> None:
        """Forget what was read ahead; read on from the next batch to hand out."""
        while self._coming:
            self._coming.pop().future.cancel()
        self._ahead = (self._step, self._number)

    def _after(self, step: int, number: int) -> tuple[int, int]:
        """This rank's microbatch after another one."""
        number += self.world_size
        return (
            (step, number) if number < self.plan.order.num_microbatches else (step + 1, self.rank)
        )

    def _next(self) -> Batch:
        workers = self._started()
        self._read_ahead(workers)
        coming = self._coming[0]
        read = coming.future.result()
        if not read.samples:
            read = self._with_spares(workers, coming)
        self._note_failures(coming.microbatch, read)
        batch = self._assembler.batch(coming.microbatch, read)
        if self._settings.read.pin_memory and torch.cuda.is_available():
            batch.pin_memory()
        self._coming.popleft()
        self._step, self._number = self._after(batch.step, batch.microbatch)
        if workers.count:
            self._read_ahead(workers)
        return batch

    def _started(self) -> Workers:
        """The workers, begun when the first batch is asked for."""
        if self._workers is not None and self._workers.ended:  # with the thread that used them
            self.close()
        if self._workers is None:
            settings = self._settings
            self._workers = Workers(
                settings.read,
                settings.order.seed,
                pixels=settings.pixels,
                pin_memory=settings.read.pin_memory and torch.cuda.is_available(),
            )
            weakref.finalize(self, self._workers.stop)
        return self._workers

    def _read_ahead(self, workers: Workers) -> None:
        """Give the workers what is next, as far as memory allows."""
        waiting = sum(coming.task.num_bytes for coming in self._coming)
        while len(self._coming) < max(1, AHEAD_PER_WORKER * workers.count):
            step, number = self._ahead
            if self.stop_step is not None and step >= self.stop_step:
                return
            microbatch = self.plan.order.microbatch(step, number)
            task = self._assembler.task(microbatch)
            waiting += task.num_bytes
            if self._coming and waiting > self._settings.read.prefetch_bytes:
                return
            self._coming.append(_Coming(microbatch, task, workers.submit(task)))
            self._ahead = self._after(step, number)

    def _with_spares(self, workers: Workers, coming: _Coming) -> Read:
        """A microbatch of which no sample can be read, with others of its bucket.

        Raises:
            BudgetError: Those cannot be read either.
        """
        task = self._assembler.with_spares(coming.microbatch, coming.task)
        read = workers.read(task)
        if not read.samples:
            self._note_failures(coming.microbatch, read)
            raise BudgetError(
                f"no sample of a microbatch can be read, nor {len(task.spares)} others of its "
                f"bucket {task.bucket.name}: {read.failures[0][1]}",
                where=task.root,
                mend=f"`clipmill verify {task.root}` tells what is damaged",
            )
        return read

    def _note_failures(self, at: Microbatch, read: Read) -> None:
        """Log what could not be read; stop above the budget.

        Raises:
            BudgetError: More samples than ``read.max_failures`` cannot be read.
        """
        for root, key, shard, reason in self._assembler.failures(at, read):
            if (root, key) not in self.failed:
                log.warning("sample %s of %s cannot be read: %s", key, shard, reason)
                self.failed[root, key] = reason
        most = self._settings.read.max_failures
        if len(self.failed) > most:
            roots = sorted({root for root, _ in self.failed})
            named = [key for _, key in self.failed]
            raise BudgetError(
                f"{len(named)} samples cannot be read, more than max_failures={most}: "
                f"{', '.join(named[:8])}{', ...' if len(named) > 8 else ''}",
                where=", ".join(roots),
                mend=f"`clipmill verify {roots[0]}` tells what is damaged; read.max_failures sets "
                "how many may be",
            )


def _place_among(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """This process and how many there are."""
    here, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        here, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return (here if rank is None else rank), (count if world_size is None else world_size)
