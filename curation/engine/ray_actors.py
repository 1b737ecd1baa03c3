"""Pieces of work on a Ray cluster for workers that are dear to set up: models on a GPU, say.

A pool of actors builds its worker once in each and hands it item after item; results come in the
items' order. An actor that dies (out of memory, a crash in native code, a lost node) is begun anew
and its item tried again; what a worker raises ends the run. Items and results are small and name
files that every node sees.

    driver                                actor 0 .. n-1
    map(items) ── item k ───────────────▶ work(k): worker(item, count)
               ◀─ so many done, at times ─ seen()
               ◀─ result k ───────────────
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from curation.engine.ray_data import RayCluster
from curation.errors import ClipmillError, PlanError

TRIES = 3
LOOK_EVERY_S = 1.0
ANSWER_WITHIN_S = 5.0
Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item, Callable[[int], None]], Result]
"""Does an item; the function that it is given takes how much of the item is done."""


@dataclass
class _Job:
    """An item on its way.

    Attributes:
        number: In the order of the items.
        item: The item.
        tries: How often it was begun.
    """

    number: int
    item: Any
    tries: int = 0


class ActorPool(Generic[Item, Result]):
    """Actors that each build one worker and keep it.

    Args:
        cluster: Where; started.
        make: Builds the worker; travels by pickle.
        most: Actors at most; None: as many as fit.
        num_cpus: Cores of an actor, cut down to what the cluster has.
        num_gpus: GPUs of an actor.
        name: Of an item, for people.
    """

    def __init__(
        self,
        cluster: RayCluster,
        make: Callable[[], Work[Item, Result]],
        *,
        most: int | None = None,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        name: Callable[[Item], str] = str,
    ) -> None:
        self._cluster, self._make, self._name = cluster, make, name
        self._wanted, self._num_cpus, self._num_gpus = most, num_cpus, num_gpus
        self._idle: list[Any] = []

    def __enter__(self) -> ActorPool[Item, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def most(self) -> int:
        """Actors that the cluster has room for, or were asked for; at least one.

        Raises:
            PlanError: An actor needs more GPUs than there are.
        """
        self._cluster.wait()
        there = self._cluster.resources()
        cpus, gpus = there.get("CPU", 1.0), there.get("GPU", 0.0)
        if self._num_gpus > gpus:
            raise PlanError(
                f"asks for {self._num_gpus:g} GPUs, the cluster has {gpus:g}",
                mend="--device cpu, or another cluster",
            )
        fits = cpus / min(self._num_cpus, cpus) if self._num_cpus else cpus
        if self._num_gpus:
            fits = min(fits, gpus / self._num_gpus)
        return max(1, int(fits) if self._wanted is None else min(self._wanted, int(fits)))

    def map(
        self, items: Iterable[Item], on_count: Callable[[int, int], None] = lambda *_: None
    ) -> Iterator[Result]:
        """Do all items; yields results in their order.

        Args:
            items: Taken as actors are free.
            on_count: Called every second or so with the number of an item in work and how much of
                it is done; the count of an item that is tried again falls back.

        Raises:
            ClipmillError: An item's actor died three times.
        """
        import ray

        jobs = (_Job(number, item) for number, item in enumerate(items))
        again: deque[_Job] = deque()
        running: dict[Any, tuple[Any, _Job]] = {}
        done: dict[int, Result] = {}
        coming, most = 0, self.most
        try:
            while True:
                while len(running) < most:
                    job = again.popleft() if again else next(jobs, None)
                    if job is None:
                        break
                    job.tries += 1
                    actor = self._actor()
                    running[actor.work.remote(job.item)] = actor, job
                if not running:
                    return
                ready, _ = ray.wait(list(running), timeout=LOOK_EVERY_S)
                for ref in ready:
                    actor, job = running.pop(ref)
                    if self._take(ref, actor, job, done):
                        continue
                    on_count(job.number, 0)
                    again.append(job)
                self._look(running, on_count)
                while coming in done:
                    yield done.pop(coming)
                    coming += 1
        finally:
            for actor, _ in running.values():  # the caller left, or an item failed
                self._end(actor)

    def close(self) -> None:
        """End all actors."""
        while self._idle:
            self._end(self._idle.pop())

    def _take(self, ref: Any, actor: Any, job: _Job, done: dict[int, Result]) -> bool:  # noqa: ANN401
        """Take a result; False when the actor died and the item is to be tried again."""
        import ray
        import ray.exceptions

        try:
            done[job.number] = ray.get(ref)
        except ray.exceptions.RayTaskError as exc:
            self._end(actor)
            raise exc.cause or exc from None
        except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError) as exc:
            self._end(actor)
            if job.tries < TRIES:
                return False
            raise ClipmillError(
                f"the process that worked on it died {job.tries} times: {_first_line(exc)}",
                where=self._name(job.item),
                mend="memory may have run out; the same command goes on where this one ended",
            ) from exc
        self._idle.append(actor)
        return True

    def _look(
        self, running: dict[Any, tuple[Any, _Job]], on_count: Callable[[int, int], None]
    ) -> None:
        """Ask the actors at work how far they are; one that does not answer is asked again."""
        import ray
        import ray.exceptions

        asked = [(job, actor.seen.remote()) for actor, job in running.values()]
        if asked:
            ray.wait([ref for _, ref in asked], num_returns=len(asked), timeout=ANSWER_WITHIN_S)
        for job, ref in asked:
            with contextlib.suppress(ray.exceptions.RayError):  # told by its work, in a moment
                on_count(job.number, ray.get(ref, timeout=0))

    def _actor(self) -> Any:  # noqa: ANN401 - a handle of Ray's
        if self._idle:
            return self._idle.pop()
        import ray

        cpus = self._cluster.resources().get("CPU", 1.0)
        make = ray.remote(_Actor).options(
            num_cpus=min(self._num_cpus, cpus),
            num_gpus=self._num_gpus,
            max_concurrency=2,  # one works, one answers
            max_restarts=0,
        )
        return make.remote(self._make)

    def _end(self, actor: Any) -> None:  # noqa: ANN401 - a handle of Ray's
        import ray

        with contextlib.suppress(Exception):
            ray.kill(actor)


class _Actor:
    """The process of one worker, which is built when the first item comes."""

    def __init__(self, make: Callable[[], Work[Any, Any]]) -> None:
        self._make, self._worker, self._count = make, None, 0

    def work(self, item: Any) -> Any:  # noqa: ANN401 - as the caller has it
        """Do an item."""
        self._count = 0
        if self._worker is None:
            self._worker = self._make()
        return self._worker(item, self._note)

    def seen(self) -> int:
        """How much of the present item is done."""
        return self._count

    def _note(self, count: int) -> None:
        self._count = count


def _first_line(exc: BaseException) -> str:
    return next(iter(str(exc).splitlines()), type(exc).__name__)
