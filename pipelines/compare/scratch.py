"""Both sides' clips and sources in one DuckDB database on disk, so that SQL can hold them together.

A catalog's own session is locked and sees one root. What a comparison needs of each is streamed
into a scratch file, side by side, and all questions are asked there: memory stays within
``MEMORY_SHARE`` however many clips there are, because DuckDB spills to the same folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import psutil
import pyarrow as pa
import pyarrow.dataset as ds

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import CatalogError
from pipelines.compare.released import TABLES, Released
from pipelines.compare.side import Side

THREADS = 2
MEMORY_SHARE = 0.25
"""Share of the machine's memory for the scratch database, beside that of a catalog's session."""
MAX_MEMORY_BYTES = 4 * 2**30
BATCH_ROWS = 65_536

NOT_SCORES = frozenset({"media", "captions", "subtitles"})
"""Tables with a row per clip whose numbers say how a file or text was made, not what a clip is."""
NOT_TEXT = frozenset({"caption_backend", "caption_model", "caption_prompt"})
"""Text columns of the captions that say who wrote them."""
PLAIN = ("clip_id", "video_id", "start_s", "end_s", "verdict", "reasons")
KEYS = frozenset({"clip_id", "video_id", "fingerprint"})


class Scratch:
    """The scratch database: tables ``a`` and ``b``, ``sources_a``, ``sources_b``, ``removed_a`` ...

    A clip's row has ``clip_id, video_id, start_s, end_s, verdict, reasons, caption`` (a digest of
    all its words; null: none) and every score as a double: null where it is null or not finite.

    Args:
        folder: Where to put it; None: the system's place for temporary files.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="clipmill-compare-", dir=folder)
        memory = min(MAX_MEMORY_BYTES, int(psutil.virtual_memory().total * MEMORY_SHARE))
        self.con = duckdb.connect(
            str(Path(self._folder.name) / "scratch.duckdb"),
            config={
                "threads": THREADS,
                "memory_limit": f"{memory // 2**20}MiB",
                "temp_directory": str(Path(self._folder.name) / "spill"),
                "preserve_insertion_order": False,
            },
        )
        self.scores: dict[str, list[str]] = {}
        self.models: dict[str, dict[str, list[str]]] = {}
        self.words: dict[str, tuple[str, ...]] = {}

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.con.close()
        self._folder.cleanup()

    def load(self, name: str, side: Side, on_step: Callable[[str], object]) -> None:
        """Stream one side in.

        Args:
            name: ``a`` or ``b``.
            side: The side; its clips must be readable.
            on_step: Called with what is being done.

        Raises:
            CatalogError: A clip occurs twice.
        """
        on_step(f"reading clips of {name.upper()}")
        if side.released is not None:
            self._load_released(name, side.released)
        else:
            assert side.catalog is not None
            self._load_catalog(name, side.catalog)
        twice = self.one(f"SELECT count(*) - count(DISTINCT clip_id) AS n FROM {name}")["n"]
        if twice:
            raise CatalogError(
                f"{twice} clips occur twice", where=side.text, mend="see `clipmill status`"
            )

    def _load_catalog(self, name: str, catalog: Catalog) -> None:
        views = Views(catalog)
        scores, models, words = _columns(catalog, views)
        self.scores[name], self.words[name] = scores, tuple(sorted(words))
        texts = ", ".join(f"CAST({quoted(c)} AS VARCHAR)" for c in sorted(words))
        any_text = " OR ".join(f"{quoted(c)} IS NOT NULL" for c in words) or "false"
        digest = f"md5(CAST(to_json([{texts}]) AS VARCHAR))" if words else "CAST(NULL AS VARCHAR)"
        picked = [quoted(c) for c in PLAIN]
        picked.append(f'CASE WHEN {any_text} THEN {digest} END AS "caption digest"')
        picked += [_double(c) for c in scores]
        query = views.clips([*PLAIN, *scores, *words])
        self._copy(name, views.reader(f"SELECT {', '.join(picked)} FROM ({query})", BATCH_ROWS))
        sources = (
            "SELECT coalesce(video_id, 'uri:' || uri) AS key, min(uri) AS uri, "
            "min(status) AS status FROM sources GROUP BY 1"
        )
        self._copy(f"sources_{name}", views.reader(sources, BATCH_ROWS))
        self._copy(f"removed_{name}", views.reader(_removed(catalog), BATCH_ROWS))
        self.models[name] = {
            c: self._values(views.reader(f"SELECT {quoted(c)} AS value FROM ({q})", BATCH_ROWS))
            for c in models
            for q in [views.clips(["clip_id", c])]
        }

    def _load_released(self, name: str, released: Released) -> None:
        scores = released.scores()
        self.scores[name], self.words[name] = scores, ("release",)
        for table in TABLES:
            self.con.register(f"released_{table}", released.table(table))
        picked = [f"v.{c}" for c in PLAIN] + ['t.digest AS "caption digest"']
        picked += [_double(c, "c.") for c in scores]
        self.con.execute(
            f"""CREATE TABLE {name} AS SELECT {", ".join(picked)} FROM released_verdicts v
            LEFT JOIN (SELECT * EXCLUDE (video_id) FROM released_clips) c ON c.clip_id = v.clip_id
            LEFT JOIN (SELECT clip_id, md5(string_agg(kind || ': ' || text, chr(10)
                ORDER BY kind, text)) AS digest FROM released_captions GROUP BY clip_id) t
                ON t.clip_id = v.clip_id"""
        )
        self.con.execute(
            f"""CREATE TABLE sources_{name} AS SELECT coalesce(video_id, 'uri:' || file) AS key,
            min(file) AS uri, min(status) AS status FROM released_sources GROUP BY 1"""
        )
        self.con.execute(f"CREATE TABLE removed_{name} (video_id VARCHAR, clip_id VARCHAR)")
        self.models[name] = {
            c: self._values(released.table("clips").scanner(columns={"value": ds.field(c)}))
            for c in released.models()
        }
        for table in TABLES:
            self.con.unregister(f"released_{table}")

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query that gives few."""
        return self.con.sql(sql).to_arrow_table().to_pylist()

    def one(self, sql: str) -> dict[str, Any]:
        """The only row of a query."""
        return self.rows(sql)[0]

    @property
    def common_scores(self) -> list[str]:
        """Score columns that both sides have, in A's order."""
        return [c for c in self.scores["a"] if c in set(self.scores["b"])]

    def _copy(self, table: str, reader: pa.RecordBatchReader) -> None:
        self.con.register("incoming", reader)
        self.con.execute(f"CREATE TABLE {table} AS SELECT * FROM incoming")
        self.con.unregister("incoming")

    def _values(self, rows: pa.RecordBatchReader | ds.Scanner) -> list[str]:
        """The most frequent values of a column ``value`` that names a model."""
        self.con.register("incoming", rows)
        found = self.rows(
            """SELECT value FROM incoming WHERE value IS NOT NULL
            GROUP BY 1 ORDER BY count(*) DESC, value LIMIT 10"""
        )
        self.con.unregister("incoming")
        return [str(r["value"]) for r in found]


def _columns(catalog: Catalog, views: Views) -> tuple[list[str], list[str], list[str]]:
    """Names of the scores, of the columns that name models, and of the texts of captions."""
    plan = catalog.current()
    tables = [*(plan.score_tables or []), *plan.clip_stages.values()]
    known = set(views.columns("clips"))
    scores, models, words = [], [], []
    if "duration_s" in known:
        scores.append("duration_s")
    for table in dict.fromkeys(tables):
        if not catalog.has(table) or table in plan.detail_tables:
            continue
        for column in catalog.dataset(table).schema:
            if column.name not in known or column.name in KEYS:
                continue
            if column.name.endswith("_model"):
                models.append(column.name)
            elif table == "captions" and _is_text(column.type) and column.name not in NOT_TEXT:
                words.append(column.name)
            elif table not in NOT_SCORES and _is_number(column.type):
                scores.append(column.name)
    return list(dict.fromkeys(scores)), list(dict.fromkeys(models)), list(dict.fromkeys(words))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        kind = kind.value_type
    return pa.types.is_string(kind)


def _double(column: str, table: str = "") -> str:
    """A score as a finite double or null."""
    value = f"CAST({table}{quoted(column)} AS DOUBLE)"
    return f"CASE WHEN isfinite({value}) THEN {value} END AS {quoted(column)}"


def _removed(catalog: Catalog) -> str:
    """What was taken out on request; datasets of older versions know of nothing."""
    if not catalog.has("tombstones"):
        return "SELECT CAST(NULL AS VARCHAR) AS video_id, CAST(NULL AS VARCHAR) AS clip_id LIMIT 0"
    return "SELECT DISTINCT video_id, clip_id FROM raw_tombstones"


def quoted(name: str) -> str:
    """A column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
