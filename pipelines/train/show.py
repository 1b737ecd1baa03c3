"""A training on a terminal: a bar with loss, rate and time left, then what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from training.trainer import DenoiserReport
    from training.vae.trainer import VaeReport

PLAIN_EVERY_S = 10.0
HELD_OUT = {"val_psnr_db", "val_loss"}
TOLD = {
    "loss": ("loss", "loss {:.4f}"),
    "psnr": ("val_psnr_db", "held out {:.2f} dB"),
    "val": ("val_loss", "held out {:.4f}"),
    "speed": ("tokens_per_s", "{:.0f} tokens/s"),
}
"""Keys of a row that are shown, and how."""
Told = Callable[[dict[str, Any]], None]


@contextmanager
def train_progress(steps: int, *, quiet: bool) -> Iterator[Told]:
    """What is given each row of the log: a bar, or lines when there is no terminal."""
    if quiet:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield _Lines(steps)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("steps", total=steps, note="")
        notes: dict[str, str] = {}

        def told(row: dict[str, Any]) -> None:
            notes.update(_notes(row))
            bar.update(task, completed=row["step"], note=" ".join(notes.values()))

        yield told


class _Lines:
    """A line now and then.

    Args:
        steps: Of the whole training.
    """

    def __init__(self, steps: int) -> None:
        self._steps, self._began, self._last, self._first = steps, time.monotonic(), 0.0, -1

    def __call__(self, row: dict[str, Any]) -> None:
        now, step = time.monotonic(), row["step"]
        self._first = step if self._first < 0 else self._first
        if now - self._last < PLAIN_EVERY_S and step < self._steps and not row.keys() & HELD_OUT:
            return
        self._last, rate = now, (step - self._first) / max(1e-9, now - self._began)
        left = f", {(self._steps - step) / rate / 60:.0f} min left" if rate else ""
        notes = " ".join(_notes(row).values())
        print(f"step {step} of {self._steps}, {rate:.2f}/s{left}, {notes}", file=sys.stderr)


def print_report(
    report: VaeReport | DenoiserReport, folder: Path, curves: Path | None, console: Console
) -> None:
    """Print what a run did and what to do next."""
    console.print(
        f"{report.steps} steps, {report.done_here} of them here in {report.seconds:.0f} s; "
        f"{report.parameters / 1e6:.2f} M weights; {report.skipped} steps without an update"
    )
    for name, value in report.validation.items():
        console.print(f"{name}: {value:.4g}")
    if curves is not None:
        console.print(f"curves: {curves}")
    for line in _made(report, folder):
        console.print(line)
    if not report.finished:
        console.print(f"[yellow]stopped; run the same command again to go on in {folder}[/]")


def _made(report: VaeReport | DenoiserReport, folder: Path) -> list[str]:
    """What came out, and what to do with it."""
    if report.kind == "vae":
        weights = report.weights
        return [f"weights: {weights}; `clipmill encode OUT --vae {weights}`"] if weights else []
    found = [f"video: {path}" for path in report.samples]
    if report.checkpoint:
        found.append(f"checkpoint: {report.checkpoint}")
    if report.finished:
        found.append(f'`clipmill sample {folder} --prompt "..." --out video.mp4`')
    return found


def _notes(row: dict[str, Any]) -> dict[str, str]:
    """What is worth a look; a number that was not finite is null, and left out."""
    found = {}
    for name, (key, text) in TOLD.items():
        if row.get(key) is not None:
            found[name] = text.format(row[key])
    if row.get("skipped"):
        found["skipped"] = f"{row['skipped']} skipped"
    return found
