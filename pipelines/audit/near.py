"""Contact sheets around each threshold: clips that just failed it, and clips that just passed."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.audit.basis import Basis
from pipelines.audit.curves import Curve, as_stored, elsewhere
from pipelines.audit.thresholds import Threshold
from pipelines.report.charts import quoted

PER_SIDE = 6
MAX_THRESHOLDS = 30

NEAREST = """
SELECT clip_id, {column} AS value, len(reasons) AS num_reasons FROM clips
WHERE {which} AND {column} IS NOT NULL
ORDER BY abs(CAST({column} AS DOUBLE) - {value!r}), clip_id LIMIT {limit}
"""


@dataclass(frozen=True, kw_only=True)
class NearClip:
    """One clip near a threshold: its value, and how many reasons it carries."""

    clip_id: str
    value: float
    num_reasons: int


@dataclass(kw_only=True)
class Border:
    """The clips on both sides of a threshold, the nearest first."""

    threshold: Threshold
    failed: list[NearClip] = field(default_factory=list)
    passed: list[NearClip] = field(default_factory=list)


def find_borders(basis: Basis, curves: list[Curve], per_side: int = PER_SIDE) -> list[Border]:
    """Borders of the thresholds that some clip fails, in the order of the curves."""
    borders = []
    for curve in curves:
        threshold = curve.threshold
        if threshold.value is None:
            continue
        reason = "'" + threshold.reason.replace("'", "''") + "'"
        mine = elsewhere(basis, threshold.column)
        failed = _nearest(
            basis,
            threshold,
            f"verdict = 'rejected' AND list_contains(reasons, {reason}){mine}",
            per_side,
        )
        if failed:
            passed = _nearest(basis, threshold, f"verdict = 'kept'{mine}", per_side)
            borders.append(Border(threshold=threshold, failed=failed, passed=passed))
        if len(borders) == MAX_THRESHOLDS:
            break
    return borders


def _nearest(basis: Basis, threshold: Threshold, which: str, limit: int) -> list[NearClip]:
    assert threshold.value is not None
    value = as_stored(threshold.value, basis.scores[threshold.column])
    sql = NEAREST.format(column=quoted(threshold.column), which=which, value=value, limit=limit)
    return [
        NearClip(clip_id=r["clip_id"], value=float(r["value"]), num_reasons=r["num_reasons"])
        for r in basis.rows(sql)
    ]
