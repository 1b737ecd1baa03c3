"""The judge: every failing reason, what null means, inclusive bounds, and speed."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curation.errors import ConfigError
from curation.judging.rules import FAILED, KEPT, REJECTED, Rule, Rules


def rules_of(**rules: Mapping[str, float | str]) -> Rules:
    """Rules by column."""
    return Rules.model_validate({"rules": rules})


def judged(rules: Rules, **columns: pa.Array | list[object]) -> list[tuple[str, list[str]]]:
    """Verdict and reasons of each row."""
    arrays = {k: v if isinstance(v, pa.Array) else pa.array(v) for k, v in columns.items()}
    count = len(next(iter(arrays.values())))
    ids = [f"c{i}" for i in range(count)]
    table = pa.table({"clip_id": ids, "video_id": ["v"] * count, **arrays})
    found = rules.judge(table)
    assert found.column("clip_id").to_pylist() == ids
    rows = found.select(["verdict", "reasons"]).to_pylist()
    return [(r["verdict"], r["reasons"]) for r in rows]


def test_every_failing_reason_is_listed_in_order() -> None:
    rules = rules_of(b={"min": 1, "max": 2}, a={"max": 5}, c={"min": 0, "if_null": "reject"})
    assert judged(rules, a=[9.0, 1.0, 9.0], b=[3.0, 0.0, 1.5], c=[-1.0, None, 1.0]) == [
        (REJECTED, ["high_a", "high_b", "low_c"]),
        (REJECTED, ["low_b", "null_c"]),
        (REJECTED, ["high_a"]),
    ]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
@pytest.mark.parametrize("bound", [0.1, 0.3, 0.7, 0.002, 1 / 3])
def test_bounds_are_inclusive_at_any_precision(kind: pa.DataType, bound: float) -> None:
    """A score of 0.7 stored in 32 bits is a little less than 0.7; it is no low score."""
    beside = [bound - 1e-4, bound, bound + 1e-4]
    rules = rules_of(x={"min": bound, "max": bound})
    found = judged(rules, x=pa.array(beside, kind))
    assert found == [(REJECTED, ["low_x"]), (KEPT, []), (REJECTED, ["high_x"])]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("keep", (KEPT, [])),
        ("reject", (REJECTED, ["null_x"])),
        ("error", (FAILED, ["null_x"])),
    ],
)
def test_null_and_nan_mean_what_the_rule_says(policy: str, expected: tuple[str, list[str]]) -> None:
    rules = rules_of(x={"min": 1, "max": 2, "if_null": policy})
    values = pa.array([None, float("nan"), 1.5], pa.float32())
    assert judged(rules, x=values) == [expected, expected, (KEPT, [])]


def test_a_missing_value_is_an_error_by_default() -> None:
    assert judged(rules_of(x={"min": 1}), x=pa.array([None], pa.float32())) == [
        (FAILED, ["null_x"])
    ]


def test_an_error_wins_and_keeps_the_other_reasons() -> None:
    rules = rules_of(x={"min": 1}, y={"max": 0})
    assert judged(rules, x=pa.array([None], pa.float64()), y=[3]) == [
        (FAILED, ["null_x", "high_y"])
    ]


def test_booleans_and_integers() -> None:
    rules = rules_of(flag={"max": 0, "if_null": "keep"}, size={"min": 2**53})
    found = judged(rules, flag=[True, False, None], size=[2**53, 2**53, 2**53 - 1])
    assert found == [(REJECTED, ["high_flag"]), (KEPT, []), (REJECTED, ["low_size"])]
    assert judged(rules_of(big={"max": 1}), big=[2**62 + 1]) == [(REJECTED, ["high_big"])]


def test_no_rules_and_no_rows() -> None:
    assert judged(Rules(), x=[1.0, None]) == [(KEPT, []), (KEPT, [])]
    empty = pa.table({"clip_id": pa.array([], pa.string()), "video_id": pa.array([], pa.string())})
    assert Rules().judge(empty).num_rows == 0
    with_column = empty.append_column("x", pa.array([], pa.float32()))
    found = rules_of(x={"min": 1}).judge(with_column)
    assert found.num_rows == 0
    assert found.schema.field("verdict").type == pa.string()
    assert found.schema.field("reasons").type == pa.list_(pa.string())


def test_chunked_columns() -> None:
    table = pa.concat_tables(
        pa.table({"clip_id": [f"{i}"], "video_id": ["v"], "x": [float(i)]}) for i in range(4)
    )
    found = rules_of(x={"min": 2}).judge(table)
    assert found.column("verdict").to_pylist() == [REJECTED, REJECTED, KEPT, KEPT]


def test_many_rows_in_one_call() -> None:
    """200,000 clips against six rules; every verdict checked against plain comparisons."""
    count, rng = 200_000, np.random.default_rng(0)
    names = [f"s{i}" for i in range(6)]
    scores = {n: rng.uniform(0, 1, count).astype(np.float32) for n in names}
    rules = rules_of(**{n: {"min": 0.1, "max": 0.95} for n in names})
    ids = pa.array([f"{i:08d}" for i in range(count)])
    table = pa.table({"clip_id": ids, "video_id": ids, **scores})
    started = time.perf_counter()
    found = rules.judge(table)
    assert time.perf_counter() - started < 5
    low, high = np.float32(0.1), np.float32(0.95)
    fails = np.sum([(s < low) | (s > high) for s in scores.values()], axis=0)
    lengths = [len(r) for r in found.column("reasons").to_pylist()]
    assert lengths == fails.tolist()
    kept = np.array(found.column("verdict").to_pylist()) == KEPT
    assert (kept == (fails == 0)).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"min": 2, "max": 1},
        {"min": float("nan")},
        {"max": float("inf")},
        {"if_null": "maybe"},
        {"minimum": 1},
    ],
)
def test_rules_that_cannot_be_meant(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate(fields)


def test_unknown_columns_are_refused_with_the_nearest() -> None:
    known = {"motion_per_s": pa.float32(), "codec": pa.string(), "media_bytes": pa.int64()}
    with pytest.raises(ConfigError, match="did you mean 'motion_per_s'"):
        rules_of(motion_pers={"min": 1}).check(known)
    with pytest.raises(ConfigError, match="is string, not a number"):
        rules_of(codec={"min": 1}).check(known)


def test_fingerprint_follows_the_rules() -> None:
    base = rules_of(x={"min": 1}, y={"max": 2})
    assert base.fingerprint() == rules_of(y={"max": 2}, x={"min": 1}).fingerprint()
    assert base.fingerprint() != rules_of(x={"min": 1}, y={"max": 3}).fingerprint()
    assert (
        base.fingerprint() != rules_of(x={"min": 1, "if_null": "keep"}, y={"max": 2}).fingerprint()
    )
