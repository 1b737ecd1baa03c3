"""What a stage may yield, and what its mistakes cost: one row, one clip, never the run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from curation.catalog.catalog import Catalog
from curation.errors import BudgetError
from curation.storage import Storage
from tests.faults.helpers import catalog_of, dump, make_video, make_videos, query, run

CLIP = "tests.faults.bad_stages:BadClip"
VIDEO = "tests.faults.bad_stages:BadVideo"


MISTAKES = {
    "raise": ("internal_error", "RuntimeError: a bug (bad_stages.py:"),
    "media_error": ("own_code", "refused on purpose"),
    "failure": ("own_code", "this one"),
    "table": ("internal_error", "stage 'bad_clip' yields undeclared table 'nowhere'"),
    "column": ("internal_error", "undeclared columns ['oddity']"),
    "stranger": ("internal_error", "yields rows of clips it was not given"),
    "twice": ("internal_error", "yields two rows for one clip"),
}
"""What a stage does to a clip -> code and words of its error row."""
DEEDS = {str(i): deed for i, deed in enumerate(MISTAKES)}
FINAL = 2  # of them: codes of the stage's own are final


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of ten clips, and one of two."""
    folder = tmp_path_factory.mktemp("outputs") / "in"
    make_video(folder / "long.mp4", [(10.0, 1)])
    make_video(folder / "short.mp4", [(2.0, 2)])
    return folder


@pytest.fixture(scope="module")
def mistaken(inputs: Path) -> tuple[Path, list[dict[str, Any]]]:
    """A dataset with one mistake of each kind, all in one batch of clips."""
    mended = inputs.parent / "mended"
    stages = [{"use": CLIP, "deeds": DEEDS, "above_s": 3.0, "unless": str(mended)}]
    report = run(inputs, inputs.parent / "out", stages=stages)
    assert report.balanced, report.account.imbalances
    clips = report.account.clips
    assert (clips["total"], clips["kept"], clips["failed"]) == (12, 5, 7)
    assert report.account.errors_by_code == {"internal_error": 5, "own_code": FINAL}
    assert report.stages["bad_clip"]["failed"] == 7 and report.stages["bad_clip"]["rows"] == 5
    return inputs.parent / "out", stages


@pytest.mark.parametrize("deed", list(MISTAKES))
def test_a_mistake_with_one_clip_fails_that_clip_alone(
    mistaken: tuple[Path, list[dict[str, Any]]], deed: str
) -> None:
    code, words = MISTAKES[deed]
    at = list(MISTAKES).index(deed)
    (clip,) = query(
        mistaken[0], f"SELECT * FROM clips WHERE clip_index = {at} AND video_duration_s > 3"
    )
    assert (clip["verdict"], clip["reasons"]) == ("failed", [code])
    assert clip["badness"] is None and clip["media_path"] is None
    (error,) = query(mistaken[0], f"SELECT * FROM errors WHERE clip_id = '{clip['clip_id']}'")
    assert (error["stage"], error["code"]) == ("bad_clip", code) and words in error["message"]
    assert error["retryable"] == (code == "internal_error")


def test_a_clips_error_stands_until_it_is_mended(
    inputs: Path, mistaken: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    stages = mistaken[1]
    out = Path(shutil.copytree(mistaken[0], tmp_path / "out"))
    Path(stages[0]["unless"]).touch()
    again = run(inputs, out, stages=stages)
    Path(stages[0]["unless"]).unlink()
    assert again.balanced and again.videos_run == 1
    assert again.stages["bad_clip"]["rows"] == 5, "the final ones were left alone"
    assert again.account.clips["failed"] == FINAL and again.account.clips["kept"] == 10
    assert {e["code"] for e in query(out, "SELECT * FROM errors")} == {"own_code"}
    assert run(inputs, out, stages=stages).videos_run == 0
    # Other work on the same video gives a final error no second chance either.
    forced = run(inputs, out, stages=stages, cut={"crf": 40})
    assert forced.balanced and forced.account.clips == again.account.clips
    assert len(query(out, "SELECT * FROM raw_errors")) == 7


def test_a_stage_that_breaks_off_leaves_no_rows(inputs: Path, tmp_path: Path) -> None:
    """Rows of a stage count whole or not at all: a retry would find the first ones doubled."""
    out, mended = tmp_path / "out", tmp_path / "mended"
    stages = [{"use": VIDEO, "deeds": {"10": "raise"}, "unless": str(mended)}]
    report = run(inputs, out, stages=stages)
    assert report.balanced and report.account.videos["failed"] == 1
    assert catalog_of(out).dataset("bad_lines").count_rows() == 3  # the short video's
    clips = query(out, "SELECT verdict, reasons FROM clips WHERE video_duration_s > 3")
    assert clips and all(c == {"verdict": "failed", "reasons": ["internal_error"]} for c in clips)
    mended.touch()
    again = run(inputs, out, stages=stages)
    assert again.account.videos["failed"] == 0
    assert catalog_of(out).dataset("bad_lines").count_rows() == 6
    ran = {name for name, s in again.stages.items() if s["videos_run"]}
    assert not ran & {"probe", "signals", "split"}, "what was done before the failure is kept"


@pytest.mark.slow
def test_too_many_bugs_stop_the_run_and_the_next_goes_on(tmp_path: Path) -> None:
    make_videos(tmp_path / "in", 4)
    out, mended = tmp_path / "out", tmp_path / "mended"
    settings: dict[str, Any] = {
        "stages": [{"use": VIDEO, "deeds": {"6": "raise"}, "unless": str(mended)}],
        "run": {"max_internal_errors": 1},
    }
    with pytest.raises(BudgetError, match="2 unexpected failures"):
        run(tmp_path / "in", out, **settings)
    assert len(query(out, "SELECT * FROM errors")) == 2, "what was found out is kept"
    assert not (out / "lease.json").exists()
    mended.touch()
    report = run(tmp_path / "in", out, **settings)
    assert report.balanced and report.account.videos["done"] == 4
    expected = tmp_path / "expected"
    run(tmp_path / "in", expected, stages=settings["stages"])
    skip = {"errors", "done"}  # they tell what happened on the way
    assert dump(out, skip=skip) == dump(expected, skip=skip)


def test_bugs_in_clips_count_against_the_budget(inputs: Path, tmp_path: Path) -> None:
    stages = [{"use": CLIP, "deeds": {str(i): "raise" for i in range(10)}}]
    with pytest.raises(BudgetError, match="10 unexpected failures"):
        run(inputs, tmp_path / "out", stages=stages, run={"max_internal_errors": 9})


def test_an_interrupted_run_leaves_no_armed_timer(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a notebook must not end the notebook when the stall time is over."""
    import faulthandler

    from curation.stages.score import Score

    def interrupt(self: object, batch: object) -> None:
        raise KeyboardInterrupt

    armed: list[bool] = []
    real_later, real_cancel = (
        faulthandler.dump_traceback_later,
        faulthandler.cancel_dump_traceback_later,
    )
    monkeypatch.setattr(
        faulthandler,
        "dump_traceback_later",
        lambda *a, **k: (armed.append(True), real_later(*a, **k)),
    )
    monkeypatch.setattr(
        faulthandler,
        "cancel_dump_traceback_later",
        lambda: (armed.append(False), real_cancel()),
    )
    monkeypatch.setattr(Score, "process", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "out")
    assert armed and armed[-1] is False
    assert Catalog(Storage(tmp_path / "out")).has("runs")
