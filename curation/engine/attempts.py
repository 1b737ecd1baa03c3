"""Attempt markers and the watchdog: an input that kills or hangs its worker costs one error row.

Before a unit a worker leaves a marker that names the stage it is in. If the process dies, the
marker stays and tells the next attempt what happened. The stall timer is faulthandler's: it runs
in C, so it ends even a worker that hangs in a decoder while holding the interpreter lock.

Markers of an earlier run count only with evidence of a crash (a trace that faulthandler left, or a
cause that the memory guard wrote), so a run that was killed from outside again and again blames
nobody.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

import psutil

from curation.engine.unit import Limits
from curation.errors import ErrorCode
from curation.ids import digest
from curation.storage import Storage

FOLDER = "attempts"
MEMORY_POLL_S = 0.5
EXIT_MEMORY = 86


class Attempt:
    """The marker of one unit in one worker.

    Args:
        storage: The dataset root.
        key: The unit's.
        run_id: The run that it belongs to.
        limits: When a worker is given up.

    Attributes:
        number: 1 for the first attempt.
        blamed: Stage in which the last attempt died, or None.
        code: Error code for that death.
    """

    def __init__(self, storage: Storage, key: str, run_id: str, limits: Limits) -> None:
        self._storage, self._run_id, self._limits = storage, run_id, limits
        self._name = f"{FOLDER}/{key}.json"
        self._trace_path = trace_path(storage, key)
        self._trace: IO[bytes] | None = None
        self._was_enabled = False
        self._stage = ""
        marker = storage.read_json(self._name)
        evidence = self._evidence()
        told = evidence or (marker or {}).get("cause")
        if marker is not None and (marker["run_id"] == run_id or told):
            self.number = int(marker["number"]) + 1
            self.blamed: str | None = str(marker["stage"])
            self.code = self._classify(marker, evidence)
        else:
            self.number, self.blamed, self.code = 1, None, str(ErrorCode.DECODER_CRASHED)

    @property
    def exhausted(self) -> bool:
        """True when the blamed stage must not be tried again."""
        return self.number >= self._limits.max_attempts

    def enter(self, stage: str) -> None:
        """Mark the stage about to run, and arm the watchdog."""
        self._stage = stage
        self._mark(stage, cause="")
        if self._trace is None:
            self._was_enabled = faulthandler.is_enabled()
            os.makedirs(os.path.dirname(self._trace_path), exist_ok=True)
            self._trace = open(self._trace_path, "wb")  # noqa: SIM115
            faulthandler.enable(self._trace, all_threads=False)
        self.beat()

    def beat(self) -> None:
        """Tell the watchdog that work goes on."""
        trace = self._trace  # read once: beats may come from another thread, beside a disarm
        if trace is not None:
            faulthandler.dump_traceback_later(self._limits.stall_timeout_s, exit=True, file=trace)

    def disarm(self) -> None:
        """Stop the watchdog; the marker stays."""
        if self._trace is None:
            return
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
        if self._was_enabled and sys.__stderr__ is not None:
            with contextlib.suppress(OSError, ValueError):  # a notebook's stderr is no file
                faulthandler.enable(sys.__stderr__)
        self._trace.close()
        self._trace = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._trace_path)

    def close(self) -> None:
        """The unit ended in an orderly way: disarm and remove the marker."""
        self.disarm()
        self._storage.remove(self._name)

    def out_of_memory(self) -> None:
        """Called by the memory guard just before the process ends."""
        self._mark(self._stage, cause=ErrorCode.OUT_OF_MEMORY)

    def _mark(self, stage: str, cause: str) -> None:
        marker = {"run_id": self._run_id, "number": self.number, "stage": stage, "cause": cause}
        self._storage.write_json(self._name, marker)

    def _evidence(self) -> str:
        try:
            return Path(self._trace_path).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _classify(self, marker: dict[str, str], evidence: str) -> str:
        if marker.get("cause"):
            return str(marker["cause"])
        return str(ErrorCode.TIMED_OUT if "Timeout" in evidence else ErrorCode.DECODER_CRASHED)


def trace_path(storage: Storage, key: str) -> str:
    """Where faulthandler writes: it needs a local file, so beside a remote root in scratch."""
    if storage.local:
        return storage.path(f"{FOLDER}/{key}.trace")
    folder = Path(tempfile.gettempdir()) / f"clipmill-traces-{digest(storage.url)[:12]}"
    return str(folder / f"{key}.trace")


class MemoryGuard:
    """Ends the process when it outgrows its limit, after saying so in the marker."""

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.memory_limit_bytes
        self.attempt: Attempt | None = None
        if self._limit is not None:
            threading.Thread(target=self._watch, daemon=True, name="memory-guard").start()

    def _watch(self) -> None:
        process, tick = psutil.Process(), threading.Event()
        while not tick.wait(MEMORY_POLL_S):
            attempt = self.attempt
            if attempt is not None and process.memory_info().rss > (self._limit or 0):
                attempt.out_of_memory()
                os._exit(EXIT_MEMORY)


def in_work(storage: Storage) -> list[tuple[str, str]]:
    """Source id and stage of the units that workers have in hand now."""
    found = []
    for name in storage.list(FOLDER, suffix=".json"):
        marker = storage.read_json(name)
        if marker is not None:
            found.append((_source_of(name), str(marker["stage"])))
    return found


def _source_of(name: str) -> str:
    """The source id in a marker's name, which is that of the unit (see ``Unit.key``)."""
    return name.rsplit("/", 1)[-1].removesuffix(".json").partition("-")[0]


def clear_markers(storage: Storage) -> list[str]:
    """Remove the markers of dead runs that carry no trace of a crash.

    Returns:
        Source ids that were in work when the last run was ended from outside.
    """
    interrupted: dict[str, None] = {}
    for name in storage.list(FOLDER, suffix=".json"):
        key = name.rsplit("/", 1)[-1].removesuffix(".json")
        trace = Path(trace_path(storage, key))
        marker = storage.read_json(name)
        crashed = trace.exists() and trace.stat().st_size > 0
        if not crashed and not (marker or {}).get("cause"):
            storage.remove(name)
            trace.unlink(missing_ok=True)
            interrupted[_source_of(name)] = None
    return list(interrupted)
