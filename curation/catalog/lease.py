"""The lease: one writer per dataset root.

A file names the run that holds the root. A holder on this host is alive when its process is; one
on another host when it renewed the file lately.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from types import TracebackType

import psutil

from curation.errors import CatalogError
from curation.storage import Storage, host_name

NAME = "lease.json"
LOCK = "lease.lock"
RENEW_EVERY_S = 10.0
STALE_AFTER_S = 60.0


class Lease:
    """Holds a dataset root for the length of a ``with`` block.

    Raises:
        CatalogError: Another live run holds it.
    """

    def __init__(self, storage: Storage, run_id: str) -> None:
        self._storage, self.run_id = storage, run_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")

    def __enter__(self) -> Lease:
        with _exclusive(self._storage):
            holder = self._storage.read_json(NAME)
            if holder is not None and _alive(holder):
                raise CatalogError(
                    f"another run ({holder.get('run_id')}) is writing here: process "
                    f"{holder.get('pid')} on {holder.get('host')}",
                    where=self._storage.url,
                    mend="wait for it, or stop it; a dead holder is noticed within a minute",
                )
            self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if holds(self._storage, self.run_id):
            self._storage.remove(NAME)

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_EVERY_S):
            with contextlib.suppress(OSError), _exclusive(self._storage):
                if not holds(self._storage, self.run_id):
                    return  # this process slept too long, and another run took over
                self._write()

    def _write(self) -> None:
        process = psutil.Process()
        self._storage.write_json(
            NAME,
            {
                "run_id": self.run_id,
                "host": host_name(),
                "pid": os.getpid(),
                "pid_started": process.create_time(),
                "renewed": time.time(),
            },
        )


@contextlib.contextmanager
def _exclusive(storage: Storage) -> Iterator[None]:
    """One process at a time between reading and writing the lease (on a local file system)."""
    if not storage.local:
        yield
        return
    os.makedirs(storage.root, exist_ok=True)
    with open(storage.path(LOCK), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def holds(storage: Storage, run_id: str) -> bool:
    """True while the root's lease names this run; an orphaned worker must not publish."""
    holder = storage.read_json(NAME)
    return holder is not None and holder.get("run_id") == run_id


def _alive(holder: dict[str, object]) -> bool:
    if holder.get("host") == host_name():
        try:
            process = psutil.Process(int(str(holder["pid"])))
            same = abs(process.create_time() - float(str(holder["pid_started"]))) < 1.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, KeyError, ValueError):
            return False
    return time.time() - float(str(holder.get("renewed", 0))) < STALE_AFTER_S
