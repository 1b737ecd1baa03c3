"""The proof: every file and every version of every table is searched for pieces of what went.

Files are read as they are, with all old versions, parts, reports and releases. Lance and Parquet
may store values compressed, so tables are read once more as values, deleted rows counted in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from curation.catalog.catalog import FOLDER as CATALOG
from curation.catalog.catalog import Catalog
from curation.errors import DamagedError
from curation.removal.columns import buffers_of, byte_columns, scan_buffers
from curation.removal.files import OWN, all_files
from curation.removal.gone import Gone
from curation.removal.history import remembers
from curation.removal.needles import IDS, Needles
from curation.removal.search import Searcher
from curation.removal.tombstones import TABLE
from curation.storage import Storage

MAY_NAME = frozenset({TABLE, "identities"})
"""Tables in which the ids stay, so that what is gone is known again."""
MAX_FOUND = 100
PARQUET_ROWS = 4096


@dataclass(kw_only=True)
class Proof:
    """What was looked through, and what was found.

    Attributes:
        needles: Pieces looked for, by kind.
        num_files: Files read.
        num_bytes: Their size.
        num_versions: Versions of tables read.
        seconds: How long it took.
        found: What should not be there, in words; empty when all is well.
    """

    needles: dict[str, int] = field(default_factory=dict)
    num_files: int = 0
    num_bytes: int = 0
    num_versions: int = 0
    seconds: float = 0.0
    found: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def prove(
    catalog: Catalog,
    gone: Gone,
    needles: Needles,
    on_bytes: Callable[[int], object] = lambda _: None,
) -> Proof:
    """Search a dataset root for what should be gone.

    Args:
        catalog: The dataset.
        gone: What is gone.
        needles: Pieces of it.
        on_bytes: Called with the bytes of each piece read.
    """
    started = time.monotonic()
    proof = Proof(needles=needles.counts())
    search = _Search(catalog.storage, gone, needles, proof, on_bytes)
    for name in all_files(catalog.storage):
        if name not in OWN:
            search.file(name)
    for table in catalog.tables():
        search.table(catalog, table)
    proof.found.sort()
    proof.seconds = round(time.monotonic() - started, 2)
    return proof


class _Search:
    """Looks through one thing after the other."""

    def __init__(
        self,
        storage: Storage,
        gone: Gone,
        needles: Needles,
        proof: Proof,
        on_bytes: Callable[[int], object],
    ) -> None:
        self._storage, self._gone, self._proof = storage, gone, proof
        self._needles, self._on_bytes = needles, on_bytes
        self._searcher = Searcher(needles.values)

    def file(self, name: str) -> None:
        """A file's name, its bytes, and its values when it is a Parquet table."""
        self._proof.num_files += 1
        if self._gone.names(name):
            self._tell(f"{name}: is named after what was removed")
        ids = name.split("/")[:2] not in [[CATALOG, f"{t}.lance"] for t in MAY_NAME]
        with self._storage.open_read(name) as source:
            for needle, _ in self._searcher.find_in_file(source, self._count):
                self._note(name, needle, ids)
        if name.endswith(".parquet"):
            for buffer in self._parquet(name):
                self._look(name, buffer, ids=True)

    def table(self, catalog: Catalog, table: str) -> None:
        """Every version of a table, row by row and value by value."""
        latest = catalog.dataset(table)
        for info in latest.versions():
            version = latest.checkout_version(info["version"])
            self._proof.num_versions += 1
            where = f"table {table}, version {info['version']}"
            if remembers(catalog, version, table, self._gone):
                self._tell(f"{where}: has rows of what was removed")
            for buffer in scan_buffers(version, byte_columns(version.schema), deleted=True):
                self._look(where, buffer, ids=table not in MAY_NAME)
                self._on_bytes(len(buffer))

    def _parquet(self, name: str) -> Iterator[memoryview]:
        try:
            with self._storage.open_table(name) as table:
                names = byte_columns(table.schema_arrow)
                for batch in table.iter_batches(PARQUET_ROWS, columns=names) if names else ():
                    yield from buffers_of(batch, names)
        except DamagedError:  # no table by its content: its bytes were looked at
            return

    def _look(self, where: str, buffer: memoryview, *, ids: bool) -> None:
        for needle, _ in self._searcher.find(buffer):
            self._note(where, needle, ids)

    def _note(self, where: str, needle: int, ids: bool) -> None:
        kind = self._needles.kinds[needle]
        if ids or kind not in IDS:
            self._tell(f"{where}: holds a {kind} of what was removed")

    def _tell(self, text: str) -> None:
        if text not in self._proof.found and len(self._proof.found) < MAX_FOUND:
            self._proof.found.append(text)

    def _count(self, size: int) -> None:
        self._proof.num_bytes += size
        self._on_bytes(size)
