"""Rules of every kind: text, flags, quantiles, overrides, margins, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.errors import ConfigError
from curation.judging.rule import Where
from curation.judging.rules import FAILED, KEPT, REJECTED, Override, QuantileBound, Rule, Rules


def rules_of(rules: dict[str, Any], *overrides: dict[str, Any], **more: Any) -> Rules:  # noqa: ANN401
    return Rules.model_validate({"rules": rules, "overrides": overrides, **more})


def judged(rules: Rules, late: dict[str, str] | None = None, **columns: Any) -> list[dict]:  # noqa: ANN401
    """Verdict, reasons and margins of each row."""
    arrays = {k: v if isinstance(v, pa.Array) else pa.array(v) for k, v in columns.items()}
    count = len(next(iter(arrays.values())))
    ids = pa.array([f"c{i}" for i in range(count)])
    found = rules.judge(pa.table({"clip_id": ids, "video_id": ids, **arrays}), late or {})
    assert found.column_names == ["clip_id", "video_id", "verdict", "reasons", "margins"]
    return found.select(["verdict", "reasons", "margins"]).to_pylist()


def reasons(rules: Rules, **columns: Any) -> list[list[str]]:  # noqa: ANN401
    return [row["reasons"] for row in judged(rules, **columns)]


def test_text_by_patterns_in_any_case() -> None:
    rules = rules_of({"motion": {"one_of": ["pan_*", "Static"], "none_of": "pan_up"}})
    found = judged(rules, motion=["PAN_left", "static", "zoom", "pan_up", None])
    assert [r["verdict"] for r in found] == [KEPT, KEPT, REJECTED, REJECTED, FAILED]
    assert [r["reasons"] for r in found[2:]] == [["not_motion"], ["not_motion"], ["null_motion"]]
    assert [r["margins"] for r in found[2:]] == [[None]] * 3


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int8(), pa.string()), pa.large_string()])
def test_text_stored_otherwise(kind: pa.DataType) -> None:
    values = pa.array(["a", "b", None]).cast(kind)
    rules = rules_of({"x": {"one_of": "a", "if_null": "keep"}})
    assert reasons(rules, x=values) == [[], ["not_x"], []]


def test_flags_and_whole_numbers_by_list() -> None:
    rules = rules_of({"flag": {"one_of": True}, "count": {"none_of": [0, 3]}})
    found = reasons(rules, flag=[True, False, True], count=pa.array([1, 0, 3], pa.int32()))
    assert found == [[], ["not_count", "not_flag"], ["not_count"]]


def test_margins_are_value_minus_threshold() -> None:
    rules = rules_of({"x": {"min": 1.0, "max": 2.0}, "y": {"max": 10, "if_null": "reject"}})
    found = judged(rules, x=[0.25, 3.5, 1.5], y=[12, None, 10])
    assert [r["margins"] for r in found] == [[-0.75, 2], [1.5, None], []]


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-1e6, 1e6, width=32),
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from([pa.float32(), pa.float64()]),
)
def test_a_margin_has_the_sign_of_its_reason(value: float, bound: float, kind: pa.DataType) -> None:
    (row,) = judged(rules_of({"x": {"min": bound, "max": bound}}), x=pa.array([value], kind))
    expected = ["low_x"] if value < bound else ["high_x"] if value > bound else []
    assert row["reasons"] == expected
    for margin in row["margins"]:
        assert (margin < 0) == (value < bound) and margin == pytest.approx(value - bound, abs=1e-6)


def test_a_margin_is_never_rounded_to_nothing() -> None:
    (row,) = judged(rules_of({"x": {"min": 0.5}}), x=[0.5 - 1e-9])
    assert row["margins"] == [pytest.approx(-1e-9, rel=1e-6)]


def test_a_rule_may_ask_only_for_a_value() -> None:
    assert reasons(rules_of({"x": {"if_null": "reject"}}), x=[None, 1.0]) == [["null_x"], []]


def test_late_columns_pass_until_the_clip_gets_there() -> None:
    rules = rules_of({"x": {"one_of": "a", "if_null": "reject"}})
    found = judged(rules, {"x": "there"}, x=["a", None, None, "b"], there=[True, True, False, True])
    assert [r["reasons"] for r in found] == [[], ["null_x"], [], ["not_x"]]


OVERRIDES = (
    {"where": {"source": "studio*"}, "rules": {"x": {"min": 5}, "y": None}},
    {"where": {"source": ["*two", "x"], "license": "cc0"}, "rules": {"x": {"min": 0, "max": 1}}},
)


def test_the_last_matching_override_wins_for_each_column() -> None:
    rules = rules_of({"x": {"min": 2}, "y": {"max": 0}}, *OVERRIDES)
    assert rules.columns() == ["license", "source", "x", "y"]
    found = reasons(
        rules,
        source=pa.array(["Studio one", "studio two", "studio two", None, "x"]).dictionary_encode(),
        license=["CC0", "cc0", None, "CC0", "CC0"],
        x=[3.0, 3.0, 3.0, 1.0, 0.5],
        y=[1, 1, 1, 1, 1],
    )
    assert found == [
        ["low_x"],  # the first override: at least 5, y is free
        ["high_x"],  # the second wins on x; y stays free
        ["low_x"],  # an unknown licence matches nothing
        ["low_x", "high_y"],  # nor does an unknown source: the general rules
        ["high_y"],
    ]


def test_an_override_may_add_a_column_or_change_what_null_means() -> None:
    rules = rules_of(
        {"x": {"min": 1, "if_null": "keep"}},
        {"where": {"uri": "*.avi"}, "rules": {"x": {"min": 1}, "t": {"one_of": "a"}}},
    )
    found = judged(rules, uri=["b.avi", "b.mp4"], x=pa.nulls(2, pa.float32()), t=["b", "b"])
    assert [(r["verdict"], r["reasons"]) for r in found] == [
        (FAILED, ["not_t", "null_x"]),
        (KEPT, []),
    ]


rule = st.none() | st.builds(
    lambda low, null: Rule(min=low, max=low + 1, if_null=null),
    st.integers(0, 4).map(float),
    st.sampled_from(["keep", "reject", "error"]),
)
override = st.tuples(
    st.sampled_from(["a", "b", "*"]), st.dictionaries(st.sampled_from("xy"), rule, min_size=1)
)
row = st.tuples(st.sampled_from(["a", "b", None]), *[st.none() | st.integers(0, 5).map(float)] * 2)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from("xy"), rule),
    st.lists(override, max_size=3),
    st.lists(row, min_size=1, max_size=8),
)
def test_as_one_clip_at_a_time(
    general: dict[str, Rule | None], others: list, rows: list[tuple]
) -> None:
    """Masks over all clips say what a loop over rules and clips says."""
    rules = Rules(
        rules={c: r for c, r in general.items() if r is not None},
        overrides=tuple(Override(where=Where(source=(g,)), rules=r) for g, r in others),
    )
    columns = {n: [r[i] for r in rows] for i, n in enumerate(("source", "x", "y"))}
    table = {
        n: pa.array(v, pa.string() if n == "source" else pa.float64()) for n, v in columns.items()
    }
    for (source, *values), found in zip(rows, judged(rules, **table), strict=True):
        wanted, error = [], False
        for column, value in zip("xy", values, strict=True):
            mine = general.get(column)
            for glob, changed in others:
                if column in changed and source is not None and glob in ("*", source):
                    mine = changed[column]
            if mine is None:
                continue
            if value is None:
                wanted += [f"null_{column}"] if mine.if_null != "keep" else []
                error |= mine.if_null == "error"
            else:
                wanted += [f"low_{column}"] if value < (mine.min or 0) else []
                wanted += [f"high_{column}"] if value > (mine.max or 0) else []
        assert found["reasons"] == wanted
        assert found["verdict"] == (FAILED if error else REJECTED if wanted else KEPT)


def test_quantiles_have_to_become_numbers_first() -> None:
    rules = rules_of({"x": {"min": 1, "min_quantile": 0.1}, "y": {"max_quantile": 0.9}})
    with pytest.raises(ValueError, match="resolve"):
        judged(rules, x=[1.0], y=[1.0])
    x, y = QuantileBound("x", "min", 0.1), QuantileBound("y", "max", 0.9)
    assert rules.quantile_bounds() == [x, y]
    assert rules.with_thresholds({x: 3.0, y: 7.0}).rules["x"].min == 3
    assert rules.with_thresholds({x: 0.5, y: 7.0}).rules["x"].min == 1  # both count
    none = rules.with_thresholds({x: None, y: None})
    assert reasons(none, x=[0.0, 2.0], y=[1e9, 0.0]) == [["low_x"], []]


def test_local_rules_leave_out_what_needs_the_others() -> None:
    rules = rules_of(
        {
            "x": {"min": 1, "min_quantile": 0.5},
            "y": {"max_quantile": 0.9, "if_null": "keep"},
            "z": {"max_quantile": 0.9, "if_null": "reject"},
        },
        {"where": {"uri": "a*"}, "rules": {"x": {"min_quantile": 0.9, "if_null": "keep"}}},
    )
    local = rules.local()
    assert local.columns() == ["uri", "x", "z"] and not local.quantile_bounds()
    found = reasons(local, uri=["a", "b"], x=[0.0, 0.0], z=[None, 5.0])
    assert found == [["null_z"], ["low_x"]]  # the override's rule has no bound left


def test_only_some_columns() -> None:
    rules = rules_of({"x": {"min": 1}, "y": {"max": 0}}, *OVERRIDES)
    only = rules.only(["y", "source"])
    assert only.rule_columns() == ["y"] and only.columns() == ["source", "y"]
    assert only.rules["y"].max == 0
    assert reasons(only, source=["studio", "b"], y=[1, 1]) == [[], ["high_y"]]


def test_null_switches_a_rule_off() -> None:
    assert rules_of({"x": None, "y": {"min": 0}}).columns() == ["y"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "says nothing"),
        ({"if_null": "keep"}, "says nothing"),
        ({"min_quantile": 1.5}, "less than or equal to 1"),
        ({"max_quantile": -0.1}, "greater than or equal to 0"),
        ({"min_quantile": 0.9, "max_quantile": 0.1}, "above"),
        ({"min": 1, "one_of": [1]}, "bounds are for numbers"),
        ({"one_of": []}, "at least 1 item"),
        ({"one_of": [1.5]}, "valid"),
    ],
)
def test_rules_that_cannot_be_meant(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rule.model_validate(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"where": {}, "rules": {"x": {"min": 1}}},
        {"where": {"source": "a"}, "rules": {}},
        {"where": {"folder": "a"}, "rules": {"x": {"min": 1}}},
        {"where": {"source": []}, "rules": {"x": {"min": 1}}},
    ],
)
def test_overrides_that_cannot_be_meant(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Override.model_validate(fields)


KNOWN = {
    "sharpness": pa.float32(),
    "codec": pa.string(),
    "flag": pa.bool_(),
    "count": pa.int32(),
    "boxes": pa.list_(pa.float32()),
}


@pytest.mark.parametrize(
    ("column", "fields", "message"),
    [
        ("codec", {"min_quantile": 0.5}, "is string, not a number"),
        ("sharpness", {"one_of": ["a"]}, "use min and max"),
        ("count", {"one_of": ["3*"]}, "whole numbers, not '3\\*'"),
        ("count", {"none_of": [True]}, "whole numbers, not True"),
        ("flag", {"one_of": ["yes"]}, "true or false, not 'yes'"),
        ("flag", {"max_quantile": 0.5}, "no quantiles"),
        ("codec", {"one_of": [264]}, "text, not 264"),
        ("boxes", {"min": 1}, "is list"),
        ("sharpnes", {"min": 1}, "did you mean 'sharpness'"),
    ],
)
@pytest.mark.parametrize("general", [True, False])
def test_rules_that_a_column_cannot_be_held_to(
    column: str, fields: dict[str, object], message: str, general: bool
) -> None:
    other = {"where": {"title": "a"}, "rules": {column: fields}}
    rules = rules_of({column: fields}) if general else rules_of({}, other)
    place = "judge.rules" if general else "judge.overrides.0.rules"
    with pytest.raises(ConfigError, match=message) as caught:
        rules.check(KNOWN)
    assert caught.value.where == f"{place}.{column}"


def test_every_kind_passes_the_check() -> None:
    rules_of(
        {
            "sharpness": {"min_quantile": 0.1},
            "codec": {"none_of": "h26*"},
            "flag": {"max": 0},
            "count": {"one_of": [1, 2]},
        },
        {"where": {"uri": "*"}, "rules": {"flag": None}},
    ).check(KNOWN)


def test_fingerprint_follows_everything() -> None:
    base = rules_of({"x": {"min": 1}})
    others = [
        rules_of({"x": {"min": 1, "min_quantile": 0.1}}),
        rules_of({"x": {"min": 1}}, {"where": {"uri": "a"}, "rules": {"x": None}}),
        rules_of({"x": {"min": 1}}, {"where": {"uri": "b"}, "rules": {"x": None}}),
        rules_of({"x": {"min": 1}}, rights={"require": "license"}),
        rules_of({"x": {"one_of": [1]}}),
    ]
    prints = {rules.fingerprint() for rules in (base, *others)}
    assert len(prints) == 1 + len(others)


def test_many_clips_with_many_reasons() -> None:
    count = 100_000
    rng = np.random.default_rng(1)
    scores = {f"s{i}": rng.uniform(0, 1, count).astype(np.float32) for i in range(8)}
    rules = rules_of({name: {"min": 0.5} for name in scores})
    ids = pa.array([f"{i}" for i in range(count)])
    found = rules.judge(pa.table({"clip_id": ids, "video_id": ids, **scores}))
    lows = np.stack([s < 0.5 for s in scores.values()], axis=1)
    lengths = found.column("reasons").combine_chunks().value_lengths().to_numpy()
    assert (lengths == lows.sum(axis=1)).all()
    wanted = np.stack(list(scores.values()), axis=1)[lows].astype(float) - 0.5
    margins = found.column("margins").combine_chunks().flatten().to_numpy()
    assert np.abs(margins - wanted).max() < 1e-6
