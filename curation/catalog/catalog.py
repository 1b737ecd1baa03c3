"""The catalog: the Lance tables of one dataset root, and who may write them.

Only the driver that holds the lease writes. Workers hand over part files (``commit.py``). Tables
are created empty with their planned schemas, so every view exists from the first second.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import lance
import pyarrow as pa

from curation.catalog.vectors import holds_embeddings, refresh_index
from curation.errors import CatalogError
from curation.plan import Plan
from curation.schema import RUNS
from curation.storage import Storage

FOLDER = "catalog"
INDEX_FROM_ROWS = 50_000
"""Tables with at least this many rows get a B-tree on their ids: below it a scan is as fast."""


@dataclass(frozen=True)
class PlanRecord:
    """What the catalog remembers of the plan of its latest run; see ``Plan.record``.

    Attributes:
        tables: Table name -> fingerprint whose rows count.
        stages: Stage name -> fingerprint.
        order: Stage names in the plan's order.
        video_stages: Stages that run once per video.
        clip_stages: Stages that run per clip -> their table.
        gated_stages: Stages that only kept clips reach.
        detail_tables: Tables with many rows per clip or video.
        score_tables: Tables of what is known of a clip before it is cut; None in a record of an
            older version.
    """

    tables: dict[str, str] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    video_stages: list[str] = field(default_factory=list)
    clip_stages: dict[str, str] = field(default_factory=dict)
    gated_stages: list[str] = field(default_factory=list)
    detail_tables: list[str] = field(default_factory=list)
    score_tables: list[str] | None = None


class Catalog:
    """Lance tables under ``OUT/catalog``.

    Args:
        storage: The dataset root.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @classmethod
    def open(cls, root: str) -> Catalog:
        """Open an existing dataset root.

        Raises:
            CatalogError: There is none.
        """
        catalog = cls(Storage(root))
        if not catalog.has("runs"):
            raise CatalogError(
                "no clipmill dataset here", where=root, mend="run `clipmill curate INPUT --out ...`"
            )
        return catalog

    def uri(self, table: str) -> str:
        """The Lance URI of a table."""
        return self.storage.uri(f"{FOLDER}/{table}.lance")

    def has(self, table: str) -> bool:
        """True when the table exists; a creation that was killed half-way left no manifest."""
        return bool(self.storage.list(f"{FOLDER}/{table}.lance/_versions", suffix=".manifest"))

    def dataset(self, table: str) -> lance.LanceDataset:
        """The latest version of a table."""
        return lance.dataset(self.uri(table))

    def tables(self) -> list[str]:
        """Names of all tables, sorted."""
        fs, base = self.storage.fs, self.storage.path(FOLDER)
        fs.invalidate_cache()
        if not fs.exists(base):
            return []
        names = (str(p["name"]).rstrip("/").rsplit("/", 1)[-1] for p in fs.ls(base, detail=True))
        found = sorted(n.removesuffix(".lance") for n in names if n.endswith(".lance"))
        return [n for n in found if self.has(n)]

    def create(self, schemas: dict[str, pa.Schema]) -> None:
        """Create missing tables empty; add columns that an older version lacks.

        Raises:
            CatalogError: A column changed its type.
        """
        for table, schema in schemas.items():
            if not self.has(table):
                lance.write_dataset(schema.empty_table(), self.uri(table), mode="create")
                continue
            dataset = self.dataset(table)
            old = {f.name: f.type for f in dataset.schema}
            for column in schema:
                if column.name in old and old[column.name] != column.type:
                    raise CatalogError(
                        f"column {column.name!r} is {old[column.name]}, "
                        f"the plan writes {column.type}",
                        where=f"table {table!r}",
                        mend="give the stage's table another name, or use a new --out",
                    )
            new = [f for f in schema if f.name not in old]
            if new:
                dataset.add_columns(pa.schema(new))

    def append(self, table: str, rows: pa.Table) -> None:
        """Append rows that the driver itself made (sources, runs)."""
        if rows.num_rows:
            lance.write_dataset(rows, self.uri(table), mode="append")

    def replace(self, table: str, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Replace a table's rows in one version (verdicts)."""
        lance.write_dataset(rows, self.uri(table), mode="overwrite")

    def upsert(self, table: str, key: str, rows: pa.Table) -> None:
        """Insert rows, replacing those of equal key."""
        if rows.num_rows == 0:
            return
        merge = self.dataset(table).merge_insert(key)
        merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def rows_of(
        self,
        table: str,
        video_id: str,
        fingerprint: str,
        columns: list[str] | None = None,
        where: str = "true",
    ) -> Iterator[pa.RecordBatch]:
        """The rows one stage wrote for one video, batch by batch; of some only, by ``where``."""
        where = f"video_id = '{video_id}' AND fingerprint = '{fingerprint}' AND {where}"
        scanner = self.dataset(table).scanner(columns=columns, filter=where, batch_size=256)
        yield from scanner.to_batches()

    def start_run(
        self,
        run_id: str,
        command: str,
        config: dict[str, Any],
        plan: Plan,
        *,
        rows: PlanRecord | None = None,
    ) -> None:
        """Record what the run is about to make current.

        Args:
            run_id: Its id.
            command: What was asked for.
            config: Its settings, JSON-able.
            plan: Its plan.
            rows: Whose rows stay current, but for the verdicts: judging makes no others, whatever
                the stages of this version or the weights of this machine would make.
        """
        from curation.versions import library_versions

        record = plan.record()
        if rows is not None:
            record = asdict(rows)
            record["tables"] = rows.tables | {"verdicts": plan.verdict_fingerprint()}
        row = {
            "run_id": run_id,
            "event": "started",
            "recorded_at": datetime.now(UTC),
            "command": command,
            "config": json.dumps(config, sort_keys=True),
            "fingerprints": json.dumps(record, sort_keys=True),
            "versions": json.dumps(library_versions(), sort_keys=True),
            "report": None,
        }
        self.append("runs", pa.Table.from_pylist([row], schema=RUNS))

    def finish_run(self, run_id: str, report: dict[str, Any]) -> None:
        """Record how the run ended."""
        row = {
            "run_id": run_id,
            "event": "finished",
            "recorded_at": datetime.now(UTC),
            "report": json.dumps(report, sort_keys=True),
        }
        self.append("runs", pa.Table.from_pylist([row], schema=RUNS))

    def last_run(self) -> dict[str, Any] | None:
        """The newest ``started`` row, with its JSON columns parsed."""
        table = self.dataset("runs").to_table(filter="event = 'started'")
        if table.num_rows == 0:
            return None
        row = max(table.to_pylist(), key=lambda r: r["recorded_at"])
        return row | {k: json.loads(row[k]) for k in ("config", "fingerprints", "versions")}

    def current(self) -> PlanRecord:
        """The plan whose rows count now."""
        run = self.last_run()
        return PlanRecord(**run["fingerprints"]) if run else PlanRecord()

    def versions(self) -> dict[str, int]:
        """Lance version of every table."""
        return {t: self.dataset(t).version for t in self.tables()}

    def compact(self) -> None:
        """Merge small files, refresh indices, drop old versions; at the end of a run."""
        from datetime import timedelta

        for table in self.tables():
            dataset = self.dataset(table)
            if len(dataset.get_fragments()) > 8:
                dataset.optimize.compact_files()
            if dataset.count_rows() >= INDEX_FROM_ROWS and table not in ("runs", "verdicts"):
                self._index(dataset)
            if holds_embeddings(table, dataset.schema):
                refresh_index(dataset)
            dataset.cleanup_old_versions(
                older_than=timedelta(hours=1), error_if_tagged_old_versions=False
            )

    def index(self) -> None:
        """B-trees for the rows of one video, before a phase whose workers look them up."""
        for table in self.tables():
            dataset = self.dataset(table)
            if table != "runs" and dataset.count_rows() >= INDEX_FROM_ROWS:
                self._index(dataset)

    def _index(self, dataset: lance.LanceDataset) -> None:
        if "video_id" not in dataset.schema.names:
            return
        if any("video_id" in i.field_names for i in dataset.describe_indices()):
            dataset.optimize.optimize_indices()
        else:
            dataset.create_scalar_index("video_id", "BTREE")
