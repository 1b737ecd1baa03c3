"""Sensitivity, funnel and borderline: against judging anew, and against counting by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from curation.catalog.catalog import Catalog
from curation.judging.rules import Rules
from pipelines.audit.basis import Basis, open_basis
from pipelines.audit.chosen import choose_clips
from pipelines.audit.curves import MAX_POINTS, Curve, make_curves
from pipelines.audit.funnel import Funnel, make_funnel
from pipelines.audit.near import find_borders
from tests.audit.synthetic import judge, rules_of


@pytest.fixture(scope="module")
def basis(synthetic: Catalog) -> Basis:
    return open_basis(synthetic)


@pytest.fixture(scope="module")
def curves(basis: Basis) -> list[Curve]:
    return make_curves(basis)


@pytest.fixture(scope="module")
def funnel(basis: Basis) -> Funnel:
    return make_funnel(basis)


def kept(catalog: Catalog, rules: Rules) -> int:
    return judge(catalog, rules).column("verdict").to_pylist().count("kept")


@pytest.mark.parametrize("reason", ["low_sharpness", "high_static_fraction", "low_height_px"])
def test_a_curve_says_what_judging_anew_says(
    reason: str, curves: list[Curve], synthetic: Catalog
) -> None:
    curve = next(c for c in curves if c.threshold.reason == reason)
    t, rules = curve.threshold, rules_of(synthetic)
    places = range(0, len(curve.places), max(1, len(curve.places) // 7))
    assert len(set(curve.kept)) > 1
    for i in places:
        moved = rules.rules[t.column].model_copy(update={t.side: curve.places[i]})
        other = rules.model_copy(update={"rules": {**rules.rules, t.column: moved}})
        assert kept(synthetic, other) == curve.kept[i], (reason, curve.places[i])


def test_curves_are_bounded_and_pass_through_what_is_kept(
    curves: list[Curve], funnel: Funnel, basis: Basis
) -> None:
    num_kept, kept_s = funnel.of("kept")
    assert len(curves) == len([t for t in basis.thresholds if t.where is None])
    for curve in curves:
        assert curve.threshold.value in curve.places
        assert len(curve.places) <= MAX_POINTS and curve.places == sorted(set(curve.places))
        assert curve.kept_now == (num_kept, pytest.approx(kept_s, abs=0.01))
        steps = curve.kept if curve.threshold.side == "max" else curve.kept[::-1]
        assert steps == sorted(steps)  # loosening never loses a clip
        assert sum(map(sum, curve.bars.values())) == curve.num_values
        assert all(len(b) == len(curve.edges) + 1 for b in curve.bars.values())


def test_the_funnel_adds_up_and_alone_is_what_lifting_brings_back(
    funnel: Funnel, synthetic: Catalog
) -> None:
    verdicts = synthetic.dataset("verdicts").to_table().to_pylist()
    rejected = [v["reasons"] for v in verdicts if v["verdict"] == "rejected"]
    counts = Counter(r for reasons in rejected for r in reasons)
    alone = Counter(reasons[0] for reasons in rejected if len(reasons) == 1)
    assert rejected and funnel.all[0] == len(verdicts)
    assert {s.code: s.num_clips for s in funnel.steps} == dict(counts)
    assert {s.code: s.num_alone for s in funnel.steps if s.num_alone} == dict(alone)
    assert sum(s.num_here for s in funnel.steps) == len(rejected)
    assert funnel.steps[-1].left == funnel.of("kept")[0] + funnel.of("failed")[0]
    seconds = sum(s.seconds_here for s in funnel.steps)
    assert seconds == pytest.approx(6.0 * len(rejected))


def test_borders_show_the_nearest_on_both_sides(basis: Basis, curves: list[Curve]) -> None:
    border = next(
        b for b in find_borders(basis, curves, 4) if b.threshold.reason == "low_sharpness"
    )
    value = border.threshold.value
    assert value is not None
    for side, which, clips in (
        ("<", "list_contains(reasons, 'low_sharpness')", border.failed),
        (">=", "verdict = 'kept'", border.passed),
    ):
        rows = basis.rows(
            f"SELECT CAST(sharpness AS DOUBLE) AS v FROM clips WHERE {which} "
            f"AND sharpness {side} CAST({value} AS FLOAT) "
            f"ORDER BY abs(sharpness - {value}) LIMIT 4"
        )
        assert [c.value for c in clips] == pytest.approx([r["v"] for r in rows])


def test_a_large_dataset_is_sampled_by_every_reason(basis: Basis, funnel: Funnel) -> None:
    must = [r["clip_id"] for r in basis.rows("SELECT clip_id FROM clips LIMIT 5")]
    chosen = choose_clips(basis, must, 60)
    assert chosen.sampled and len(chosen.clip_ids) <= 60
    assert chosen.clip_ids[:5] == must
    listed = ", ".join(f"'{c}'" for c in chosen.clip_ids)
    rows = basis.rows(f"SELECT verdict, reasons FROM clips WHERE clip_id IN ({listed})")
    assert {r for row in rows for r in row["reasons"]} == {s.code for s in funnel.steps}
    assert {row["verdict"] for row in rows} == {"kept", "rejected"}
    assert choose_clips(basis, must, 60) == chosen
    everything = choose_clips(basis, must, 3000)
    assert not everything.sampled and len(set(everything.clip_ids)) == 3000
