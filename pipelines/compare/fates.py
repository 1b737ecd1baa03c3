"""What became of every kept clip of one side on the other: kept in both, cut anew, or lost.

A clip's id is its video and its exact span, so another split gives every clip another id. Where
none of a side's clips has the id, its span decides: clips of ids that are new over there and that
together cover at least ``COVERED`` of it are the same seconds, cut anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.compare.scratch import Scratch

COVERED = 0.8
"""Smallest share of a clip's span that clips of other ids have to cover."""
BUCKET_S = 60
"""Clips are matched by video and minute, so that a long film is no product of all its clips."""
MAX_GROUPS = 40

NO_SPAN = "not there: no clip is cut here"
NO_SOURCE = "not there: its source is not there"
NOT_DONE = "not there: its source is "  # pending, failed
REMOVED = "not there: taken out on request"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Clips of one fate, by the reason that the other side gives.

    Attributes:
        reason: ``low_sharpness``, an error code, or why there is no such clip.
        num_clips: Clips that carry it; one with several reasons counts for each.
        hours: Sum of their lengths.
    """

    reason: str
    num_clips: int
    hours: float


@dataclass(frozen=True, kw_only=True)
class Fates:
    """Kept clips of both sides.

    Attributes:
        both_clips: Kept in both under the same id.
        both_hours: Sum of their lengths.
        recut_a: Kept clips of A whose span B keeps under other ids.
        recut_b: Kept clips of B whose span A keeps under other ids.
        lost_clips: Kept in A, not in B.
        lost_hours: Sum of their lengths.
        gained_clips: Kept in B, not in A.
        gained_hours: Sum of their lengths.
        lost: By the reasons they have in B.
        gained: By the reasons they had in A.
    """

    both_clips: int
    both_hours: float
    recut_a: int
    recut_b: int
    lost_clips: int
    lost_hours: float
    gained_clips: int
    gained_hours: float
    lost: list[Group] = field(default_factory=list)
    gained: list[Group] = field(default_factory=list)


def find_fates(scratch: Scratch) -> Fates:
    """Make the tables ``fate_a`` and ``fate_b`` (clip_id, length_s, fate, why) and count them."""
    for mine, other in (("a", "b"), ("b", "a")):
        _cover(scratch, mine, other)
        _fate(scratch, mine, other)
    a, b = _count(scratch, "a"), _count(scratch, "b")
    return Fates(
        both_clips=a["both"][0],
        both_hours=a["both"][1],
        recut_a=a["recut"][0],
        recut_b=b["recut"][0],
        lost_clips=a["alone"][0],
        lost_hours=a["alone"][1],
        gained_clips=b["alone"][0],
        gained_hours=b["alone"][1],
        lost=_groups(scratch, "a"),
        gained=_groups(scratch, "b"),
    )


def _cover(scratch: Scratch, mine: str, other: str) -> None:
    """Table ``cover_<mine>``: how much of each kept clip of unknown id is covered over there.

    The buckets that a clip touches are listed; a pair meets in every bucket both touch and counts
    in the one where their overlap begins.
    """
    touched = f"""unnest(range(CAST(floor(start_s / {BUCKET_S}) AS BIGINT),
        CAST(floor(end_s / {BUCKET_S}) AS BIGINT) + 1)) AS bucket"""
    scratch.con.execute(
        f"""CREATE TABLE piece_{mine} AS
        WITH alone AS (
            SELECT clip_id, video_id, start_s, end_s, {touched} FROM {mine}
            ANTI JOIN {other} USING (clip_id) WHERE verdict = 'kept'
        ), fresh AS (
            SELECT video_id, start_s, end_s, verdict, reasons, {touched} FROM {other}
            ANTI JOIN {mine} USING (clip_id)
        )
        SELECT x.clip_id, x.end_s - x.start_s AS length_s, y.verdict, y.reasons,
            greatest(x.start_s, y.start_s) AS s, least(x.end_s, y.end_s) AS e
        FROM alone x JOIN fresh y USING (video_id, bucket)
        WHERE y.start_s < x.end_s AND y.end_s > x.start_s
            AND bucket = floor(greatest(x.start_s, y.start_s) / {BUCKET_S})"""
    )
    islands = f"""SELECT *, max(e) OVER (PARTITION BY clip_id, kept ORDER BY s, e
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM (SELECT *, true AS kept FROM piece_{mine} WHERE verdict = 'kept'
            UNION ALL SELECT *, false FROM piece_{mine})"""
    gap = "sum(greatest(0, e - greatest(s, coalesce(before, s))))"
    scratch.con.execute(
        f"""CREATE TABLE cover_{mine} AS
        SELECT clip_id, any_value(length_s) AS length_s,
            coalesce({gap} FILTER (kept), 0) AS kept_s, {gap} FILTER (NOT kept) AS any_s,
            list_sort(list_distinct(flatten(list(reasons) FILTER (
                NOT kept AND verdict <> 'kept' AND reasons IS NOT NULL)))) AS reasons
        FROM ({islands}) GROUP BY clip_id"""
    )
    scratch.con.execute(f"DROP TABLE piece_{mine}")


def _fate(scratch: Scratch, mine: str, other: str) -> None:
    """Table ``fate_<mine>``: fate ``both``, ``recut`` or ``alone``, and why it stands alone."""
    scratch.con.execute(
        f"""CREATE TABLE fate_{mine} AS
        WITH videos AS (SELECT key AS video_id, status FROM sources_{other}),
        gone_videos AS (
            SELECT DISTINCT video_id FROM removed_{other} WHERE clip_id IS NULL),
        gone_clips AS (
            SELECT DISTINCT clip_id FROM removed_{other} WHERE clip_id IS NOT NULL),
        joined AS (
            SELECT m.clip_id, m.end_s - m.start_s AS length_s,
                o.clip_id IS NOT NULL AS there, o.verdict, o.reasons,
                coalesce(c.kept_s >= {COVERED} * c.length_s, false) AS recut,
                coalesce(c.any_s >= {COVERED} * c.length_s, false) AS covered,
                c.reasons AS recut_reasons, v.video_id IS NOT NULL AS has_source, v.status,
                gv.video_id IS NOT NULL OR gc.clip_id IS NOT NULL AS removed
            FROM {mine} m
            LEFT JOIN {other} o ON o.clip_id = m.clip_id
            LEFT JOIN cover_{mine} c ON c.clip_id = m.clip_id
            LEFT JOIN videos v ON v.video_id = m.video_id
            LEFT JOIN gone_videos gv ON gv.video_id = m.video_id
            LEFT JOIN gone_clips gc ON gc.clip_id = m.clip_id
            WHERE m.verdict = 'kept'
        )
        SELECT clip_id, length_s,
            CASE WHEN there AND verdict = 'kept' THEN 'both'
                WHEN NOT there AND recut THEN 'recut' ELSE 'alone' END AS fate,
            CASE WHEN there AND verdict IS NULL THEN ['not judged']
                WHEN there AND verdict = 'failed' THEN
                    list_transform(coalesce(reasons, ['failed']), lambda r: 'error ' || r)
                WHEN there THEN coalesce(nullif(reasons, []), ['rejected'])
                WHEN removed THEN ['{REMOVED}']
                WHEN covered AND len(recut_reasons) > 0 THEN
                    list_transform(recut_reasons, lambda r: r || ' (cut anew)')
                WHEN status <> 'done' THEN ['{NOT_DONE}' || status]
                WHEN has_source THEN ['{NO_SPAN}'] ELSE ['{NO_SOURCE}'] END AS why
        FROM joined"""
    )
    scratch.con.execute(f"DROP TABLE cover_{mine}")


def _count(scratch: Scratch, mine: str) -> dict[str, tuple[int, float]]:
    rows = scratch.rows(
        f"SELECT fate, count(*) AS n, sum(length_s) AS s FROM fate_{mine} GROUP BY fate"
    )
    found = {r["fate"]: (int(r["n"]), round(r["s"] / 3600, 6)) for r in rows}
    return {fate: found.get(fate, (0, 0.0)) for fate in ("both", "recut", "alone")}


def _groups(scratch: Scratch, mine: str) -> list[Group]:
    """The reasons of the clips that stand alone, most frequent first."""
    rows = scratch.rows(
        f"""SELECT reason, count(*) AS n, sum(length_s) AS s FROM (
            SELECT unnest(why) AS reason, length_s FROM fate_{mine} WHERE fate = 'alone')
        GROUP BY reason ORDER BY n DESC, reason LIMIT {MAX_GROUPS}"""
    )
    return [
        Group(reason=r["reason"], num_clips=int(r["n"]), hours=round(r["s"] / 3600, 6))
        for r in rows
    ]
