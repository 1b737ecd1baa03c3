"""What a person sees while a run goes on: one bar per stage, with rates and time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from curation.engine.unit import UnitResult

WATCH_EVERY_S = 1.0
PLAIN_EVERY_S = 10.0
"""Without a terminal a line is printed this often instead of a bar."""


@contextmanager
def byte_progress(title: str, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A counter of bytes with a rate, for work of unknown length."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda size: bar.advance(task, size)


@contextmanager
def count_progress(title: str, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """How many of an unknown number are done, with a rate; lines when there is no terminal."""
    began = last = time.monotonic()

    def line(count: int) -> None:
        nonlocal last
        now = time.monotonic()
        if not quiet and now - last > PLAIN_EVERY_S:
            last = now
            print(f"{count} {title}, {count / (now - began):.1f}/s", file=sys.stderr)

    if quiet or not sys.stderr.isatty():
        yield line
        return
    columns = (TextColumn("{task.completed:.0f} {task.description}"), TimeElapsedColumn(), _Rate())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda count: bar.update(task, completed=count)


class _Rate(ProgressColumn):
    """Units per second, and what the stage made of them."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        rate = f"{speed:.2f}/s" if speed else "--/s"
        return Text(f"{rate} {task.fields.get('note', '')}")


class RunProgress:
    """Bars for a run; lines when there is no terminal; nothing when quiet.

    Args:
        stages: Names of the stages, in order.
        total: Number of units.
        quiet: Print nothing.
        watch: Says what the workers are doing right now, in words.
    """

    def __init__(
        self,
        stages: list[str],
        total: int,
        *,
        quiet: bool,
        watch: Callable[[], str] = lambda: "",
    ) -> None:
        self._console = Console(stderr=True)
        self._total, self._done, self._last = total, 0, time.monotonic()
        self._began, self._failed = time.monotonic(), 0
        self._parts, self._parts_done = 0, 0
        self._bars: Progress | None = None
        self._tasks = {}
        self._rows = dict.fromkeys(stages, 0)
        self._busy = dict.fromkeys(stages, 0.0)
        self._plain = not quiet and not sys.stderr.isatty()
        if not quiet and not self._plain:
            self._bars = Progress(
                TextColumn("{task.description:>12}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                _Rate(),
                console=self._console,
            )
            self._tasks = {s: self._bars.add_task(s, total=total) for s in stages}
            self._now = self._bars.add_task("in work", total=None, note="waiting for the engine")
        self._watch, self._over = watch, threading.Event()
        self._watcher = threading.Thread(target=self._follow, daemon=True, name="progress")

    def __enter__(self) -> RunProgress:
        if self._bars is not None:
            self._bars.start()
            self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._over.set()
            self._watcher.join()
            self._bars.remove_task(self._now)
            self._bars.stop()

    def advance(self, result: UnitResult, *, through: bool = True) -> None:
        """Take one finished unit: a video, a part of one, or a video up to where it is divided.

        Args:
            result: The unit's.
            through: Nothing more comes of its video.
        """
        unit = result.unit
        self._parts += len(result.division) + len(result.shares)
        self._parts_done += unit.part is not None or unit.clips is not None
        self._done += through
        self._failed += through and result.error is not None
        passed = self._passed(result)
        for stage in self._rows:
            count = result.counts.get(stage)
            if count is not None:
                self._rows[stage] += count.rows
                self._busy[stage] += count.busy_s
            if self._bars is not None:
                note = f"{self._rows[stage]} rows, {self._busy[stage]:.1f} s of work"
                self._bars.update(self._tasks[stage], advance=stage in passed, note=note)
        self._lengthen(result)
        if self._plain and time.monotonic() - self._last > PLAIN_EVERY_S:
            self._line()

    def _passed(self, result: UnitResult) -> set[str]:
        """Stages whose bars move by one: each video moves each bar once, each part those it does.

        A long video moves the bars before its division at first, the others when it is joined.
        """
        unit, stages = result.unit, list(self._rows)
        if unit.part is not None or unit.clips is not None:
            return set(unit.todo)
        later = unit.whole or unit.done_parts or unit.failure
        passed = set(stages[stages.index(unit.todo[0]) :] if later else stages)
        if result.division:
            passed &= set(stages[: stages.index(result.stage)])
        return passed

    def _lengthen(self, result: UnitResult) -> None:
        """What a video is divided into counts beside it."""
        if self._bars is None or not result.divided:
            return
        todo = result.unit.todo
        longer = [result.stage] if result.division else todo[todo.index(result.stage) :]
        for stage in longer:
            task = self._tasks[stage]
            more = len(result.division) + len(result.shares)
            self._bars.update(task, total=(self._bars.tasks[task].total or 0) + more)

    def _follow(self) -> None:
        """A long film finishes nothing for minutes: show that it moves."""
        assert self._bars is not None
        while not self._over.wait(WATCH_EVERY_S):
            text = self._watch()
            if text:
                self._bars.update(self._now, note=text)

    def _line(self) -> None:
        self._last = time.monotonic()
        # Parts count like videos: else nothing would move for the hours of a long film.
        rate = (self._done + self._parts_done) / (self._last - self._began)
        left = self._total + self._parts - self._done - self._parts_done
        left_s = f"{left / rate:.0f}" if rate else "?"
        parts = f", {self._parts_done}/{self._parts} parts of long ones" if self._parts else ""
        rows = ", ".join(f"{s} {n}" for s, n in self._rows.items() if n)
        self._console.print(
            f"{self._done}/{self._total} videos, {self._failed} failed{parts}, {rate:.2f}/s, "
            f"{left_s} s left ({rows})",
            highlight=False,
        )
