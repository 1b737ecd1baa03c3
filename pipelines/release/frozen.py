"""Reading a release by itself: DuckDB over its own Parquet files, on any file system."""

from __future__ import annotations

from typing import Any

import duckdb
import psutil
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FSSpecHandler, PyFileSystem

from curation.storage import Storage
from pipelines.release.tables import TABLES, data_file

THREADS = 2
MEMORY_SHARE = 0.3
"""Share of the machine's memory that a query may take."""
INDEX = "shards/index.parquet"


class Frozen:
    """The tables of a release as views of one locked DuckDB session, ``shard_index`` among them.

    Args:
        storage: The dataset root.
        folder: Of the release, relative to it.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self.storage, self.folder = storage, folder
        memory = int(psutil.virtual_memory().total * MEMORY_SHARE / 2**20)
        self._con = duckdb.connect(
            ":memory:", config={"threads": THREADS, "memory_limit": f"{memory}MiB"}
        )
        self._schemas: dict[str, pa.Schema] = {}
        for view, name in [*((t, data_file(t)) for t in TABLES), ("shard_index", INDEX)]:
            dataset = self.dataset(name)
            self._schemas[view] = dataset.schema
            self._con.register(view, dataset)
        self._con.execute("SET enable_external_access = false")
        self._con.execute("SET python_enable_replacements = false")
        self._con.execute("SET lock_configuration = true")

    def dataset(self, name: str) -> ds.Dataset:
        """A Parquet file of the release."""
        path = self.storage.path(f"{self.folder}/{name}")
        files = None if self.storage.local else PyFileSystem(FSSpecHandler(self.storage.fs))
        return ds.dataset(path, format="parquet", filesystem=files)

    def schema(self, view: str) -> pa.Schema:
        """Columns of a table."""
        return self._schemas[view]

    def has(self, view: str, *columns: str) -> bool:
        """True when a table has all these columns."""
        return set(columns) <= set(self._schemas[view].names)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query that gives few."""
        return self._con.sql(sql).to_arrow_table().to_pylist()

    def one(self, sql: str) -> dict[str, Any]:
        """The only row of a query."""
        return self.rows(sql)[0]

    def reader(self, sql: str, batch_rows: int = 8192) -> pa.RecordBatchReader:
        """Stream the rows of a query."""
        return self._con.sql(sql).to_arrow_reader(batch_rows)

    def keep(self, name: str, rows: pa.Table) -> None:
        """Offer rows of the caller's under a name."""
        self._con.register(name, rows)

    def files(self) -> list[str]:
        """Names of all files of the release, relative to its folder."""
        prefix = f"{self.folder}/"
        return [name.removeprefix(prefix) for name in self.storage.walk(self.folder)]
