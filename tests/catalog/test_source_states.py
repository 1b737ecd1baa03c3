"""Sources that come late, go, change, fail, or hold the same bytes as another.

Each story is told by files of one folder, changed between a few runs, so that one run serves
several of them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipelines.redo import reshard
from pipelines.run_report import RunReport
from tests.faults.helpers import (
    keys_of,
    make_video,
    make_videos,
    query,
    run,
    settings,
    shard_bytes,
)

STRICT: dict[str, Any] = {"judge": {"rules": {"luma_mean": {"min": 0.99}}}}
"""Rules that keep nothing."""
TEXT = b"text, no video" * 99
States = dict[str, tuple[str, str | None]]


def states(out: Path) -> States:
    rows = query(out, "SELECT uri, status, code FROM sources")
    return {Path(r["uri"]).stem: (r["status"], r["code"]) for r in rows}


def check(report: RunReport, **videos: int) -> None:
    assert report.balanced, report.account.imbalances
    assert {k: report.account.videos[k] for k in videos} == videos


@dataclass
class Story:
    """The runs over one folder, and what each left behind."""

    inputs: Path
    out: Path
    reports: list[RunReport] = field(default_factory=list)
    states: list[States] = field(default_factory=list)
    old_clips: set[str] = field(default_factory=set)

    def run(self) -> None:
        names = ["late", "emptied", "empty", "text", "replaced", "touched", "steady"]
        self.reports.append(run([self.inputs / f"{n}.mp4" for n in names], self.out))
        self.states.append(states(self.out))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Four runs: at first, with nothing changed, with every file changed, with nothing changed."""
    folder = tmp_path_factory.mktemp("story")
    told = Story(folder / "in", folder / "out")
    for i, name in enumerate(["emptied", "replaced", "touched", "steady"]):
        make_video(told.inputs / f"{name}.mp4", [(2.0, i)])
    (told.inputs / "empty.mp4").write_bytes(b"")
    (told.inputs / "text.mp4").write_bytes(TEXT)
    told.run()
    told.run()
    old = query(told.out, "SELECT clip_id FROM clips WHERE uri LIKE '%replaced.mp4'")
    told.old_clips = {r["clip_id"] for r in old}
    for i, name in enumerate(["late", "empty", "text"]):
        make_video(told.inputs / f"{name}.mp4", [(2.0, 10 + i)])
    make_video(told.inputs / "replaced.mp4", [(4.0, 77)])
    (told.inputs / "emptied.mp4").write_bytes(b"")
    os.utime(told.inputs / "touched.mp4", (1, 1))
    told.run()
    told.run()
    return told


def test_every_run_balances(story: Story) -> None:
    assert [r.account.imbalances for r in story.reports] == [[]] * 4
    assert [r.account.videos["failed"] for r in story.reports] == [3, 3, 1, 1]


def test_a_missing_file_is_tried_again_until_it_is_there(story: Story) -> None:
    assert [s["late"] for s in story.states] == [("failed", "not_found")] * 2 + [("done", None)] * 2
    assert story.reports[1].errors == {"not_found": 1}
    rows = query(story.out, "SELECT code FROM raw_errors WHERE code = 'not_found'")
    assert len(rows) == 2, "history is kept"
    assert query(story.out, "SELECT * FROM errors WHERE code = 'not_found'") == []


def test_a_final_error_is_not_tried_again_until_the_file_changes(story: Story) -> None:
    for name, code in [("empty", "empty_file"), ("text", "not_a_video")]:
        assert [s[name] for s in story.states] == [("failed", code)] * 2 + [("done", None)] * 2
    assert story.reports[1].videos_run == 1, "the missing one alone"
    assert story.reports[3].videos_run == 0


def test_a_good_file_that_becomes_empty_fails(story: Story) -> None:
    assert [s["emptied"] for s in story.states][1:3] == [("done", None), ("failed", "empty_file")]
    assert query(story.out, "SELECT * FROM clips WHERE uri LIKE '%emptied.mp4'") == []
    assert [e["code"] for e in query(story.out, "SELECT * FROM errors")] == ["empty_file"]


def test_other_bytes_under_the_same_name_replace_the_old_clips(story: Story) -> None:
    clips = query(story.out, "SELECT clip_id, uri FROM clips")
    assert story.old_clips and not story.old_clips & {c["clip_id"] for c in clips}
    assert all(c["uri"] for c in clips)


def test_a_touched_file_is_read_again_but_not_analysed_again(story: Story) -> None:
    assert story.states[2]["touched"] == ("done", None)
    # late, empty, text and replaced were decoded anew; the touched one was not.
    assert story.reports[2].video_s == pytest.approx(2 + 2 + 2 + 4)


def test_the_way_there_leaves_no_trace_in_the_result(story: Story, tmp_path: Path) -> None:
    fresh = run(story.inputs, tmp_path / "out")
    assert story.reports[-1].account.as_dict() == fresh.account.as_dict()
    assert keys_of(story.out) == keys_of(tmp_path / "out")
    packed = Path(shutil.copytree(story.out, tmp_path / "packed anew"))
    reshard(str(packed), settings(), repack=True)
    assert shard_bytes(packed) == shard_bytes(tmp_path / "out")


def test_bytes_that_went_or_changed_after_their_analysis_are_not_cut(tmp_path: Path) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    for i, name in enumerate(["gone", "swapped", "touched", "steady"]):
        make_video(inputs / f"{name}.mp4", [(2.0, i)])
    check(run(inputs, out, **STRICT), done=4)
    shutil.move(inputs / "gone.mp4", inputs / "elsewhere")
    shutil.move(inputs / "swapped.mp4", inputs / "kept aside")
    make_video(inputs / "swapped.mp4", [(9.0, 77)])
    os.utime(inputs / "touched.mp4", (1, 1))
    report = run([], out)  # no input named: the sources are taken as they were listed
    check(report, done=4, failed=0)
    assert report.account.clips["kept"] == report.account.clips["failed"] == 4
    found = query(out, "SELECT uri, verdict, reasons FROM clips JOIN sources USING (uri)")
    by_name = {Path(r["uri"]).stem: (r["verdict"], r["reasons"]) for r in found}
    assert by_name == {
        "gone": ("failed", ["not_found"]),
        "swapped": ("failed", ["missing_input"]),
        "touched": ("kept", []),
        "steady": ("kept", []),
    }
    errors = query(out, "SELECT * FROM errors ORDER BY code")
    assert [(e["stage"], e["clip_id"]) for e in errors] == [("cut", None)] * 2
    assert "other bytes" in errors[0]["message"]
    shutil.move(inputs / "elsewhere", inputs / "gone.mp4")
    shutil.move(inputs / "kept aside", inputs / "swapped.mp4")
    back = run([], out)
    check(back, done=4)
    assert back.account.clips["failed"] == 0 and query(out, "SELECT * FROM errors") == []


@pytest.mark.parametrize("later", [False, True], ids=["same run", "later run"])
def test_a_second_source_with_the_same_bytes_is_done_as_a_duplicate(
    tmp_path: Path, later: bool
) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    make_videos(inputs, 2)
    (inputs / "bad1.mp4").write_bytes(TEXT)
    alone = run(inputs, out if later else tmp_path / "alone")
    shutil.copy(inputs / "v0.mp4", inputs / "w.mp4")
    shutil.copy(inputs / "bad1.mp4", inputs / "bad2.mp4")
    report = run(inputs, out)
    check(report, total=5, done=3, failed=2, duplicates=2)
    rows = query(out, "SELECT uri, duplicate_of d FROM sources WHERE d IS NOT NULL ORDER BY uri")
    names = [(Path(r["uri"]).stem, Path(r["d"]).stem) for r in rows]
    assert names == [("bad2", "bad1"), ("w", "v0")]
    assert report.account.clips == alone.account.clips
    for name in ("kept", "rejected", "total"):
        assert report.account.seconds[name] == alone.account.seconds[name]
    assert run(inputs, out).videos_run == 0


def test_the_duplicate_takes_over_when_the_first_is_replaced(tmp_path: Path) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    make_video(inputs / "v.mp4", [(2.0, 1)])
    shutil.copy(inputs / "v.mp4", inputs / "w.mp4")
    before = run(inputs, out)
    make_video(inputs / "v.mp4", [(4.0, 77)])
    after = run(inputs, out)
    check(after, total=2, done=2, duplicates=0)
    assert after.account.clips["total"] > before.account.clips["total"]
    uris = {Path(r["uri"]).stem for r in query(out, "SELECT DISTINCT uri FROM clips")}
    assert uris == {"v", "w"}
