"""The planned order: every sample once an epoch, the same for any number of ranks, never changing.

``slow_epoch`` says in plain Python what the module's page says; the fast code must agree with it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import ConfigError
from curation.ids import hash64
from tests.training.synthetic import Row, index_of
from training.data.buckets import Assignment, Bucket
from training.data.index import ShardIndex
from training.data.keys import draw64
from training.data.order import (
    EPOCHS_KEPT,
    PATTERN,
    Microbatch,
    Phase,
    PhasedOrder,
    PlannedOrder,
    SourceOrder,
    check_world,
)

BUCKETS = (
    Bucket(1, 32, 32, 8.0, 5, 4),
    Bucket(9, 32, 32, 8.0, 3, 12),
    Bucket(17, 64, 32, 8.0, 2, 40),
)
WORLDS = (1, 2, 3, 4, 6, 12)
SHARDS = st.lists(
    st.lists(st.integers(-1, len(BUCKETS) - 1), min_size=1, max_size=12), min_size=1, max_size=8
)
"""For each shard the bucket of each sample; -1: dropped."""
SEED = st.integers(0, 2**40)
GROUP = st.sampled_from((1, 2500, 6000, 10**9))


def dataset(shards: Sequence[Sequence[int]], name: str = "c") -> tuple[ShardIndex, Assignment]:
    """An index in memory, of clips of 1,000 to 1,900 bytes, and the buckets of its clips."""
    rows, kinds = [], []
    for shard, own in enumerate(shards):
        for kind in own:
            clip, size = f"{name}{len(rows)}", 1000 + 100 * (len(rows) % 10)
            rows.append(Row(clip=clip, shard=f"shards/{name}/{shard}.tar", mp4_bytes=size))
            kinds.append(kind)
    bucket = np.array(kinds, np.int16)
    nothing = np.zeros(len(rows), np.float32)
    reason = np.where(bucket < 0, 0, -1).astype(np.int8)
    return index_of(rows), Assignment(BUCKETS, bucket, reason, nothing, nothing)


def some_shards(num: int, per_shard: int, seed: int = 0) -> list[list[int]]:
    """Shards of samples in all three buckets, the longer the more; owed to no library's chance."""
    kinds = (0, 1, 1, 2, 2, 2)
    return [
        [kinds[draw64(seed, shard, "kind", n) % len(kinds)] for n in range(per_shard)]
        for shard in range(num)
    ]


def usable(shards: Sequence[Sequence[int]]) -> bool:
    return any(kind >= 0 for own in shards for kind in own)


def shard_groups(index: ShardIndex, seed: int, epoch: int, group_bytes: int) -> list[int]:
    """The group of each shard: bytes of the shards before it, in whole groups."""
    words = index.words["shard"]
    sizes = Counter[int]()
    for shard, size in zip(index["shard"].tolist(), index["mp4_bytes"].tolist(), strict=True):
        sizes[shard] += size
    turn = sorted(range(len(words)), key=lambda n: draw64(seed, epoch, "shard", hash64(words[n])))
    groups, before = [0] * len(words), 0
    for shard in turn:
        groups[shard] = before // group_bytes
        before += sizes[shard]
    return groups


def slow_epoch(
    index: ShardIndex, assigned: Assignment, seed: int, epoch: int, group_bytes: int
) -> list[tuple[int, list[int]]]:
    """Bucket and samples of each microbatch of an epoch, without repeats."""
    groups = shard_groups(index, seed, epoch, group_bytes)
    shard, keys = index["shard"].tolist(), index["key_hash"].tolist()
    order = [n for n in range(len(index)) if assigned.bucket[n] >= 0]
    order.sort(key=lambda n: (groups[shard[n]], draw64(seed, epoch, "sample", keys[n])))
    left = Counter(int(assigned.bucket[n]) for n in order)
    open_ones: dict[int, list[int]] = {kind: [] for kind in left}
    done = []
    for sample in order:
        kind = int(assigned.bucket[sample])
        open_ones[kind].append(sample)
        left[kind] -= 1
        if len(open_ones[kind]) == BUCKETS[kind].samples or not left[kind]:
            done.append((kind, open_ones[kind]))
            open_ones[kind] = []
    return done


def epoch_of(order: SourceOrder, epoch: int) -> Iterator[tuple[Bucket, list[int], list[float]]]:
    size = order.num_microbatches
    for number in range(epoch * size, (epoch + 1) * size):
        found, bucket, samples, weights = order.microbatch(number)
        assert found == epoch + order.first_epoch
        assert samples.dtype == np.int32 and weights.dtype == np.float32
        yield bucket, samples.tolist(), weights.tolist()


def seen(batch: Microbatch) -> tuple[object, ...]:
    return (
        (batch.step, batch.number, batch.source, batch.epoch, batch.bucket.name),
        (batch.samples.tolist(), batch.weights.tolist()),
    )


# One source


@settings(deadline=None, max_examples=150)
@given(SHARDS.filter(usable), SEED, GROUP, st.integers(1, 12), st.integers(0, 5))
def test_every_sample_stands_exactly_once_in_every_epoch(
    shards: list[list[int]], seed: int, group_bytes: int, multiple: int, first_epoch: int
) -> None:
    index, assigned = dataset(shards)
    order = SourceOrder(
        index,
        assigned,
        seed=seed,
        group_bytes=group_bytes,
        multiple=multiple,
        first_epoch=first_epoch,
    )
    wanted = np.flatnonzero(assigned.bucket >= 0).tolist()
    assert order.num_microbatches % multiple == 0
    assert order.num_microbatches - order.full < multiple  # never a step of repeats alone
    for epoch in (0, 1, 2, 7):
        once: list[int] = []
        for bucket, samples, weights in epoch_of(order, epoch):
            assert len(samples) == len(weights) == bucket.samples
            assert {assigned.buckets[assigned.bucket[n]] for n in samples} == {bucket}
            assert set(weights) <= {0.0, 1.0}
            own = [n for n, w in zip(samples, weights, strict=True) if w]
            if own:  # repeats are of its own samples, after all of them
                assert samples[: len(own)] == own and set(samples) == set(own)
            once += own
        assert sorted(once) == wanted


@settings(deadline=None, max_examples=150)
@given(SHARDS.filter(usable), SEED, GROUP, st.integers(1, 12))
def test_the_order_is_that_of_the_page(
    shards: list[list[int]], seed: int, group_bytes: int, multiple: int
) -> None:
    index, assigned = dataset(shards)
    order = SourceOrder(index, assigned, seed=seed, group_bytes=group_bytes, multiple=multiple)
    for epoch in (0, 1, 9):
        expected = slow_epoch(index, assigned, seed, epoch, group_bytes)
        made = list(epoch_of(order, epoch))
        assert len(expected) == order.full
        for place, (bucket, samples, weights) in enumerate(made):
            kind, own = expected[place % len(expected)]
            assert bucket == BUCKETS[kind]
            assert samples == [own[n % len(own)] for n in range(bucket.samples)]
            real = len(own) if place < len(expected) else 0
            assert weights == [float(n < real) for n in range(bucket.samples)]


@settings(deadline=None, max_examples=30)
@given(SHARDS.filter(usable), SEED, GROUP, st.randoms(use_true_random=False))
def test_a_microbatch_does_not_depend_on_what_was_asked_before(
    shards: list[list[int]], seed: int, group_bytes: int, chance: random.Random
) -> None:
    """Also when the plan of its epoch was thrown away and made anew."""
    index, assigned = dataset(shards)

    def order() -> SourceOrder:
        return SourceOrder(index, assigned, seed=seed, group_bytes=group_bytes, multiple=4)

    one, other = order(), order()
    numbers = list(range((EPOCHS_KEPT + 3) * one.num_microbatches))
    in_turn = {n: one.microbatch(n) for n in numbers}
    chance.shuffle(numbers)
    for number in numbers:
        epoch, bucket, samples, weights = other.microbatch(number)
        assert (epoch, bucket) == in_turn[number][:2]
        assert samples.tolist() == in_turn[number][2].tolist()
        assert weights.tolist() == in_turn[number][3].tolist()
    fresh = order().microbatch(numbers[0])
    assert fresh[2].tolist() == in_turn[numbers[0]][2].tolist()


def test_rows_in_another_order_are_read_in_the_same_one() -> None:
    """The order hangs on names and hashes, not on where a row stands in the index."""
    index, assigned = dataset(some_shards(6, 20))
    turned = np.random.default_rng(0).permutation(len(index))
    # Words too: another dictionary.
    words = {**index.words, "shard": index.words["shard"][::-1]}
    columns = {name: values[turned] for name, values in index.columns.items()}
    columns["shard"] = (len(words["shard"]) - 1 - columns["shard"]).astype(np.int32)
    again = ShardIndex("memory", columns, words, index.rows[turned])
    bucket, reason = assigned.bucket[turned], assigned.reason[turned]
    moved = Assignment(BUCKETS, bucket, reason, assigned.crop, assigned.scale)
    one = SourceOrder(index, assigned, seed=3, group_bytes=40_000)
    other = SourceOrder(again, moved, seed=3, group_bytes=40_000)
    for number in range(2 * one.num_microbatches):
        mine, theirs = one.microbatch(number), other.microbatch(number)
        keys, same = index["key_hash"][mine[2]], again["key_hash"][theirs[2]]
        assert keys.tolist() == same.tolist() and mine[1] == theirs[1]


def test_seeds_and_epochs_are_all_different() -> None:
    index, assigned = dataset(some_shards(10, 20))
    orders = [SourceOrder(index, assigned, seed=seed, group_bytes=60_000) for seed in range(4)]
    flat = {
        tuple(n for _, samples, _ in epoch_of(order, epoch) for n in samples)
        for order in orders
        for epoch in range(4)
    }
    assert len(flat) == 16
    # Not the same order of shards either, nor the same neighbours.
    epochs = [list(epoch_of(orders[0], epoch)) for epoch in (0, 1)]
    first = [[int(index["shard"][s[0]]) for _, s, _ in epoch] for epoch in epochs]
    assert first[0] != first[1]
    together = [{frozenset(s) for _, s, _ in epoch} for epoch in epochs]
    assert len(together[0] & together[1]) < 0.2 * len(together[0])


# Reading


@settings(deadline=None, max_examples=60)
@given(SHARDS.filter(usable), SEED, st.sampled_from((1, 2500, 6000, 15_000)))
def test_each_bucket_passes_through_the_groups_of_shards_in_turn(
    shards: list[list[int]], seed: int, group_bytes: int
) -> None:
    index, assigned = dataset(shards)
    order = SourceOrder(index, assigned, seed=seed, group_bytes=group_bytes)
    for epoch in (0, 3):
        groups = shard_groups(index, seed, epoch, group_bytes)
        passed: dict[str, list[int]] = {}
        finished: list[int] = []
        for bucket, samples, weights in epoch_of(order, epoch):
            own = [int(index["shard"][n]) for n, w in zip(samples, weights, strict=True) if w]
            passed.setdefault(bucket.name, []).extend(groups[shard] for shard in own)
            finished.append(groups[own[-1]])
        for own in passed.values():
            assert own == sorted(own)
        assert finished == sorted(finished)  # a microbatch comes with the group of its last sample


def test_a_reader_needs_few_shards_at_a_time() -> None:
    """40 shards in groups of 4: a step of 12 microbatches lies in two groups, or three."""
    index, assigned = dataset([[0, 1, 2] * 40 for _ in range(40)])
    size = int(np.bincount(index["shard"], weights=index["mp4_bytes"]).max())
    order = SourceOrder(index, assigned, seed=5, group_bytes=4 * size, multiple=12)
    groups = shard_groups(index, 5, 0, 4 * size)
    assert len(set(groups)) == 10 and max(Counter(groups).values()) <= 5
    steps: list[set[int]] = [set() for _ in range(order.full // 12)]
    for place, (_, samples, _) in enumerate(epoch_of(order, 0)):
        if place < len(steps) * 12:
            steps[place // 12] |= {int(index["shard"][n]) for n in samples}
    assert max(len(step) for step in steps) <= 10
    spans = [{groups[shard] for shard in step} for step in steps]
    assert max(max(span) - min(span) for span in spans) == 1
    # A shard is opened, read and done with: it is needed in one run of neighbouring steps.
    for shard in range(40):
        needed = [n for n, step in enumerate(steps) if shard in step]
        assert needed[-1] - needed[0] < len(steps) / 5
    # Inside a group samples of all its shards are mixed.
    inner = [step for step, span in zip(steps, spans, strict=True) if len(span) == 1]
    assert np.mean([len(step) for step in inner]) > 3


def test_one_group_mixes_everything_and_small_groups_read_shard_by_shard() -> None:
    index, assigned = dataset([[1] * 12 for _ in range(6)])
    shards_of = {}
    for group_bytes in (1, 10**9):
        order = SourceOrder(index, assigned, seed=0, group_bytes=group_bytes)
        read = [int(index["shard"][n]) for _, samples, _ in epoch_of(order, 0) for n in samples]
        shards_of[group_bytes] = sum(a != b for a, b in pairwise(read))
    assert shards_of[1] == 5 and shards_of[10**9] > 40


# Steps, ranks, mixtures


def planned(
    shards: Sequence[Sequence[Sequence[int]]],
    shares: Sequence[float],
    microbatches: int,
    seed: int = 0,
) -> PlannedOrder:
    """A mixture; a single source is filled to whole steps, as plans do."""
    multiple = microbatches if len(shards) == 1 else 1
    sources = []
    for number, own in enumerate(shards):
        index, assigned = dataset(own, name=f"s{number}-")
        order = SourceOrder(index, assigned, seed=seed, group_bytes=6000, multiple=multiple)
        sources.append(PhasedOrder([Phase(0, order)]))
    return PlannedOrder(sources, shares, microbatches)


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.tuples(SHARDS.filter(usable), st.floats(0.05, 1)), min_size=1, max_size=3),
    SEED,
    st.sampled_from((12, 24)),
    st.integers(0, 10**7),
)
def test_any_number_of_ranks_makes_the_same_steps(
    sources: list[tuple[list[list[int]], float]], seed: int, microbatches: int, start: int
) -> None:
    shards, shares = zip(*sources, strict=True)
    whole = planned(shards, shares, microbatches, seed)
    expected = [[seen(batch) for batch in whole.step(step)] for step in range(start, start + 3)]
    for step, own in enumerate(expected, start):
        assert [batch[0][:2] for batch in own] == [(step, k) for k in range(microbatches)]  # pyright: ignore[reportIndexIssue]
    for world in WORLDS:
        check_world(microbatches, world)
        ranks = [planned(shards, shares, microbatches, seed) for _ in range(world)]
        for step, own in enumerate(expected, start):
            parts = [list(ranks[rank].of_rank(step, rank, world)) for rank in range(world)]
            assert {len(part) for part in parts} == {microbatches // world}
            queues = [deque(part) for part in parts]
            again = [seen(queues[k % world].popleft()) for k in range(microbatches)]
            assert again == own


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.tuples(SHARDS.filter(usable), st.floats(0.05, 1)), min_size=2, max_size=4),
    SEED,
    st.integers(1, 12),
)
def test_a_mixture_gives_each_source_its_own_exact_epochs(
    sources: list[tuple[list[list[int]], float]], seed: int, microbatches: int
) -> None:
    shards, shares = zip(*sources, strict=True)
    order = planned(shards, shares, microbatches, seed)
    once: dict[tuple[int, int], Counter[int]] = {}
    reached = Counter[int]()
    for step in range(-(-300 // microbatches)):
        for batch in order.step(step):
            reached[batch.source] = max(reached[batch.source], batch.epoch)
            own = once.setdefault((batch.source, batch.epoch), Counter())
            own.update(batch.samples[batch.weights > 0].tolist())
    for (source, epoch), counts in once.items():
        wanted = [n for n, kind in enumerate(k for own in shards[source] for k in own) if kind >= 0]
        assert set(counts.values()) == {1}
        if epoch < reached[source]:  # the others were broken off
            assert sorted(counts) == wanted


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=6), st.integers(0, 10**9))
def test_a_mixture_keeps_its_shares(shares: list[float], start: int) -> None:
    """Over every round of 1,000 exactly, and nearly so over any beginning of one."""
    order = planned([[[0]]] * len(shares), shares, 1)
    exact = np.array(shares) / sum(shares)
    located = [order.locate(number)[0] for number in range(start, start + PATTERN)]
    counts = np.bincount(located, minlength=len(shares))
    assert counts.sum() == PATTERN and np.all(np.abs(counts - exact * PATTERN) < 1)
    kept = counts / PATTERN
    begun = np.zeros(len(shares))
    for place in range(PATTERN):
        begun[order.locate(place)[0]] += 1
        assert np.all(np.abs(begun - (place + 1) * kept) < len(shares))


@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=4), st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_a_source_counts_its_own_microbatches_without_a_gap(
    shares: list[float], start: int
) -> None:
    order = planned([[[0]]] * len(shares), shares, 12)
    following = {n: order.count_before(start, n) for n in range(len(shares))}
    assert sum(following.values()) == start
    for number in range(start, start + 1500):
        source, place = order.locate(number)
        assert place == following[source]
        following[source] += 1


def test_shares_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(ConfigError, match="share below 1/1000"):
        planned([[[0]]] * 2, [1, 100_000], 1)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="must all be above 0"):
            planned([[[0]]] * 2, [1, wrong], 1)


@pytest.mark.parametrize(("microbatches", "valid"), [(12, "1, 2, 3, 4, 6, 12"), (7, "1, 7")])
def test_other_numbers_of_ranks_are_refused_with_those_that_serve(
    microbatches: int, valid: str
) -> None:
    for world in range(1, 20):
        if microbatches % world == 0:
            check_world(microbatches, world, world - 1)
            continue
        with pytest.raises(ConfigError) as error:
            check_world(microbatches, world)
        assert f"use {valid} ranks" in error.value.mend
    for world, rank in ((1, 1), (1, -1), (0, 0)):
        with pytest.raises(ConfigError):
            check_world(microbatches, world, rank)


def test_no_clip_in_any_bucket_is_refused() -> None:
    for shards in ([], [[-1, -1]]):
        with pytest.raises(ConfigError, match="no clip fits any bucket") as error:
            SourceOrder(*dataset(shards), seed=0)
        assert "clipmill plan" in error.value.mend


# Samples that change


def phases(*parts: tuple[int, int, str]) -> PhasedOrder:
    """First microbatch, first epoch and name of phases; ten clips each, in four microbatches."""
    made = []
    for first, epoch, name in parts:
        index, assigned = dataset([[1] * 10], name)
        made.append(Phase(first, SourceOrder(index, assigned, seed=1, first_epoch=epoch)))
    return PhasedOrder(made)


def test_a_phase_begins_where_it_is_said_to() -> None:
    order = phases((0, 0, "old"), (8, 2, "new"))
    old, new = (phase.order for phase in order.phases)
    assert old.num_microbatches == new.num_microbatches == 4
    for number in range(8):
        assert order.phase(number).order is old
        assert order.microbatch(number)[2].tolist() == old.microbatch(number)[2].tolist()
    for number in range(8, 20):
        assert order.phase(number).order is new
        epoch, _, samples, _ = order.microbatch(number)
        assert epoch == number // 4
        assert samples.tolist() == new.microbatch(number - 8)[2].tolist()


@pytest.mark.parametrize(
    ("number", "epoch", "first"),
    [(0, 0, 0), (1, 1, 4), (4, 1, 4), (5, 2, 8), (8, 2, 8), (9, 3, 12), (12, 3, 12), (21, 6, 24)],
)
def test_the_next_epoch_is_the_first_that_has_not_begun(
    number: int, epoch: int, first: int
) -> None:
    assert phases((0, 0, "old"), (8, 2, "new")).next_epoch(number) == (epoch, first)


# Golden


def test_the_order_never_changes() -> None:
    """Another digest is another order of every training that runs: label such a change."""
    shards = some_shards(6, 17, seed=4)
    order = planned([shards], [1], 12, seed=11)
    mixed = planned([shards, some_shards(3, 9, seed=5)], [0.7, 0.3], 12, seed=11)
    steps = 3 * order.sources[0].phases[0].order.num_microbatches // 12
    for plan, digest in (
        (order, "e63897839d2baa7cd45d53d2f5251a12"),
        (mixed, "2b21ca3b9311ae6b169609d09bd3cf4c"),
    ):
        said = json.dumps([seen(b) for step in range(steps) for b in plan.step(step)])
        assert hashlib.sha256(said.encode()).hexdigest()[:32] == digest
