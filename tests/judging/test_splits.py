"""Splits: nothing that belongs together is divided, and nothing moves without cause."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.ids import digest
from curation.judging.splits import Splits, components

THIRDS = {"train": 0.5, "val": 0.25, "test": 0.25}


def videos(count: int) -> list[str]:
    return [digest("video", i) for i in range(count)]


def links_of(pairs: list[tuple[str, str]]) -> pa.Table:
    firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    return pa.table(
        {"video_a": pa.array(firsts, pa.string()), "video_b": pa.array(seconds, pa.string())}
    )


def split_of(
    splits: Splits, ids: list[str], pairs: list[tuple[str, str]] | None = None
) -> dict[str, str]:
    table = splits.assign(pa.array(ids), links_of(pairs or []))
    assert table.column("video_id").to_pylist() == sorted(set(ids))
    return dict(zip(*table.to_pydict().values(), strict=True))


def test_shares_come_out_over_many_videos() -> None:
    found = list(split_of(Splits(shares=THIRDS), videos(20_000)).values())
    for name, share in THIRDS.items():
        assert abs(found.count(name) / len(found) - share) < 0.015


def test_another_seed_divides_otherwise() -> None:
    ids = videos(200)
    first = split_of(Splits(shares=THIRDS), ids)
    assert first == split_of(Splits(shares=THIRDS), ids[::-1] + ids)
    assert first != split_of(Splits(shares=THIRDS, seed=1), ids)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 30),
    st.lists(st.tuples(st.integers(0, 34), st.integers(0, 34)), max_size=40),
    st.integers(0, 3),
)
def test_what_is_linked_stays_together(
    count: int, numbers: list[tuple[int, int]], seed: int
) -> None:
    """Links may also lead over videos that are not asked for."""
    names = videos(35)
    pairs = [(names[a], names[b]) for a, b in numbers]
    found = split_of(Splits(shares=THIRDS, seed=seed), names[:count], pairs)
    groups = {name: {name} for name in names}
    for a, b in pairs:
        merged = groups[a] | groups[b]
        for name in merged:
            groups[name] = merged
    for group in groups.values():
        assert len({found[name] for name in group if name in found}) <= 1


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 39), min_size=1), st.sets(st.integers(0, 39)))
def test_more_videos_move_none(old: set[int], new: set[int]) -> None:
    names = videos(40)
    splits = Splits(shares=THIRDS)
    before = split_of(splits, [names[i] for i in old])
    after = split_of(splits, [names[i] for i in old | new])
    assert {name: after[name] for name in before} == before


def test_a_long_chain_is_one_component() -> None:
    count = 50_000
    nodes = list(range(count))
    found = components(count, pa.array(nodes[1:]).to_numpy(), pa.array(nodes[:-1]).to_numpy())
    assert (found == 0).all()


def test_by_source_keeps_sources_whole() -> None:
    ids = videos(300)
    sources = [None if i % 10 == 0 else f"s{i % 7}" for i in range(300)]
    splits = Splits(shares=THIRDS, by="source")
    table = splits.assign(pa.array(ids), None, pa.array(sources))
    found = dict(zip(*table.to_pydict().values(), strict=True))
    for source in {s for s in sources if s}:
        assert len({found[v] for v, s in zip(ids, sources, strict=True) if s == source}) == 1
    # Those of unknown source stand for themselves.
    assert len({found[v] for v, s in zip(ids, sources, strict=True) if s is None}) == 3
    with pytest.raises(ValueError, match="sources"):
        splits.assign(pa.array(ids))


def test_the_report_says_what_is_empty_or_far_off() -> None:
    splits = Splits(shares={"train": 0.5, "val": 0.25, "test": 0.25})
    clips = pa.table(
        {
            "video_id": ["a", "a", "b", "c"],
            "duration_s": [40.0, 40.0, 16.0, 4.0],
            "split": ["train", "train", "train", "val"],
        }
    )
    report = splits.report(clips)
    train, val, test = report.parts
    assert (train.videos, train.clips, train.seconds, train.share) == (2, 3, 96.0, 0.96)
    assert (val.clips, val.share, test.clips, test.share) == (1, 0.04, 0, 0.0)
    assert report.remarks == [
        "val has 0.04 of the seconds, not 0.25: 1 of 3 videos",
        "test is empty: 3 videos are few for a share of 0.25",
    ]
    assert report.as_json()["parts"][0]["split"] == "train"
    assert splits.report(clips.slice(0, 0)).remarks == []


@pytest.mark.parametrize(
    "shares", [{}, {"a": 0.5}, {"a": 1.0, "b": 0.1}, {"a": 1.5, "b": -0.5}, {"": 1.0}]
)
def test_shares_that_make_no_whole(shares: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Splits(shares=shares)
