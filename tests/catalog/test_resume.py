"""Resume by fingerprint: what has a row is done, what changed is recomputed, nothing else is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.redo import reshard
from pipelines.run_report import RunReport
from tests.faults.helpers import (
    dump,
    keys_of,
    make_video,
    make_videos,
    query,
    run,
    settings,
    shard_bytes,
)

NUM_VIDEOS = 3
GATED = ("cut", "retest", "caption", "check")
"""Stages that see only kept clips."""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos under ``in`` and a finished dataset under ``out``."""
    folder = tmp_path_factory.mktemp("resume")
    make_videos(folder / "in", NUM_VIDEOS)
    report = run(folder / "in", folder / "out")
    assert report.balanced and report.videos_run == NUM_VIDEOS
    return folder


@pytest.fixture
def again(first: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The inputs, and a copy of the finished dataset."""
    shutil.copytree(first / "out", tmp_path / "out")
    return first / "in", tmp_path / "out"


def stages_run(report: RunReport) -> dict[str, int]:
    return {name: s["videos_run"] for name, s in report.stages.items() if s["videos_run"]}


def one_row_each(out: Path) -> None:
    """Every view that speaks of clips or videos shows each of them once."""
    of_clips = ("clips", "scores", "media", "captions", "caption_checks")
    for view, key in [(v, "clip_id") for v in of_clips] + [
        (v, "video_id") for v in ("videos", "decodes")
    ]:
        total = query(out, f"SELECT count(*) n, count(DISTINCT {key}) d FROM {view}")[0]
        assert total["n"] == total["d"] > 0, view
    clips = query(out, "SELECT count(*) n, count(media_path) m, count(luma_mean) s FROM clips")[0]
    assert clips["n"] == clips["s"]


def test_the_second_run_does_nothing(again: tuple[Path, Path]) -> None:
    inputs, out = again
    shards, tables = shard_bytes(out), dump(out)
    report = run(inputs, out)
    assert report.balanced and report.videos_run == 0 and report.video_s == 0
    assert stages_run(report) == {}
    assert all(s["videos_reused"] == NUM_VIDEOS for s in report.stages.values())
    assert report.shards is not None and report.shards.reused
    assert shard_bytes(out) == shards and dump(out) == tables


def test_no_inputs_means_the_known_ones(again: tuple[Path, Path]) -> None:
    report = run([], again[1])
    assert report.balanced and report.videos_run == 0
    assert report.account.videos["done"] == NUM_VIDEOS


def test_another_split_and_back(again: tuple[Path, Path]) -> None:
    inputs, out = again
    shards, seconds = shard_bytes(out), run(inputs, out).account.seconds
    report = run(inputs, out, split={"max_s": 1.5})
    assert report.balanced
    scorers = ("score", "technical", "camera")
    wanted = dict.fromkeys(["split", *scorers, *GATED], NUM_VIDEOS)
    assert stages_run(report) == wanted
    assert report.video_s == 0.0
    one_row_each(out)
    assert query(out, "SELECT max(duration_s) m FROM clips")[0]["m"] == pytest.approx(1.5)
    assert query(out, "SELECT count(DISTINCT fingerprint) n FROM raw_clips")[0]["n"] == 2
    other = report.account.seconds
    assert other["total"] == pytest.approx(seconds["total"]), "two fingerprints do not add up"
    assert other["kept"] + other["rejected"] == pytest.approx(other["total"], abs=0.01)
    assert shard_bytes(out) != shards
    back = run(inputs, out)
    assert back.videos_run == 0 and back.balanced
    assert shard_bytes(out) == shards, "the old rows are found again"
    one_row_each(out)


def test_another_cut_keeps_everything_before_it(again: tuple[Path, Path]) -> None:
    inputs, out = again
    report = run(inputs, out, cut={"crf": 40})
    assert report.balanced
    assert stages_run(report) == {"cut": NUM_VIDEOS, "retest": NUM_VIDEOS}
    one_row_each(out)
    old, new = query(out, "SELECT count(*) n FROM raw_media GROUP BY fingerprint")
    assert old == new


def test_a_softer_rule_cuts_the_new_and_a_stricter_one_computes_nothing(
    again: tuple[Path, Path], tmp_path: Path
) -> None:
    inputs, given = again
    middle = query(given, "SELECT median(luma_mean) m FROM clips")[0]["m"]
    strict: dict[str, Any] = {"judge": {"rules": {"luma_mean": {"min": middle + 1e-6}}}}
    out = tmp_path / "strict first"
    report = run(inputs, out, **strict)
    kept = report.account.clips["kept"]
    assert report.balanced and 0 < kept < report.account.clips["total"]
    softer = run(inputs, out)
    assert set(stages_run(softer)) == set(GATED)
    assert softer.stages["cut"]["rows"] == softer.account.clips["total"] - kept
    assert softer.balanced and softer.account.clips["kept"] == softer.account.clips["total"]
    assert softer.shards is not None and softer.shards.generation == 1, "the new come beside"
    assert keys_of(out) == keys_of(given) and shard_bytes(out) != shard_bytes(given)
    assert reshard(str(out), settings(), repack=True).generation == 0
    assert shard_bytes(out) == shard_bytes(given)
    media = dump(out)["media"]
    stricter = run(inputs, out, **strict)
    assert stages_run(stricter) == {} and stricter.account.clips["kept"] == kept
    assert dump(out)["media"] == media, "media of clips no longer kept stay for another day"
    assert stricter.shards is not None and stricter.shards.num_samples == kept


def test_another_score_cuts_what_is_newly_kept_in_the_same_run(tmp_path: Path) -> None:
    """The gate stands behind the new scores, not behind the verdicts of the last run."""
    make_videos(tmp_path / "in", 2)
    rules: dict[str, Any] = {"judge": {"rules": {"static_fraction": {"max": 0.5}}}}
    first = run(tmp_path / "in", tmp_path / "out", score={"static_below_per_s": 10.0}, **rules)
    assert first.account.clips["kept"] == 0
    second = run(tmp_path / "in", tmp_path / "out", **rules)
    assert second.balanced, second.account.imbalances
    assert stages_run(second) == dict.fromkeys(["score", *GATED], 2)
    assert second.account.clips["kept"] == second.account.clips["total"] > 0


def test_a_new_scorer_adds_only_its_own_rows(again: tuple[Path, Path]) -> None:
    inputs, out = again
    before = dump(out)
    report = run(inputs, out, stages=[{"use": "tests.faults.bad_stages:BadClip"}])
    assert report.balanced
    assert report.stages["bad_clip"]["rows"] == report.account.clips["total"]
    after = dump(out)
    changed = {t for t in before if before[t] != after[t]}
    assert changed == {"done"}  # where the new stage, and the gate behind it, say they looked
    columns = query(out, "SELECT * FROM clips LIMIT 1")[0]
    assert columns["badness"] is not None


def test_a_new_video_adds_only_its_own_work(again: tuple[Path, Path], tmp_path: Path) -> None:
    inputs, out = again
    extra = make_video(tmp_path / "more" / "x.mp4", [(2.0, 99)])
    before = dump(out)
    report = run([inputs, extra], out)
    assert report.balanced and report.videos_run == 1
    assert set(stages_run(report).values()) == {1}
    after = dump(out)
    for table in before:
        assert set(before[table]) <= set(after[table]), table
    assert report.account.videos["total"] == NUM_VIDEOS + 1


def test_operational_settings_change_no_fingerprint(again: tuple[Path, Path]) -> None:
    inputs, out = again
    sections: dict[str, Any] = {
        "signals": {"segment_frames": 100, "threads": 2, "batch_size": 3},
        "score": {"resources": {"num_cpus": 2.0}},
        "run": {"commit_rows": 1},
    }
    assert run(inputs, out, **sections).videos_run == 0
