"""How fast the loader is on these shards and this machine: ``clipmill loader-bench``.

Each variant runs the loader as a training would, from step 0, and is timed from its second batch
on; how long the first one takes is told apart. Before the first variant some batches are read
untimed, so that no variant alone pays for what the system then keeps in memory: on a store that is
larger than memory, the first pass of a training is slower than this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import ConfigError
from training.data.plan import DataPlan, open_plan
from training.data.settings import DataSettings

if TYPE_CHECKING:
    from training.data.batch import Batch
    from training.data.loader import ClipLoader

KINDS = ("thread", "process")
WARM_UP_S = 2.0
ALIKE = 0.95
"""Settings whose speed differs less count as equal: the one with fewer workers is named."""
Advance = Callable[[float], object]


@dataclass(frozen=True)
class Variant:
    """One way to run the loader.

    Attributes:
        workers: 0: the caller's own thread.
        kind: thread or process.
    """

    workers: int
    kind: str

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.workers} x {self.kind}" if self.workers else "no workers"


@dataclass(frozen=True)
class Measured:
    """What one variant did.

    Attributes:
        workers: Of the variant.
        kind: Of the variant.
        first_batch_s: From opening the loader to its first batch.
        seconds: Timed, from then on.
        batches: Microbatches in that time.
        samples: Samples in them, without repeats.
        frames: Decoded frames in them.
        read_bytes: Bytes of the clips in the shards.
        failed: Samples that did not decode.
        waited_share: Of the time, what the consumer waited for batches.
        samples_per_s: Samples a second.
        frames_per_s: Frames a second, as delivered.
        read_mb_per_s: Megabytes (10**6) of clips a second.
        batch_s: Time per microbatch: a training that takes longer for one need not wait.
    """

    workers: int
    kind: str
    first_batch_s: float
    seconds: float
    batches: int
    samples: int
    frames: int
    read_bytes: int
    failed: int
    waited_share: float
    samples_per_s: float
    frames_per_s: float
    read_mb_per_s: float
    batch_s: float


def parse_variants(workers: str, kinds: str) -> list[Variant]:
    """Variants from ``0,1,2`` and ``thread,process``; without workers there is but one.

    Raises:
        ConfigError: Something else is given.
    """
    counts = [w.strip() for w in workers.split(",")]
    if not all(w.isascii() and w.isdigit() and int(w) <= 256 for w in counts):
        raise ConfigError(f"{workers!r}", where="--workers", mend="numbers such as 0,1,2")
    names = [k.strip() for k in kinds.split(",")]
    if not set(names) <= set(KINDS):
        raise ConfigError(f"{kinds!r}", where="--kinds", mend="thread, process, or both")
    found = [Variant(int(w), kind if int(w) else KINDS[0]) for kind in names for w in counts]
    return list(dict.fromkeys(found))


def measure(
    root: str,
    settings: DataSettings,
    variants: Sequence[Variant],
    *,
    seconds: float,
    step_s: float = 0.0,
    advance: Advance = lambda _: None,
) -> Iterator[Measured]:
    """Time the loader, one variant after another.

    Args:
        root: Dataset root.
        settings: The data; workers and their kind are replaced.
        variants: What to try.
        seconds: Time for each.
        step_s: Time that a training takes for each microbatch: the consumer sleeps so long.
        advance: Called with seconds that have passed.

    Raises:
        ConfigError: PyTorch is not installed, or the settings do not fit the clips.
    """
    bench = _Bench(_loader(), root, settings, open_plan(settings, root))
    bench.run(variants[0], min(seconds, WARM_UP_S), 0.0, lambda _: None)
    for variant in variants:
        yield bench.run(variant, seconds, step_s, advance)


def best_of(measured: Sequence[Measured]) -> Measured:
    """The fastest; of those about as fast the one with the fewest workers, threads first."""
    fastest = max(m.samples_per_s for m in measured)
    alike = [m for m in measured if m.samples_per_s >= ALIKE * fastest]
    return min(alike, key=lambda m: (m.workers, KINDS.index(m.kind)))


def _loader() -> type[ClipLoader]:
    try:
        from training.data.loader import ClipLoader
    except ModuleNotFoundError as exc:
        if exc.name != "torch":
            raise
        raise ConfigError(
            "the loader needs PyTorch, which is not installed", mend="pip install torch"
        ) from exc
    return ClipLoader


@dataclass(frozen=True)
class _Bench:
    """What all variants share."""

    open_loader: type[ClipLoader]
    root: str
    settings: DataSettings
    plan: DataPlan

    def run(self, variant: Variant, seconds: float, step_s: float, advance: Advance) -> Measured:
        """Run one variant for some time."""
        changed = {"num_workers": variant.workers, "worker_kind": variant.kind}
        read = self.settings.read.model_copy(update=changed)
        opened = time.perf_counter()
        counted, waited_s = _Counted(), 0.0
        settings = self.settings.model_copy(update={"read": read})
        loader = self.open_loader(self.root, settings, rank=0, world_size=1)
        with closing(loader):
            batches = iter(loader)
            next(batches)
            began = asked = time.perf_counter()
            while asked - began < seconds:
                batch = next(batches)
                came = time.perf_counter()
                waited_s += came - asked
                counted.add(batch, self.plan)
                del batch  # its memory is the next one's
                time.sleep(step_s)
                now = time.perf_counter()
                advance(min(now, began + seconds) - min(asked, began + seconds))
                asked = now
        took_s = asked - began
        return Measured(
            workers=variant.workers,
            kind=variant.kind,
            first_batch_s=began - opened,
            seconds=took_s,
            batches=counted.batches,
            samples=counted.samples,
            frames=counted.frames,
            read_bytes=counted.read_bytes,
            failed=counted.failed,
            waited_share=waited_s / took_s,
            samples_per_s=counted.samples / took_s,
            frames_per_s=counted.frames / took_s,
            read_mb_per_s=counted.read_bytes / took_s / 1e6,
            batch_s=took_s / counted.batches,
        )


@dataclass
class _Counted:
    """What was delivered."""

    batches: int = 0
    samples: int = 0
    frames: int = 0
    read_bytes: int = 0
    failed: int = 0

    def add(self, batch: Batch, plan: DataPlan) -> None:
        """Count a batch in."""
        planned = plan.order.microbatch(batch.step, batch.microbatch)
        index = plan.index_at(batch.step, batch.microbatch)
        different = np.unique(planned.samples)  # a repeat costs nothing
        self.batches += 1
        self.samples += len(different)
        self.frames += len(different) * batch.bucket.frames
        self.read_bytes += int(index["mp4_bytes"][different].sum())
        self.failed += len(batch.failed)
