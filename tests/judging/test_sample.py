"""Sampling: caps hold on what is kept in the end, whatever the order, and nest."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.errors import CatalogError, ConfigError
from curation.ids import digest, shuffle_key
from curation.judging.caps import Division
from curation.judging.keys import shuffle_keys, shuffled_order
from curation.judging.sample import Sampling
from curation.judging.shares import Share, fill

MIX = {"2-4": 0.3, "4-8": 0.5, "8-": 0.2}


def clips_of(count: int, seed: int = 0, **columns: Any) -> pa.Table:  # noqa: ANN401
    """Clips of many videos, a few sources of unequal size, and clusters of unequal size."""
    rng = np.random.default_rng(seed)
    sources = np.array(["a", "b", "c", "d", "e", "f", None], dtype=object)
    table = {
        "clip_id": [digest(seed, i) for i in range(count)],
        "video_id": [f"v{i}" for i in rng.integers(0, max(1, count // 10), count)],
        "duration_s": rng.uniform(1, 12, count).round(3),
        "source": pa.array(sources[np.minimum(rng.geometric(0.4, count) - 1, 6)], pa.string()),
        "cluster": np.minimum(rng.zipf(1.5, count), 20),
    }
    return pa.table(table | columns)


def sampling(**fields: Any) -> Sampling:  # noqa: ANN401
    return Sampling.model_validate(fields)


def kept(clips: pa.Table, remarks: list[str] | None = None, **fields: Any) -> pa.Table:  # noqa: ANN401
    reasons = sampling(**fields).choose(clips, remarks)
    assert len(reasons) == clips.num_rows and reasons.type == pa.string()
    return clips.filter(pc.call_function("is_null", [reasons]))


def ids(clips: pa.Table) -> set[str]:
    return set(clips.column("clip_id").to_pylist())


def counts(clips: pa.Table, column: str) -> Counter[Any]:
    return Counter(clips.column(column).to_pylist())


def test_keys_are_those_of_the_house() -> None:
    names = pa.chunked_array([["a", "b"], ["c"]])
    wanted = [int(shuffle_key(7, x)[:16], 16) for x in ("a", "b", "c")]
    assert shuffle_keys(7, names).tolist() == wanted
    order = shuffled_order(7, names)
    assert order.tolist() == sorted(range(3), key=lambda i: wanted[i])
    # Equal ids have equal keys: nothing breaks.
    assert sorted(shuffled_order(7, pa.array(["x", "y", "x"])).tolist()) == [0, 1, 2]


CAPS: list[dict[str, Any]] = [
    {"max_clips": 100},
    {"max_s": 300},
    {"per_video": {"max_clips": 2}},
    {"per_video": {"max_s": 10}},
    {"per_source": {"max_clips": 40, "max_s": 200}},
    {"per_source": {"max_share": 0.2}},
    {"duration_mix": MIX},
    {"balance": {"max_per_value": 12}},
    {"balance": {"max_share": 0.1}},
    {"balance": {"temperature": 4}},
    {
        "max_clips": 150,
        "per_video": {"max_clips": 4},
        "per_source": {"max_share": 0.3},
        "duration_mix": MIX,
        "balance": {"max_share": 0.2},
    },
]


@pytest.mark.parametrize("fields", CAPS)
def test_the_order_of_rows_does_not_matter(fields: dict[str, Any]) -> None:
    clips = clips_of(1000)
    shuffled = clips.take(np.random.default_rng(1).permutation(1000))
    first = kept(clips, **fields)
    assert 0 < first.num_rows < 1000
    assert ids(first) == ids(kept(shuffled, **fields))
    assert ids(first) != ids(kept(clips, seed=1, **fields))


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ({"max_clips": 50}, {"max_clips": 60}),
        ({"max_s": 100}, {"max_s": 250}),
        ({"per_video": {"max_clips": 1}}, {"per_video": {"max_clips": 3}}),
        ({"per_video": {"max_s": 8}}, {"per_video": {"max_s": 20}}),
        ({"per_source": {"max_clips": 5}}, {"per_source": {"max_clips": 50}}),
        ({"per_source": {"max_share": 0.16}}, {"per_source": {"max_share": 0.3}}),
        ({"balance": {"max_per_value": 3}}, {"balance": {"max_per_value": 9}}),
        ({"balance": {"max_share": 0.08}}, {"balance": {"max_share": 0.2}}),
        ({"balance": {"temperature": 9}}, {"balance": {"temperature": 2}}),
        ({"max_clips": 40, "per_video": {"max_clips": 2}}, {"per_video": {"max_clips": 2}}),
        (
            {"max_clips": 40, "per_source": {"max_clips": 30}},
            {"max_clips": 90, "per_source": {"max_clips": 30}},
        ),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_smaller_cap_keeps_a_part(
    small: dict[str, Any], large: dict[str, Any], seed: int
) -> None:
    clips = clips_of(800, seed)
    few, many = ids(kept(clips, **small)), ids(kept(clips, **large))
    assert few and few < many


def test_more_clips_of_other_videos_change_nothing_in_a_video() -> None:
    clips = clips_of(600)
    some = clips.filter(pc.call_function("less", [clips.column("video_id"), pa.scalar("v3")]))
    fields: dict[str, Any] = {"per_video": {"max_clips": 3}}
    assert ids(kept(some, **fields)) == ids(kept(clips, **fields)) & ids(some)


def test_caps_of_clips_and_seconds_hold() -> None:
    clips = clips_of(2000)
    found = kept(
        clips,
        per_video={"max_clips": 3, "max_s": 15},
        per_source={"max_clips": 100, "max_s": 500},
        max_s=1200,
    )
    for column, most, most_s in (("video_id", 3, 15), ("source", 100, 500)):
        assert max(counts(found, column).values()) <= most
        sums = found.group_by(column).aggregate([("duration_s", "sum")])
        assert max(sums.column("duration_s_sum").to_pylist()) <= most_s + 1e-6
    total_s = pc.call_function("sum", [found.column("duration_s")]).as_py()
    assert 1200 - 12 < total_s <= 1200 + 1e-6


def test_each_clip_has_the_reason_of_its_cap() -> None:
    clips = clips_of(1000)
    fields: dict[str, Any] = {
        "per_video": {"max_clips": 4},
        "per_source": {"max_clips": 60},
        "max_clips": 150,
    }
    reasons = sampling(**fields).choose(clips).to_pylist()
    found = Counter(reasons)
    assert set(found) - {None} == set(sampling(**fields).reasons()) - {"over_duration_mix"}
    over_video = sum(max(0, n - 4) for n in counts(clips, "video_id").values())
    assert found["over_video_cap"] == over_video
    left = [
        s
        for s, r in zip(clips["source"].to_pylist(), reasons, strict=True)
        if r != "over_video_cap"
    ]
    assert found["over_source_cap"] == sum(max(0, n - 60) for n in Counter(left).values())
    assert found[None] == 150 and sum(found.values()) == 1000


def largest_fixed_point(sizes: list[int], share: float) -> int:
    """By trying every number: the largest n that groups of at most share * n can make up."""
    for total in range(sum(sizes), 0, -1):
        cap = max(1, math.floor(share * total + 1e-9))
        if sum(min(size, cap) for size in sizes) >= total:
            return total
    return 0


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=7),
    st.sampled_from([0.15, 0.2, 0.25, 0.34, 0.5, 0.8]),
)
def test_a_share_of_what_is_kept_in_the_end(sizes: list[int], share: float) -> None:
    names = [f"s{i}" for i, size in enumerate(sizes) for _ in range(size)]
    clips = clips_of(len(names), source=names)
    remarks: list[str] = []
    found = kept(clips, remarks, per_source={"max_share": share})
    if len(sizes) * share < 1:
        assert found.num_rows == len(names)
        needed = math.ceil(1 / share)
        assert f"left out: it takes {needed} groups, and there are {len(sizes)}" in remarks[0]
        return
    assert found.num_rows == largest_fixed_point(sizes, share) and not remarks
    most = max(1, share * found.num_rows + 1e-9)
    assert max(counts(found, "source").values()) <= most


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.2, 0.3, 0.5]),
    st.sampled_from([0.1, 0.25, 0.6]),
    st.booleans(),
    st.none() | st.integers(5, 200),
)
def test_several_shares_hold_together(
    seed: int, of_source: float, of_cluster: float, mixed: bool, most: int | None
) -> None:
    clips = clips_of(500, seed)
    mix = MIX if mixed else {}
    found = kept(
        clips,
        per_source={"max_share": of_source},
        balance={"max_share": of_cluster},
        duration_mix=mix,
        max_clips=most,
    )
    total = found.num_rows
    assert 0 < total <= (most or 500)
    assert max(counts(found, "source").values()) <= max(1, of_source * total + 1e-9)
    assert max(counts(found, "cluster").values()) <= max(1, of_cluster * total + 1e-9)
    if mixed:
        lengths = np.array(found.column("duration_s").to_pylist())
        for (start, end), share in zip([(2, 4), (4, 8), (8, 99)], MIX.values(), strict=True):
            assert abs(((lengths >= start) & (lengths < end)).sum() - share * total) <= 2


def test_a_total_does_not_break_a_share() -> None:
    clips = clips_of(3000)
    for most in (1, 7, 100, 333):
        found = kept(clips, max_clips=most, per_source={"max_share": 0.3})
        assert found.num_rows == most
        assert max(counts(found, "source").values()) <= max(1, 0.3 * most)
    found = kept(clips, max_s=500, per_source={"max_share": 0.3})
    assert max(counts(found, "source").values()) <= 0.3 * found.num_rows


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=80),
    st.integers(1, 40),
)
def test_many_at_once_are_decided_as_one_by_one(pairs: list[tuple[int, int]], total: int) -> None:
    groups = [np.array(column) for column in zip(*pairs, strict=True)]
    shares = [Share("x", Division(g), max_share=p) for g, p in zip(groups, (0.3, 0.4), strict=True)]
    limits = [share.limits(total) for share in shares]
    candidates = np.arange(len(pairs)) % 5 != 0
    room = [limit.copy() for limit in limits]
    expected = []
    for i, pair in enumerate(pairs):
        fits = bool(candidates[i]) and all(room[k][g] > 0 for k, g in enumerate(pair))
        for k, g in enumerate(pair):
            room[k][g] -= fits
        expected.append(fits)
    assert fill(shares, total, candidates).tolist() == expected


def test_the_scarcest_span_limits_the_others() -> None:
    lengths = [3.0] * 30 + [6.0] * 500 + [9.0] * 500 + [1.0] * 50
    clips = clips_of(len(lengths), duration_s=lengths)
    remarks: list[str] = []
    found = kept(clips, remarks, duration_mix=MIX)
    assert counts(found, "duration_s")[3.0] == 30 and counts(found, "duration_s")[1.0] == 0
    assert 100 <= found.num_rows <= 103
    assert "span 1 of 3" in remarks[0] and "30 clips" in remarks[0]
    reasons = sampling(duration_mix=MIX).choose(clips)
    assert set(reasons.to_pylist()) == {None, "over_duration_mix"}


def test_an_empty_span_leaves_next_to_nothing_and_says_so() -> None:
    remarks: list[str] = []
    found = kept(clips_of(100, duration_s=[3.0] * 100), remarks, duration_mix=MIX)
    assert found.num_rows == 1 and "0 clips for a share of 0.5" in remarks[0]


def test_spans_are_half_open() -> None:
    clips = clips_of(3, duration_s=[2.0, 4.0, 3.999])
    found = kept(clips, duration_mix={"2-4": 1.0})
    assert sorted(found.column("duration_s").to_pylist()) == [2.0, 3.999]


def test_temperature_flattens_what_is_above_the_median() -> None:
    names = [v for v, n in {"a": 900, "b": 100, "c": 4}.items() for _ in range(n)]
    clips = clips_of(len(names), motion=names)
    for temperature, a in ((1, 900), (2, 300), (1e9, 100)):
        found = kept(clips, balance={"by": "motion", "temperature": temperature})
        assert counts(found, "motion") == {"a": a, "b": 100, "c": 4}


@pytest.mark.parametrize(
    ("values", "edges", "groups"),
    [
        (["a", "b", None, "a"], (), [0, 1, 2, 0]),
        ([True, False, None, True], (), [0, 1, 2, 0]),
        ([0.05, 0.1, math.nan, 0.0999], (0.1,), [0, 1, 2, 0]),
        ([1, 5, None, 4], (5,), [0, 1, 2, 0]),
    ],
)
def test_values_to_balance_by(
    values: list[Any], edges: tuple[float, ...], groups: list[int]
) -> None:
    clips = clips_of(4, x=values)
    balance = {"by": "x", "max_per_value": 1, "edges": edges}
    settings_ = sampling(balance=balance)
    assert settings_.columns()[-1] == "x"
    reasons = settings_.choose(clips).to_pylist()
    assert [g for g, r in zip(groups, reasons, strict=True) if r is None].count(0) == 1
    assert sorted(r or "" for r in reasons) == ["", "", "", "over_x_cap"]


@pytest.mark.parametrize(
    ("values", "balance", "message"),
    [
        ([0.5, 0.7], {}, "edges"),
        (["a", "b"], {"edges": [1.0]}, "not a number"),
        ([["a"], ["b"]], {}, "several values"),
    ],
)
def test_columns_that_cannot_be_balanced(
    values: list[Any], balance: dict[str, Any], message: str
) -> None:
    fields = {"by": "x", "max_per_value": 1, **balance}
    with pytest.raises(ConfigError, match=message):
        sampling(balance=fields).choose(clips_of(2, x=values))


def test_a_clip_without_a_duration_is_an_error() -> None:
    with pytest.raises(CatalogError, match="duration"):
        sampling(max_clips=1).choose(clips_of(2, duration_s=[1.0, None]))


def test_nothing_asked_and_nothing_there() -> None:
    assert kept(clips_of(50)).num_rows == 50
    everything: dict[str, Any] = CAPS[-1]
    assert kept(clips_of(10).slice(0, 0), **everything).num_rows == 0


def test_columns_only_as_needed() -> None:
    assert sampling().columns() == ["clip_id", "video_id", "duration_s"]
    fields = {"per_source": {"max_clips": 1}, "balance": {"max_share": 0.5}}
    assert sampling(**fields).columns()[3:] == ["source", "cluster"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"duration_mix": {"2-4": 0.5}}, "not 1"),
        ({"duration_mix": {"2-4": 0.5, "3-8": 0.5}}, "share 3 s"),
        ({"duration_mix": {"4-2": 1.0}}, "ends before"),
        ({"duration_mix": {"short": 1.0}}, "no span"),
        ({"balance": {}}, "needs one of"),
        ({"balance": {"max_share": 0.5, "temperature": 2}}, "needs one of"),
        ({"balance": {"by": "x", "max_share": 0.5, "num_clusters": 3}}, "num_clusters"),
        ({"balance": {"by": "x", "max_share": 0.5, "edges": [2, 1]}}, "rise"),
        ({"max_clips": 0}, "greater than"),
        ({"per_video": {"max_share": 0.5}}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be_meant(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sampling(**fields)
