"""Sources that come late, go, change, fail, or hold the same bytes as another."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.curate import RunReport
from tests.faults.helpers import make_video, make_videos, query, run, shard_bytes

STRICT: dict[str, Any] = {"judge": {"rules": {"luma_mean": {"min": 0.99}}}}
"""Rules that keep nothing."""


@pytest.fixture
def box(tmp_path: Path) -> tuple[Path, Path]:
    """Inputs of two videos, and a place for the dataset."""
    make_videos(tmp_path / "in", 2)
    return tmp_path / "in", tmp_path / "out"


def states(out: Path) -> dict[str, tuple[str, str | None]]:
    rows = query(out, "SELECT uri, status, code FROM sources")
    return {Path(r["uri"]).name: (r["status"], r["code"]) for r in rows}


def check(report: RunReport, **videos: int) -> None:
    assert report.balanced, report.account.imbalances
    assert {k: report.account.videos[k] for k in videos} == videos


def test_a_missing_file_is_tried_again_and_its_error_superseded(box: tuple[Path, Path]) -> None:
    inputs, out = box
    paths = [inputs / "v0.mp4", inputs / "late.mp4"]
    check(run(paths, out), done=1, failed=1)
    assert states(out)["late.mp4"] == ("failed", "not_found")
    again = run(paths, out)
    check(again, done=1, failed=1)
    assert again.videos_run == 1 and query(out, "SELECT count(*) n FROM errors") == [{"n": 1}]
    make_video(inputs / "late.mp4", [(2.0, 7)])
    late = run(paths, out)
    check(late, done=2, failed=0)
    assert late.videos_run == 1
    assert query(out, "SELECT * FROM errors") == []
    assert query(out, "SELECT count(*) n FROM raw_errors") == [{"n": 2}], "history is kept"


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "empty_file"), (b"text, no video" * 99, "not_a_video")]
)
def test_a_final_error_is_not_tried_again_until_the_file_changes(
    box: tuple[Path, Path], content: bytes, code: str
) -> None:
    inputs, out = box
    (inputs / "v0.mp4").write_bytes(content)
    check(run(inputs, out), done=1, failed=1)
    assert states(out)["v0.mp4"] == ("failed", code)
    again = run(inputs, out)
    check(again, done=1, failed=1)
    assert again.videos_run == 0
    make_video(inputs / "v0.mp4", [(2.0, 7)])
    mended = run(inputs, out)
    check(mended, done=2, failed=0)
    assert mended.videos_run == 1 and query(out, "SELECT * FROM errors") == []


def test_a_good_file_replaced_by_an_empty_one_fails(box: tuple[Path, Path]) -> None:
    inputs, out = box
    check(run(inputs, out), done=2)
    (inputs / "v0.mp4").write_bytes(b"")
    check(run(inputs, out), done=1, failed=1)
    assert states(out)["v0.mp4"] == ("failed", "empty_file")
    assert run(inputs, out).videos_run == 0


def test_other_bytes_under_the_same_name_replace_the_old_clips(box: tuple[Path, Path]) -> None:
    inputs, out = box
    run(inputs, out)
    old = {r["clip_id"] for r in query(out, "SELECT clip_id FROM clips WHERE uri LIKE '%v0.mp4'")}
    make_video(inputs / "v0.mp4", [(4.0, 77)])
    report = run(inputs, out)
    check(report, total=2, done=2)
    assert report.videos_run == 1
    clips = query(out, "SELECT clip_id, uri FROM clips")
    assert not old & {c["clip_id"] for c in clips} and all(c["uri"] for c in clips)
    expected = run(inputs, out.parent / "fresh").account.as_dict()
    assert report.account.as_dict() == expected
    assert shard_bytes(out) == shard_bytes(out.parent / "fresh")


def test_a_touched_file_is_read_again_but_not_analysed_again(box: tuple[Path, Path]) -> None:
    inputs, out = box
    run(inputs, out)
    os.utime(inputs / "v0.mp4", (1, 1))
    report = run(inputs, out)
    check(report, done=2)
    assert report.video_s == 0.0
    rows = query(out, "SELECT video_id, count(*) n FROM raw_decodes GROUP BY video_id")
    assert [r["n"] for r in rows] == [1, 1]


def test_a_file_gone_after_its_analysis_fails_the_clips_to_cut(box: tuple[Path, Path]) -> None:
    inputs, out = box
    check(run(inputs, out, **STRICT), done=2)
    moved = inputs / "v1.mp4"
    shutil.move(moved, inputs / "elsewhere")
    report = run([], out)
    check(report, done=2, failed=0)
    assert report.account.clips["failed"] > 0 and report.account.clips["kept"] > 0
    (error,) = query(out, "SELECT * FROM errors")
    assert (error["stage"], error["code"], error["clip_id"]) == ("cut", "not_found", None)
    shutil.move(inputs / "elsewhere", moved)
    back = run([], out)
    check(back, done=2)
    assert back.account.clips["failed"] == 0 and query(out, "SELECT * FROM errors") == []


def test_other_bytes_are_never_cut_as_if_they_were_the_old_ones(box: tuple[Path, Path]) -> None:
    inputs, out = box
    run(inputs, out, **STRICT)
    make_video(inputs / "v0.mp4", [(9.0, 77)])
    report = run([], out)  # no input named: the source is taken as it was listed
    check(report, done=2)
    (error,) = query(out, "SELECT code, message FROM errors")
    assert error["code"] == "missing_input" and "other bytes" in error["message"]
    assert report.account.clips["failed"] > 0


def test_an_untouched_copy_is_cut_though_its_time_changed(box: tuple[Path, Path]) -> None:
    inputs, out = box
    run(inputs, out, **STRICT)
    os.utime(inputs / "v0.mp4", (1, 1))
    report = run([], out)
    check(report, done=2)
    assert report.account.clips["failed"] == 0


@pytest.mark.parametrize("later", [False, True], ids=["same run", "later run"])
def test_a_second_source_with_the_same_bytes_is_done_as_a_duplicate(
    box: tuple[Path, Path], later: bool
) -> None:
    inputs, out = box
    if later:
        run(inputs, out)
    shutil.copy(inputs / "v0.mp4", inputs / "w.mp4")
    report = run(inputs, out)
    check(report, total=3, done=3, duplicates=1)
    (row,) = query(out, "SELECT uri, duplicate_of FROM sources WHERE duplicate_of IS NOT NULL")
    assert (Path(row["uri"]).name, Path(row["duplicate_of"]).name) == ("w.mp4", "v0.mp4")
    alone = run([inputs / "v0.mp4", inputs / "v1.mp4"], out.parent / "alone")
    assert report.account.clips == alone.account.clips
    assert report.account.seconds == alone.account.seconds
    assert run(inputs, out).videos_run == 0


def test_a_broken_file_and_its_copy_both_fail(box: tuple[Path, Path]) -> None:
    inputs, out = box
    for name in ("bad1.mp4", "bad2.mp4"):
        (inputs / name).write_bytes(b"text, no video" * 99)
    check(run(inputs, out), total=4, done=2, failed=2, duplicates=1)
    assert run(inputs, out).videos_run == 0


def test_the_duplicate_takes_over_when_the_first_is_replaced(box: tuple[Path, Path]) -> None:
    inputs, out = box
    shutil.copy(inputs / "v0.mp4", inputs / "w.mp4")
    before = run(inputs, out)
    make_video(inputs / "v0.mp4", [(4.0, 77)])
    after = run(inputs, out)
    check(after, total=3, done=3, duplicates=0)
    assert after.account.clips["total"] > before.account.clips["total"]
    uris = {Path(r["uri"]).name for r in query(out, "SELECT DISTINCT uri FROM clips")}
    assert uris == {"v0.mp4", "v1.mp4", "w.mp4"}
