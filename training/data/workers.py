"""Reading microbatches ahead: threads of the caller's process, each alone or with a process.

A task is one microbatch. Every worker is a thread here; with ``worker_kind: process`` each has a
spawned process of its own that reads for it and hands tensors over in shared memory. What comes out
of a task depends on the task alone, so neither the number of workers nor their kind can be seen in
the batches. Nothing outlives the caller: workers end with the thread that asked them last, and
processes with their workers.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any, cast

import torch
import torch.multiprocessing as mp  # its import lets tensors travel in shared memory

from curation.errors import ClipmillError
from training.data.sample import SampleReader
from training.data.settings import ReadSettings
from training.data.tasks import Read, Task, read_task

POLL_S = 0.2


class Workers:
    """A pool that reads tasks; results are asked for in any order.

    Args:
        settings: Number and kind of workers, and how to read.
        seed: Of the run's draws.
        pixels: Decode the clips.
        pin_memory: Put tensors into page-locked memory.
    """

    def __init__(
        self, settings: ReadSettings, seed: int, *, pixels: bool, pin_memory: bool
    ) -> None:
        self.count = settings.num_workers
        self._jobs: queue.SimpleQueue[tuple[Future[Read], Task]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._user = threading.current_thread()
        self._own = SampleReader(settings, seed, pixels=pixels)
        start = _Process if settings.worker_kind == "process" else _Thread
        self._threads = [
            threading.Thread(
                target=_serve,
                args=(self._jobs, self._over, start, (settings, seed, pixels), pin_memory),
                name=f"clipmill-loader-{number}",
            )
            for number in range(self.count)
        ]
        for thread in self._threads:
            thread.start()
        self._pin = pin_memory

    @property
    def ended(self) -> bool:
        """True when there are workers and all have ended."""
        return bool(self._threads) and not any(t.is_alive() for t in self._threads)

    def submit(self, task: Task) -> Future[Read]:
        """Have a task read; without workers at once, in the caller's thread."""
        self._user = threading.current_thread()
        future: Future[Read] = Future()
        if self._threads:
            self._jobs.put((future, task))
        else:
            future.set_result(self.read(task))
        return future

    def read(self, task: Task) -> Read:
        """Read a task in the caller's thread."""
        found = read_task(self._own, task)
        if self._pin:
            found.pin_memory()
        return found

    def close(self) -> None:
        """End all workers; each finishes what it has begun."""
        self.stop()
        for thread in self._threads:
            thread.join()
        self._own.close()

    def stop(self) -> None:
        """Tell the workers to end, without waiting."""
        self._stop.set()

    def _over(self) -> bool:
        """True when nobody waits for results: told to stop, or the thread that asked is gone."""
        return self._stop.is_set() or not self._user.is_alive()


def _serve(
    jobs: queue.SimpleQueue[tuple[Future[Read], Task]],
    over: Callable[[], bool],
    start: Callable[..., _Thread | _Process],
    reads: tuple[ReadSettings, int, bool],
    pin_memory: bool,
) -> None:
    """The work of one thread, until nobody waits for it."""
    runner: _Thread | _Process | None = None
    while not over():
        try:
            future, task = jobs.get(timeout=POLL_S)
        except queue.Empty:
            continue
        if not future.set_running_or_notify_cancel():
            continue
        try:
            runner = runner or start(*reads)
            found = runner(task, over)
            if pin_memory:
                found.pin_memory()
            future.set_result(found)
        except BaseException as exc:  # handed over, not swallowed
            future.set_exception(exc)
            if runner is not None and not runner.alive():
                runner.close()
                runner = None  # the next task gets a new one
        del future, task
    if runner is not None:
        runner.close()
    with contextlib.suppress(queue.Empty):
        while True:  # whoever does wait is told
            future, _ = jobs.get_nowait()
            if future.set_running_or_notify_cancel():
                future.set_exception(ClipmillError("the loader was closed"))


class _Thread:
    """Reads in this thread."""

    def __init__(self, settings: ReadSettings, seed: int, pixels: bool) -> None:
        self._reader = SampleReader(settings, seed, pixels=pixels)

    def __call__(self, task: Task, stopping: Callable[[], bool]) -> Read:
        return read_task(self._reader, task)

    def alive(self) -> bool:
        """Always: it is this thread."""
        return True

    def close(self) -> None:
        """Close its files."""
        self._reader.close()


class _Process:
    """Has a process of its own read."""

    def __init__(self, settings: ReadSettings, seed: int, pixels: bool) -> None:
        context = mp.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_read_for_parent, args=(theirs, settings, seed, pixels), daemon=True
        )
        self._process.start()
        theirs.close()

    def __call__(self, task: Task, stopping: Callable[[], bool]) -> Read:
        try:
            self._pipe.send(task)
            while not self._pipe.poll(POLL_S):
                if stopping():
                    raise ClipmillError("the loader was closed")
            found = self._pipe.recv()
        except (EOFError, OSError) as exc:
            self._process.join(5)
            raise _died(self._process.exitcode) from exc
        if isinstance(found, BaseException):
            raise found
        return cast(Read, found)

    def alive(self) -> bool:
        """True as long as the process runs."""
        return self._process.is_alive()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.terminate()
        self._process.join()


def _died(code: int | None) -> ClipmillError:
    why = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
    mends = {
        -signal.SIGBUS: "shared memory (/dev/shm) is full: give it more, lower prefetch_bytes, or "
        "set worker_kind: thread",
        -signal.SIGKILL: "memory may have run out: lower num_workers or prefetch_bytes",
    }
    usual = "a script that spawns processes needs `if __name__ == '__main__':`; or set " + (
        "worker_kind: thread"
    )
    return ClipmillError(
        f"a process that reads samples died ({why})",
        where="read.num_workers",
        mend=mends.get(code or 0, usual),
    )


def _read_for_parent(pipe: Connection, settings: ReadSettings, seed: int, pixels: bool) -> None:
    """The spawned process: reads task after task until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends this one
    torch.set_num_threads(1)
    reader = SampleReader(settings, seed, pixels=pixels)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        found: Any
        try:
            found = read_task(reader, task)
        except Exception as exc:  # handed over, not swallowed
            found = exc
        pipe.send(found)
