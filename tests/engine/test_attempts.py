"""Attempt markers: who is blamed for a dead worker, when, and with which code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from curation.engine.attempts import EXIT_MEMORY, FOLDER, Attempt, clear_markers, trace_path
from curation.engine.unit import Limits
from curation.storage import Storage
from tests.faults.helpers import REPO

STALL_S = 0.5
LIMITS = Limits(stall_timeout_s=STALL_S, max_attempts=3)
GREEDY = """
hoard = []
while True:
    hoard.append(os.urandom(2**22))
    time.sleep(0.01)
    attempt.beat()
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def die(storage: Storage, body: str, *, run_id: str = "r1", memory: int | None = None) -> int:
    """A process that enters the stage ``risky`` of source ``s`` and then does ``body``."""
    script = f"""
import os, signal, sys, time, re
from curation.storage import Storage
from curation.engine.attempts import Attempt, MemoryGuard
from curation.engine.unit import Limits
limits = Limits(stall_timeout_s={STALL_S if memory is None else 20.0}, memory_limit_bytes={memory})
guard = MemoryGuard(limits)
attempt = guard.attempt = Attempt(Storage({storage.root!r}), "s", {run_id!r}, limits)
attempt.enter("risky")
{body}
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, timeout=60, check=False
    )
    return done.returncode


def again(storage: Storage, run_id: str = "r1") -> Attempt:
    return Attempt(storage, "s", run_id, LIMITS)


def test_an_orderly_end_leaves_nothing(storage: Storage) -> None:
    attempt = again(storage)
    attempt.enter("one")
    attempt.enter("two")
    attempt.beat()
    attempt.close()
    assert storage.walk(FOLDER) == []
    assert again(storage).number == 1


@pytest.mark.parametrize(
    ("body", "code", "evident"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "decoder_crashed", False),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "decoder_crashed", True),
        ("os._exit(3)", "decoder_crashed", False),
        ("while True: pass", "timed_out", True),
        ("re.match(r'(a+)+b', 'a' * 40)", "timed_out", True),
        ("time.sleep(30)", "timed_out", True),
    ],
)
def test_a_death_is_blamed_on_its_stage_at_the_third_attempt(
    storage: Storage, body: str, code: str, evident: bool
) -> None:
    assert die(storage, body) != 0
    # A later run believes evidence alone: else it was a kill from outside.
    assert again(storage, "r2").number == (2 if evident else 1)
    second = again(storage)
    assert (second.number, second.blamed, second.code) == (2, "risky", code)
    assert not second.exhausted
    second.enter("risky")
    second.disarm()  # as if it had died again without a word
    third = again(storage)
    assert third.number == 3 and third.exhausted and third.blamed == "risky"


def test_a_beat_keeps_a_long_stage_alive(storage: Storage) -> None:
    body = "for _ in range(6): time.sleep(0.2); attempt.beat()\nattempt.close(); sys.exit(7)"
    assert die(storage, body) == 7
    assert again(storage).number == 1


def test_a_worker_that_outgrows_its_limit_says_so_to_this_run_and_the_next(
    storage: Storage,
) -> None:
    assert die(storage, GREEDY, memory=400 * 2**20) == EXIT_MEMORY
    assert again(storage).code == "out_of_memory"
    assert clear_markers(storage) == []
    assert again(storage, "r2").code == "out_of_memory"


def test_a_kill_from_outside_blames_nobody_in_the_next_run(storage: Storage) -> None:
    die(storage, "os.kill(os.getpid(), signal.SIGKILL)")
    assert again(storage, "r2").number == 1
    assert clear_markers(storage) == ["s"]
    assert storage.walk(FOLDER) == []


def test_a_remote_root_has_a_watchdog_too(tmp_path: Path) -> None:
    """Its traces lie on the worker's own disk: faulthandler writes to a file descriptor."""
    remote = Storage("memory://bucket/root")
    assert not remote.local
    attempt = Attempt(remote, "s", "r1", LIMITS)
    attempt.enter("risky")
    trace = Path(trace_path(remote, "s"))
    assert trace.is_absolute() and trace.exists()
    attempt.close()
    assert not trace.exists() and remote.read_json(f"{FOLDER}/s.json") is None
