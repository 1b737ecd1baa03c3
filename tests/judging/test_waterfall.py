"""The waterfall against a loop over the clips, and as it is printed."""

from __future__ import annotations

import io
import json

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from curation.judging.rules import Rules
from curation.judging.waterfall import Amount, Waterfall, reasons_in_order, waterfall
from pipelines.waterfall import print_waterfall

SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("duration_s", pa.float64()),
        ("verdict", pa.string()),
        ("reasons", pa.list_(pa.string())),
    ]
)
ORDER = ["rights_missing_license", "low_a", "high_a", "duplicate_exact", "over_total"]
Row = tuple[float | None, str | None, list[str]]


def fall_of(rows: list[Row], order: list[str] = ORDER, *, chunk: int = 3) -> Waterfall:
    named = [
        {"clip_id": str(i), "duration_s": d, "verdict": v, "reasons": r if v else None}
        for i, (d, v, r) in enumerate(rows)
    ]
    table = pa.Table.from_pylist(named, schema=SCHEMA)
    reader = pa.RecordBatchReader.from_batches(SCHEMA, table.to_batches(max_chunksize=chunk))
    return waterfall(reader, order)


def test_each_clip_goes_at_its_first_step() -> None:
    fall = fall_of(
        [
            (3600.0, "kept", []),
            (3600.0, "rejected", ["low_a", "rights_missing_license"]),
            (1800.0, "rejected", ["low_a"]),
            (1800.0, "rejected", ["over_total"]),
            (None, "rejected", ["unheard_of"]),
            (7200.0, "failed", ["decode_failed", "null_a"]),
            (1.0, None, []),
        ]
    )
    assert (fall.total.clips, fall.judged.clips, fall.kept) == (7, 5, Amount(1, 1.0))
    assert fall.failed == Amount(1, 2.0) and fall.unjudged.clips == 1
    assert fall.failed_by == {"decode_failed": Amount(1, 2.0), "null_a": Amount(1, 2.0)}
    rights, low, over, other = fall.steps
    assert [s.reason for s in fall.steps] == [ORDER[0], "low_a", "over_total", "unheard_of"]
    assert (rights.removed, rights.at_all, rights.alone) == (Amount(1, 1), Amount(1, 1), Amount())
    assert (low.removed, low.at_all, low.alone) == (Amount(1, 0.5), Amount(2, 1.5), Amount(1, 0.5))
    assert (low.before, low.after) == (Amount(4, 2.0), Amount(3, 1.5))
    assert over.after == Amount(2, 1.0) and other.after == fall.kept == Amount(1, 1.0)


rows_ = st.lists(
    st.tuples(
        st.none() | st.integers(1, 50).map(lambda i: i / 10),
        st.sampled_from(["kept", "rejected", "failed", None]),
        st.lists(st.sampled_from([*ORDER, "x"]), unique=True, max_size=4),
    ).map(
        lambda r: (
            (r[0], r[1], r[2] or ["x"]) if r[1] in ("rejected", "failed") else (r[0], r[1], [])
        )
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(rows_)
def test_as_a_loop_counts(rows: list[Row]) -> None:
    fall = fall_of(rows)
    judged = [r for r in rows if r[1] in ("kept", "rejected")]
    assert fall.judged.clips == len(judged)
    left = judged
    for step in fall.steps:
        has = [r for r in judged if step.reason in r[2]]
        gone = [r for r in left if step.reason in r[2]]
        left = [r for r in left if step.reason not in r[2]]
        alone = [r for r in has if r[2] == [step.reason]]
        for amount, mine in (
            (step.removed, gone),
            (step.at_all, has),
            (step.alone, alone),
            (step.after, left),
        ):
            assert amount.clips == len(mine)
            assert amount.hours * 3600 == pytest.approx(sum(r[0] or 0 for r in mine), abs=1e-6)
    assert fall.kept.clips == len(left) == sum(r[1] == "kept" for r in rows)
    assert fall.total.clips == fall.judged.clips + fall.failed.clips + fall.unjudged.clips


def test_what_a_rule_removes_alone_comes_back_without_it() -> None:
    table = pa.table(
        {
            "clip_id": [str(i) for i in range(100)],
            "video_id": ["v"] * 100,
            "a": [float(i % 10) for i in range(100)],
            "b": [float(i // 10) for i in range(100)],
            "duration_s": [2.0] * 100,
        }
    )

    def kept_by(rules: dict[str, dict[str, float]]) -> tuple[Waterfall, int]:
        found = Rules.model_validate({"rules": rules}).judge(table)
        found = found.append_column("duration_s", table.column("duration_s"))
        fall = waterfall(found.to_reader(max_chunksize=7), reasons_in_order(["a", "b"]))
        return fall, found.column("verdict").to_pylist().count("kept")

    fall, kept = kept_by({"a": {"min": 3}, "b": {"max": 4}})
    low, high = fall.steps
    assert (low.reason, high.reason) == ("low_a", "high_b") and fall.kept.clips == kept
    assert kept_by({"b": {"max": 4}})[1] == kept + low.alone.clips
    assert kept_by({"a": {"min": 3}})[1] == kept + high.alone.clips


def test_a_relation_of_duckdb() -> None:
    relation = duckdb.connect().sql(
        "SELECT 'c' AS clip_id, 1.5::FLOAT AS duration_s, 'rejected' AS verdict, "
        "['low_a'] AS reasons UNION ALL SELECT 'd', 2, 'kept', []"
    )
    fall = waterfall(relation, ORDER)
    assert (fall.kept.clips, [s.reason for s in fall.steps]) == (1, ["low_a"])


def test_order_of_the_work() -> None:
    order = reasons_in_order(["sharpness"], ["over_video_cap", "over_total"])
    wanted = [
        *("rights_missing_license", "rights_unlisted_license", "rights_denied_uri"),
        *("low_sharpness", "held_out_exact", "duplicate_exact", "duplicate_semantic"),
        *("over_video_cap", "over_total"),
    ]
    assert [r for r in order if r in wanted] == wanted


def test_printed_in_eighty_columns_and_as_json() -> None:
    rows: list[Row] = [(3600.0, "rejected", ["low_a"]), *[(3600.0, "kept", list[str]())] * 3]
    fall = fall_of([*rows, (3600.0, "failed", ["decode_failed"])])
    out = io.StringIO()
    print_waterfall(fall, Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["step", "removed", "hours", "all", "alone", "left", "hours", "left"]
    assert [line.split()[0] for line in lines[1:5]] == ["all", "failed", "low_a", "kept"]
    assert lines[3].split() == ["low_a", "1", "1.0", "1", "1", "3", "3.0", "██████"]
    assert max(map(len, lines)) <= 80
    assert json.loads(json.dumps(fall.as_json()))["steps"][0]["alone"] == {"clips": 1, "hours": 1.0}


def test_nothing_at_all() -> None:
    fall = fall_of([])
    assert fall.total == Amount() and not fall.steps
    print_waterfall(fall, Console(file=io.StringIO()))
