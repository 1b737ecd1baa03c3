"""What a person sees while clips are encoded: a bar with rate and time left, or a line at times."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipelines.encode.items import ShardDone
from pipelines.progress import PLAIN_EVERY_S


class EncodeProgress:
    """Clips that are done, of all workers together.

    Args:
        clips: To be encoded.
        shards: To be written.
        quiet: Print nothing.
    """

    def __init__(self, clips: int, shards: int, *, quiet: bool) -> None:
        self._clips, self._shards = clips, shards
        self._done = self._failed = self._written = 0
        self._inside: dict[int, int] = {}
        self._began = self._last = time.monotonic()
        self._plain = not quiet and not sys.stderr.isatty()
        self._bar: Progress | None = None
        if not quiet and not self._plain:
            self._bar = Progress(
                TextColumn("clips"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=clips)

    def __enter__(self) -> EncodeProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def clips_done(self) -> int:
        """Clips that went through, in shards that are written or not."""
        return self._done + sum(self._inside.values())

    def count(self, number: int, clips: int) -> None:
        """So many clips of a shard that is in work are done.

        Args:
            number: Of the shard, in the order of the work.
            clips: Of it; fewer than before when it is tried again.
        """
        if number >= self._written:
            self._inside[number] = clips
        self._show()

    def shard(self, done: ShardDone) -> None:
        """A shard is written; they come in order."""
        self._inside.pop(self._written, None)
        self._written += 1
        self._done += done.clips
        self._failed += done.failed
        self._show()

    def _show(self) -> None:
        now, count = time.monotonic(), self.clips_done
        rate = count / (now - self._began) if now > self._began else 0.0
        told = f"{self._written}/{self._shards} shards, {rate:.2f} clips/s, {self._failed} failed"
        if self._bar is not None:
            self._bar.update(self._task, completed=count, description=told)
        elif self._plain and now - self._last > PLAIN_EVERY_S:
            self._last = now
            left_s = f"{(self._clips - count) / rate:.0f}" if rate else "?"
            print(f"{count}/{self._clips} clips, {told}, {left_s} s left", file=sys.stderr)
