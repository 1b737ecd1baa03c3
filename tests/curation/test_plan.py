"""Plans: wiring errors before any work, in words; fingerprints that follow what is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import pyarrow as pa
import pytest
from pydantic import Field

from curation.errors import ConfigError, PlanError
from curation.judging.rules import Rules
from curation.plan import Plan
from curation.schema import DOUBLES, FLOAT32, FLOAT64, INT32, STRING, schema
from curation.stage import Grain, Output, Resources, Stage
from pipelines.config import CurateConfig, load_config


class Quiet(Stage):
    """A stage that yields nothing."""

    name: ClassVar[str] = "quiet"
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, sharpness=FLOAT32)
    adds: ClassVar[Mapping[str, pa.Schema]] = {"quiet": schema(clip_id=STRING, quietness=FLOAT32)}

    level: float = 1.0

    def process(self, batch: pa.Table) -> Iterator[Output]:
        del batch
        yield from ()


def variant(**attributes: object) -> Stage:
    """A stage of its own class with other class attributes."""
    cls = type("Variant", (Quiet,), {"__module__": __name__, **attributes})
    return cls()  # pyright: ignore[reportCallIssue]


def base() -> CurateConfig:
    """The default configuration."""
    return load_config()


def plan_with(*extra: Stage, rules: Rules | None = None) -> Plan:
    """The default plan with stages before the cut."""
    plan = base().plan()
    at = [s.name for s in plan.stages].index("cut")
    stages = (*plan.stages[:at], *extra, *plan.stages[at:])
    return Plan(stages=stages, rules=rules or plan.rules)


def test_the_default_plan_is_sound() -> None:
    known = base().plan().check()
    assert {"clip_id", "motion_per_s", "media_path", "frame_pts", "sample_jpegs"} <= set(
        known.names
    )
    assert "reason" not in known.names  # columns of detail tables are nobody's input


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        (
            variant(reads=schema(clip_id=STRING, sharpnes=FLOAT32)),
            ["stage 'quiet'", "'sharpnes'", "did you mean 'sharpness'?"],
        ),
        (
            variant(reads=schema(clip_id=STRING, zzz=FLOAT32)),
            ["stage 'quiet'", "'zzz'", "put the stage that adds it before"],
        ),
        (
            variant(reads=schema(clip_id=STRING, sharpness=FLOAT64)),
            ["stage 'quiet'", "'sharpness' as double", "score provides float"],
        ),
        (
            variant(adds={"quiet": schema(clip_id=STRING, sharpness=FLOAT32)}),
            ["stage 'quiet'", "'sharpness'", "score already provides"],
        ),
        (
            variant(adds={"scores": schema(clip_id=STRING, quietness=FLOAT32)}),
            ["stage 'quiet'", "table 'scores'", "belongs to score"],
        ),
        (
            variant(adds={"verdicts": schema(clip_id=STRING, quietness=FLOAT32)}),
            ["stage 'quiet'", "table 'verdicts'", "clipmill itself"],
        ),
        (variant(name="score"), ["stage 'score'", "two stages have this name"]),
        (variant(adds={}), ["stage 'quiet'", "adds no table"]),
        (
            variant(adds={"quiet": schema(quietness=FLOAT32)}),
            ["stage 'quiet'", "'quiet' has no row per clip"],
        ),
        (
            variant(grain="video"),
            ["stage 'quiet'", "'clip_id'", "a value per clip", "sees whole videos"],
        ),
        (variant(grain="video", gated=True, reads=schema()), ["stage 'quiet'", "is gated"]),
        (
            variant(reads=schema(reason=STRING)),
            ["stage 'quiet'", "'reason'", "no earlier stage adds"],
        ),
    ],
)
def test_wiring_errors_name_stage_and_column(stage: Stage, parts: list[str]) -> None:
    with pytest.raises(PlanError) as caught:
        plan_with(stage).check()
    for part in parts:
        assert part in str(caught.value)


def test_order_matters() -> None:
    stages = base().plan().stages
    with pytest.raises(PlanError, match="no earlier stage adds"):
        Plan(stages=(stages[0], stages[2], stages[1], *stages[3:])).check()
    clips_first = (stages[0], stages[3])
    with pytest.raises(PlanError, match="put it after split"):
        Plan(stages=clips_first).check()


def test_columns_of_kept_clips_are_for_gated_stages() -> None:
    plan = base().plan()
    reads = schema(clip_id=STRING, media_path=STRING)
    with pytest.raises(PlanError, match="'media_path', which cut adds for kept clips only"):
        Plan(stages=(*plan.stages, variant(reads=reads))).check()
    Plan(stages=(*plan.stages, variant(reads=reads, gated=True))).check()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("motion", "did you mean"),
        ("sharpnes", "did you mean 'sharpness'"),
        ("codec", "is string, not a number"),
        ("frame_pts", "is list<item: int64>, not a number"),
    ],
)
def test_rules_on_columns_that_cannot_be_judged(column: str, message: str) -> None:
    rules = Rules.model_validate({"rules": {column: {"min": 1}}})
    with pytest.raises(ConfigError, match=message) as caught:
        plan_with(rules=rules).check()
    assert f"judge.rules.{column}" in str(caught.value)


def test_a_rule_on_what_comes_after_cutting_gates_nothing_before_it() -> None:
    """The cut sees clips whatever such a rule says; a later stage and the catalog do not."""
    bounds = {"sharpness": {"min": 0.1}, "media_bytes": {"max": 10}}
    rules = Rules.model_validate({"rules": bounds})
    plan = Plan(stages=base().plan().stages, rules=rules)
    plan.check()
    stages = {s.name: s for s in plan.stages}
    assert plan.gate(stages["cut"]).columns() == ["sharpness"]
    assert plan.gate(stages["retest"]).columns() == ["media_bytes", "sharpness"]
    assert plan.late_tables(rules) == {"media_bytes": "media"}
    clips = pa.table(
        {
            "clip_id": ["cut", "too large", "not cut", "blurred", "of unknown size"],
            "video_id": ["v"] * 5,
            "sharpness": [0.5, 0.5, 0.5, 0.0, 0.5],
            "media_bytes": [5, 50, None, None, None],
            "is cut": [True, True, False, False, True],
        }
    )
    found = rules.judge(clips, {"media_bytes": "is cut"})
    verdicts = ["kept", "rejected", "kept", "rejected", "failed"]
    assert found.column("verdict").to_pylist() == verdicts
    assert found.column("reasons").to_pylist()[4] == ["null_media_bytes"]
    assert found.column("reasons").to_pylist()[1] == ["high_media_bytes"]


def test_clips_with_a_residual_cut_are_rejected_unless_asked_for() -> None:
    assert base().plan().rules.rules["residual_cut"].max == 0
    own = load_config(None, ["judge.rules.residual_cut.max=1"]).plan()
    assert own.rules.rules["residual_cut"].max == 1


def test_rules_may_use_facts_of_the_video_and_own_scores() -> None:
    rules = Rules.model_validate({"rules": {"height_px": {"min": 1}, "quietness": {"min": 0}}})
    plan_with(Quiet(), rules=rules).check()  # pyright: ignore[reportCallIssue]


def prints(*overrides: str) -> dict[str, str]:
    """Fingerprints of the default plan with overrides."""
    return load_config(overrides=list(overrides)).plan().fingerprints()


SCORERS = ("score", "technical", "camera")
WORDS = ("caption", "check")
"""Captions are made of measurements and sampled frames, not of the cut file."""


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("score.static_below_per_s=0.01", {"score", *WORDS}),
        ("split.min_s=1.0", {"split", *SCORERS, "cut", "retest", *WORDS}),
        ("signals.sample_quality=80", {"signals", "split", *SCORERS, "cut", "retest", *WORDS}),
        ("cut.crf=20", {"cut", "retest"}),
        ("retest.confidence=0.4", {"retest"}),
        ("judge.rules.sharpness.min=0.2", set()),  # gating is not reading
        ("cut.batch_size=1", set()),
        ("signals.threads=2", set()),
        ("signals.segment_frames=100", set()),
        ("signals.resources.num_cpus=2", set()),
        ("run.num_workers=3", set()),
    ],
)
def test_fingerprints_change_with_what_decides_the_result(override: str, changed: set[str]) -> None:
    before, after = prints(), prints(override)
    assert {name for name in before if before[name] != after[name]} == changed


def test_fingerprints_cover_version_class_and_models() -> None:
    plain = plan_with(variant()).fingerprints()["quiet"]

    def print_of(**attributes: object) -> str:
        return plan_with(variant(**attributes)).fingerprints()["quiet"]

    assert print_of() == plain
    assert print_of(version=2) != plain
    assert print_of(model_checksums=lambda self: {"w": "1"}) != plain
    assert plan_with(Quiet()).fingerprints()["quiet"] != plain  # pyright: ignore[reportCallIssue]
    assert plan_with(variant(), Quieter()).fingerprints()["quiet"] == plain  # pyright: ignore[reportCallIssue]


class Quieter(Quiet):
    """Reads another user's stage."""

    name: ClassVar[str] = "quieter"
    grain: ClassVar[Grain] = "clip"
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, quietness=FLOAT32)
    adds: ClassVar[Mapping[str, pa.Schema]] = {"quieter": schema(clip_id=STRING, hush=INT32)}

    words: str = Field("", description="anything")


def test_fingerprints_follow_reads_through_stages() -> None:
    def print_of(level: float, reads: Callable[[], pa.Schema]) -> str:
        reader = type("R", (Quieter,), {"reads": reads(), "__module__": __name__})
        quiet = Quiet(level=level)  # pyright: ignore[reportCallIssue]
        last = reader()  # pyright: ignore[reportCallIssue]
        return plan_with(quiet, last).fingerprints()["quieter"]

    def reading() -> pa.Schema:
        return Quieter.reads

    def ignoring() -> pa.Schema:
        return schema(clip_id=STRING)

    assert print_of(1.0, reading) != print_of(2.0, reading)
    assert print_of(1.0, ignoring) == print_of(2.0, ignoring)


def test_sampled_frames_belong_to_signals() -> None:
    """Reading the virtual columns of samples is reading the stage that stores them."""
    stage = variant(reads=schema(clip_id=STRING, sample_pts_s=DOUBLES))

    def print_of(override: str) -> str:
        plan = load_config(overrides=[override]).plan()
        whole = Plan(stages=(*plan.stages[:-1], stage))
        whole.check()
        return whole.fingerprints()["quiet"]

    assert print_of("signals.sample_quality=80") != print_of("signals.sample_quality=81")
    assert print_of("score.static_below_per_s=0.1") == print_of("score.static_below_per_s=0.2")


def test_groups_fuse_neighbours_of_equal_resources() -> None:
    fat = Resources(num_cpus=2)  # pyright: ignore[reportCallIssue]
    plan = base().plan()
    assert [len(g) for g in plan.groups()] == [len(plan.stages)]
    other = Quiet(resources=fat)  # pyright: ignore[reportCallIssue]
    assert [len(g) for g in plan_with(other).groups()] == [6, 1, 4]


def test_tables_end_with_done_and_carry_keys() -> None:
    schemas = base().plan().table_schemas()
    assert list(schemas)[-1] == "done"
    for table in ("scores", "clips", "segments", "frames", "media"):
        assert {"video_id", "fingerprint"} <= set(schemas[table].names)
