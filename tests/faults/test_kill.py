"""SIGKILL at random moments: the finished dataset is the uninterrupted one, to the byte."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from curation.engine.parts import PARTS
from tests.faults.helpers import assets, dump, make_videos, run, shard_bytes
from tests.faults.kill_run import KillLog, finish, kill_and_finish, start

NUM_VIDEOS = 6
GROUPS: list[dict[str, Any]] = [
    {"use": "tests.faults.bad_stages:BadClip", "resources": {"num_cpus": 0.5}}
]
"""A stage of other resources before the cut: three groups."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, and the dataset of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("kill")
    make_videos(folder / "in", NUM_VIDEOS)
    (folder / "in" / "bad.mp4").write_text("text, no video")
    assert run(folder / "in", folder / "out", stages=GROUPS).balanced
    return folder


def check(log: KillLog, out: Path, expected: Path, kills: int) -> None:
    assert len(log.kills) == kills, f"only {log.kills}: the run is too short for its moments"
    assert log.report["balanced"], log.report["account"]["imbalances"]
    assert log.survivors == []
    compare(out, expected)


def compare(out: Path, expected: Path) -> None:
    assert shard_bytes(out) == shard_bytes(expected)
    ours, theirs = dump(out), dump(expected)
    assert ours.keys() == theirs.keys()
    for table in ours:
        assert ours[table] == theirs[table], table
    assert not [p for p in (out / PARTS).glob("*") if p.is_file()]
    assert not list((out / "shards").rglob("*.tmp-*"))


def test_a_killed_inline_run_ends_up_the_same(whole: Path, tmp_path: Path) -> None:
    inline = {"engine": "inline", "commit_rows": 40}
    sections: dict[str, Any] = {"stages": GROUPS, "run": inline}
    log = kill_and_finish(
        *(whole / "in", tmp_path / "out", sections),
        kills=3,
        work_s=0.5,
        run_s=2.5,
        whom=["driver"],
    )
    check(log, tmp_path / "out", whole / "out", 3)


@pytest.mark.slow
def test_a_killed_ray_run_ends_up_the_same_and_leaves_no_process(
    whole: Path, tmp_path: Path
) -> None:
    """On one core and with three groups: operators that wait for each other's core would hang."""
    ray = {"engine": "ray", "num_workers": 1, "commit_rows": 40}
    sections: dict[str, Any] = {"stages": GROUPS, "run": ray}
    log = kill_and_finish(
        *(whole / "in", tmp_path / "out", sections),
        kills=4,
        work_s=0.8,
        run_s=5.0,
        whom=["driver", "group"],
    )
    check(log, tmp_path / "out", whole / "out", 4)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_kills_over_real_footage(
    workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = assets() / "videos" / "real"
    sections = {"run": {"engine": "ray", "num_workers": workers, "commit_every_s": 1.0}}
    began = time.monotonic()
    whole = finish(start(inputs, tmp_path / "whole", sections, "REAL"), timeout_s=1200)
    alone_s = time.monotonic() - began
    assert whole["balanced"]
    began = time.monotonic()
    log = kill_and_finish(
        *(inputs, tmp_path / "out", sections, "REAL"),
        kills=20,
        work_s=alone_s / 12,
        run_s=alone_s / 6,
        whom=["driver", "group"],
        seed=workers,
    )
    with capsys.disabled():
        told = {"workers": workers, "alone_s": alone_s, "took_s": time.monotonic() - began}
        print(json.dumps(told | asdict(log) | {"report": log.report["account"]}))
    check(log, tmp_path / "out", tmp_path / "whole", 20)
