"""SQL over the catalog: DuckDB views that show, of each stage, only the rows that count now.

External access and configuration are locked, so a query reads the catalog and nothing else.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import duckdb
import psutil
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.vectors import holds_embeddings, is_vector
from curation.errors import CatalogError
from curation.schema import FIXED_TABLES

HEAVY = {"segments", "frames"}
"""Tables with lists or pictures: views of their own, never joined into ``clips``."""

THREADS = 2
MEMORY_SHARE = 0.4
"""Share of the machine's memory that a query may take."""

KNOWN_SOURCES = """
CREATE VIEW known_sources AS
SELECT s.*, i.video_id FROM raw_sources s
LEFT JOIN (SELECT source_id, etag, max(video_id) AS video_id FROM raw_identities GROUP BY ALL) i
    USING (source_id, etag)
"""
"""A source and the bytes it holds in its present state: null until that state has been read."""

REMOVED_VIDEOS = """
CREATE VIEW removed_videos AS SELECT DISTINCT video_id FROM raw_tombstones WHERE kind = 'video'
"""
NONE_REMOVED = "CREATE VIEW removed_videos AS SELECT NULL::VARCHAR AS video_id WHERE false"
"""Of a dataset made before there were tombstones."""

ERRORS_VIEW = """
CREATE VIEW current_errors AS
WITH finished AS (
    SELECT video_id, stage, fingerprint, bool_or(once) AS once, max(run_id) AS run_id
    FROM raw_done GROUP BY ALL
)
SELECT DISTINCT ON (e.source_id, e.video_id, e.clip_id, e.stage) e.*
FROM (SELECT * FROM raw_errors ANTI JOIN made_later USING (stage, clip_id)) e
LEFT JOIN stage_prints p ON p.stage = e.stage
LEFT JOIN live_videos l ON l.video_id = e.video_id
LEFT JOIN finished f
    ON f.video_id = e.video_id AND f.stage = e.stage AND f.fingerprint = e.fingerprint
LEFT JOIN known_sources k ON e.stage = 'identify' AND k.source_id = e.source_id
    AND k.etag = e.fingerprint AND k.video_id IS NULL
WHERE k.source_id IS NOT NULL
    OR (e.fingerprint = p.fingerprint AND l.video_id IS NOT NULL AND NOT coalesce(f.once, false)
        AND NOT (e.retryable AND coalesce(f.run_id > e.run_id, false)))
ORDER BY e.source_id, e.video_id, e.clip_id, e.stage, e.run_id DESC
"""
"""Errors that still stand. One of ``identify`` stands while its source is in the state it was read
in; one of a stage until the stage is done for the video, or a later run tried the clips again."""

SOURCES_VIEW = """
CREATE VIEW sources AS
WITH failed AS (
    SELECT source_id, video_id, stage, code, message, retryable, run_id
    FROM current_errors WHERE clip_id IS NULL
), joined AS (
    SELECT k.*, coalesce(s.last, v.last) AS failure, d.video_id IS NOT NULL AS complete,
        r.video_id IS NOT NULL AS removed,
        first_value(k.uri) OVER (
            PARTITION BY coalesce(k.video_id, k.source_id) ORDER BY k.uri) AS first_uri
    FROM known_sources k
    LEFT JOIN (SELECT source_id, arg_max(failed, run_id) AS last FROM failed
        WHERE stage = 'identify' GROUP BY source_id) s USING (source_id)
    LEFT JOIN (SELECT video_id, arg_max(failed, run_id) AS last FROM failed
        WHERE stage <> 'identify' GROUP BY video_id) v USING (video_id)
    LEFT JOIN complete_videos d USING (video_id)
    LEFT JOIN removed_videos r USING (video_id)
)
SELECT source_id, uri, size_bytes, etag, video_id,
    CASE WHEN removed THEN 'removed' WHEN complete THEN 'done'
        WHEN failure IS NOT NULL THEN 'failed' ELSE 'pending' END AS status,
    CASE WHEN NOT complete AND NOT removed THEN failure.code END AS code,
    CASE WHEN NOT complete AND NOT removed THEN failure.message END AS error,
    CASE WHEN NOT complete AND NOT removed THEN failure.stage END AS failed_stage,
    CASE WHEN NOT complete AND NOT removed THEN failure.retryable END AS retryable,
    CASE WHEN first_uri <> uri THEN first_uri END AS duplicate_of,
    title, license, source, caption, metadata
FROM joined
"""

GIVEN = ("uri", "title", "license", "source", "caption", "metadata")
FIRST_SOURCE = f"""
SELECT DISTINCT ON (video_id) video_id, {", ".join(GIVEN)}
FROM known_sources WHERE video_id IS NOT NULL ORDER BY video_id, uri
"""
VERDICT = """
CASE WHEN b.before_verdict OR (b.clip_id IS NOT NULL AND v.verdict = 'kept')
    THEN 'failed' ELSE v.verdict END AS verdict,
CASE WHEN b.before_verdict OR (b.clip_id IS NOT NULL AND v.verdict = 'kept')
    THEN b.codes ELSE v.reasons END AS reasons,
CASE WHEN b.before_verdict OR (b.clip_id IS NOT NULL AND v.verdict = 'kept')
    THEN NULL ELSE v.margins END AS margins,
v.split
"""
"""A clip that an error stopped has failed, whatever its scores say."""
KEYS = frozenset({"clip_id", "video_id", "fingerprint"})


class Views:
    """A locked DuckDB session over one catalog.

    Views: ``sources``, ``videos``, ``clips`` (everything known of a clip, one row each),
    ``spans``, ``transitions``, ``segments``, ``frames``, ``errors``, ``done``, ``runs``, and one
    per table of the plan; ``raw_<table>`` shows the rows of every fingerprint.

    Args:
        catalog: The catalog to look at.
        lock: Refuse external access and settings; the default.
        defaults: What sources without a licence or a source are presumed to have, instead of what
            stands in the catalog; None: what stands there.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        lock: bool = True,
        defaults: Mapping[str, str] | None = None,
    ) -> None:
        self._defaults = defaults
        self._catalog, self._plan = catalog, catalog.current()
        memory = psutil.virtual_memory().total
        self._scratch = tempfile.TemporaryDirectory(prefix="clipmill-sql-")
        # Joins of a large catalog spill to scratch instead of taking the machine down.
        self._con = duckdb.connect(
            ":memory:",
            config={
                "threads": THREADS,
                "memory_limit": f"{int(memory * MEMORY_SHARE / 2**20)}MiB",
                "temp_directory": self._scratch.name,
            },
        )
        self._some_errors = catalog.has("errors") and catalog.dataset("errors").count_rows() > 0
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
            result = self._con.sql(sql)
        except duckdb.Error as exc:
            raise self._explain(exc) from exc
        if result is None:
            raise CatalogError("is no query: it gives no rows", where="sql", mend="use SELECT ...")
        try:
            return result.to_arrow_table()
        except duckdb.Error as exc:
            raise self._explain(exc) from exc

    def reader(self, sql: str, batch_rows: int = 65_536) -> pa.RecordBatchReader:
        """Run a query and stream its rows."""
        return self._con.sql(sql).to_arrow_reader(batch_rows)

    def columns(self, view: str) -> list[str]:
        """Column names of a view."""
        return [str(r[0]) for r in self._con.execute(f'DESCRIBE "{view}"').fetchall()]

    def _explain(self, exc: duckdb.Error) -> CatalogError:
        names = [str(r[0]) for r in self._con.execute("SHOW TABLES").fetchall()]
        wrong = str(exc).partition("Table with name ")[2].partition(" ")[0]
        near = difflib.get_close_matches(wrong, names, n=1) if wrong else []
        hint = f"did you mean {near[0]!r}?" if near else f"tables: {', '.join(names)}"
        return CatalogError(str(exc).splitlines()[0], where="sql", mend=hint)

    def _create(self) -> None:
        con = self._con
        con.execute("CREATE TABLE stage_prints (stage VARCHAR, fingerprint VARCHAR)")
        if self._plan.stages:
            rows = list(self._plan.stages.items())
            con.executemany("INSERT INTO stage_prints VALUES (?, ?)", rows)
        con.execute(self._known_sources())
        con.execute(REMOVED_VIDEOS if self._catalog.has("tombstones") else NONE_REMOVED)
        # What a source held before it was replaced is no longer part of the dataset.
        con.execute(
            "CREATE TABLE live_videos AS SELECT DISTINCT video_id FROM known_sources "
            "ANTI JOIN removed_videos USING (video_id) WHERE video_id IS NOT NULL"
        )
        stage_tables = [t for t in self._catalog.tables() if t not in FIXED_TABLES]
        current = [t for t in stage_tables if t in self._plan.tables]
        for table in current:
            con.execute(
                f'CREATE VIEW "current_{table}" AS SELECT * EXCLUDE (fingerprint) '
                f"FROM raw_{table} SEMI JOIN live_videos USING (video_id) "
                f"WHERE fingerprint = '{self._plan.tables[table]}'"
            )
        con.execute(
            "CREATE VIEW complete_videos AS SELECT video_id FROM (SELECT DISTINCT video_id, stage "
            "FROM raw_done d SEMI JOIN stage_prints p ON p.stage = d.stage "
            "AND p.fingerprint = d.fingerprint WHERE once) SEMI JOIN live_videos USING (video_id) "
            f"GROUP BY video_id HAVING count(*) >= {len(self._plan.video_stages)}"
        )
        con.execute(self._made_later(current))
        con.execute(ERRORS_VIEW)
        con.execute(SOURCES_VIEW)
        verdicts = self._plan.tables.get("verdicts", "")
        con.execute(
            "CREATE VIEW current_verdicts AS SELECT clip_id, verdict, reasons, margins, split "
            f"FROM raw_verdicts WHERE fingerprint = '{verdicts}'"
        )
        for table in ("thresholds", "duplicates", "edges", "tombstones"):
            if self._catalog.has(table):  # an older dataset may lack it
                mine = f"WHERE fingerprint = '{verdicts}'"
                judged = table in ("thresholds", "duplicates")
                con.execute(
                    f'CREATE VIEW "{table}" AS SELECT * FROM raw_{table} {mine if judged else ""}'
                )
        con.execute("CREATE VIEW errors AS SELECT * FROM current_errors")
        con.execute("CREATE VIEW done AS SELECT * FROM raw_done")
        con.execute("CREATE VIEW runs AS SELECT * FROM raw_runs")
        stored = {t: self._catalog.dataset(t).schema for t in current}
        for table in current:
            if table not in ("clips", "videos"):
                con.execute(f'CREATE VIEW "{table}" AS SELECT * FROM "current_{table}"')
            if holds_embeddings(table, stored[table]) and "embeddings" not in current:
                # One name for them, whichever the model of the latest run.
                con.execute(f'CREATE VIEW embeddings AS SELECT * FROM "current_{table}"')
        self._create_joins(stored)

    def _known_sources(self) -> str:
        """The view of sources, with other defaults of their rights where they are asked for."""
        if self._defaults is None:
            return KNOWN_SOURCES
        columns = self._catalog.dataset("sources").schema.names
        if not {"license_origin", "source_origin"} <= set(columns):
            return KNOWN_SOURCES
        parts = []
        for name in ("license", "source"):
            value = self._defaults.get(name)
            presumed = "CAST(NULL AS VARCHAR)"
            if value is not None:
                presumed = "'" + value.replace("'", "''") + "'"
            parts.append(
                f"CASE WHEN s.{name} IS NULL OR s.{name}_origin = 'default' THEN {presumed} "
                f"ELSE s.{name} END AS {name}"
            )
        return KNOWN_SOURCES.replace("SELECT s.*,", f"SELECT s.* REPLACE ({', '.join(parts)}),")

    def _made_later(self, current: list[str]) -> str:
        """The view of clips of which a stage made its row in a later try than its error."""
        where = "clip_id IN (SELECT clip_id FROM raw_errors WHERE retryable)"
        pieces = [
            f"SELECT '{stage}' AS stage, clip_id FROM \"current_{table}\" WHERE {where}"
            for stage, table in self._plan.clip_stages.items()
            if table in current and self._some_errors
        ]
        none = "SELECT NULL::VARCHAR AS stage, NULL::VARCHAR AS clip_id WHERE false"
        return f"CREATE VIEW made_later AS {' UNION ALL '.join(pieces) or none}"

    def _create_joins(self, stored: dict[str, pa.Schema]) -> None:
        """The views ``videos`` and ``clips``, of the tables of the latest run."""
        self._stored = stored
        self._con.execute(f"CREATE VIEW videos AS {self._videos_sql(None)}")
        if "clips" in stored:
            self._con.execute(self._broken_clips(list(stored)))
            self._con.execute(f"CREATE VIEW clips AS {self._clips_sql(None)}")

    def clips(self, columns: Collection[str]) -> str:
        """A query of some columns of the view ``clips`` that joins only the tables they stand in.

        The view itself joins them all, whatever is asked of it.
        """
        named = ", ".join(f'"{c}"' for c in columns)
        return f"SELECT {named} FROM ({self._clips_sql(frozenset(columns))})"

    def keep(self, name: str, sql: str) -> None:
        """Keep the rows of a query as a table of this session, for several queries to come."""
        self._con.execute(f'CREATE TEMP TABLE "{name}" AS {sql}')

    def keep_rows(self, name: str, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Keep rows from elsewhere as a table of this session; they may spill to scratch.

        A stream may come from a query of this session: it is read to its end first, to a file.
        """
        given, spool = f"given {name}", Path(self._scratch.name) / f"{name}.arrow"
        if isinstance(rows, pa.RecordBatchReader):
            with pa.OSFile(str(spool), "wb") as out, pa.ipc.new_file(out, rows.schema) as file:
                for batch in rows:
                    file.write_batch(batch)
            with pa.memory_map(str(spool)) as source:
                self._keep_rows(name, given, pa.ipc.open_file(source).read_all())
            spool.unlink()
        else:
            self._keep_rows(name, given, rows)

    def _keep_rows(self, name: str, given: str, rows: pa.Table) -> None:
        self._con.register(given, rows)
        self._con.execute(f'CREATE TEMP TABLE "{name}" AS SELECT * FROM "{given}"')
        self._con.unregister(given)

    def _joined(self, of_clip: bool, wanted: Collection[str] | None) -> list[str]:
        """Tables with one row per clip, or per video, that hold any of the wanted columns."""
        skip = HEAVY | set(self._plan.detail_tables) | {"clips"}
        return [
            t
            for t, columns in self._stored.items()
            if t not in skip
            and ("clip_id" in columns.names) == of_clip
            and (wanted is None or not set(wanted).isdisjoint(set(columns.names) - KEYS))
        ]

    def single_rows(self) -> dict[str, str]:
        """Tables with one row per clip or per video, and the column that tells which."""
        of_clips = dict.fromkeys(["clips", *self._joined(of_clip=True, wanted=None)], "clip_id")
        return of_clips | dict.fromkeys(self._joined(of_clip=False, wanted=None), "video_id")

    def _videos_sql(self, wanted: Collection[str] | None) -> str:
        tables = self._joined(of_clip=False, wanted=wanted)
        joins = "".join(f' LEFT JOIN "current_{t}" USING (video_id)' for t in tables)
        return f"SELECT * FROM live_videos{joins}"

    def _clips_sql(self, wanted: Collection[str] | None) -> str:
        """The view ``clips``, or as much of it as the wanted columns need."""

        def needs(*columns: str) -> bool:
            return wanted is None or not set(wanted).isdisjoint(columns)

        joins = ""
        for t in self._joined(of_clip=True, wanted=wanted):
            # Vectors are for comparing, not for reading: they stay in the view of their table.
            vectors = [f'"{f.name}"' for f in self._stored[t] if is_vector(f.type)]
            left_out = ", ".join(["video_id", *vectors])
            joins += (
                f' LEFT JOIN (SELECT * EXCLUDE ({left_out}) FROM "current_{t}") USING (clip_id)'
            )
        columns, sources = ["c.*"], f'(SELECT * FROM "current_clips"{joins}) c'
        if needs(*GIVEN):
            columns += [f"s.{name}" for name in GIVEN]
            sources += f" LEFT JOIN ({FIRST_SOURCE}) s ON s.video_id = c.video_id"
        if needs("verdict", "reasons", "margins", "split"):
            columns += [VERDICT]
            sources += (
                " LEFT JOIN current_verdicts v ON v.clip_id = c.clip_id"
                " LEFT JOIN broken_clips b ON b.clip_id = c.clip_id"
            )
        if self._joined(of_clip=False, wanted=wanted):
            columns += ["vid.* EXCLUDE (video_id)"]
            sources += f" LEFT JOIN ({self._videos_sql(wanted)}) vid ON vid.video_id = c.video_id"
        return f"SELECT {', '.join(columns)} FROM {sources}"

    def _broken_clips(self, current: list[str]) -> str:
        """The view of clips that an error stopped, with its codes.

        An error of a clip breaks that clip. One that ended the work on a whole video breaks every
        clip of it that lacks something: the rows of a clip-grain stage, or a finished video.
        ``before_verdict`` is false when only a stage behind the judge is concerned: such an error
        matters to kept clips alone.
        """
        if not self._some_errors:
            # No join over all clips to learn that none of them is concerned.
            empty = "NULL::VARCHAR AS clip_id, NULL::VARCHAR[] AS codes, true AS before_verdict"
            return f"CREATE VIEW broken_clips AS SELECT {empty} WHERE false"
        gated = ", ".join(f"'{s}'" for s in self._plan.gated_stages) or "''"
        pieces = [
            f"SELECT clip_id, code, stage NOT IN ({gated}) AS before_verdict "
            "FROM current_errors WHERE clip_id IS NOT NULL",
            "SELECT c.clip_id, u.code, true FROM current_clips c JOIN ended u USING (video_id) "
            "ANTI JOIN complete_videos USING (video_id)",
        ]
        pieces += [
            f"SELECT c.clip_id, u.code, {str(stage not in self._plan.gated_stages).lower()} "
            "FROM current_clips c JOIN ended u USING (video_id) "
            f'ANTI JOIN (SELECT clip_id FROM "current_{table}" SEMI JOIN ended USING (video_id)) t '
            "ON t.clip_id = c.clip_id"
            for stage, table in self._plan.clip_stages.items()
            if table in current
        ]
        return (
            "CREATE VIEW broken_clips AS WITH ended AS (SELECT video_id, code FROM current_errors "
            "WHERE clip_id IS NULL AND video_id IS NOT NULL) "
            "SELECT clip_id, list(DISTINCT code ORDER BY code) AS codes, "
            "bool_or(before_verdict) AS before_verdict "
            f"FROM ({' UNION ALL '.join(pieces)}) GROUP BY clip_id"
        )


def open_views(root: str) -> Views:
    """Views over an existing dataset root."""
    return Views(Catalog.open(root))
