"""What all sections of the page ask: one session whose view ``clips`` has become a table.

The view joins a table per stage, so every question to it costs the whole join. Here the columns
that the page needs are joined once and kept as a table of the same name in the session: the
sections, and those of the run's page that are used again here, then read that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import CatalogError
from pipelines.audit.thresholds import Threshold, overrides_of, resolve, rules_of
from pipelines.report.charts import quoted

MAX_SCORES = 120
"""Score columns looked at; a user's own stages may add any number."""
KEYS = ("clip_id", "video_id", "start_s", "end_s", "duration_s", "uri", "license", "source")
JUDGED = ("verdict", "reasons", "margins", "split")
SAID = ("caption_model", "caption_medium", "caption_flags", "caption_contradictions")
"""What the statistics of captions read of the view ``clips``."""
SECONDS = "greatest(end_s - start_s, 0)"

COMPUTED = """
SELECT "column", bound, quantile, value, "where" FROM raw_thresholds
WHERE fingerprint = '{fingerprint}'
"""
SETS = f"""
SELECT verdict, reasons, count(*) AS n, sum({SECONDS}) AS seconds FROM clips GROUP BY ALL
"""
"""Clips that were judged alike: few rows, whatever the number of clips."""


@dataclass(kw_only=True)
class Basis:
    """One dataset, ready to be asked.

    Attributes:
        catalog: The dataset.
        views: Its session; ``clips`` is a table with the columns of this page when there are
            clips, and ``reason_sets`` counts clips by verdict and list of reasons.
        run: The newest ``started`` row of ``runs``.
        config: Its configuration.
        rules: The general rules by column.
        thresholds: See ``thresholds.py``.
        scores: Score columns, in the plan's order, with their types.
        has_clips: False when no clip was ever made.
        num_clips: Clips there are.
    """

    catalog: Catalog
    views: Views
    run: dict[str, Any]
    config: dict[str, Any]
    rules: dict[str, dict[str, Any]]
    thresholds: list[Threshold] = field(default_factory=list)
    scores: dict[str, pa.DataType] = field(default_factory=dict)
    has_clips: bool = False
    num_clips: int = 0

    @property
    def judged(self) -> list[str]:
        """Score columns with a rule, in the plan's order."""
        ruled = {t.column for t in self.thresholds} | set(self.rules)
        return [c for c in self.scores if c in ruled]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query with a bounded answer."""
        return self.views.query(sql).to_pylist()

    def has_rows(self, table: str) -> bool:
        """True when a table exists and is not empty; old datasets lack some."""
        return self.catalog.has(table) and self.catalog.dataset(table).count_rows() > 0

    @property
    def verdict_print(self) -> str:
        """Fingerprint of the verdicts that count now."""
        return self.catalog.current().tables.get("verdicts", "")


def open_basis(catalog: Catalog, *, keep: bool = True) -> Basis:
    """Open a dataset for questions.

    Args:
        catalog: The dataset.
        keep: Make ``clips`` a table; off for questions about single clips.

    Raises:
        CatalogError: It was never curated.
    """
    run = catalog.last_run()
    if run is None:
        raise CatalogError(
            "nothing was ever run here",
            where=catalog.storage.url,
            mend="run `clipmill curate INPUT --out ...`",
        )
    config = run["config"]
    basis = Basis(
        catalog=catalog,
        views=Views(catalog),
        run=run,
        config=config,
        rules=rules_of(config),
        has_clips="clips" in catalog.current().tables and catalog.has("clips"),
    )
    if not basis.has_clips:
        return basis
    known = basis.views.columns("clips")
    basis.thresholds = resolve(config, _computed(basis), known)
    basis.scores = _score_columns(basis, known)
    if keep:
        _keep_clips(basis, known)
        basis.views.keep("reason_sets", SETS)
        basis.num_clips = basis.rows("SELECT count(*) AS n FROM clips")[0]["n"]
    return basis


def _keep_clips(basis: Basis, known: list[str]) -> None:
    """Make the view ``clips`` a table of the columns that the page needs.

    Table by table, on whole numbers: the view joins all of them at once on their ids, and of a
    million clips that does not fit into the memory that a small machine gives to a query.
    """
    asked = [field for _, patterns, _ in overrides_of(basis.config) for field in patterns]
    left = dict.fromkeys([*KEYS, *JUDGED, *asked, *basis.scores, *SAID])
    wanted = [c for c in left if c in known]
    plan = basis.catalog.current()
    parts: dict[str, list[str]] = {}
    tables: list[str] = [*(plan.score_tables or []), *plan.clip_stages.values()]
    for table in dict.fromkeys(tables):
        if table in plan.tables and basis.catalog.has(table):
            names = basis.catalog.dataset(table).schema.names
            parts[table] = [c for c in wanted if c in names and c not in KEYS]
    elsewhere = {c for columns in parts.values() for c in columns}
    first = [c for c in wanted if c not in elsewhere]
    base = f"SELECT row_number() OVER () AS clip_row, * FROM ({basis.views.clips(first)})"
    basis.views.keep("clip_rows", base)
    joins, columns = "", [f"b.{quoted(c)}" for c in first]
    for i, (table, names) in enumerate((t, n) for t, n in parts.items() if n):
        named = ", ".join(f"t.{quoted(c)}" for c in names)
        basis.views.keep(
            f"part_{i}",
            f"SELECT b.clip_row, {named} FROM {quoted('current_' + table)} t "
            "JOIN clip_rows b ON b.clip_id = t.clip_id",
        )
        joins += f" LEFT JOIN part_{i} p{i} ON p{i}.clip_row = b.clip_row"
        columns += [f"p{i}.{quoted(c)}" for c in names]
    basis.views.keep("clips", f"SELECT {', '.join(columns)} FROM clip_rows b{joins}")


def _computed(basis: Basis) -> list[dict[str, Any]]:
    """What quantile rules came to in the judgement that counts."""
    if not basis.catalog.has("thresholds"):
        return []
    return basis.rows(COMPUTED.format(fingerprint=basis.verdict_print))


def _score_columns(basis: Basis, known: list[str]) -> dict[str, pa.DataType]:
    """Numbers that stages wrote about clips, and every other column with a rule."""
    plan = basis.catalog.current()
    tables = [*(plan.score_tables or []), *plan.clip_stages.values()]
    skip = {"clips", "captions", "media", "subtitles", *plan.detail_tables}
    found: dict[str, pa.DataType] = {}
    for table in dict.fromkeys(tables):
        if table in plan.tables and table not in skip and basis.catalog.has(table):
            schema = basis.catalog.dataset(table).schema
            found |= {f.name: f.type for f in schema if f.name in known and is_number(f.type)}
    ruled = [c for c in basis.rules if c in known and c not in found]
    if ruled:  # of a video, or of the cut file
        types: Mapping[str, pa.DataType] = _types(basis, ruled)
        found = {c: t for c, t in types.items() if is_number(t)} | found
    ruled_first = sorted(found, key=lambda c: c not in basis.rules)[:MAX_SCORES]
    return {c: found[c] for c in found if c in ruled_first}


def _types(basis: Basis, columns: list[str]) -> dict[str, pa.DataType]:
    named = ", ".join(quoted(c) for c in columns)
    empty = basis.views.query(f"SELECT {named} FROM clips LIMIT 0")
    return {f.name: f.type for f in empty.schema}


def is_number(kind: pa.DataType) -> bool:
    """True for what a threshold can be set on."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or kind == pa.bool_()


def literals(texts: Iterable[str]) -> str:
    """Strings as a list of SQL literals."""
    return ", ".join("'" + t.replace("'", "''") + "'" for t in texts) or "''"
