"""Where benchmarks find footage, and how they print."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.demo import demo_footage


def footage(names: list[str]) -> list[Path]:
    """Named files of the shared real videos, or the packaged clips where there are none."""
    default = Path(__file__).resolve().parents[2].parent / "shared" / "assets"
    folder = Path(os.environ.get("CLIPMILL_ASSETS", default)) / "videos" / "real"
    found = [folder / n for n in names if (folder / n).is_file()]
    return found or sorted(demo_footage().glob("*.mp4"))


@dataclass
class Times:
    """CPU and elapsed seconds of each counted run of a job."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)


def interleaved(runs: int, *jobs: Callable[[], object]) -> list[Times]:
    """Time each job, `runs` times in turn (A B A B ...), after one warm-up each."""
    times = [Times() for _ in jobs]
    for turn in range(runs + 1):
        for job, spent in zip(jobs, times, strict=True):
            cpu, wall = time.process_time(), time.perf_counter()
            job()
            if turn:
                spent.cpu_s.append(time.process_time() - cpu)
                spent.wall_s.append(time.perf_counter() - wall)
    return times


def median_ratio(above: list[float], below: list[float]) -> float:
    """Median of the pairwise ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
