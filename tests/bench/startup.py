"""Seconds from the command to the first finished video, for both engines.

    python -m tests.bench.startup

Runs the real command in a fresh process on one short clip; wall clock, median of three.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pipelines.demo import demo_footage

RUNS = 3


def first_video_s(engine: str, folder: Path) -> tuple[float, float, float]:
    """(command to first finished video, Ray's start, whole command) of one fresh run."""
    out = Path(tempfile.mkdtemp(dir=folder))
    clip = demo_footage() / "bikes.mp4"
    command = [sys.executable, "-m", "pipelines.cli", "curate", str(clip)]
    command += ["--out", str(out), "--engine", engine, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    return report["first_video_s"], report["engine_start_s"], report["wall_s"]


def main() -> None:
    """Print the table."""
    print(f"{'engine':8} {'first video s':>14} {'Ray start s':>12} {'whole s':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for engine in ("inline", "ray"):
            runs = [first_video_s(engine, Path(folder)) for _ in range(RUNS)]
            first, start, whole = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"{engine:8} {first:14.1f} {start:12.1f} {whole:8.1f}")


if __name__ == "__main__":
    main()
