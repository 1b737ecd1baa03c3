"""The stage check: its columns, the ways of comparing, what it reads, missing weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.captions.alignment import TAGS_LABEL, TAGS_WEIGHTS, tags_ready
from curation.captions.tables import CHECKS
from curation.errors import PlanError
from curation.models.weights import CLIP_VIT_B_32
from curation.plan import Plan
from curation.stage import StageContext
from curation.stages.caption import CaptionClips
from curation.stages.check import CheckCaptions
from curation.storage import Storage
from tests.catalog.parts import default_plan
from tests.curation.chain import FINGERPRINT, run_stage
from tests.curation.weights import without_weights
from tests.media import texture

LONG = (
    "A brown dog runs over green grass past a fence and a red ball lies in the grass near a tree."
)


def check_stage(tmp_path: Path, **fields: Any) -> CheckCaptions:  # noqa: ANN401 - any field
    stage = CheckCaptions.model_validate(fields)
    stage.setup(StageContext(storage=Storage(tmp_path), fingerprint=FINGERPRINT))
    return stage


def clip(clip_id: str = "c", **columns: Any) -> dict[str, Any]:  # noqa: ANN401 - any column
    jpeg = cv2.imencode(".jpg", texture(1)[:144, :256])[1].tobytes()
    row = {
        "clip_id": clip_id,
        "video_id": "v",
        "duration_s": 4.0,
        "caption_short": "A dog runs over grass.",
        "caption_medium": "A brown dog runs over green grass past a fence.",
        "caption_long": LONG,
        "caption_events": json.dumps([{"start_s": 0.0, "end_s": 4.0, "text": "a dog runs"}]),
        "caption_camera": None,
        "caption_subjects": ["dog"],
        "caption_setting": None,
        "caption_light": None,
        "caption_style": None,
        "caption_num_frames": 4,
        "caption_first_frame_s": 0.0,
        "caption_last_frame_s": 3.0,
        "sample_pts_s": [0.0, 1.0],
        "sample_jpegs": [jpeg, jpeg],
    }
    return row | columns


def test_texts(tmp_path: Path) -> None:
    stage = check_stage(tmp_path, alignment="off", facts=("camera", "score"))
    measured = {f.name: None for f in stage.reads if f.name not in clip()}
    pans = {
        **{"camera_class": "pan_right", "camera_confidence": 0.9, "camera_moving_fraction": 1.0},
    }
    said = "The video shows a dog. The camera is static. " + LONG
    german = "Ein brauner Hund läuft über die grüne Wiese."
    rows = [
        measured | clip("good"),
        measured | pans | clip("wrong", caption_long=said, caption_medium=german),
    ]
    tables, failures = run_stage(stage, rows)
    assert not failures
    good, wrong = tables["caption_checks"].to_pylist()
    assert good == {
        "clip_id": "good",
        "caption_flags": [],
        "caption_num_flags": 0,
        "caption_contradictions": [],
        "caption_num_contradictions": 0,
        "caption_language": "en",
        "caption_alignment": None,
        "caption_alignment_model": None,
    }
    assert wrong["caption_flags"] == ["boilerplate", "not_english"]
    assert wrong["caption_num_flags"] == 2
    assert wrong["caption_language"] == "de"
    assert wrong["caption_contradictions"] == [
        'says "The camera is static", measured: pan_right (confidence 0.90)'
    ]
    assert tables["caption_vectors"].num_rows == 0


def test_any_language_and_other_limits(tmp_path: Path) -> None:
    german = "Ein brauner Hund läuft über die grüne Wiese."
    row = clip(caption_medium=german)
    free = check_stage(tmp_path, alignment="off", language=None)
    assert not run_stage(free, [row])[0]["caption_checks"].to_pylist()[0]["caption_flags"]
    strict = check_stage(tmp_path, alignment="off", language="de", words={"long": (40, 80)})
    found = run_stage(strict, [row])[0]["caption_checks"].to_pylist()[0]
    assert found["caption_flags"] == ["too_short"]


def test_texts_beyond_the_limits_of_an_answer(tmp_path: Path) -> None:
    """What an older version or a merge stored is read all the same."""
    row = clip(caption_long="word " * 900, caption_short="", caption_events=None)
    found = run_stage(check_stage(tmp_path, alignment="off"), [row])[0]["caption_checks"]
    assert {"too_short", "too_long"} <= set(found.to_pylist()[0]["caption_flags"])


def test_reads_what_the_plan_has(tmp_path: Path) -> None:
    names = set(check_stage(tmp_path, alignment="off").reads.names)
    assert "sample_jpegs" not in names
    assert "luma_mean" not in names
    facts = check_stage(tmp_path, alignment="off", facts=("signals", "score", "faces"))
    assert {"luma_mean", "face_count_max"} <= set(facts.reads.names)
    assert "frame_time_s" not in facts.reads.names  # lists contradict nothing
    joint = check_stage(tmp_path, alignment="joint", model="clip-vit-b-32", stored=True)
    assert joint.reads.field("embedding").type.list_size == 512
    assert "sample_jpegs" not in joint.reads.names


def test_tags(tmp_path: Path) -> None:
    if not tags_ready():
        pytest.skip("no weights for tags")
    stage = check_stage(tmp_path)
    assert stage.way == "tags"
    assert set(stage.model_checksums()) == {w.key for w in TAGS_WEIGHTS}
    assert "weak" in stage.fallbacks()[0]
    assert stage.settings()["alignment"] == "tags"
    tables, _ = run_stage(stage, [clip("a"), clip("b", sample_pts_s=[], sample_jpegs=[])])
    seen, unseen = tables["caption_checks"].to_pylist()
    assert -0.5 < seen["caption_alignment"] < 1
    assert seen["caption_alignment_model"] == TAGS_LABEL
    assert unseen["caption_alignment"] is None
    assert unseen["caption_alignment_model"] is None
    (pair,) = tables["caption_vectors"].to_pylist()
    text, picture = np.array(pair["text_vector"]), np.array(pair["clip_vector"])
    assert np.linalg.norm(text) == pytest.approx(1, abs=1e-4)
    assert np.linalg.norm(picture) == pytest.approx(1, abs=1e-4)
    assert text @ picture == pytest.approx(seen["caption_alignment"], abs=1e-4)


def test_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_weights(tmp_path, monkeypatch)
    stage = check_stage(tmp_path)
    assert stage.way == "off"
    assert not stage.missing()
    assert not stage.model_checksums()
    assert "null" in stage.fallbacks()[0]
    assert stage.unknown() == {"caption_alignment", "caption_alignment_model"}
    tables, _ = run_stage(stage, [clip()])
    assert tables["caption_checks"].schema == CHECKS
    assert tables["caption_checks"].to_pylist()[0]["caption_alignment"] is None

    asked = CheckCaptions.model_validate({"alignment": "joint", "model": "clip-vit-b-32"})
    assert asked.missing() == [CLIP_VIT_B_32]
    assert not asked.problems()
    skips = asked.model_copy(update={"if_missing": "skip"})
    assert not skips.missing()
    assert "clip-vit-b-32" in skips.fallbacks()[0]
    nothing = CheckCaptions.model_validate({"alignment": "joint", "model": "efficientnet-lite0"})
    assert "mend" in nothing.problems()[0]


def test_another_way_is_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = CheckCaptions.model_validate({})
    with_weights = auto.settings()["alignment"]
    without_weights(tmp_path, monkeypatch)
    assert CheckCaptions.model_validate({}).settings()["alignment"] == "off"
    assert with_weights in ("tags", "off")


def test_its_place_in_a_plan() -> None:
    plan = default_plan()
    facts = ("signals", "score", "technical", "camera")
    stage = CheckCaptions.model_validate({"alignment": "off", "facts": facts})
    silent = [s for s in plan.stages if s.name not in ("caption", "check", "rewrite")]
    with pytest.raises(PlanError, match="caption_"):
        Plan(stages=(*silent, stage), rules=plan.rules).check()
    whole = Plan(stages=(*silent, CaptionClips.model_validate({}), stage), rules=plan.rules)
    assert "caption_num_flags" in whole.check().names
    assert "text_vector" not in whole.check().names
