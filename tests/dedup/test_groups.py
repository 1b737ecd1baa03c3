"""The choice: what must hold of it, whatever the edges; and that it equals the plain algorithm."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.catalog.views import Views
from curation.dedup.groups import Choice, choose
from curation.dedup.near import LEVELS
from curation.dedup.quality import by_quality
from curation.dedup.settings import PREFER
from curation.errors import ConfigError
from curation.schema import DUPLICATES, EDGES
from tests.dedup.catalogs import add_clips, ids_of, new_catalog, scattered

THRESHOLDS = {"exact": 1.0, "perceptual": 0.8, "semantic": 0.9}
ROOT = "held/out"
Row = dict[str, Any]


def edge(a: int, b: int, level: str, similarity: float, **more: Any) -> Row:  # noqa: ANN401
    """An edge between clips by position in order of quality."""
    row = {"clip_a": name(a), "clip_b": name(b), "level": level, "similarity": similarity}
    return dict.fromkeys(EDGES.names) | row | more


def name(position: int) -> str:
    return f"clip{position:04d}"


def candidates(count: int) -> pa.Table:
    names = [name(i) for i in range(count)]
    return pa.table({"clip_id": names, "video_id": [f"v{n}" for n in names]})


def decide(count: int, rows: list[Row], **how: Any) -> Choice:  # noqa: ANN401
    batches = pa.Table.from_pylist(rows, schema=EDGES).to_batches()
    return choose(candidates(count), batches, THRESHOLDS, **how)


edges_of_clips = st.lists(
    st.tuples(
        st.integers(0, 11),  # some are no candidates
        st.integers(0, 11),
        st.sampled_from(LEVELS),
        st.sampled_from([0.7, 0.8, 0.85, 0.9, 0.95, 1.0]),
        st.booleans(),
    ),
    max_size=40,
)


def rows_of(drawn: list[tuple[int, int, str, float, bool]]) -> list[Row]:
    """Edges, a few of which lead to a held-out dataset."""
    return [
        edge(a, b, level, s, reference=ROOT if held and b > 8 else None)
        for a, b, level, s, held in drawn
        if a != b
    ]


def plainly(count: int, rows: list[Row]) -> dict[str, tuple[str, str, str | None]]:
    """The rule as it is told: dropped clip -> level, what it is dropped for, and where."""
    names = [name(i) for i in range(count)]
    near = [r for r in rows if r["similarity"] >= THRESHOLDS[r["level"]]]

    def best(found: Sequence[tuple[int, float, str, str | None]]) -> tuple[str, str, str | None]:
        level, _, other, root = min(found, key=lambda f: (f[0], f[1], f[3] or "", f[2]))
        return LEVELS[level], other, root

    dropped, stay = {}, []
    for clip in names:
        held = [
            (LEVELS.index(r["level"]), -r["similarity"], r["clip_b"], r["reference"])
            for r in near
            if r["reference"] and r["clip_a"] == clip
        ]
        if held:
            dropped[clip] = best(held)
            continue
        inner = [
            (LEVELS.index(r["level"]), -r["similarity"], other, None)
            for r in near
            if r["reference"] is None and clip in (r["clip_a"], r["clip_b"])
            for other in {r["clip_a"], r["clip_b"]} - {clip}
            if other in stay
        ]
        if inner:
            dropped[clip] = best(inner)
        else:
            stay.append(clip)
    return dropped


@settings(max_examples=200, deadline=None)
@given(edges_of_clips, st.integers(0, 10))
def test_it_is_the_plain_rule(drawn: list[tuple[int, int, str, float, bool]], count: int) -> None:
    rows = rows_of(drawn)
    choice, truth = decide(count, rows), plainly(count, rows)
    reasons = {r["clip_id"]: r["reason"] for r in choice.dropped.to_pylist()}
    assert reasons == {
        clip: f"{'held_out' if root else 'duplicate'}_{level}"
        for clip, (level, _, root) in truth.items()
    }
    members = [r for r in choice.duplicates.to_pylist() if not r["representative"]]
    assert {r["clip_id"]: (r["level"], r["group_id"], r["reference"]) for r in members} == truth


@settings(max_examples=100, deadline=None)
@given(edges_of_clips, st.randoms(use_true_random=False))
def test_what_holds_of_every_choice(
    drawn: list[tuple[int, int, str, float, bool]], rng: random.Random
) -> None:
    rows = rows_of(drawn)
    choice = decide(10, rows)
    gone = set(choice.dropped.column("clip_id").to_pylist())
    pairs = {
        (r["clip_a"], r["clip_b"])
        for r in rows
        if r["similarity"] >= THRESHOLDS[r["level"]] and r["reference"] is None
    }
    stay = {name(i) for i in range(10)} - gone
    assert not any(a in stay and b in stay for a, b in pairs)
    for row in choice.duplicates.to_pylist():
        if row["reference"] is None and not row["representative"]:
            a, b = row["clip_id"], row["group_id"]
            assert b in stay and b < a  # a better clip that stays
            assert (a, b) in pairs or (b, a) in pairs
    assert all(m >= 0 for m in choice.dropped.column("margin").to_pylist())
    mixed = rows[:]
    rng.shuffle(mixed)
    again = decide(10, mixed)
    assert again.dropped.equals(choice.dropped) and again.duplicates.equals(choice.duplicates)


def test_rows_of_a_group() -> None:
    choice = decide(
        5,
        [
            edge(1, 3, "perceptual", 0.85),
            edge(1, 3, "semantic", 0.99),
            edge(3, 4, "semantic", 1.0),  # its other end is dropped: no chain
            edge(0, 2, "semantic", 0.91),
        ],
        fingerprint="f",
    )
    assert choice.duplicates.schema.equals(DUPLICATES)
    rows = choice.duplicates.select(["clip_id", "group_id", "representative", "level"])
    assert rows.to_pylist() == [
        {"clip_id": a, "group_id": b, "representative": r, "level": level}
        for a, b, r, level in [
            (name(0), name(0), True, None),
            (name(2), name(0), False, "semantic"),
            (name(1), name(1), True, None),
            (name(3), name(1), False, "perceptual"),
        ]
    ]
    assert set(choice.duplicates.column("fingerprint").to_pylist()) == {"f"}
    assert choice.duplicates.column("video_id")[1].as_py() == f"v{name(2)}"
    assert choice.dropped.to_pylist() == [
        {"clip_id": name(2), "reason": "duplicate_semantic", "margin": pytest.approx(0.01)},
        {"clip_id": name(3), "reason": "duplicate_perceptual", "margin": pytest.approx(0.05)},
    ]


def test_times_are_told_from_the_clip_that_goes() -> None:
    how = {"offset_s": 3.0, "speed": 2.0, "mirrored": True, "overlap_s": 4.0}
    as_stored = decide(2, [edge(1, 0, "perceptual", 0.9, **how)]).duplicates.to_pylist()[1]
    turned = decide(2, [edge(0, 1, "perceptual", 0.9, **how)]).duplicates.to_pylist()[1]
    assert as_stored["clip_id"] == turned["clip_id"] == name(1)
    assert {k: as_stored[k] for k in how} == how
    # b = 2 a + 3, so a = b / 2 - 1.5; four seconds of a are eight of b.
    assert {k: turned[k] for k in how} == {
        "offset_s": -1.5,
        "speed": 0.5,
        "mirrored": True,
        "overlap_s": 8.0,
    }


def test_a_clip_near_a_held_out_one_stands_for_nobody() -> None:
    rows = [
        edge(0, 7, "semantic", 0.95, reference=ROOT),
        edge(0, 9, "perceptual", 0.8, reference=ROOT),
        edge(0, 1, "exact", 1.0),
    ]
    choice = decide(3, rows)
    assert choice.dropped.to_pylist() == [
        {"clip_id": name(0), "reason": "held_out_perceptual", "margin": 0.0}
    ]
    (row,) = choice.duplicates.to_pylist()
    assert (row["group_id"], row["reference"], row["representative"]) == (name(9), ROOT, False)


def test_copies_that_are_linked_by_clips_which_are_out() -> None:
    """Large groups of copies are linked with their first clips alone; none of those may pass."""
    outside = [f"a{i}" for i in range(3)]
    members = [0, 2, 3, 5]
    rows = [
        edge(0, m, "exact", 1.0, clip_a=head, clip_b=name(m)) for head in outside for m in members
    ]
    rows.append(edge(0, 1, "exact", 1.0, clip_a="b0", clip_b=name(1)))  # a copy of something else
    found = {r["clip_id"]: r["group_id"] for r in decide(6, rows).duplicates.to_pylist()}
    assert found == {name(m): name(0) for m in members}
    held = edge(0, 9, "semantic", 0.95, reference=ROOT)  # the best one must not stand for them
    choice = decide(6, [*rows, held])
    reasons = dict(zip(*(choice.dropped.column(c).to_pylist() for c in (0, 1)), strict=True))
    assert reasons == {
        name(0): "held_out_semantic",
        name(3): "duplicate_exact",
        name(5): "duplicate_exact",
    }


def test_many_clips_take_seconds() -> None:
    count, num_edges = 200_000, 400_000
    rng = np.random.default_rng(0)
    ids = pa.array([f"{i:032x}" for i in range(count)])
    a, b = (pa.array(rng.integers(0, count, num_edges)) for _ in range(2))
    columns = {
        "clip_a": ids.take(a),
        "clip_b": ids.take(b),
        "level": pa.repeat("semantic", num_edges),
        "similarity": pa.array(rng.uniform(0.9, 1, num_edges)),
    }
    arrays = [columns.get(f.name, pa.nulls(num_edges, f.type)) for f in EDGES]
    edges = pa.table(arrays, schema=EDGES).to_batches(65_536)
    began = time.process_time()
    choice = choose(pa.table({"clip_id": ids, "video_id": ids}), edges, THRESHOLDS)
    assert time.process_time() - began < 10  # about 1 s
    assert 0.5 * count < choice.dropped.num_rows < count


def test_quality_goes_down_with_nulls_last_and_ties_by_id(tmp_path: Path) -> None:
    catalog, ids = new_catalog(tmp_path, 4), sorted(ids_of(5))
    add_clips(catalog, ids, scattered(5, 4), heights_px=[360, 1080, 720, 1080, 720])
    catalog.dataset("videos").delete(f"video_id = 'v{ids[3]}'")  # its height is not known
    views = Views(catalog)

    def order(*prefer: str) -> list[int]:
        rows = by_quality(views, prefer, pa.array(ids))
        return [ids.index(c) for c in rows.column("clip_id").to_pylist()]

    assert order(*PREFER) == [1, 2, 4, 0, 3]
    assert order("-height_px") == [0, 2, 4, 1, 3]
    assert order() == [0, 1, 2, 3, 4]
    assert by_quality(views, PREFER, pa.array(ids[:1])).num_rows == 1
    with pytest.raises(ConfigError, match="no such column"):
        order("beauty")
    with pytest.raises(ConfigError, match="by numbers"):
        order("embedding_model")
