"""Divided videos: killed runs end up like unkilled ones; a part that kills costs one error row."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from curation.engine.unit import Limits
from pipelines.config import RunSettings
from tests.engine.test_long_videos import FAST, UNDIVIDED, film, left_files, same
from tests.faults.cluster import run_ray
from tests.faults.helpers import make_video, query, run
from tests.faults.kill_run import finish, kill, left_over, start
from tests.media import Recording

PARTS: dict[str, Any] = {"part_s": 1.5, "part_clips": 4, "commit_rows": 40}
BAD_PART = "tests.faults.bad_stages:BadPart"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, and the dataset of an undivided, undisturbed run."""
    folder = tmp_path_factory.mktemp("kill-long")
    film(folder / "in" / "one.mp4", Recording(b_frames=3, gop_frames=40))
    film(folder / "in" / "two.mkv", Recording(open_gop=True, first_pts=700, fps=30))
    make_video(folder / "in" / "short.mp4", [(1.2, 5)], fps=25)
    assert run(folder / "in", folder / "out", **FAST, run=UNDIVIDED).balanced
    return folder


def kill_when(inputs: Path, out: Path, sections: dict[str, Any], pattern: str, count: int) -> None:
    """Start a run and SIGKILL all of it when so many files match; it must not end before."""
    process = start(inputs, out, sections)
    try:
        while len(list(out.glob(pattern))) < count:
            assert process.poll() is None, f"the run ended before {count} of {pattern}"
            time.sleep(0.01)
    finally:
        kill(process, "group")
    assert left_over(out) == []


MOMENTS = [
    ("parts/segments/*.part", 2),
    ("parts/segments/*.part", 7),
    ("attempts/*-joined.json", 1),
    ("attempts/*-clips*.json", 1),
]
"""Amid the parts of the first video, of the second, at the joining, amid the clips."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        {"engine": "inline"},
        pytest.param({"engine": "ray", "num_workers": 1}, marks=pytest.mark.slow),
        pytest.param({"engine": "ray", "num_workers": 2}, marks=pytest.mark.slow),
    ],
    ids=["inline", "ray 1", "ray 2"],
)
def test_a_killed_run_of_long_videos_ends_up_the_same(
    whole: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    out, sections = tmp_path / "out", {**FAST, "run": {**how, **PARTS}}
    for pattern, count in MOMENTS:
        kill_when(whole / "in", out, sections, pattern, count)
    assert query(out, "SELECT DISTINCT video_id FROM raw_done WHERE stage = 'signals'")
    report = finish(start(whole / "in", out, sections))
    assert report["balanced"] and report["long_videos"]["shares"]
    same(whole / "out", out)


@pytest.mark.parametrize(
    ("deed", "code"),
    [("kill", "decoder_crashed"), pytest.param("regex", "timed_out", marks=pytest.mark.slow)],
)
def test_a_part_that_kills_its_worker_costs_one_error_row(
    whole: Path, tmp_path: Path, deed: str, code: str
) -> None:
    """Two divisible stages; the second one's parts die. What the first one made is kept."""
    stages = [{"use": BAD_PART, "deeds": {"1": deed}, "unless": str(tmp_path / "good")}]
    hasty = Limits(stall_timeout_s=3.0, max_attempts=2)
    videos = [whole / "in" / "one.mp4", whole / "in" / "short.mp4"]
    with mock.patch.object(RunSettings, "limits", return_value=hasty):
        report = run_ray(videos, tmp_path / "out", **FAST, stages=stages, run={"part_s": 4.0})
    assert report.balanced, report.account.imbalances
    assert report.errors == {code: 1} and report.videos_run == 2
    assert report.account.videos["done"] == 1 and report.account.videos["failed"] == 1
    (error,) = query(tmp_path / "out", "SELECT stage, code, clip_id, message FROM raw_errors")
    assert (error["stage"], error["code"], error["clip_id"]) == ("bad_part", code, None)
    assert "1 times" in error["message"]
    (tmp_path / "good").touch()
    again = run(videos, tmp_path / "out", **FAST, stages=stages, run={"part_s": 4.0})
    assert again.balanced and again.errors == {} and again.account.videos["done"] == 2
    assert again.long_videos["reused"] >= 1 and again.stages["signals"]["videos_run"] == 0
    assert left_files(tmp_path / "out") == []
