"""The account: where every source, clip and second ended, and whether it balances.

Three conservation laws over the whole dataset root:

* sources: total = done + failed + removed (none pending);
* clips: total = kept + rejected + failed, and every kept clip has its media and, where
  clips are captioned, its caption;
* seconds: the clips and spans of each video tile its timeline exactly; overlap counts once, and a
  second that several clips share belongs to the best of them (kept, then failed, then rejected).

A failed source of unknown length counts as unknown, never as zero. A video that was removed has no
seconds any more, here or in the total; a clip that was removed leaves its seconds behind as a span.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views

TOLERANCE_S = 1e-4
"""Largest rounding gap per video between its length and what its clips and spans cover."""

COUNTED = ("clip_id", "video_id", "start_s", "end_s", "verdict", "reasons", "media_path")

# Lengths of unions of intervals per video, by who covers them: gaps-and-islands over [a, b).
COVER = """
WITH pieces AS (
    SELECT video_id, start_s AS a, end_s AS b,
        CASE verdict WHEN 'kept' THEN 0 WHEN 'failed' THEN 1 ELSE 2 END AS rank
    FROM counted_clips
    UNION ALL
    SELECT video_id, start_s, end_s, 2 FROM spans
), levels AS (SELECT unnest([0, 1, 2]) AS level),
islands AS (
    SELECT video_id, level, a, b,
        max(b) OVER (PARTITION BY video_id, level ORDER BY a, b
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM pieces JOIN levels ON rank <= level WHERE b > a
), cover AS (
    SELECT video_id, level, sum(greatest(0, b - greatest(a, coalesce(before, a)))) AS seconds
    FROM islands GROUP BY video_id, level
)
SELECT c.video_id,
    v.video_duration_s + v.missing_s AS total,
    coalesce(sum(seconds) FILTER (level = 0), 0) AS kept,
    coalesce(sum(seconds) FILTER (level = 1), 0) AS kept_or_failed,
    coalesce(sum(seconds) FILTER (level = 2), 0) AS covered
FROM complete_videos c LEFT JOIN decodes v USING (video_id)
LEFT JOIN cover USING (video_id) GROUP BY ALL
"""

SUMS = f"""
SELECT count(*) AS videos, coalesce(sum(total), 0) AS total, coalesce(sum(kept), 0) AS kept,
    coalesce(sum(kept_or_failed - kept), 0) AS failed,
    coalesce(sum(covered - kept_or_failed), 0) AS rejected,
    coalesce(count(*) FILTER (abs(total - covered) > {TOLERANCE_S}), 0) AS untiled,
    coalesce(count(*) FILTER (total IS NULL), 0) AS unmeasured
FROM ({COVER})
"""

FAILED_SECONDS = """
SELECT count(*) FILTER (seconds IS NULL) AS unknown, coalesce(sum(seconds), 0) AS seconds FROM (
    SELECT DISTINCT ON (coalesce(s.video_id, s.source_id))
        coalesce(v.video_duration_s, v.declared_duration_s) AS seconds
    FROM sources s LEFT JOIN videos v USING (video_id) WHERE s.status = 'failed'
)
"""


@dataclass(kw_only=True)
class Account:
    """Totals of a dataset root; see the module's laws.

    Attributes:
        videos: ``total, done, failed, removed, pending, duplicates`` sources.
        clips: ``total, kept, rejected, failed`` clips, and ``unjudged, uncut, uncaptioned`` ones.
        seconds: Same keys as clips, unique source seconds; ``unknown_videos`` failed sources have
            no known length.
        rejected_by_reason: Clips that carry each reason (a clip may carry several).
        seconds_by_reason: Seconds of spans that became no clip, by reason.
        errors_by_code: Failed sources and clips by code.
        balanced: True when all laws hold.
        imbalances: What does not hold, in words.
    """

    videos: dict[str, int] = field(default_factory=dict)
    clips: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    seconds_by_reason: dict[str, float] = field(default_factory=dict)
    errors_by_code: dict[str, int] = field(default_factory=dict)
    balanced: bool = True
    imbalances: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def take_account(catalog: Catalog) -> Account:
    """Count a dataset root and check the laws."""
    views = Views(catalog)
    account = Account()
    account.videos = _one(
        views,
        """SELECT count(*) AS total, count(*) FILTER (status = 'done') AS done,
        count(*) FILTER (status = 'failed') AS failed,
        count(*) FILTER (status = 'removed') AS removed,
        count(*) FILTER (status = 'pending') AS pending,
        count(*) FILTER (duplicate_of IS NOT NULL) AS duplicates FROM sources""",
    )
    has_clips = "clips" in catalog.current().tables
    if has_clips:
        captions = "captions" in catalog.current().tables and catalog.has("captions")
        captioned = "clip_id IN (SELECT clip_id FROM current_captions)" if captions else "true"
        columns = f"{', '.join(COUNTED)}, {captioned} AS captioned"
        views.keep("counted_clips", f"SELECT {columns} FROM ({views.clips([*COUNTED])})")
        _count_clips(views, account)
    account.errors_by_code = _counts(
        views,
        """SELECT code AS name, count(*) AS n FROM (
            SELECT code FROM sources WHERE status = 'failed'
            UNION ALL SELECT unnest(reasons) FROM counted_clips WHERE verdict = 'failed'
        ) GROUP BY code ORDER BY code"""
        if has_clips
        else "SELECT code AS name, count(*) AS n FROM sources WHERE status = 'failed' GROUP BY ALL",
    )
    _check(account)
    return account


def _count_clips(views: Views, account: Account) -> None:
    account.clips = _one(
        views,
        """SELECT count(*) AS total, count(*) FILTER (verdict = 'kept') AS kept,
        count(*) FILTER (verdict = 'rejected') AS rejected,
        count(*) FILTER (verdict = 'failed') AS failed,
        count(*) FILTER (verdict IS NULL) AS unjudged,
        count(*) FILTER (verdict = 'kept' AND media_path IS NULL) AS uncut,
        count(*) FILTER (verdict = 'kept' AND media_path IS NOT NULL AND NOT captioned)
            AS uncaptioned FROM counted_clips""",
    )
    account.clips["repeated"] = _repeated(views)
    sums = _one(views, SUMS)
    lost = _one(views, FAILED_SECONDS)
    account.seconds = {
        "total": round(sums["total"] + lost["seconds"], 3),
        "kept": round(sums["kept"], 3),
        "rejected": round(sums["rejected"], 3),
        "failed": round(sums["failed"] + lost["seconds"], 3),
        "unknown_videos": lost["unknown"],
        "untiled_videos": sums["untiled"],
        "unmeasured_videos": sums["unmeasured"],
    }
    account.rejected_by_reason = _counts(
        views,
        """SELECT reason AS name, count(*) AS n FROM (
            SELECT unnest(reasons) AS reason FROM counted_clips WHERE verdict = 'rejected'
        ) GROUP BY reason ORDER BY reason""",
    )
    spans = views.query(
        "SELECT reason, sum(end_s - start_s) AS s FROM spans SEMI JOIN complete_videos "
        "USING (video_id) GROUP BY reason ORDER BY reason"
    )
    account.seconds_by_reason = {r["reason"]: round(r["s"], 3) for r in spans.to_pylist()}


def _repeated(views: Views) -> int:
    """Rows too many in the tables of one row per clip or per video: each would show twice."""
    tables = views.single_rows() | {"verdicts": "clip_id"}
    counts = " + ".join(
        f'(SELECT count("{key}") - count(DISTINCT "{key}") FROM "current_{table}")'
        for table, key in tables.items()
    )
    return _one(views, f"SELECT {counts or '0'} AS n")["n"]


def _check(account: Account) -> None:
    wrong = account.imbalances
    videos, clips, seconds = account.videos, account.clips, account.seconds
    if videos["total"] != videos["done"] + videos["failed"] + videos["removed"]:
        wrong.append(f"{videos['pending']} sources are neither done nor failed")
    if clips:
        if clips["total"] != clips["kept"] + clips["rejected"] + clips["failed"]:
            wrong.append(f"{clips['unjudged']} clips have no verdict")
        if clips["uncut"]:
            wrong.append(f"{clips['uncut']} kept clips have no media")
        if clips["uncaptioned"]:
            wrong.append(f"{clips['uncaptioned']} kept clips have no caption")
        if clips["repeated"]:
            wrong.append(f"{clips['repeated']} rows of clips or videos occur twice")
        if seconds["unmeasured_videos"]:
            wrong.append(f"{seconds['unmeasured_videos']} done videos have no length")
        if seconds["untiled_videos"]:
            wrong.append(f"{seconds['untiled_videos']} videos are not covered to the second")
        parts = seconds["kept"] + seconds["rejected"] + seconds["failed"]
        slack = 0.003 + TOLERANCE_S * (videos["done"] + 1)
        if abs(seconds["total"] - parts) > slack:
            wrong.append(f"seconds: {seconds['total']} in, {parts:.3f} accounted for")
    account.balanced = not wrong


def _one(views: Views, sql: str) -> dict[str, Any]:
    return views.query(sql).to_pylist()[0]


def _counts(views: Views, sql: str) -> dict[str, int]:
    return {str(r["name"]): int(r["n"]) for r in views.query(sql).to_pylist()}
