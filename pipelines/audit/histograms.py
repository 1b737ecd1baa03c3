"""Histograms of all scores: those of the run's page, also of columns that no rule looks at."""

from __future__ import annotations

from typing import Any

from pipelines.audit.basis import Basis
from pipelines.report.charts import MAX_CHARTS, Chart, draw_charts

REASONS = """
SELECT reason, CAST(sum(n) AS BIGINT) AS n
FROM (SELECT unnest(reasons) AS reason, n FROM reason_sets) GROUP BY 1 LIMIT 10000
"""


def draw_histograms(basis: Basis) -> dict[str, list[Chart]]:
    """Histograms of the judged columns and of all others."""
    if not basis.has_clips:
        return {"judged": [], "other": []}
    rules: dict[str, dict[str, Any]] = {c: {} for c in basis.judged}
    for t in basis.thresholds:
        if t.where is None and t.column in rules:
            rules[t.column] |= {t.side: t.value, "if_null": t.if_null}
    reasons = {r["reason"]: r["n"] for r in basis.rows(REASONS)}
    judged = draw_charts(basis.views, rules, reasons)
    for chart in judged:
        if chart.if_null != "keep":  # others never came so far as to be measured
            chart.num_null = reasons.get(f"null_{chart.column}", 0)
    others: dict[str, dict[str, Any]] = {c: {} for c in basis.scores if c not in rules}
    other = draw_charts(basis.views, dict(list(others.items())[:MAX_CHARTS]), {})
    for chart in other:
        chart.num_null = 0  # no rule judges them: clips without a value are none's business
    return {"judged": judged, "other": other}
