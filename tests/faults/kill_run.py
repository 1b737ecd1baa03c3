"""Runs ``curate`` in its own process group, kills it at random moments, and lets it finish.

python -m tests.faults.kill_run INPUT OUT --kills 5 --engine ray --workers 2 --whom group
"""

from __future__ import annotations

import argparse
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
GONE_WITHIN_S = 20.0
"""A killed driver's processes have to be gone by then."""


@dataclass
class KillLog:
    """What happened.

    Attributes:
        kills: Seconds into its run at which each run was killed.
        report: Of the run that was let finish.
        survivors: Processes of a killed run that were still there after ``GONE_WITHIN_S``.
    """

    kills: list[float] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
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


def kill_and_finish(
    inputs: Path,
    out: Path,
    sections: dict[str, Any],
    *extra: str,
    kills: int,
    span_s: tuple[float, float],
    whom: list[Whom],
    seed: int = 0,
    wait_for_orphans: bool = True,
) -> KillLog:
    """Kill ``kills`` runs at random moments of ``span_s``, then let one finish.

    A run that ends before its moment counts as no kill; the moments then come earlier.
    """
    log, rng, (low, high) = KillLog(), random.Random(seed), span_s
    tries = 0
    while len(log.kills) < kills and tries < 3 * kills:
        tries += 1
        moment = rng.uniform(low, high)
        began = time.monotonic()
        process = start(inputs, out, sections, *extra)
        try:
            process.wait(timeout=moment)
            high = max(low, 0.8 * high)
        except subprocess.TimeoutExpired:
            kill(process, whom[len(log.kills) % len(whom)])
            log.kills.append(round(time.monotonic() - began, 2))
        if wait_for_orphans:
            log.survivors += left_over(out)
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
        span_s=(2, 60),
        whom=[given.whom],
    )
    print(json.dumps({"kills": log.kills, "survivors": log.survivors}, indent=1))


if __name__ == "__main__":
    main()
