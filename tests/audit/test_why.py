"""Why a clip went, in words, and what would bring it back: each kind of reason."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from pipelines.audit.basis import open_basis
from pipelines.audit.likeness import Likeness
from pipelines.audit.mends import Obstacle, explain_reason, just_passing
from pipelines.audit.reasons import label, parse, place
from pipelines.audit.thresholds import Side, Threshold, resolve
from pipelines.audit.why import Story, stories, why
from tests.audit.conftest import Audited
from tests.audit.parts import REFERENCE
from tests.audit.synthetic import judge, rules_of

SHARP = Threshold(column="sharpness", side="min", value=0.06, key="judge.rules.sharpness")


def told(
    code: str,
    margin: float | None = None,
    row: dict[str, Any] | None = None,
    thresholds: list[Threshold] | None = None,
    likeness: Likeness | None = None,
) -> Obstacle:
    known: dict[str, list[Threshold]] = {}
    for t in thresholds or []:
        known.setdefault(t.reason, []).append(t)
    messages = {"corrupt": ("broken at 3 s", False), "network_error": ("gone", True)}
    return explain_reason(code, margin, row or {}, known, likeness, messages)


def test_a_bound_is_told_with_value_distance_and_setting() -> None:
    found = told("low_sharpness", -0.009, {"sharpness": float(np.float32(0.051))}, [SHARP])
    assert found.text == "sharpness 0.051 is 0.009 below 0.06"
    assert found.setting == "judge.rules.sharpness.min=0.05"
    assert found.mend == "judge.rules.sharpness.min=0.05 would keep it"


def test_the_margin_tells_which_threshold_was_meant() -> None:
    strict = Threshold(
        column="sharpness",
        side="min",
        value=0.3,
        key="judge.overrides.0.rules.sharpness",
        where='{"source":["archive*"]}',
    )
    found = told("low_sharpness", -0.1, {"sharpness": 0.2}, [SHARP, strict])
    assert found.setting == "judge.overrides.0.rules.sharpness.min=0.2"
    assert "archive*" in found.text and "below 0.3" in found.text
    general = told("low_sharpness", -0.01, {"sharpness": 0.05}, [SHARP, strict])
    assert general.setting == "judge.rules.sharpness.min=0.05"
    unknown = told("low_sharpness", -0.5, {"sharpness": 0.2}, [SHARP, strict])
    assert "0.5 below 0.7" in unknown.text  # judged by a rule that is gone


def test_a_quantile_is_replaced_by_a_number() -> None:
    share = Threshold(
        column="motion", side="max", value=0.81, quantile=0.95, key="judge.rules.motion"
    )
    found = told("high_motion", 0.09, {"motion": 0.9}, [share])
    assert found.setting == "judge.rules.motion.max_quantile=null judge.rules.motion.max=0.9"
    assert "quantile 0.95" in found.text


def test_every_other_kind_of_reason_has_words_and_a_mend() -> None:
    like = Likeness(clip_id="f" * 32, level="semantic", similarity=0.97, mirrored=True)
    cases = {
        "null_nsfw_max": "judge.rules.nsfw_max.if_null=keep",
        "not_camera_class": "'zoom'",
        "rights_missing_license": "rights.defaults.license",
        "rights_denied_license": "rights.deny.license",
        "rights_unlisted_license": "rights.allow.license",
        "duplicate_exact": "ffffffffffff",
        "duplicate_semantic": "dedup.semantic.min_cosine=0.98",
        "held_out_semantic": "reference",
        "over_source_cap": "sample.per_source",
        "over_width_px_cap": "sample.balance",
        "network_error": "tries it again",
        "corrupt": "broken at 3 s",
        "strange_code": "strange code",
    }
    row = {"camera_class": "zoom", "license": "CC-BY-NC-4.0"}
    for code, words in cases.items():
        found = told(code, None, row, likeness=like)
        assert words in f"{found.text}: {found.mend}", code
    assert "'CC-BY-NC-4.0'" in told("rights_denied_license", None, row).text
    boolean = told("high_residual_cut", 1.0, {"residual_cut": True})
    assert boolean.text == "residual_cut is true, and has to be false"


def test_reasons_are_taken_apart_and_ordered() -> None:
    codes = ["over_total", "low_b", "duplicate_exact", "high_a", "rights_missing_source", "low_new"]
    ordered = sorted(codes, key=lambda c: place(c, {"a": 0, "b": 1}))
    assert ordered == [
        *("rights_missing_source", "high_a", "low_b", "low_new", "duplicate_exact", "over_total")
    ]
    assert parse("held_out_exact").kind == "held_out"
    assert parse("duplicate_share").kind == "other"  # an error code of a user's stage
    assert parse("low_over_exposed").about == "over_exposed"
    assert label("low_sharpness", {"low_sharpness": SHARP}) == "sharpness below 0.06"


@pytest.mark.parametrize(
    ("value", "bound", "side", "wanted"),
    [
        (0.051, 0.06, "min", 0.05),
        (0.0599, 0.06, "min", 0.0599),
        (0.8321, 0.8, "max", 0.84),
        (119, 128, "min", 119),
        (0.0, 0.5, "min", 0.0),
        (-31.4, -30.0, "min", -31.4),
        (float(np.float32(0.7)), 0.6, "max", 0.7),
    ],
)
def test_a_round_threshold_just_lets_a_value_pass(
    value: float, bound: float, side: Side, wanted: float
) -> None:
    found = just_passing(value, bound, side)
    near = np.float32(found) - np.float32(value)
    assert near <= 0 if side == "min" else near >= 0
    assert abs(found - value) <= abs(bound - value) / 4 + 1e-6
    assert found == pytest.approx(wanted, abs=0.011)


def test_thresholds_come_from_settings_and_from_what_quantiles_came_to() -> None:
    config = {
        "judge": {
            "rules": {
                "a": {"min": 1, "max": None, "if_null": "keep"},
                "b": {"min": 0.2, "min_quantile": 0.1, "max_quantile": 0.9},
                "gone": {"min": 3},
                "c": None,
            },
            "overrides": [
                {"where": {"source": "x*", "license": None}, "rules": {"a": {"min": 5}, "b": None}},
                {"where": {"source": ["y"]}, "rules": {"b": {"max_quantile": 0.5}}},
            ],
        }
    }
    computed = [
        {"column": "b", "bound": "min", "where": None, "value": 0.15},
        {"column": "b", "bound": "max", "where": None, "value": 0.7},
        {"column": "b", "bound": "max", "where": '{ "source": ["y"] }', "value": None},
    ]
    found = {(t.key, t.side): t for t in resolve(config, computed, ["a", "b", "residual_cut"])}
    assert found["judge.rules.a", "min"].value == 1
    assert found["judge.rules.a", "min"].if_null == "keep"
    low = found["judge.rules.b", "min"]
    assert (low.value, low.quantile) == (0.2, None)  # the stricter of the two
    high = found["judge.rules.b", "max"]
    assert (high.value, high.quantile) == (0.7, 0.9)
    override = found["judge.overrides.0.rules.a", "min"]
    assert (override.value, override.where) == (5, '{"source":["x*"]}')
    assert found["judge.overrides.1.rules.b", "max"].value is None
    assert found["judge.rules.residual_cut", "max"].value == 0
    assert len(found) == 6


def test_the_settings_that_are_named_do_bring_the_clip_back(synthetic: Catalog) -> None:
    basis, rules = open_basis(synthetic, keep=False), rules_of(synthetic)
    rows = basis.rows(
        "SELECT clip_id FROM clips WHERE verdict = 'rejected' ORDER BY len(reasons) DESC, clip_id "
        "LIMIT 30"
    )
    told_of = stories(basis, [r["clip_id"] for r in rows])
    assert max(len(s.obstacles) for s in told_of) > 1
    for story in told_of:
        changed = dict(rules.rules)
        for setting in story.settings:
            key, _, value = setting.partition("=")
            *_, column, side = key.split(".")
            changed[column] = changed[column].model_copy(update={side: float(value)})
        again = judge(synthetic, rules.model_copy(update={"rules": changed})).to_pylist()
        verdict = next(v for v in again if v["clip_id"] == story.clip_id)
        assert verdict["verdict"] == "kept", story.answer


def test_a_duplicate_is_told_beside_the_one_that_stays(audited: Audited) -> None:
    story = why(audited.root, audited.clips["duplicate"])
    assert story.likeness is not None and story.likeness.clip_id == audited.clips["stays"]
    assert story.likeness.words == "looks the same: similarity 0.961, 1.2 s later there, mirrored"
    assert "a duplicate from 0.94 on, margin 0.021" in story.answer
    assert "nothing else stands against it" in story.answer
    held = why(audited.root, audited.clips["held_out"])
    assert held.likeness is not None and held.likeness.reference == REFERENCE
    assert "among dedup.held_out" in held.answer and held.settings == []


def test_a_kept_clip_tells_its_nearest_bound_and_a_failed_one_its_error(audited: Audited) -> None:
    story = why(audited.root, audited.clips["stays"])
    assert story.verdict == "kept" and story.obstacles == [] and story.split in ("train", "val")
    assert story.answer.startswith("It is kept. Nearest to a bound: ")


def test_unknown_and_ambiguous_ids_are_refused(audited: Audited) -> None:
    for prefix, words in (("zz", "hexadecimal"), ("", "hexadecimal"), ("0" * 31, "no clip begins")):
        with pytest.raises(CatalogError, match=words):
            why(audited.root, prefix)
    ids = sorted(s.clip_id for s in _all(audited))
    first = next(a[0] for a, b in pairwise(ids) if a[0] == b[0])
    with pytest.raises(CatalogError, match="several clips"):
        why(audited.root, first)
    assert why(audited.root, ids[0][:20].upper()).clip_id == ids[0]


def _all(audited: Audited) -> list[Story]:
    basis = open_basis(Catalog.open(audited.root), keep=False)
    return stories(basis, [r["clip_id"] for r in basis.rows("SELECT clip_id FROM clips")])
