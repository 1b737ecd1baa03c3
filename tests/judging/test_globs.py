"""Globs: as fnmatch has them, and the same in memory and in DuckDB."""

from __future__ import annotations

from fnmatch import fnmatchcase

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.judging.globs import encode, match_values, matches, sql_condition

LETTERS = "abzAZ09-_]![^*?.\\|(){}+$ é\n'"
TEXTS = st.lists(st.text(LETTERS, max_size=6), min_size=1, max_size=8)
DUCKDB = duckdb.connect()
GLOBS = st.lists(st.text(LETTERS, max_size=6), min_size=1, max_size=3)


def expected(texts: list[str], globs: list[str]) -> list[bool]:
    return [any(fnmatchcase(t.lower(), g.lower()) for g in globs) for t in texts]


@settings(max_examples=300, deadline=None)
@given(TEXTS, GLOBS)
def test_as_fnmatch_without_regard_to_case(texts: list[str], globs: list[str]) -> None:
    assert match_values(pa.array(texts), globs).tolist() == expected(texts, globs)


@settings(max_examples=60, deadline=None)
@given(TEXTS, GLOBS)
def test_duckdb_agrees_with_memory(texts: list[str], globs: list[str]) -> None:
    values = pa.table({"x": [*texts, None]})
    with DUCKDB.cursor() as con:
        con.register("rows", values)
        found = con.sql(f"SELECT {sql_condition('x', globs)} FROM rows").fetchall()
    assert [row[0] for row in found] == [*expected(texts, globs), False]


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("CC-BY-*", ["cc-by-4.0", "CC-BY-NC-4.0"], ["CC0-1.0", "X CC-BY-4.0"]),
        ("CC-BY-[0-9]*", ["CC-BY-4.0"], ["CC-BY-SA-4.0"]),
        ("*.mp4", ["a/b.MP4", "\n.mp4"], ["mp4", "a.mp4x"]),
        ("[!a]x", ["bx", "]x"], ["ax", "x"]),
        ("[]a]", ["]", "A"], ["b"]),
        ("[z-a]", [], ["z", "a", "-", ""]),
        ("[ab", ["[ab"], ["a"]),
        ("a.c", ["a.c"], ["abc"]),
    ],
)
def test_patterns(glob: str, yes: list[str], no: list[str]) -> None:
    assert match_values(pa.array([*yes, *no], pa.string()), [glob]).tolist() == [
        *([True] * len(yes)),
        *([False] * len(no)),
    ]


def test_a_list_longer_than_one_expression() -> None:
    texts = pa.array([f"name {i}" for i in range(1000)])
    found = match_values(texts, [f"NAME {i}" for i in range(0, 1000, 3)])
    assert found.tolist() == [i % 3 == 0 for i in range(1000)]


@pytest.mark.parametrize("kind", ["plain", "dictionary", "chunks", "other dictionaries"])
def test_columns_of_every_make(kind: str) -> None:
    plain = pa.array(["a", None, "b", "a"])
    values = {
        "plain": plain,
        "dictionary": plain.dictionary_encode(),
        "chunks": pa.chunked_array([plain, plain.slice(1, 1)]),
        "other dictionaries": pa.chunked_array(
            [plain.dictionary_encode(), pa.array(["b", "c"]).dictionary_encode()]
        ),
    }[kind]
    wanted = np.array([v == "b" for v in values.to_pylist()])
    assert (matches(encode(values), ["B"]) == wanted).all()


def test_a_column_of_nulls() -> None:
    assert matches(encode(pa.nulls(3)), ["*"]).tolist() == [False] * 3
