"""Runs ``curate`` in its own process group, kills it at random moments, and lets it finish.

python -m tests.faults.kill_run INPUT OUT --kills 5 --engine ray --workers 2 --whom group
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from tests.faults.helpers import REPO

Whom = Literal["driver", "group"]
GONE_WITHIN_S = 90.0
"""A killed driver's processes have to be gone by then. Those at work go at once; a Ray worker that
was just starting looks for its dead node for some tens of seconds before it gives up."""


@dataclass
class KillLog:
    """What happened.

    Attributes:
        kills: Seconds into its run at which each run was killed.
        done: Clips that had been cut at each kill.
        report: Of the run that was let finish.
        gone_after_s: How long the processes of a killed run took to go.
        survivors: Those that were still there after ``GONE_WITHIN_S``.
    """

    kills: list[float] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    gone_after_s: list[float] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)


def start(inputs: Path, out: Path, sections: dict[str, Any], *extra: str) -> subprocess.Popen[str]:
    """A run in a process group of its own."""
    command = [sys.executable, "-m", "tests.faults.run_once", str(out), str(inputs)]
    return subprocess.Popen(
        [*command, json.dumps(sections), *extra],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO), "CLIPMILL_TEST_MARK": str(out)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 540.0) -> dict[str, Any]:
    """Wait for a run and return its report."""
    text, _ = process.communicate(timeout=timeout_s)
    if not text.strip():
        raise RuntimeError(f"the run ended with {process.returncode} and said nothing")
    return json.loads(text.strip().splitlines()[-1])


def kill(process: subprocess.Popen[str], whom: Whom) -> None:
    """SIGKILL the driver alone, or its whole process group."""
    if whom == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def processes_of(out: Path) -> list[psutil.Process]:
    """Everything that a run on this root has started: they inherit a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CLIPMILL_TEST_MARK") == str(out):
                found.append(process)
        except psutil.Error:
            continue
    return [p for p in found if p.pid != os.getpid()]


def left_over(out: Path, within_s: float = GONE_WITHIN_S) -> list[str]:
    """Command lines of processes that do not go away; ends them by their ids."""
    deadline = time.monotonic() + within_s
    while (alive := processes_of(out)) and time.monotonic() < deadline:
        time.sleep(0.2)
    names = []
    for process in alive:
        try:
            names.append(" ".join(process.cmdline())[:200])
            process.kill()
        except psutil.Error:
            continue
    return names


def work_began(process: subprocess.Popen[str], out: Path, since: float) -> bool:
    """Wait until a worker of this run has a unit in hand; False when the run ends before."""
    while process.poll() is None:
        for marker in (out / "attempts").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                if marker.stat().st_mtime >= since:
                    return True
        time.sleep(0.02)
    return False


def kill_and_finish(
    inputs: Path,
    out: Path,
    sections: dict[str, Any],
    *extra: str,
    kills: int,
    work_s: float,
    run_s: float,
    whom: list[Whom],
    seed: int = 0,
) -> KillLog:
    """Kill ``kills`` runs, then let one finish.

    Every second kill comes up to ``work_s`` after a worker has begun its first unit, the others
    anywhere in the first ``run_s`` of the process. A run that ends before its moment counts as no
    kill: the next moment comes earlier and waits for no work, which may all be done by now.
    """
    log, rng, missed = KillLog(), random.Random(seed), False
    for _ in range(4 * kills):
        if len(log.kills) == kills:
            break
        in_work = len(log.kills) % 2 == 0 and not missed
        moment, began, since = rng.uniform(0, 1), time.monotonic(), time.time()
        process = start(inputs, out, sections, *extra)
        working = in_work and work_began(process, out, since)
        delay = moment * (work_s if working else run_s)
        try:
            process.wait(timeout=delay)
            missed = True
            work_s, run_s = (0.7 * work_s, run_s) if working else (work_s, 0.7 * run_s)
        except subprocess.TimeoutExpired:
            kill(process, whom[len(log.kills) // 2 % len(whom)])
            missed = False
            log.kills.append(round(time.monotonic() - began, 2))
            log.done.append(len(list((out / "media").rglob("*.mp4"))))
        ended = time.monotonic()
        log.survivors += left_over(out)
        log.gone_after_s.append(round(time.monotonic() - ended, 1))
    log.report = finish(start(inputs, out, sections, *extra))
    log.survivors += left_over(out)
    return log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--engine", default="ray")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--whom", choices=["driver", "group"], default="group")
    given = parser.parse_args()
    sections = {"run": {"engine": given.engine, "num_workers": given.workers}}
    log = kill_and_finish(
        given.inputs,
        given.out,
        sections,
        "REAL",
        kills=given.kills,
        work_s=10.0,
        run_s=30.0,
        whom=[given.whom],
    )
    print(json.dumps({"kills": log.kills, "done": log.done, "survivors": log.survivors}))


if __name__ == "__main__":
    main()
