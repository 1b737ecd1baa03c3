"""Heartbeats from beside, for long work that cannot call one itself: loading a model, a prefill."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 20.0
AT_MOST_S = 3600.0


@contextmanager
def beating(
    beat: Callable[[], None], every_s: float = EVERY_S, at_most_s: float = AT_MOST_S
) -> Iterator[Callable[[], None]]:
    """Call a heartbeat at once, and again and again in a thread while the block runs.

    The watchdog is there for work that hangs, so the thread ends after ``at_most_s`` and leaves
    the rest to it; work that hangs with the interpreter's lock stops the thread as well. No beat
    comes after the block: one that did would arm a watchdog that nobody feeds any more.

    Args:
        beat: Called from another thread: it must only say that time passes.
        every_s: Seconds between calls; less than half of the watchdog's patience.
        at_most_s: Seconds after which the thread gives up.

    Yields:
        What ends the calls early, for work that from some moment on can tell of itself.
    """
    over, ends_s = threading.Event(), time.monotonic() + at_most_s

    def run() -> None:
        while not over.wait(every_s) and time.monotonic() < ends_s:
            beat()

    beat()
    thread = threading.Thread(target=run, daemon=True, name="beating")
    thread.start()
    try:
        yield over.set
    finally:
        over.set()
        thread.join()
