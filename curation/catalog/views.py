"""SQL over the catalog: DuckDB views that show, of each stage, only the rows that count now.

External access and configuration are locked, so a query reads the catalog and nothing else.
"""

from __future__ import annotations

import difflib

import duckdb
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from curation.schema import FIXED_TABLES

HEAVY = {"segments", "frames"}
"""Tables with lists or pictures: views of their own, never joined into ``clips``."""

SOURCES_VIEW = """
CREATE VIEW sources AS
WITH known AS (
    SELECT s.*, i.video_id
    FROM raw_sources s
    LEFT JOIN (SELECT DISTINCT source_id, etag, video_id FROM raw_identities) i
        USING (source_id, etag)
), failed AS (
    SELECT e.source_id, e.video_id, e.stage, e.code, e.message, e.retryable
    FROM current_errors e WHERE e.clip_id IS NULL
), joined AS (
    SELECT k.*,
        coalesce(fs.code, fv.code) AS code,
        coalesce(fs.message, fv.message) AS error,
        coalesce(fs.stage, fv.stage) AS failed_stage,
        coalesce(fs.retryable, fv.retryable) AS retryable,
        d.video_id IS NOT NULL AS complete,
        first_value(k.uri) OVER (
            PARTITION BY coalesce(k.video_id, k.source_id) ORDER BY k.uri) AS first_uri
    FROM known k
    LEFT JOIN (SELECT source_id, any_value(code) code, any_value(message) message,
        any_value(stage) stage, any_value(retryable) retryable
        FROM failed GROUP BY source_id) fs USING (source_id)
    LEFT JOIN (SELECT video_id, any_value(code) code, any_value(message) message,
        any_value(stage) stage, any_value(retryable) retryable
        FROM failed WHERE video_id IS NOT NULL GROUP BY video_id) fv USING (video_id)
    LEFT JOIN complete_videos d USING (video_id)
)
SELECT source_id, uri, size_bytes, etag, video_id,
    CASE WHEN code IS NOT NULL AND NOT complete THEN 'failed'
         WHEN complete THEN 'done' ELSE 'pending' END AS status,
    CASE WHEN NOT complete THEN code END AS code,
    CASE WHEN NOT complete THEN error END AS error,
    CASE WHEN NOT complete THEN failed_stage END AS failed_stage,
    CASE WHEN NOT complete THEN retryable END AS retryable,
    CASE WHEN first_uri <> uri THEN first_uri END AS duplicate_of,
    title, license, source, caption, metadata
FROM joined
"""

ERRORS_VIEW = """
CREATE VIEW current_errors AS
SELECT DISTINCT ON (e.source_id, e.video_id, e.clip_id, e.stage) e.*
FROM raw_errors e
LEFT JOIN stage_prints p ON p.stage = e.stage
LEFT JOIN (SELECT DISTINCT video_id, stage, fingerprint FROM raw_done WHERE once) d
    ON d.video_id = e.video_id AND d.stage = e.stage AND d.fingerprint = e.fingerprint
WHERE (e.fingerprint = p.fingerprint OR e.stage = 'identify') AND d.video_id IS NULL
    AND (e.stage <> 'identify' OR e.source_id NOT IN (SELECT source_id FROM raw_identities))
ORDER BY e.source_id, e.video_id, e.clip_id, e.stage, e.run_id DESC
"""


class Views:
    """A locked DuckDB session over one catalog.

    Views: ``sources``, ``videos``, ``clips`` (everything known of a clip, one row each),
    ``spans``, ``transitions``, ``segments``, ``frames``, ``errors``, ``done``, ``runs``, and one
    per table of the plan; ``raw_<table>`` shows the rows of every fingerprint.

    Args:
        catalog: The catalog to look at.
        lock: Refuse external access and settings; the default.
    """

    def __init__(self, catalog: Catalog, *, lock: bool = True) -> None:
        self._catalog, self._plan = catalog, catalog.current()
        self._con = duckdb.connect(":memory:", config={"threads": 2})
        for table in catalog.tables():
            self._con.register(f"raw_{table}", catalog.dataset(table))
        self._create()
        if lock:
            self._con.execute("SET enable_external_access = false")
            self._con.execute("SET python_enable_replacements = false")
            self._con.execute("SET lock_configuration = true")

    def query(self, sql: str) -> pa.Table:
        """Run one query.

        Raises:
            CatalogError: The query fails; the message names the nearest view.
        """
        try:
            return self._con.sql(sql).to_arrow_table()
        except duckdb.Error as exc:
            names = [str(r[0]) for r in self._con.execute("SHOW TABLES").fetchall()]
            wrong = str(exc).partition("Table with name ")[2].partition(" ")[0]
            near = difflib.get_close_matches(wrong, names, n=1) if wrong else []
            hint = f"did you mean {near[0]!r}?" if near else f"tables: {', '.join(names)}"
            raise CatalogError(str(exc).splitlines()[0], where="sql", mend=hint) from exc

    def reader(self, sql: str, batch_rows: int = 65_536) -> pa.RecordBatchReader:
        """Run a query and stream its rows."""
        return self._con.sql(sql).to_arrow_reader(batch_rows)

    def columns(self, view: str) -> list[str]:
        """Column names of a view."""
        return [str(r[0]) for r in self._con.execute(f'DESCRIBE "{view}"').fetchall()]

    def _create(self) -> None:
        con = self._con
        con.execute("CREATE TABLE stage_prints (stage VARCHAR, fingerprint VARCHAR)")
        if self._plan.stages:
            rows = list(self._plan.stages.items())
            con.executemany("INSERT INTO stage_prints VALUES (?, ?)", rows)
        stage_tables = [t for t in self._catalog.tables() if t not in FIXED_TABLES]
        current = [t for t in stage_tables if t in self._plan.tables]
        for table in current:
            con.execute(
                f'CREATE VIEW "current_{table}" AS SELECT * EXCLUDE (fingerprint) '
                f"FROM raw_{table} WHERE fingerprint = '{self._plan.tables[table]}'"
            )
        con.execute(
            "CREATE VIEW complete_videos AS SELECT video_id FROM (SELECT DISTINCT video_id, stage "
            "FROM raw_done d SEMI JOIN stage_prints p ON p.stage = d.stage "
            "AND p.fingerprint = d.fingerprint WHERE once) GROUP BY video_id "
            f"HAVING count(*) >= {len(self._plan.video_stages)}"
        )
        con.execute(ERRORS_VIEW)
        con.execute(SOURCES_VIEW)
        verdicts = self._plan.tables.get("verdicts", "")
        con.execute(
            "CREATE VIEW current_verdicts AS SELECT clip_id, verdict, reasons FROM raw_verdicts "
            f"WHERE fingerprint = '{verdicts}'"
        )
        con.execute("CREATE VIEW errors AS SELECT * FROM current_errors")
        con.execute("CREATE VIEW done AS SELECT * FROM raw_done")
        con.execute("CREATE VIEW runs AS SELECT * FROM raw_runs")
        for table in current:
            if table not in ("clips", "videos"):
                con.execute(f'CREATE VIEW "{table}" AS SELECT * FROM "current_{table}"')
        self._create_joins(current)

    def _create_joins(self, current: list[str]) -> None:
        """The views ``videos`` and ``clips``."""
        schemas = {t: self._catalog.dataset(t).schema.names for t in current}
        video_tables = [
            t
            for t in current
            if t not in HEAVY | set(self._plan.detail_tables) and "clip_id" not in schemas[t]
        ]
        joins = "".join(f' LEFT JOIN "current_{t}" USING (video_id)' for t in video_tables)
        self._con.execute(
            "CREATE VIEW videos AS SELECT * FROM "
            f"(SELECT DISTINCT video_id FROM raw_identities){joins}"
        )
        if "clips" not in current:
            return
        clip_tables = [
            t
            for t in current
            if "clip_id" in schemas[t] and t not in {"clips", *self._plan.detail_tables}
        ]
        joins = "".join(
            f' LEFT JOIN (SELECT * EXCLUDE (video_id) FROM "current_{t}") USING (clip_id)'
            for t in clip_tables
        )
        gated = ", ".join(f"'{s}'" for s in self._plan.gated_stages) or "''"
        self._con.execute(
            f"""CREATE VIEW clips AS
            WITH first_source AS (
                SELECT DISTINCT ON (video_id) video_id, uri, title, license, source, caption, metadata
                FROM sources WHERE video_id IS NOT NULL ORDER BY video_id, uri
            ), broken AS (
                SELECT clip_id, list(DISTINCT code ORDER BY code) AS codes,
                    bool_or(stage NOT IN ({gated})) AS before_verdict
                FROM current_errors WHERE clip_id IS NOT NULL GROUP BY clip_id
            )
            SELECT c.*, s.uri, s.title, s.license, s.source, s.caption, s.metadata,
                CASE WHEN b.before_verdict OR (b.clip_id IS NOT NULL AND v.verdict = 'kept')
                     THEN 'failed' ELSE v.verdict END AS verdict,
                CASE WHEN b.before_verdict OR (b.clip_id IS NOT NULL AND v.verdict = 'kept')
                     THEN b.codes ELSE v.reasons END AS reasons,
                vid.* EXCLUDE (video_id)
            FROM (SELECT * FROM "current_clips"{joins}) c
            LEFT JOIN current_verdicts v ON v.clip_id = c.clip_id
            LEFT JOIN broken b ON b.clip_id = c.clip_id
            LEFT JOIN first_source s ON s.video_id = c.video_id
            LEFT JOIN videos vid ON vid.video_id = c.video_id"""
        )


def open_views(root: str) -> Views:
    """Views over an existing dataset root."""
    return Views(Catalog.open(root))
