"""Inline and Ray: equal rows in every table, equal shards; with groups, and with one core."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cluster import run_ray
from tests.faults.helpers import dump, make_video, make_videos, query, run, shard_bytes
from tests.faults.kill_run import finish, left_over, start

OTHER_GROUP = [
    {
        "use": "tests.faults.bad_stages:BadClip",
        "resources": {"num_cpus": 0.5},
        "deeds": {"1": "failure"},
    }
]
"""A stage of other resources before the cut: three groups, and it fails one clip per video."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good videos, one of them twice, one without a clip, and three that fail."""
    folder = tmp_path_factory.mktemp("engines") / "in"
    make_videos(folder, 3)
    shutil.copy(folder / "v1.mp4", folder / "w1.mp4")
    make_video(folder / "short.mp4", [(0.3, 8)])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video" * 99)
    return folder


def same(one: Path, two: Path) -> None:
    """Two datasets of the same work hold the same."""
    ours, theirs = dump(one, skip={"done"}), dump(two, skip={"done"})
    assert ours.keys() == theirs.keys()
    for table in ours:
        assert ours[table] == theirs[table], table
    # Which of two equal files is analysed depends on who comes first.
    done = "SELECT video_id, stage, fingerprint, num_rows FROM done ORDER BY ALL"
    assert query(one, done) == query(two, done)
    assert shard_bytes(one) == shard_bytes(two)


def test_both_engines_give_the_same_dataset(inputs: Path, tmp_path: Path) -> None:
    given = [*sorted(inputs.iterdir()), inputs / "missing.mp4"]
    inline = run(given, tmp_path / "inline", stages=OTHER_GROUP)
    ray = run_ray(given, tmp_path / "ray", stages=OTHER_GROUP)
    assert inline.balanced and ray.balanced
    assert ray.account == inline.account and ray.errors == inline.errors
    rows = [{n: s["rows"] for n, s in report.stages.items()} for report in (ray, inline)]
    assert rows[0] == rows[1]
    same(tmp_path / "inline", tmp_path / "ray")
    failed = query(tmp_path / "ray", "SELECT count(*) n FROM errors WHERE clip_id IS NOT NULL")
    assert failed == [{"n": 3}]


@pytest.mark.slow
@pytest.mark.parametrize("stages", [[], OTHER_GROUP], ids=["one group", "three groups"])
def test_a_local_cluster_of_one_core_gives_it_too(
    inputs: Path, tmp_path: Path, stages: list[dict[str, Any]]
) -> None:
    ray = {"stages": stages, "run": {"engine": "ray", "num_workers": 1}}
    report = finish(start(inputs, tmp_path / "ray", ray), timeout_s=150)
    assert report["balanced"] and report["account"]["videos"]["done"] == 5
    assert report["engine"] == "ray" and report["engine_start_s"] > 0
    assert left_over(tmp_path / "ray") == []
    inline = run(inputs, tmp_path / "inline", stages=stages)
    assert inline.account.as_dict() == report["account"]
    same(tmp_path / "inline", tmp_path / "ray")
