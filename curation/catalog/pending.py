"""What is left to do: one anti-join per phase, from ids alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from curation.catalog.views import Views
from curation.engine.unit import Unit
from curation.plan import Plan

SOURCES = """
SELECT source_id, uri, etag, video_id, status, code, retryable
FROM sources WHERE duplicate_of IS NULL AND status <> 'removed' ORDER BY uri
"""

DONE = """
SELECT DISTINCT d.video_id, d.stage FROM raw_done d
SEMI JOIN stage_prints p ON p.stage = d.stage AND p.fingerprint = d.fingerprint WHERE once
"""


def pending_units(views: Views, plan: Plan) -> Iterator[Unit]:
    """Units that still need work, in URI order.

    A source that failed for good, or was removed, is left alone; one that failed for the moment is
    tried again.
    Of several sources with the same bytes the first by URI stands for all.
    """
    done: defaultdict[str, set[str]] = defaultdict(set)
    for row in views.query(DONE).to_pylist():
        done[row["video_id"]].add(row["stage"])
    clip_work = _clip_work(views, plan)
    for row in views.query(SOURCES).to_pylist():
        if row["status"] == "failed" and not row["retryable"]:
            continue
        video_id = row["video_id"]
        missing = {
            s.name for s in plan.stages if s.grain == "video" and s.name not in done[video_id or ""]
        }
        if missing:  # new clips may come: every clip stage has to look
            missing |= {s.name for s in plan.stages if s.grain == "clip"}
        else:
            missing = clip_work.get(video_id, set())
        if missing:
            yield Unit(
                source_id=row["source_id"],
                uri=row["uri"],
                etag=row["etag"],
                video_id=video_id,
                todo=tuple(s.name for s in plan.stages if s.name in missing),
            )


def _clip_work(views: Views, plan: Plan) -> dict[str, set[str]]:
    """Video -> clip-grain stages with clips to do."""
    work: defaultdict[str, set[str]] = defaultdict(set)
    rescored: set[str] = set()
    for stage in plan.stages:
        if stage.grain != "clip":
            continue
        table = next(iter(stage.adds))
        gate = "AND v.verdict = 'kept'" if stage.gated else ""
        rows = views.query(
            f"""SELECT DISTINCT c.video_id FROM current_clips c
            LEFT JOIN current_verdicts v USING (clip_id)
            ANTI JOIN "current_{table}" t ON t.clip_id = c.clip_id
            ANTI JOIN (SELECT clip_id FROM current_errors WHERE NOT retryable) e
                ON e.clip_id = c.clip_id
            ANTI JOIN (SELECT video_id FROM current_errors WHERE NOT retryable
                AND clip_id IS NULL AND stage = '{stage.name}') u ON u.video_id = c.video_id
            WHERE true {gate}"""
        )
        videos = {row["video_id"] for row in rows.to_pylist()}
        if stage.gated:
            videos |= rescored  # other scores may keep other clips: the worker judges them
        else:
            rescored |= videos
        for video_id in videos:
            work[video_id].add(stage.name)
    return work
