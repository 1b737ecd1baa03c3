"""What made the dataset: models with licence and checksum, libraries, tables, configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from curation.models.weights import KNOWN
from pipelines.audit.basis import Basis
from pipelines.report.charts import quoted
from pipelines.report.words import shorten

MAX_NAMES = 20
MAX_CONFIG_CHARS = 200_000
_PARTS = re.compile(r"[+:]")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model whose results stand in the dataset.

    Attributes:
        key: Its name in the rows.
        name: In full; ``licence``, ``purpose``, ``source`` where Clipmill knows it.
        sha256: Digest: of the rows where they tell it, else the one that Clipmill was tested with.
        rows: Rows it made.
    """

    key: str
    name: str
    purpose: str
    licence: str
    sha256: str
    source: str
    rows: int


def find_models(basis: Basis) -> list[Model]:
    """Models named by the rows themselves, in columns such as ``safety_model``."""
    plan = basis.catalog.current()
    counts: dict[tuple[str, str], int] = {}
    for table in plan.tables:
        if not basis.catalog.has(table):
            continue
        for field in basis.catalog.dataset(table).schema:
            if field.name.endswith("_model") or field.name == "transnet":
                for name, rows in _named(basis, table, field.name):
                    key, _, sha = name.partition("@")
                    counts[key, sha] = counts.get((key, sha), 0) + rows
    return [_model(key, sha, rows) for (key, sha), rows in sorted(counts.items())]


def _named(basis: Basis, table: str, column: str) -> list[tuple[str, int]]:
    rows = basis.rows(
        f"SELECT CAST({quoted(column)} AS VARCHAR) AS name, count(*) AS n FROM "
        f"{quoted('current_' + table)} WHERE {quoted(column)} IS NOT NULL "
        f"GROUP BY 1 ORDER BY n DESC, 1 LIMIT {MAX_NAMES}"
    )
    if column == "transnet":
        used = sum(r["n"] for r in rows if r["name"] in ("ambiguous", "everywhere"))
        return [("transnet-v2", used)] if used else []
    found = []
    for row in rows:
        parts = _PARTS.split(row["name"])
        # A name of several known models is taken apart; any other stays whole.
        known = [p for p in parts if p.partition("@")[0] in KNOWN]
        found += [(part, row["n"]) for part in (known or [row["name"]])]
    return found


def _model(key: str, sha: str, rows: int) -> Model:
    known = KNOWN.get(key)
    pinned = known.short_sha if known else ""
    return Model(
        key=shorten(key, 80),
        name=known.name if known else shorten(key, 80),
        purpose=known.purpose if known else "",
        licence=known.licence if known else "",
        sha256=shorten(sha, 20) or pinned,
        source=known.source if known else "",
        rows=rows,
    )


def config_yaml(config: Mapping[str, Any]) -> str:
    """The configuration as YAML, bounded in length."""
    text = yaml.safe_dump(
        dict(config), sort_keys=False, allow_unicode=True, default_flow_style=None, width=88
    )
    return text if len(text) <= MAX_CONFIG_CHARS else text[:MAX_CONFIG_CHARS] + "\n# ...\n"
