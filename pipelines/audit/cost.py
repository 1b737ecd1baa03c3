"""What each stage cost: seconds of work over all runs whose rows count, and rates."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.audit.basis import Basis
from pipelines.report.page import DONE


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One stage.

    Attributes:
        name: Its name.
        busy_s: Seconds of work, added up over workers.
        share: Of all stages, 0 to 1.
        num_clips: Clips it has rows of; None: it sees whole videos.
        clips_per_s: Clips per second of its work.
        video_s_per_s: Seconds of video per second of its work, for stages of whole videos.
    """

    name: str
    busy_s: float
    share: float
    num_clips: int | None
    clips_per_s: float | None
    video_s_per_s: float | None


def find_costs(basis: Basis) -> list[Cost]:
    """Stages in the plan's order."""
    plan = basis.catalog.current()
    busy = {r["stage"]: r["busy_s"] or 0.0 for r in basis.rows(DONE)}
    total_s = sum(busy.values())
    video_s = None
    if "decodes" in plan.tables and basis.catalog.has("decodes"):
        sql = "SELECT sum(video_duration_s) AS s FROM decodes"
        video_s = basis.rows(sql)[0]["s"]
    costs = []
    for name in plan.order:
        if name not in busy:
            continue
        table = plan.clip_stages.get(name)
        clips = _rows(basis, table) if table else None
        spent = busy[name]
        costs.append(
            Cost(
                name=name,
                busy_s=spent,
                share=spent / total_s if total_s else 0.0,
                num_clips=clips,
                clips_per_s=round(clips / spent, 2) if clips and spent else None,
                video_s_per_s=round(video_s / spent, 2)
                if not table and video_s and spent
                else None,
            )
        )
    return costs


def _rows(basis: Basis, table: str) -> int | None:
    plan = basis.catalog.current()
    if table not in plan.tables or not basis.catalog.has(table):
        return None
    return basis.catalog.dataset(table).count_rows(f"fingerprint = '{plan.tables[table]}'")
