"""Inputs that kill, hang or bloat their worker: one error row each, and everything else is done."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from curation.engine.attempts import EXIT_MEMORY
from curation.engine.parts import PARTS
from curation.engine.unit import Limits
from pipelines.config import RunSettings
from pipelines.run_report import RunReport
from tests.faults.cluster import run_ray
from tests.faults.helpers import make_video, query, run, shard_bytes
from tests.faults.kill_run import finish, start

VIDEO = "tests.faults.bad_stages:BadVideo"
CLIP = "tests.faults.bad_stages:BadClip"
DEEDS = {"3": "kill", "4": "loop", "5": "regex", "6": "memory"}
CODES = {
    "3.mp4": "decoder_crashed",
    "4.mp4": "timed_out",
    "5.mp4": "timed_out",
    "6.mp4": "out_of_memory",
}
GOOD = ["2.mp4", "8.mp4"]
STAGES = [{"use": VIDEO, "deeds": DEEDS}, {"use": CLIP, "deeds": {"1": "kill"}, "above_s": 8.5}]
LIMITS: dict[str, Any] = {"stall_timeout_s": 3.0, "memory_limit_bytes": 800 * 2**20}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video per deed by its length, one with a clip that kills, and two good ones."""
    folder = tmp_path_factory.mktemp("bad") / "in"
    for seconds in (2, 3, 4, 5, 6, 8, 9):
        make_video(folder / f"{seconds}.mp4", [(float(seconds), seconds)], fps=8)
    return folder


@pytest.fixture(scope="module")
def ran(inputs: Path) -> tuple[RunReport, Path]:
    """The Ray run over all of them, and its dataset.

    One death is enough here to be given up; the third attempt is tested without Ray, whose new
    workers need seconds.
    """
    out = inputs.parent / "out"
    hasty = Limits(**LIMITS, max_attempts=2)
    with mock.patch.object(RunSettings, "limits", return_value=hasty):
        return run_ray(inputs, out, stages=STAGES), out


def errors(out: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in query(out, "SELECT e.*, s.uri FROM raw_errors e JOIN sources s USING (source_id)"):
        found.setdefault(Path(row["uri"]).name, []).append(row)
    return found


def test_the_run_ends_and_balances(ran: tuple[RunReport, Path]) -> None:
    report, out = ran
    assert report.balanced, report.account.imbalances
    assert report.errors == {"decoder_crashed": 2, "timed_out": 2, "out_of_memory": 1}
    assert report.account.videos["failed"] == 4 and report.account.videos["done"] == 3
    assert not list((out / PARTS).glob("*")) and not (out / "attempts").exists()


@pytest.mark.parametrize("name", sorted(CODES))
def test_each_costs_exactly_one_error_row(ran: tuple[RunReport, Path], name: str) -> None:
    (row,) = errors(ran[1])[name]
    assert (row["code"], row["stage"], row["clip_id"]) == (CODES[name], "bad_video", None)
    assert row["retryable"] and "1 times" in row["message"]


def test_a_clip_that_kills_fails_its_videos_clips_and_no_source(
    ran: tuple[RunReport, Path],
) -> None:
    (row,) = errors(ran[1])["9.mp4"]
    assert (row["code"], row["stage"]) == ("decoder_crashed", "bad_clip")
    clips = query(ran[1], "SELECT verdict, reasons FROM clips WHERE uri LIKE '%9.mp4'")
    assert len(clips) >= 8
    assert all(c == {"verdict": "failed", "reasons": ["decoder_crashed"]} for c in clips)
    (source,) = query(ran[1], "SELECT status FROM sources WHERE uri LIKE '%9.mp4'")
    assert source["status"] == "done"


def test_the_others_are_done(ran: tuple[RunReport, Path], tmp_path: Path) -> None:
    _, out = ran
    done = query(out, "SELECT uri FROM sources WHERE status = 'done' ORDER BY uri")
    assert [Path(r["uri"]).name for r in done] == ["2.mp4", "8.mp4", "9.mp4"]
    alone = run([out.parent / "in" / g for g in GOOD], tmp_path / "alone", stages=STAGES)
    assert alone.balanced and shard_bytes(tmp_path / "alone") == shard_bytes(out)


def test_the_next_run_tries_them_again(inputs: Path, ran: tuple[RunReport, Path]) -> None:
    """Without the stages that did it, the same sources go through."""
    report = run(inputs, ran[1])
    assert report.balanced and report.account.videos["failed"] == 0
    assert query(ran[1], "SELECT * FROM errors") == []
    ran_stages = {name for name, s in report.stages.items() if s["videos_run"]}
    gated = {"cut", "retest", "caption", "check"}
    assert ran_stages == gated, "what was done before the crash is kept"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "code", "status"),
    [("regex", "timed_out", 1), ("memory", "out_of_memory", EXIT_MEMORY)],
)
def test_inline_a_worker_is_the_run_and_its_death_is_remembered(
    tmp_path: Path, deed: str, code: str, status: int
) -> None:
    """The watchdog ends the run itself; the third run knows better and goes on."""
    make_video(tmp_path / "in" / "2.mp4", [(2.0, 1)])
    make_video(tmp_path / "in" / "3.mp4", [(3.0, 1)])
    sections = {
        "stages": [{"use": VIDEO, "deeds": {"3": deed}}],
        "run": {
            "engine": "inline",
            "stall_timeout_s": 1.5 if deed == "regex" else 9.0,
            "memory_limit_bytes": 600 * 2**20,
        },
    }
    for _ in range(2):
        process = start(tmp_path / "in", tmp_path / "out", sections)
        assert process.wait(timeout=60) == status
    report = finish(start(tmp_path / "in", tmp_path / "out", sections), timeout_s=60)
    assert report["balanced"] and report["errors"] == {code: 1}
    assert report["account"]["videos"]["done"] == 1
    assert json.dumps(report) and os.path.isdir(tmp_path / "out" / "shards")
