"""Sampling on a terminal: steps with rate and time left, then what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pipelines.sample.job import Sampled

PLAIN_EVERY_S = 10.0


@contextmanager
def sample_progress(total: int, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """What is told the sampler's steps: a bar, or lines when there is no terminal.

    Args:
        total: Steps of all videos.
        quiet: Show nothing.
    """
    if quiet:
        yield lambda done, total: None
        return
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("steps", total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.2f}/s" if speed else "--/s")


class _Lines:
    """A line now and then."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last < PLAIN_EVERY_S:
            return
        self._last, rate = now, done / (now - self._began)
        left_s = (total - done) / rate
        print(f"step {done} of {total}, {rate:.2f}/s, {left_s:.0f} s left", file=sys.stderr)


def print_sampled(found: Sampled, console: Console) -> None:
    """Print the files."""
    for video in found.videos:
        console.print(f"{video['file']}: {video['prompt'] or '(no text)'}", markup=False)
    if found.strip is not None:
        console.print(f"strip: {found.strip}", markup=False)
    count = len(found.videos)
    each_s = found.seconds / max(1, count)
    made = "1 video" if count == 1 else f"{count} videos"
    console.print(
        f"{made} in {found.seconds:.1f} s, {each_s:.1f} s each; what made them stands beside them"
    )
