"""Quantiles over a real catalog, against NumPy over the same clips."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from curation.catalog.views import Views
from curation.judging.quantiles import resolve
from curation.judging.rules import Rules
from curation.schema import THRESHOLDS
from tests.judging.parts import catalog_with

COUNT = 200


@pytest.fixture(scope="module")
def clips() -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for i in range(COUNT):
        row = {
            "luma_mean": float(rng.integers(0, 20)) / 20,  # many ties
            "sharpness": float(np.float32(rng.uniform())),
            "motion_per_s": [None, math.nan, 0.25][i % 3] if i % 4 else 0.5,
            "static_fraction": None,
            "source": [None, "Lab one", "lab TWO", "street"][i % 4],
            "license": ["it's [free]", "CC0-1.0"][i % 2],
            "media_bytes": i if i >= 150 else None,
        }
        rows.append(row | {"clip_index": i % 7})
    return rows


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory, clips: list[dict[str, Any]]) -> Views:
    return Views(catalog_with(tmp_path_factory.mktemp("quantiles"), clips))


def thresholds(
    views: Views, rules: dict[str, Any], *overrides: dict[str, Any]
) -> list[float | None]:
    made = Rules.model_validate({"rules": rules, "overrides": overrides})
    _, table = resolve(made, views)
    assert table.schema == THRESHOLDS
    assert set(table.column("fingerprint").to_pylist()) == {made.fingerprint()}
    return table.column("value").to_pylist()


@pytest.mark.parametrize("quantile", [0, 0.1, 1 / 3, 0.5, 0.999, 1])
@pytest.mark.parametrize("column", ["luma_mean", "sharpness"])
def test_as_numpy_interpolates(
    views: Views, clips: list[dict[str, Any]], column: str, quantile: float
) -> None:
    values = np.array([r[column] for r in clips], np.float32).astype(np.float64)
    (found,) = thresholds(views, {column: {"min_quantile": quantile}})
    assert found == pytest.approx(np.quantile(values, quantile), rel=1e-12)


def test_null_and_nan_do_not_count(views: Views, clips: list[dict[str, Any]]) -> None:
    values = [v for r in clips if (v := r["motion_per_s"]) is not None and not math.isnan(v)]
    found = thresholds(views, {"motion_per_s": {"min_quantile": 0.6, "max_quantile": 0.9}})
    assert found == pytest.approx([np.quantile(values, 0.6), np.quantile(values, 0.9)])


def test_a_column_without_values_fails_none(views: Views) -> None:
    rules = Rules.model_validate(
        {"rules": {"static_fraction": {"min_quantile": 0.5, "if_null": "keep"}}}
    )
    resolved, table = resolve(rules, views)
    assert table.column("value").to_pylist() == [None]
    clips = views.query(views.clips(["clip_id", "video_id", "static_fraction"]))
    assert set(resolved.judge(clips).column("verdict").to_pylist()) == {"kept"}


def test_only_clips_with_a_value_of_a_late_score(views: Views) -> None:
    (found,) = thresholds(views, {"media_bytes": {"max_quantile": 0.5}})
    assert found == np.quantile(np.arange(150, COUNT), 0.5)


@pytest.mark.parametrize(
    ("where", "matches"),
    [
        ({"source": "lab*"}, lambda r: (r["source"] or "").lower().startswith("lab")),
        ({"license": "IT'S [[]free]"}, lambda r: r["license"] == "it's [free]"),
        (
            {"source": ["street", "lab t?o"], "license": "cc0*"},
            lambda r: r["source"] in ("street", "lab TWO") and r["license"] == "CC0-1.0",
        ),
        ({"source": "nobody"}, lambda _: False),
    ],
)
def test_an_override_takes_its_own_clips(
    views: Views,
    clips: list[dict[str, Any]],
    where: dict[str, Any],
    matches: Any,  # noqa: ANN401
) -> None:
    rules = {"sharpness": {"min_quantile": 0.25}}
    found = thresholds(views, rules, {"where": where, "rules": rules})
    every = np.array([r["sharpness"] for r in clips])
    mine = [r["sharpness"] for r in clips if matches(r)]
    assert found[0] == pytest.approx(np.quantile(every, 0.25))
    assert found[1] == (pytest.approx(np.quantile(mine, 0.25)) if mine else None)


def test_the_table_names_the_override(views: Views) -> None:
    rules = Rules.model_validate(
        {
            "overrides": [
                {"where": {"source": "lab*"}, "rules": {"sharpness": {"max_quantile": 0.5}}}
            ]
        }
    )
    _, table = resolve(rules, views)
    (row,) = table.to_pylist()
    assert (row["column"], row["bound"], row["quantile"]) == ("sharpness", "max", 0.5)
    assert json.loads(row["where"]) == {"source": ["lab*"]}


@pytest.mark.parametrize("column", ["sharpness", "luma_mean", "clip_index"])
def test_the_worst_tenth_goes(views: Views, clips: list[dict[str, Any]], column: str) -> None:
    """What is below the quantile goes and no other; with ties no more than a tenth."""
    resolved, table = resolve(
        Rules.model_validate({"rules": {column: {"min_quantile": 0.1}}}), views
    )
    found = views.query(views.clips(["clip_id", "video_id", column]))
    verdicts = resolved.judge(found).column("verdict").to_pylist()
    values = np.array(found.column(column).to_pylist(), np.float64)
    gone = np.array(verdicts) == "rejected"
    assert (gone == (values < table.column("value")[0].as_py())).all()
    assert gone.sum() == 20 if column == "sharpness" else gone.sum() <= 20


def test_nothing_to_resolve(views: Views) -> None:
    rules = Rules.model_validate({"rules": {"sharpness": {"min": 0.5}}})
    resolved, table = resolve(rules, views)
    assert resolved == rules and table.num_rows == 0 and table.schema == THRESHOLDS
