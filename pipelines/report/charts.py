"""Score histograms: one small multiple per judged column, binned in SQL, drawn with its bounds.

Two passes over the clips, however many there are: one for the ranges of all columns, one that
counts clips per column, bin and verdict. Only counts leave the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curation.catalog.views import Views
from pipelines.report.axis import Axis, choose_axis
from pipelines.report.words import number

VERDICTS = ("kept", "rejected", "failed", "unjudged")
"""In the order in which they are stacked."""
MAX_CHARTS = 60
PLOT_WIDTH, PLOT_HEIGHT = 300.0, 96.0
MIN_BAR_HEIGHT = 1.5
"""A bin that is not empty is always seen."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One verdict's share of one bin, in plot units; ``y`` grows downwards."""

    x: float
    y: float
    width: float
    height: float
    verdict: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A threshold: where it is drawn, its label, and how many clips lie on its far side.

    ``shade_x`` and ``shade_width`` cover the side that is not kept.
    """

    kind: str
    x: float
    value: str
    count: int
    shade_x: float
    shade_width: float


@dataclass(kw_only=True)
class Chart:
    """One column's histogram.

    Attributes:
        column: Its name.
        bars: Rectangles.
        bounds: The rule's thresholds.
        ticks: ``(x, label)`` below the axis.
        num_values: Clips with a value.
        num_null: Clips without.
        if_null: What the rule makes of them.
        top: Clips in the fullest bin.
        log: Whether the axis is logarithmic.
        value_range: Lowest and highest value, in words.
    """

    column: str
    bars: list[Bar] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    ticks: list[tuple[float, str]] = field(default_factory=list)
    num_values: int = 0
    num_null: int = 0
    if_null: str = "error"
    top: int = 0
    log: bool = False
    value_range: str = ""

    @property
    def num_failing(self) -> int:
        """Clips that this rule does not keep."""
        return sum(b.count for b in self.bounds)


def draw_charts(
    views: Views, rules: Mapping[str, Mapping[str, Any]], reasons: Mapping[str, int]
) -> list[Chart]:
    """Charts of the columns with a rule, those that decide most first.

    Args:
        views: The catalog; its ``clips`` view must exist.
        rules: Column -> ``{min, max, if_null}``.
        reasons: Reason -> number of clips that carry it.
    """
    known = set(views.columns("clips"))
    columns = [c for c in sorted(rules) if c in known][:MAX_CHARTS]
    if not columns:
        return []
    stats = views.query(_stats_sql(columns)).to_pylist()[0]
    axes = {
        c: choose_axis(_range(stats, i), rules[c].get("min"), rules[c].get("max"))
        for i, c in enumerate(columns)
    }
    counts: dict[str, dict[int, dict[str, int]]] = {c: {} for c in columns}
    for row in views.query(_bins_sql(axes)).to_pylist():
        column = columns[int(row["name"])]
        counts[column].setdefault(row["bin"], {})[row["verdict"]] = row["n"]
    charts = []
    for i, column in enumerate(columns):
        chart = _draw(column, axes[column], counts[column], rules[column], reasons)
        chart.num_values = stats[f"n{i}"]
        chart.num_null = stats["n"] - chart.num_values
        if chart.num_values:
            low, high = stats[f"min{i}"], stats[f"max{i}"]
            chart.value_range = f"{number(low)} to {number(high)}"
        charts.append(chart)
    return sorted(charts, key=lambda c: (-c.num_failing, c.column))


def _value(column: str) -> str:
    """A column as DOUBLE, NaN as NULL (as the judge sees it)."""
    name = quoted(column)
    return f"CASE WHEN isnan(CAST({name} AS DOUBLE)) THEN NULL ELSE CAST({name} AS DOUBLE) END"


def _stats_sql(columns: list[str]) -> str:
    parts = ["count(*) AS n"]
    inner = []
    for i, column in enumerate(columns):
        inner.append(f"{_value(column)} AS v{i}")
        finite = f"FILTER (isfinite(v{i}))"
        parts.append(
            f"count(v{i}) AS n{i}, min(v{i}) {finite} AS min{i}, max(v{i}) {finite} AS max{i}, "
            f"avg(v{i}) {finite} AS avg{i}, stddev_pop(v{i}) {finite} AS dev{i}"
        )
    return f"SELECT {', '.join(parts)} FROM (SELECT {', '.join(inner)} FROM clips)"


def _range(stats: Mapping[str, Any], i: int) -> tuple[float, float] | None:
    """Where a column's values lie, far outliers left out (they are counted in the end bins)."""
    low, high, mean, dev = (stats[f"{key}{i}"] for key in ("min", "max", "avg", "dev"))
    if low is None or high is None:
        return None
    return max(low, mean - 6 * dev), min(high, mean + 6 * dev)


def _bins_sql(axes: Mapping[str, Axis]) -> str:
    """Counts per column (by position), bin and verdict, in one pass."""
    values = [f"{_value(c)} AS v{i}" for i, c in enumerate(axes)]
    # What has no value is in no bin: least and greatest would pass over the null.
    bins = [
        f'CASE WHEN v{i} IS NOT NULL THEN {axis.bin_sql(f"v{i}")} END AS "{i}"'
        for i, axis in enumerate(axes.values())
    ]
    names = ", ".join(f'"{i}"' for i in range(len(axes)))
    return f"""SELECT name, bin, verdict, count(*) AS n FROM (
        UNPIVOT (SELECT verdict, {", ".join(bins)} FROM (
            SELECT coalesce(verdict, 'unjudged') AS verdict, {", ".join(values)} FROM clips))
        ON {names} INTO NAME name VALUE bin) GROUP BY ALL"""


def _draw(
    column: str,
    axis: Axis,
    counts: Mapping[int, Mapping[str, int]],
    rule: Mapping[str, Any],
    reasons: Mapping[str, int],
) -> Chart:
    chart = Chart(column=column, log=axis.log, if_null=str(rule.get("if_null", "error")))
    chart.top = max((sum(c.values()) for c in counts.values()), default=0)
    for index, by_verdict in sorted(counts.items()):
        chart.bars += _stack(axis, index, by_verdict, chart.top)
    chart.ticks = [(round(axis.at(t) * PLOT_WIDTH, 2), f"{t:g}") for t in axis.ticks()]
    for kind, reason in (("min", "low"), ("max", "high")):
        value = rule.get(kind)
        if value is None:
            continue
        x = round(axis.at(value) * PLOT_WIDTH, 2)
        chart.bounds.append(
            Bound(
                kind=kind,
                x=x,
                value=f"{value:g}",
                count=reasons.get(f"{reason}_{column}", 0),
                shade_x=0.0 if kind == "min" else x,
                shade_width=x if kind == "min" else round(PLOT_WIDTH - x, 2),
            )
        )
    return chart


def _stack(axis: Axis, index: int, by_verdict: Mapping[str, int], top: int) -> list[Bar]:
    """The bars of one bin, first verdict at the bottom."""
    width = PLOT_WIDTH / axis.num_bins
    span = f"{axis.edge(index):.4g} to {axis.edge(index + 1):.4g}"
    bars, base = [], PLOT_HEIGHT
    for verdict in VERDICTS:
        count = by_verdict.get(verdict, 0)
        if not count:
            continue
        height = max(MIN_BAR_HEIGHT, count / top * PLOT_HEIGHT)
        base -= height
        bars.append(
            Bar(
                x=round(index * width + 0.4, 2),
                y=round(base, 2),
                width=round(width - 0.8, 2),
                height=round(height, 2),
                verdict=verdict,
                hint=f"{span}: {count:,} {verdict}",
            )
        )
    return bars


def quoted(name: str) -> str:
    """A column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
