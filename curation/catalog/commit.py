"""The committer: part files into tables, exactly once, whatever moment the process dies.

A batch manifest is written first. Each table then gets one append whose Lance transaction names
the batch; ``done`` comes last; then the parts and the manifest go. After a crash the manifest is
replayed and tables whose transactions already name the batch are skipped.
"""

from __future__ import annotations

import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.engine.parts import PARTS, PartReader, conform
from curation.ids import json_digest

MANIFEST = f"{PARTS}/manifest.json"
BATCH_PROPERTY = "clipmill.batch"
BY_VIDEO = {"clips", "errors"}
"""Tables with a ``clip_id`` whose rows come in video by video."""
Key = tuple[str, str]
"""(clip or video id, fingerprint)."""


class Committer:
    """Collects parts and commits them every so many rows or seconds.

    Args:
        catalog: Where to.
        max_rows: Commit when this many rows wait.
        max_wait_s: Commit when the oldest part has waited this long.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        max_rows: int = 20_000,
        max_wait_s: float = 20.0,
    ) -> None:
        self._catalog, self._storage = catalog, catalog.storage
        self._max_rows, self._max_wait_s = max_rows, max_wait_s
        self._waiting: list[str] = []
        self._rows = 0
        self._since = 0.0

    def recover(self) -> int:
        """Finish what an earlier run left: its open batch, then its uncommitted parts.

        Returns:
            Number of parts committed.
        """
        manifest = self._storage.read_json(MANIFEST)
        count = 0
        if manifest is not None:
            self._apply(manifest)
            count += len(manifest["parts"])
        for part in self._storage.list(PARTS, suffix=".part"):
            try:
                self.add(part.removeprefix(f"{PARTS}/"))
            except zipfile.BadZipFile:  # the machine went down before the bytes reached the disk
                self._storage.remove(part)
                continue
            count += 1
        self.flush()
        return count

    def add(self, part: str) -> None:
        """Take a published part; may commit."""
        with tempfile.TemporaryDirectory() as scratch:
            header = PartReader(self._storage, part, Path(scratch)).header()
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(part)
        self._rows += sum(header["num_rows"].values())
        if self._rows >= self._max_rows or time.monotonic() - self._since > self._max_wait_s:
            self.flush()

    def flush(self) -> None:
        """Commit all waiting parts."""
        if not self._waiting:
            return
        parts = sorted(set(self._waiting))
        versions = self._catalog.versions()
        batch = json_digest({"parts": parts, "versions": versions})
        manifest = {"batch": batch, "parts": parts, "versions": versions}
        self._storage.write_json(MANIFEST, manifest)
        self._apply(manifest)
        self._waiting, self._rows = [], 0

    def _apply(self, manifest: dict[str, Any]) -> None:
        """Append the batch to each table that does not hold it yet, then drop its files."""
        batch, versions = manifest["batch"], manifest["versions"]
        with tempfile.TemporaryDirectory() as scratch:
            found = [p for p in manifest["parts"] if self._storage.exists(f"{PARTS}/{p}")]
            readers = [PartReader(self._storage, p, Path(scratch)) for p in found]
            for table in self._order(readers):
                if self._holds(table, batch, versions.get(table, 0)):
                    continue
                schema = self._table_schema(table)
                rows = _rows(table, readers, self._known(table, readers), schema)
                stream = pa.RecordBatchReader.from_batches(schema, _non_empty(rows))
                lance.write_dataset(
                    stream,
                    self._catalog.uri(table),
                    mode="append",
                    transaction_properties={BATCH_PROPERTY: batch},
                )
        for part in manifest["parts"]:
            self._storage.remove(f"{PARTS}/{part}")
        self._storage.remove(MANIFEST)

    def _order(self, readers: list[PartReader]) -> list[str]:
        """Tables of the batch, ``done`` last; a part may be of an older plan."""
        names = {t for r in readers for t in r.tables()}
        known = [t for t in self._catalog.tables() if t in names and t != "done"]
        return known + (["done"] if "done" in names else [])

    def _table_schema(self, table: str) -> pa.Schema:
        """As the table is: a part of an older plan may fill columns that the new one lacks."""
        return self._catalog.dataset(table).schema

    def _holds(self, table: str, batch: str, version: int) -> bool:
        """True when a transaction after ``version`` names the batch."""
        dataset = self._catalog.dataset(table)
        newer = dataset.version - version
        if newer <= 0:
            return False
        for transaction in dataset.get_transactions(newer):
            properties = getattr(transaction, "transaction_properties", None) or {}
            if properties.get(BATCH_PROPERTY) == batch:
                return True
        return False

    def _known(self, table: str, readers: list[PartReader]) -> set[Key]:
        """Keys of the batch's rows that a table already holds.

        Two sources with equal bytes can be analysed at the same time on two machines, and an
        orphaned worker can publish a part again: the second one's rows must not come in.
        """
        key = _key_column(table, self._table_schema(table))
        holder = table if key == "clip_id" else "done"
        wanted = {k for r in readers for k in _keys(r, table, key)} if key else set()
        if not wanted or key is None:
            return set()
        ids = ", ".join(f"'{i}'" for i in sorted({i for i, _ in wanted}))
        once = "" if key == "clip_id" else " AND once"
        found = self._catalog.dataset(holder).to_table(
            columns=[key, "fingerprint"], filter=f"{key} IN ({ids}){once}"
        )
        return wanted & set(_pairs(found, key))


def _key_column(table: str, schema: pa.Schema) -> str | None:
    """What makes a row of a table unique to its writer: the clip, the video, or nothing."""
    names = set(schema.names)
    if "fingerprint" not in names:
        return None
    return "clip_id" if "clip_id" in names and table not in BY_VIDEO else "video_id"


def _pairs(rows: pa.Table | pa.RecordBatch, key: str) -> list[Key]:
    ids, prints = rows.column(key).to_pylist(), rows.column("fingerprint").to_pylist()
    return list(zip(ids, prints, strict=True))


def _keys(reader: PartReader, table: str, key: str) -> set[Key]:
    """Keys a part brings: its clips, or the videos its ``done`` rows declare as once."""
    if key == "clip_id":
        return {p for batch in reader.read(table) for p in _pairs(batch, key)}
    return {
        (r["video_id"], r["fingerprint"])
        for batch in reader.read("done")
        for r in batch.to_pylist()
        if r["once"]
    }


def _rows(
    table: str, readers: list[PartReader], known: set[Key], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Rows of a table over all parts, in order, without those that are already in."""
    key = _key_column(table, schema)
    seen = set(known)
    for reader in readers:
        mine = _keys(reader, table, key) if key else set()
        for batch in reader.read(table):
            rows = pa.Table.from_batches([batch])
            if key:
                fresh = [p not in seen for p in _pairs(rows, key)]
                rows = rows.filter(pa.array(fresh, pa.bool_()))
            extra = [c for c in rows.column_names if c not in schema.names]
            yield from conform(rows.drop_columns(extra), schema).to_batches()
        seen |= mine


def _non_empty(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return (b for b in batches if b.num_rows)
