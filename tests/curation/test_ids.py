"""Identities: equal input gives equal ids everywhere, different input different ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.ids import canonical_json, clip_id, digest, json_digest, shuffle_key, source_id

TEXTS = st.lists(st.text(max_size=4), max_size=4)


def test_ids_never_change() -> None:
    """Catalogs on disk hold these: another value would orphan them."""
    assert clip_id("a" * 64, 0, 12800, "1/12800") == "eff6204bbc71c1e11b94da70e1993df5"
    assert source_id("/data/a.mp4") == "d4b231d208c36b64dab0d0fbaadbe359"
    assert json_digest({"b": 1, "a": [None, "é"]}) == "fe341742692c9059787dcafb49690fbe"
    assert shuffle_key(0, "x")[:16] == "dbcdd5257900b0ee"


@given(TEXTS, TEXTS)
def test_parts_do_not_run_together(a: list[str], b: list[str]) -> None:
    assert (digest(*a) == digest(*b)) == (a == b)


def test_clip_ids_depend_on_everything() -> None:
    base = ("v", 0, 10, "1/25")
    others = [
        ("w", 0, 10, "1/25"),
        ("v", 1, 10, "1/25"),
        ("v", 0, 11, "1/25"),
        ("v", 0, 10, "1/24"),
    ]
    assert len({clip_id(*c) for c in [base, *others]}) == 5


@pytest.mark.parametrize(("a", "b"), [({"x": 1, "y": 2}, {"y": 2, "x": 1}), ([1], (1,))])
def test_equal_values_have_equal_json(a: object, b: object) -> None:
    assert canonical_json(a) == canonical_json(b)


def test_shuffle_spreads() -> None:
    order = sorted(range(1000), key=lambda i: shuffle_key(7, str(i)))
    assert order != sorted(range(1000), key=lambda i: shuffle_key(8, str(i)))
    early = sum(1 for i in order[:500] if i < 500)
    assert 200 < early < 300
