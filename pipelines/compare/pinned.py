"""A catalog as it was: its tables at the versions of a release, or of the end of a run.

Lance keeps old versions of a table until the end of a later run cleans them away, about an hour
on; those of a release are tagged and stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import lance

from curation.catalog.catalog import Catalog
from curation.storage import Storage
from pipelines.compare.place import RunRecord


class PinnedCatalog(Catalog):
    """A catalog that shows one old state; for reading only.

    Args:
        storage: The dataset root.
        pins: Table -> version number or tag. Other tables did not exist then.
        run: The run whose plan says which rows count.
    """

    def __init__(self, storage: Storage, pins: Mapping[str, int | str], run: RunRecord) -> None:
        super().__init__(storage)
        self._pins, self._run = dict(pins), run

    def has(self, table: str) -> bool:
        """True when the table existed then."""
        return table in self._pins

    def dataset(self, table: str) -> lance.LanceDataset:
        """The table as it was then."""
        return lance.dataset(self.uri(table), version=self._pins[table])

    def tables(self) -> list[str]:
        """Names of the tables that existed then, sorted."""
        return sorted(self._pins)

    def last_run(self) -> dict[str, Any]:
        """The run that this state belongs to."""
        return {
            "run_id": self._run.run_id,
            "command": self._run.command,
            "recorded_at": self._run.started_at,
            "config": self._run.config,
            "fingerprints": self._run.fingerprints,
            "versions": self._run.versions,
        }


def tags_of(catalog: Catalog) -> dict[str, dict[str, int]]:
    """Tag -> table -> version, over all tables."""
    found: dict[str, dict[str, int]] = {}
    for table in catalog.tables():
        for tag, what in catalog.dataset(table).tags.list().items():
            found.setdefault(tag, {})[table] = int(what["version"])
    return found


def pins_at(catalog: Catalog, end: datetime | None) -> tuple[dict[str, int], list[str]]:
    """The versions that were current at a moment.

    Args:
        catalog: The dataset.
        end: The moment, UTC; None: now.

    Returns:
        Table -> version, and the tables whose version of that moment has been cleaned away.
    """
    pins, gone = {}, []
    for table in catalog.tables():
        dataset = catalog.dataset(table)
        if end is None or table == "runs":  # grows only; the run is chosen by its id
            pins[table] = dataset.version
            continue
        version = version_at(dataset.versions(), end)
        if version is None:
            gone.append(table)
        elif version > 0:
            pins[table] = version
    return pins, gone


def version_at(versions: Sequence[Mapping[str, Any]], end: datetime) -> int | None:
    """The version that was current at a moment.

    Args:
        versions: ``LanceDataset.versions()``: those still there, their times as local time.
        end: The moment, UTC.

    Returns:
        Its number; 0: the table did not exist yet; None: it cannot be told any more. A tag may
        keep an old version while its successors are gone, so a version counts as the current one
        of a moment only when the next number is there and later, or it is the newest.
    """
    times = {int(v["version"]): v["timestamp"].astimezone(UTC) for v in versions}
    before = [number for number, at in times.items() if at <= end]
    if not before:
        return 0 if min(times) == 1 else None
    number = max(before)
    return number if number + 1 in times or number == max(times) else None
