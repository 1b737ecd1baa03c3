"""Which samples make up which step: a pure function, so that a loader has nothing to forget.

    step -> K microbatches -> of one source each -> of one bucket each -> samples

Inside one epoch of one source:

1. Shards are sorted by a hash of (seed, epoch, shard) and divided into groups of about
   ``group_bytes``; the samples of a group are sorted by a hash of (seed, epoch, sample). Reading
   stays sequential in groups, and who stands beside whom changes every epoch.
2. In that order each bucket fills microbatches. A bucket's last one is filled with repeats of its
   own samples, of weight 0.
3. Microbatches follow one another as they become full. With a single source the epoch is filled
   to whole steps with repeats of weight 0, so that an epoch ends with a step.

With several sources microbatch ``n = step * K + k`` belongs to a source by a fixed pattern with the
sources' shares; each source runs through its own epochs, and "every sample once" holds for each.

Rank r of W computes the microbatches k with ``k % W == r``. W and accumulation do not enter the
order, so a run may go on with another number of ranks. Nothing here reads a file or a clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import ConfigError
from curation.ids import hash64
from training.data.buckets import Assignment, Bucket
from training.data.index import ShardIndex
from training.data.keys import draw64_all

PATTERN = 1000
"""Microbatches after which the pattern of sources repeats: shares are exact to a thousandth."""
EPOCHS_KEPT = 3


@dataclass(frozen=True)
class Microbatch:
    """What one microbatch holds.

    Attributes:
        step: Optimizer step.
        number: 0 to K - 1 over the whole step.
        source: Which source of the mixture.
        epoch: Of that source.
        bucket: Shape of all its samples.
        samples: int32 of shape (B,): positions in the source's index.
        weights: float32 of shape (B,): 1, or 0 for a repeat.
    """

    step: int
    number: int
    source: int
    epoch: int
    bucket: Bucket
    samples: NDArray[np.int32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Epoch:
    """One epoch of one source: microbatch i has ``counts[i]`` samples from ``starts[i]`` on."""

    samples: NDArray[np.int32]
    starts: NDArray[np.int64]
    counts: NDArray[np.int32]
    buckets: NDArray[np.int16]


class SourceOrder:
    """The endless sequence of microbatches of one source.

    Args:
        index: Its samples.
        assigned: Their buckets.
        seed: Of the run.
        group_bytes: Media bytes of shards whose samples are shuffled together.
        multiple: Microbatches of an epoch are filled up to a multiple of this.
        first_epoch: Number of its first epoch.

    Raises:
        ConfigError: No sample fits any bucket.
    """

    def __init__(
        self,
        index: ShardIndex,
        assigned: Assignment,
        *,
        seed: int,
        group_bytes: int = 2**30,
        multiple: int = 1,
        first_epoch: int = 0,
    ) -> None:
        self.index, self.buckets, self._seed = index, assigned.buckets, seed
        self._bucket, self.first_epoch = assigned.bucket, first_epoch
        self._positions = np.flatnonzero(assigned.bucket >= 0).astype(np.int32)
        if not len(self._positions):
            raise ConfigError(
                "no clip fits any bucket", where=index.root, mend="`clipmill plan` tells why"
            )
        self._sizes = np.array([b.samples for b in self.buckets], np.int64)
        counts = np.bincount(assigned.bucket[self._positions], minlength=len(self.buckets))
        self.full = int(np.sum(-(-counts // self._sizes)))
        self.num_microbatches = -(-self.full // multiple) * multiple
        self._shard_keys = np.array([hash64(w) for w in index.words["shard"]], np.uint64)
        self._shard_bytes = np.bincount(
            index["shard"], weights=index["mp4_bytes"], minlength=len(self._shard_keys)
        )
        self._group_bytes = group_bytes
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()

    def microbatch(self, number: int) -> tuple[int, Bucket, NDArray[np.int32], NDArray[np.float32]]:
        """Epoch, bucket, samples and weights of the n-th microbatch since the beginning.

        Args:
            number: From 0, over all epochs.
        """
        epoch, place = divmod(number, self.num_microbatches)
        epoch += self.first_epoch
        plan = self._epoch(epoch)
        filler = place >= self.full
        place %= self.full
        start, count = int(plan.starts[place]), int(plan.counts[place])
        bucket = self.buckets[plan.buckets[place]]
        own = plan.samples[start : start + count]
        weights = np.zeros(bucket.samples, np.float32)
        if not filler:
            weights[:count] = 1
        return epoch, bucket, np.resize(own, bucket.samples), weights

    def members(self, bucket: Bucket) -> NDArray[np.int64]:
        """Positions of all samples of a bucket, rising."""
        return np.flatnonzero(self._bucket == self.buckets.index(bucket))

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._epochs:
            self._epochs[epoch] = self._plan(epoch)
            while len(self._epochs) > EPOCHS_KEPT:
                self._epochs.popitem(last=False)
        self._epochs.move_to_end(epoch)
        return self._epochs[epoch]

    def _plan(self, epoch: int) -> _Epoch:
        """Order and microbatches of one epoch."""
        order = self._shuffled(epoch)
        bucket = self._bucket[order]
        # Samples of each bucket together, in the order of the epoch.
        by_bucket = np.argsort(bucket, kind="stable")
        counts = np.bincount(bucket, minlength=len(self.buckets))
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        starts: list[Any] = []
        sizes: list[Any] = []
        kinds: list[Any] = []
        full_at: list[Any] = []
        for number, (begin, count) in enumerate(zip(first, counts, strict=True)):
            size = self._sizes[number]
            start = np.arange(begin, begin + count, size)
            ends = np.minimum(start + size, begin + count)
            starts.append(start)
            sizes.append(ends - start)
            kinds.append(np.full(len(start), number, np.int16))
            # A microbatch comes when its last sample is read.
            full_at.append(by_bucket[ends - 1])
        turn = np.argsort(np.concatenate(full_at), kind="stable")
        return _Epoch(
            samples=order[by_bucket],
            starts=np.concatenate(starts)[turn],
            counts=np.concatenate(sizes).astype(np.int32)[turn],
            buckets=np.concatenate(kinds)[turn],
        )

    def _shuffled(self, epoch: int) -> NDArray[np.int32]:
        """Positions of all samples in the order of an epoch."""
        if not len(self._shard_keys):
            return self._positions
        turn = np.argsort(draw64_all(self._seed, epoch, "shard", self._shard_keys), kind="stable")
        read = np.cumsum(self._shard_bytes[turn])
        group = np.empty(len(turn), np.int64)
        group[turn] = (read - self._shard_bytes[turn]) // self._group_bytes
        keys = draw64_all(self._seed, epoch, "sample", self.index["key_hash"][self._positions])
        turn = np.argsort(keys)  # several times as fast as a stable sort, and keys are unique
        if np.any(keys[turn[1:]] == keys[turn[:-1]]):  # but for a sample that is there twice
            turn = np.argsort(keys, kind="stable")
        order = self._positions[turn]
        groups = group[self.index["shard"][order]]
        small = np.uint16 if groups.max(initial=0) < 2**16 else np.int64  # 16 bits: radix sort
        return order[np.argsort(groups.astype(small), kind="stable")]


@dataclass(frozen=True)
class Phase:
    """From which microbatch on a source has which samples.

    Attributes:
        first: Its first microbatch, over all epochs of the source.
        order: Of its samples.
    """

    first: int
    order: SourceOrder


class PhasedOrder:
    """One source whose samples may change, always at the beginning of an epoch.

    Args:
        phases: In order; the first begins with microbatch 0, or with the first that is asked for.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.phases = list(phases)

    def phase(self, number: int) -> Phase:
        """The phase that a microbatch belongs to."""
        return next((p for p in reversed(self.phases) if p.first <= number), self.phases[0])

    def microbatch(self, number: int) -> tuple[int, Bucket, NDArray[np.int32], NDArray[np.float32]]:
        """As :meth:`SourceOrder.microbatch`, numbered over all phases."""
        phase = self.phase(number)
        return phase.order.microbatch(number - phase.first)

    def next_epoch(self, number: int) -> tuple[int, int]:
        """The first epoch that begins at or after a microbatch, and its first microbatch."""
        phase = self.phase(number)
        size = phase.order.num_microbatches
        epochs = -(-(number - phase.first) // size)
        return phase.order.first_epoch + epochs, phase.first + epochs * size


class PlannedOrder:
    """Step to microbatches, of one source or a mixture.

    Args:
        sources: The orders of the sources.
        shares: Their weights; any positive numbers.
        microbatches: K, of one step.

    Raises:
        ConfigError: A share is not positive, or too small to be met.
    """

    def __init__(
        self, sources: Sequence[PhasedOrder], shares: Sequence[float], microbatches: int
    ) -> None:
        self.sources, self.num_microbatches = list(sources), microbatches
        self._pattern = _pattern(shares)
        self._before = np.zeros((len(self._pattern) + 1, len(sources)), np.int64)
        for source in range(len(sources)):
            self._before[1:, source] = np.cumsum(self._pattern == source)

    def step(self, step: int) -> list[Microbatch]:
        """All K microbatches of a step."""
        return [self.microbatch(step, k) for k in range(self.num_microbatches)]

    def microbatch(self, step: int, number: int) -> Microbatch:
        """One microbatch.

        Args:
            step: From 0.
            number: 0 to K - 1.
        """
        source, place = self.locate(step * self.num_microbatches + number)
        epoch, bucket, samples, weights = self.sources[source].microbatch(place)
        return Microbatch(step, number, source, epoch, bucket, samples, weights)

    def locate(self, number: int) -> tuple[int, int]:
        """Source of the n-th microbatch of the run, and its number within that source."""
        source = int(self._pattern[number % len(self._pattern)])
        return source, self.count_before(number, source)

    def count_before(self, number: int, source: int) -> int:
        """How many of the run's first ``number`` microbatches are of a source."""
        rounds, place = divmod(number, len(self._pattern))
        return int(rounds * self._before[-1, source] + self._before[place, source])

    def of_rank(self, step: int, rank: int, world_size: int) -> Iterator[Microbatch]:
        """The microbatches of a step that one rank computes, in order."""
        for number in range(rank, self.num_microbatches, world_size):
            yield self.microbatch(step, number)


def check_world(microbatches: int, world_size: int, rank: int = 0) -> None:
    """Refuse a number of ranks that does not divide the microbatches of a step.

    Raises:
        ConfigError: With the numbers that do.
    """
    if world_size < 1 or microbatches % world_size:
        valid = [n for n in range(1, microbatches + 1) if microbatches % n == 0]
        raise ConfigError(
            f"{world_size} ranks cannot share {microbatches} microbatches a step evenly",
            where="world size",
            mend=f"ranks x accumulation = {microbatches}: use "
            f"{', '.join(map(str, valid))} ranks, or change `microbatches`",
        )
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank {rank} is none of 0 to {world_size - 1}", where="rank")


def _pattern(shares: Sequence[float]) -> NDArray[Any]:
    """Which source each microbatch of a round is of, evenly spread.

    The next one goes to the source that lags most behind its share (smooth weighted round robin).
    """
    if len(shares) == 1:
        return np.zeros(1, np.int16)
    weights = np.asarray(shares, np.float64)
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ConfigError(f"weights {list(shares)} must all be above 0", where="sources")
    exact = weights / weights.sum() * PATTERN
    counts = np.floor(exact).astype(np.int64)
    most = np.argsort(counts - exact, kind="stable")[: PATTERN - counts.sum()]
    counts[most] += 1
    if not counts.all():
        raise ConfigError(
            f"weights {list(shares)}: a share below 1/{PATTERN} cannot be met", where="sources"
        )
    lag, pattern = np.zeros(len(shares), np.int64), np.empty(PATTERN, np.int16)
    for place in range(PATTERN):
        lag += counts
        pattern[place] = np.argmax(lag)
        lag[pattern[place]] -= PATTERN
    return pattern
