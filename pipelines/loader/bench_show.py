"""The loader's speed on a terminal: a bar while it is measured, then a table and what it means."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.loader.bench import Measured, Variant, best_of
from pipelines.loader.show import aligned

HEAD = ("variant", "samples/s", "frames/s", "MB/s", "waited", "first batch", "per microbatch")


@contextmanager
def bench_progress(total_s: float, *, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A bar of the seconds that are measured; nothing without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", total=total_s)
        yield lambda seconds: bar.advance(task, seconds)


def print_bench(measured: Sequence[Measured], step_s: float, console: Console) -> None:
    """Print what was measured, and which setting is best here."""
    rows = [_cells(one) for one in measured]
    for number, line in enumerate(aligned([HEAD, *rows])):
        console.print(line, style=None if number else "bold")
    best = best_of(measured)
    console.print(
        f"best here: read.num_workers={best.workers} read.worker_kind={best.kind}, "
        f"{best.samples_per_s:.1f} samples/s"
    )
    if step_s:
        console.print(
            f"a training that takes {step_s * 1000:g} ms for a microbatch waits "
            f"{best.waited_share:.0%} of its time"
        )
    else:
        console.print(
            f"a training that takes {best.batch_s * 1000:.0f} ms or more for a microbatch need not "
            "wait (here nothing is trained, so all of the time is waiting; try --step-ms)"
        )
    failed = sum(one.failed for one in measured)
    if failed:
        console.print(f"[red]{failed} samples did not decode and were replaced[/]")


def _cells(one: Measured) -> tuple[str, ...]:
    return (
        Variant(one.workers, one.kind).name,
        f"{one.samples_per_s:.1f}",
        f"{one.frames_per_s:.0f}",
        f"{one.read_mb_per_s:.1f}",
        f"{one.waited_share:.0%}",
        f"{one.first_batch_s:.2f} s",
        f"{one.batch_s * 1000:.0f} ms",
    )
