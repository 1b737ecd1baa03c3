"""What is kept, by split, source, length and cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipelines.audit.basis import SECONDS, Basis
from pipelines.audit.funnel import Funnel
from pipelines.audit.reasons import parse
from pipelines.report.charts import quoted
from pipelines.report.words import shorten

MAX_GROUPS = 20
MAX_SPLITS = 8
BY_SPLIT = f"""
SELECT coalesce(split, 'not divided') AS split, count(*) AS num_clips, sum({SECONDS}) AS seconds,
    count(DISTINCT video_id) AS num_videos
FROM clips WHERE verdict = 'kept' GROUP BY 1 ORDER BY num_clips DESC, 1 LIMIT {MAX_SPLITS}
"""
CROSSED = """
WITH grouped AS (SELECT {by} AS name, {rank} AS rank, coalesce(split, 'not divided') AS split,
        {seconds} AS seconds FROM clips WHERE verdict = 'kept'),
top AS (SELECT name, rank, count(*) AS n FROM grouped GROUP BY ALL
    ORDER BY {order} LIMIT {limit})
SELECT t.name, t.rank, g.split, count(*) AS num_clips, sum(g.seconds) AS seconds,
    any_value(t.n) AS n
FROM top t JOIN grouped g USING (name) GROUP BY ALL ORDER BY {order}, g.split
"""
SPAN_S = 2
LONGEST_S = 20


@dataclass(kw_only=True)
class Crossed:
    """Kept clips by something and split.

    Attributes:
        title: By what.
        rows: ``name``, ``num_clips``, ``seconds``, ``by_split`` (split -> clips).
    """

    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True)
class Splits:
    """How the kept clips are divided.

    Attributes:
        divided: False when the dataset has no splits.
        splits: ``split``, ``num_clips``, ``seconds``, ``num_videos``.
        crossed: By source, length and cluster.
        sampled: Clips that sampling left out, ``(label, clips, seconds)``.
    """

    divided: bool = False
    splits: list[dict[str, Any]] = field(default_factory=list)
    crossed: list[Crossed] = field(default_factory=list)
    sampled: list[tuple[str, int, float]] = field(default_factory=list)


def find_splits(basis: Basis, funnel: Funnel) -> Splits:
    """Count what is kept."""
    if not basis.has_clips:
        return Splits()
    found = Splits(splits=basis.rows(BY_SPLIT))
    found.divided = any(r["split"] != "not divided" for r in found.splits)
    for row in found.splits:
        row["split"] = shorten(row["split"], 40)
    known = basis.views.columns("clips")
    found.crossed.append(_crossed(basis, "source", "coalesce(nullif(source, ''), 'unknown')"))
    length = f"CAST(least(floor({SECONDS} / {SPAN_S}), {LONGEST_S // SPAN_S}) AS INTEGER)"
    found.crossed.append(_crossed(basis, "length", length, in_order=True))
    for row in found.crossed[-1].rows:
        first = int(row["name"]) * SPAN_S
        row["name"] = f"{first} to {first + SPAN_S} s" if first < LONGEST_S else f"over {first} s"
    if "cluster" in known:
        by = f"coalesce(CAST({quoted('cluster')} AS VARCHAR), 'none')"
        found.crossed.append(_crossed(basis, "cluster", by))
    found.sampled = [
        (s.label, s.num_here, s.seconds_here)
        for s in funnel.steps
        if s.code and parse(s.code).kind == "sample"
    ]
    return found


def _crossed(basis: Basis, title: str, by: str, *, in_order: bool = False) -> Crossed:
    rows = basis.rows(
        CROSSED.format(
            by=f"CAST({by} AS VARCHAR)",
            rank=by if in_order else "0",
            seconds=SECONDS,
            order="rank" if in_order else "n DESC, name",
            limit=MAX_GROUPS,
        )
    )
    by_name: dict[str, dict[str, Any]] = {}
    for r in rows:
        row = by_name.setdefault(
            r["name"],
            {"name": shorten(r["name"], 60), "num_clips": 0, "seconds": 0.0, "by_split": {}},
        )
        row["num_clips"] += r["num_clips"]
        row["seconds"] += r["seconds"]
        row["by_split"][shorten(r["split"], 40)] = r["num_clips"]
    return Crossed(title=title, rows=list(by_name.values()))
