"""Where the clips come from and under which licence; what is not known; what was taken out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from curation.judging.licenses import is_unknown
from pipelines.audit.basis import SECONDS, Basis
from pipelines.report.words import date, shorten

MAX_ROWS = 100
MAX_TOMBSTONES = 50
DEFAULT = "default"

BY_LICENSE = """
WITH mine AS (SELECT video_id, count(*) AS n, sum({seconds}) AS s,
        count(*) FILTER (verdict = 'kept') AS kept,
        sum({seconds}) FILTER (verdict = 'kept') AS kept_s
    FROM clips GROUP BY video_id),
given AS (SELECT DISTINCT ON (video_id) video_id, nullif(trim(license), '') AS license,
        nullif(trim(source), '') AS source, {origins}
    FROM known_sources WHERE video_id IS NOT NULL ORDER BY video_id, uri),
grouped AS (SELECT source, license, source_origin, license_origin, count(*) AS num_videos,
        CAST(coalesce(sum(n), 0) AS BIGINT) AS num_clips, coalesce(sum(s), 0) AS seconds,
        CAST(coalesce(sum(kept), 0) AS BIGINT) AS num_kept, coalesce(sum(kept_s), 0) AS kept_s
    FROM given LEFT JOIN mine USING (video_id) GROUP BY ALL)
SELECT *, count(*) OVER () AS num_rows,
    CAST(sum(num_kept) FILTER (license IS NULL OR lower(license) = 'noassertion') OVER () AS BIGINT)
        AS unknown_kept,
    sum(kept_s) FILTER (license IS NULL OR lower(license) = 'noassertion') OVER () AS unknown_s
FROM grouped ORDER BY kept_s DESC, num_clips DESC, source, license LIMIT {limit}
"""
TOMBSTONES = f"""
SELECT kind, video_id, clip_id, start_s, end_s, reason, removed_at,
    count(*) OVER () AS num_rows FROM raw_tombstones
ORDER BY removed_at DESC, video_id, clip_id LIMIT {MAX_TOMBSTONES}
"""


@dataclass(frozen=True, kw_only=True)
class Holding:
    """Clips of one source under one licence.

    Attributes:
        source: Name; empty: unknown. ``license`` likewise.
        source_default: True when the settings said it, not the manifest.
        num_videos: Files.
        num_clips: Clips, and their seconds; of them kept.
    """

    source: str
    license: str
    source_default: bool
    license_default: bool
    num_videos: int
    num_clips: int
    seconds: float
    num_kept: int
    kept_s: float


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Something that was taken out on request, and may not come back."""

    what: str
    ident: str
    span_s: float | None
    reason: str
    when: str


@dataclass(kw_only=True)
class Rights:
    """What is known of provenance.

    Attributes:
        holdings: By source and licence, those with most kept seconds first.
        num_holdings: All there are.
        unknown_kept: Kept clips without a known licence, and their seconds.
        rules: Settings of the rights, in words.
        removals: The latest tombstones, of ``num_removals``; None: the dataset is too old.
    """

    holdings: list[Holding] = field(default_factory=list)
    num_holdings: int = 0
    unknown_kept: int = 0
    unknown_kept_s: float = 0.0
    rules: list[str] = field(default_factory=list)
    removals: list[Removal] | None = None
    num_removals: int = 0


def find_rights(basis: Basis) -> Rights:
    """Count clips by source and licence."""
    rights = Rights(rules=_rules(basis))
    if basis.has_clips:
        known = basis.views.columns("known_sources")
        origins = ", ".join(
            name if name in known else f"NULL AS {name}"
            for name in ("source_origin", "license_origin")
        )
        sql = BY_LICENSE.format(seconds=SECONDS, origins=origins, limit=MAX_ROWS)
        rows = basis.rows(sql)
        rights.holdings = [_holding(r) for r in rows]
        if rows:
            rights.num_holdings = rows[0]["num_rows"]
            rights.unknown_kept = rows[0]["unknown_kept"] or 0
            rights.unknown_kept_s = rows[0]["unknown_s"] or 0.0
    if basis.catalog.has("tombstones"):
        gone = basis.rows(TOMBSTONES)
        rights.num_removals = gone[0]["num_rows"] if gone else 0
        rights.removals = [_removal(r) for r in gone]
    return rights


def _holding(row: dict[str, Any]) -> Holding:
    license_, source = row["license"], row["source"]
    return Holding(
        source=shorten(source, 80),
        license="" if is_unknown(license_) else shorten(license_, 80),
        source_default=row["source_origin"] == DEFAULT,
        license_default=row["license_origin"] == DEFAULT,
        num_videos=row["num_videos"],
        num_clips=row["num_clips"],
        seconds=row["seconds"],
        num_kept=row["num_kept"],
        kept_s=row["kept_s"],
    )


def _removal(row: dict[str, Any]) -> Removal:
    span = None
    if row["start_s"] is not None and row["end_s"] is not None:
        span = row["end_s"] - row["start_s"]
    return Removal(
        what=shorten(row["kind"], 20),
        ident=(row["clip_id"] or row["video_id"] or "")[:16],
        span_s=span,
        reason=shorten(row["reason"], 200),
        when=date(row["removed_at"]),
    )


def _rules(basis: Basis) -> list[str]:
    """What the settings demand of a source, in words."""
    given = basis.config.get("rights") or {}
    words = []
    if require := given.get("require"):
        words.append(f"must be known: {', '.join(map(str, require))}")
    for name, verb in (("allow", "allowed"), ("deny", "denied"), ("defaults", "presumed")):
        for column, value in (given.get(name) or {}).items():
            values = value if isinstance(value, list | tuple) else [value]
            shown = ", ".join("unknown" if v is None else str(v) for v in values)
            words.append(f"{verb} {column}: {shorten(shown, 200)}")
    return words
