"""The retest: a clip that holds a change of shot is found out and never ships."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.stage import Failure, StageContext
from curation.stages.retest import Retest
from curation.storage import Storage
from tests.curation.chain import FINGERPRINT, run_stage
from tests.faults.helpers import query, run
from tests.media import Camera, write_video


def retest(
    root: Path,
    names: dict[str, int],
    **fields: Any,  # noqa: ANN401 - any field
) -> tuple[dict[str, Any], list[Failure]]:
    """Retest media of a root by name and declared frames; rows by name."""
    stage = Retest(**fields)
    stage.setup(StageContext(storage=Storage(root), fingerprint=FINGERPRINT))
    rows = [
        {"clip_id": name, "media_path": name, "media_num_frames": frames, "video_id": "v"}
        for name, frames in names.items()
    ]
    tables, failures = run_stage(stage, rows)
    return {r["clip_id"]: r for r in tables["retests"].to_pylist()}, failures


def shot(seed: int, seconds: float) -> list[np.ndarray]:
    return Camera(pan_per_s=0.06, seed=seed).shoot(160, 96, np.arange(round(seconds * 24)) / 24)


def test_a_cut_inside_is_found(tmp_path: Path) -> None:
    write_video(tmp_path / "clean.mp4", shot(1, 3))
    write_video(tmp_path / "cut.mp4", [*shot(1, 1.5), *shot(2, 1.5)])
    found, failures = retest(tmp_path, {"clean.mp4": 72, "cut.mp4": 72})
    assert not failures
    assert found["clean.mp4"]["residual_cut"] is False
    assert found["clean.mp4"]["residual_kind"] is None
    assert found["cut.mp4"]["residual_cut"] is True
    assert found["cut.mp4"]["residual_kind"] == "cut"
    assert found["cut.mp4"]["residual_s"] == pytest.approx(1.5, abs=0.1)
    assert found["cut.mp4"]["residual_confidence"] >= 0.5


def test_a_file_that_lost_frames_is_an_error(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", shot(1, 2))
    found, (failure,) = retest(tmp_path, {"short.mp4": 49})
    assert not found
    assert failure.code == "decode_failed"
    assert "of 49 written frames 48 decode" in failure.message


def test_no_clip_with_a_cut_ships(tmp_path: Path) -> None:
    """A splitter that sees no cuts at all: what it leaves in the clips is rejected for it."""
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mp4", [*shot(1, 2), *shot(2, 2)])
    write_video(tmp_path / "in" / "b.mp4", shot(3, 3))
    settings: dict[str, Any] = {
        "split": {"detector": "threshold", "min_s": 1, "max_s": 10},
        "retest": {"transnet": "ambiguous", "confidence": 0.5},
    }
    report = run(tmp_path / "in", tmp_path / "out", **settings)
    assert report.balanced
    rows = query(tmp_path / "out", "SELECT verdict, reasons, residual_cut FROM clips ORDER BY uri")
    assert [(r["verdict"], r["reasons"]) for r in rows] == [
        ("rejected", ["high_residual_cut"]),
        ("kept", []),
    ]
    assert report.shards is not None and report.shards.num_samples == 1
    assert report.account.rejected_by_reason == {"high_residual_cut": 1}


def test_clips_of_the_composites(assets: Path, tmp_path: Path) -> None:
    """Real footage with known transitions: no clip that ships holds one of them."""
    folder = assets / "videos" / "composites"
    settings: dict[str, Any] = {
        "signals": {"transnet": "ambiguous"},
        "split": {"detector": "auto", "min_s": 1, "max_s": 10},
        "retest": {"transnet": "ambiguous", "confidence": 0.5},
    }
    report = run(folder / "comp_03.mp4", tmp_path / "out", **settings)
    assert report.balanced
    labels = json.loads((folder / "labels.json").read_text())["comp_03.mp4"]["transitions"]
    kept = query(
        tmp_path / "out", "SELECT start_frame, end_frame FROM clips WHERE verdict = 'kept'"
    )
    assert len(kept) >= 5
    for clip, true in itertools.product(kept, labels):
        # Of a gradual transition the outermost frames, blended by a few percent, may remain.
        slack = 0 if true["kind"] == "cut" else 2
        outside = (
            clip["end_frame"] <= true["start"] + 1 + slack
            or clip["start_frame"] >= true["end"] - slack
        )
        assert outside, (clip, true)
