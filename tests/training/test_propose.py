"""Proposed buckets: always valid, cover nearly all clips, cost about the same, and say when not."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from curation.errors import ConfigError
from tests.training.synthetic import Row, index_of
from training.data.buckets import Assignment, Bucket, BucketSettings, Shape, assign
from training.data.index import ShardIndex
from training.data.propose import propose

ROWS = st.builds(
    Row,
    clip=st.uuids().map(str),
    frames=st.integers(1, 600),
    height_px=st.integers(8, 2200),
    width_px=st.integers(8, 2200),
    fps=st.sampled_from([1.0, 5.0, 12.5, 23.976, 24.0, 25.0, 29.97, 30.0, 60.0]),
)
USUAL = st.builds(
    Row,
    clip=st.uuids().map(str),
    frames=st.integers(60, 600),
    height_px=st.sampled_from([360, 480, 720, 1080, 1280]),
    width_px=st.sampled_from([480, 640, 720, 1280, 1920]),
    fps=st.sampled_from([23.976, 24.0, 25.0, 29.97, 30.0]),
)
BUDGETS = st.builds(
    BucketSettings,
    microbatch_tokens=st.integers(1, 60_000),
    cost_tolerance=st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.9]),
    temporal_stride=st.integers(1, 8),
    spatial_stride=st.sampled_from([1, 4, 8, 16, 32]),
    patch=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    max_crop=st.floats(0, 0.9),
    max_upscale=st.floats(1, 3),
    max_rate=st.floats(1, 3),
)
QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def placed(
    index: ShardIndex, budget: BucketSettings, shapes: Sequence[Shape], *, pictures: bool = False
) -> tuple[tuple[Bucket, ...], Assignment]:
    """Where clips go with proposed shapes, which are checked as a file's would be."""
    written = [shape.model_dump() for shape in shapes]
    checked = BucketSettings.model_validate(budget.model_dump() | {"shapes": written})
    buckets = checked.buckets()
    return buckets, assign(index, buckets, checked, pictures=pictures)


@given(st.lists(ROWS, min_size=1, max_size=40), BUDGETS, st.booleans())
@QUICK
def test_whatever_is_proposed_is_valid(
    rows: list[Row], budget: BucketSettings, images: bool
) -> None:
    index = index_of(rows)
    try:
        shapes = propose([index], budget, images=images)
    except ConfigError as exc:
        least = int(exc.mend.rsplit(" ", 1)[1])
        assert budget.microbatch_tokens < least
        budget = budget.model_copy(update={"microbatch_tokens": least})
        shapes = propose([index], budget, images=images)
    buckets, _ = placed(index, budget, shapes)
    assert buckets
    assert len({b.name for b in buckets}) == len(buckets) <= 60
    dearest = max(b.cost for b in buckets)
    assert dearest <= budget.microbatch_tokens
    assert all(b.cost >= (1 - budget.cost_tolerance) * dearest for b in buckets)
    if any(row.frames > 1 for row in rows):
        assert any(b.frames > 1 for b in buckets)
    if budget.cost_tolerance and images:
        assert any(b.frames == 1 for b in buckets)


@given(
    st.lists(USUAL, min_size=1, max_size=60),
    st.integers(512, 60_000),
    st.sampled_from([0.05, 0.1, 0.25]),
    st.sampled_from([0.3, 0.5]),
    st.integers(1, 2),
    st.booleans(),
)
@QUICK
def test_nearly_all_clips_are_covered(
    rows: list[Row], tokens: int, tolerance: float, crop: float, patch: int, images: bool
) -> None:
    budget = BucketSettings(
        microbatch_tokens=tokens, cost_tolerance=tolerance, max_crop=crop, patch=(patch, 2, 2)
    )
    index = index_of(rows)
    shapes = propose([index], budget, images=images)
    buckets, assigned = placed(index, budget, shapes)
    assert np.mean(assigned.bucket >= 0) >= 0.95
    assert assigned.scale.max() <= 1 + 1e-6
    assert all(8 <= b.fps <= 16 for b in buckets)
    if images:
        _, single = placed(index, budget, shapes, pictures=True)
        assert np.mean(single.bucket >= 0) >= 0.95


@given(st.lists(ROWS, min_size=1, max_size=30), st.randoms())
@QUICK
def test_the_order_of_clips_does_not_matter(rows: list[Row], random: Random) -> None:
    budget = BucketSettings(microbatch_tokens=4096)
    again = list(rows)
    random.shuffle(again)
    first = propose([index_of(rows)], budget)
    assert propose([index_of(again)], budget) == first
    half = len(again) // 2
    assume(half)
    parts = [index_of(again[:half]), index_of(again[half:])]
    assert propose(parts, budget) == first


def many(num: int, fps: float = 24.0) -> list[Row]:
    """Clips of 2 to 10 seconds of one size and rate."""
    return [
        Row(clip=f"c{n}", frames=48 + n * 192 // num, height_px=720, width_px=1280, fps=fps)
        for n in range(num)
    ]


@pytest.mark.parametrize(
    ("stored", "rate"), [(24.0, 12), (23.976, 12), (25.0, 12.5), (30.0, 15), (60.0, 15), (16.0, 16)]
)
def test_the_rate_takes_frames_evenly(stored: float, rate: float) -> None:
    shapes = propose([index_of(many(50, fps=stored))], BucketSettings())
    assert {shape.fps for shape in shapes} == {rate}


def test_slow_clips_get_a_rate_they_reach_and_short_ones_a_quicker() -> None:
    slow = propose([index_of(many(50, fps=5.0))], BucketSettings())
    assert {shape.fps for shape in slow} == {5}
    short = [Row(clip=f"c{n}", frames=6, fps=30.0) for n in range(50)]  # 0.17 s: 5 frames at 24
    assert {shape.fps for shape in propose([index_of(short)], BucketSettings())} == {24}


def test_lengths_differ_and_cost_does_not() -> None:
    index, budget = index_of(many(400)), BucketSettings()
    buckets, assigned = placed(index, budget, propose([index], budget))
    assert len({b.frames for b in buckets}) == 3
    taken = assigned.bucket[assigned.bucket >= 0]
    assert len(taken) >= 0.98 * len(index) and np.bincount(taken).min() > 0
    assert min(b.cost for b in buckets) >= 0.75 * max(b.cost for b in buckets) > 0.75 * 0.9 * 8192
    assert assigned.crop.max() < 0.1


def test_formats_get_buckets_of_their_own_when_there_are_enough_clips() -> None:
    rows = many(300) + [
        Row(clip=f"t{n}", frames=100, height_px=1280, width_px=720) for n in range(100)
    ]
    index, budget = index_of(rows), BucketSettings()
    buckets, assigned = placed(index, budget, propose([index], budget, images=True))
    assert {b.width_px > b.height_px for b in buckets} == {True, False}
    assert assigned.crop.max() < 0.1
    assert sum(b.frames == 1 for b in buckets) == 2


def test_a_few_clips_are_not_scattered_over_many_buckets() -> None:
    rows = [*many(6), Row(clip="t", frames=100, height_px=640, width_px=480)]
    assert len(propose([index_of(rows)], BucketSettings())) <= 2


def test_stored_pictures_get_buckets_without_being_asked_for() -> None:
    rows = [Row(clip=f"p{n}", frames=1, height_px=512, width_px=512, fps=1) for n in range(30)]
    index, budget = index_of(rows + many(30)), BucketSettings()
    _, assigned = placed(index, budget, propose([index], budget))
    assert (assigned.bucket >= 0).all()
    alone = propose([index_of(rows)], BucketSettings())
    assert {shape.frames for shape in alone} == {1}


@pytest.mark.parametrize(("patch", "least"), [((1, 2, 2), 2), ((2, 2, 2), 1), ((3, 1, 1), 1)])
def test_the_smallest_budget_is_told_and_works(patch: tuple[int, int, int], least: int) -> None:
    index = index_of(many(10))
    shapes = propose([index], BucketSettings(microbatch_tokens=least, patch=patch))
    placed(index, BucketSettings(microbatch_tokens=least, patch=patch), shapes)
    if least > 1:
        with pytest.raises(ConfigError, match=f"smallest budget that works is {least}"):
            propose([index], BucketSettings(microbatch_tokens=least - 1, patch=patch))


def test_nothing_to_propose_for() -> None:
    with pytest.raises(ConfigError, match="no clips"):
        propose([index_of([])], BucketSettings())
