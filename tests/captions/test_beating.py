"""Heartbeats from beside: while the block runs, not for ever, and never after it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from curation.captions.beating import beating

WATCHED = """
import contextlib, sys, time
from curation.captions.beating import beating
from curation.engine.attempts import Attempt
from curation.engine.unit import Limits
from curation.storage import Storage

attempt = Attempt(Storage(sys.argv[1]), "key", "run", Limits(stall_timeout_s=1.0))
attempt.enter("caption")
with beating(attempt.beat, every_s=0.2) if sys.argv[2] == "beats" else contextlib.nullcontext():
    time.sleep(2.2)
attempt.close()
time.sleep(1.2)
print("alive")
"""


def test_it_beats_at_once_and_while_the_block_runs() -> None:
    beats: list[int] = []
    threads = threading.active_count()
    with beating(lambda: beats.append(threading.get_ident()), every_s=0.02):
        assert beats == [threading.get_ident()]
        time.sleep(0.3)
    told = len(beats)
    assert told > 3 and threading.get_ident() not in beats[1:]
    time.sleep(0.1)
    assert len(beats) == told and threading.active_count() == threads


def test_it_gives_up() -> None:
    beats: list[float] = []
    with beating(lambda: beats.append(time.monotonic()), every_s=0.02, at_most_s=0.1):
        time.sleep(0.4)
    assert beats[-1] - beats[0] < 0.2


def test_it_can_be_ended_and_survives_an_error() -> None:
    beats: list[int] = []
    with pytest.raises(ValueError), beating(lambda: beats.append(1), every_s=0.02) as stop:
        stop()
        time.sleep(0.1)
        raise ValueError
    assert len(beats) <= 2


@pytest.mark.parametrize("way", ["beats", "silent"])
def test_the_watchdog_believes_it(tmp_path: Path, way: str) -> None:
    """A worker that sleeps longer than its patience lives by the beats alone."""
    asked = [sys.executable, "-c", WATCHED, str(tmp_path), way]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert ("alive" in done.stdout) == (way == "beats"), done.stderr
    assert (done.returncode == 0) == (way == "beats")
