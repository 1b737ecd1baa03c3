"""Part files: what a worker hands to the committer.

One part holds the rows of all tables for one unit of work. It is a zip (stored, not compressed)
of one Arrow stream per table, written to local scratch first and then published in one step, so
a part in the dataset root is always whole. Rows can be read back while the part is being built,
so later stages of the unit need no second copy in memory.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.storage import Storage

PARTS = "parts"
HEADER = "header.json"


class PartWriter:
    """Collects the rows of one unit in a scratch folder.

    Args:
        scratch: An empty local folder.
        schemas: Stored schema of each table.
    """

    def __init__(self, scratch: Path, schemas: dict[str, pa.Schema]) -> None:
        self._scratch, self._schemas = scratch, schemas
        self._open: dict[str, tuple[pa.OSFile, pa.RecordBatchStreamWriter]] = {}
        self.num_rows: dict[str, int] = {}

    def add(self, table: str, rows: pa.Table) -> None:
        """Append rows; missing columns become null, order follows the stored schema."""
        schema = self._schemas[table]
        if table not in self._open:
            sink = pa.OSFile(str(self._file(table)), "wb")
            self._open[table] = (sink, pa.ipc.new_stream(sink, schema))
        self._open[table][1].write_table(conform(rows, schema))
        self.num_rows[table] = self.num_rows.get(table, 0) + rows.num_rows

    def read(self, table: str) -> Iterator[pa.RecordBatch]:
        """The rows added so far, batch by batch; closes the table for further rows."""
        self._close(table)
        path = self._file(table)
        if path.exists():
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
                yield from reader

    def discard(self, table: str) -> None:
        """Forget the rows added to a table."""
        self._close(table)
        self._open.pop(table, None)
        self.num_rows.pop(table, None)
        self._file(table).unlink(missing_ok=True)

    def publish(self, storage: Storage, name: str, header: dict[str, Any]) -> None:
        """Write the part file under ``parts/`` in one atomic step."""
        for table in list(self._open):
            self._close(table)
        whole = self._scratch / "part.zip"
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(HEADER, json.dumps(header, sort_keys=True))
            for path in sorted(self._scratch.glob("*.arrow")):
                archive.write(path, path.name)
        storage.put_file(whole, f"{PARTS}/{name}")

    def _file(self, table: str) -> Path:
        return self._scratch / f"{table}.arrow"

    def _close(self, table: str) -> None:
        opened = self._open.get(table)
        if opened is not None and not opened[0].closed:
            opened[1].close()
            opened[0].close()


class PartReader:
    """Reads a published part.

    Args:
        storage: The dataset root.
        name: Name below ``parts/``.
        scratch: Where a remote part is copied to before it is read.
    """

    def __init__(self, storage: Storage, name: str, scratch: Path) -> None:
        full = f"{PARTS}/{name}"
        self._copied = not storage.local
        if storage.local:
            self._path = storage.path(full)
        else:
            self._path = str(scratch / name.replace("/", "_"))
            with storage.open_read(full) as inp, open(self._path, "wb") as out:
                shutil.copyfileobj(inp, out)

    def close(self) -> None:
        """Remove the local copy of a remote part; it cannot be read any more."""
        if self._copied:
            Path(self._path).unlink(missing_ok=True)

    def header(self) -> dict[str, Any]:
        """What the worker said of the unit."""
        with zipfile.ZipFile(self._path) as archive:
            return json.loads(archive.read(HEADER))

    def tables(self) -> list[str]:
        """Names of the tables that have rows."""
        with zipfile.ZipFile(self._path) as archive:
            return [n.removesuffix(".arrow") for n in archive.namelist() if n.endswith(".arrow")]

    def read(self, table: str) -> Iterator[pa.RecordBatch]:
        """The rows of a table, batch by batch."""
        with zipfile.ZipFile(self._path) as archive:
            try:
                member = archive.open(f"{table}.arrow")
            except KeyError:
                return
            with member, pa.ipc.open_stream(io.BufferedReader(member)) as reader:  # pyright: ignore[reportArgumentType]
                yield from reader


def conform(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows in the order and types of a schema; columns it lacks become null.

    Raises:
        ValueError: A column that the schema does not know.
    """
    unknown = set(rows.column_names) - set(schema.names)
    if unknown:
        raise ValueError(f"undeclared columns {sorted(unknown)}")
    columns = [
        rows.column(f.name).cast(f.type)
        if f.name in rows.column_names
        else pa.nulls(rows.num_rows, f.type)
        for f in schema
    ]
    return pa.table(columns, schema=schema)
