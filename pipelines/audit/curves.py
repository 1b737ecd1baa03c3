"""Sensitivity: how many clips would be kept if one threshold moved and all else stayed.

Loosened, the clips come back that fail this rule alone; tightened, kept clips beyond the new place
go. Both are counted exactly, in SQL, at up to 200 places of the threshold: equal steps from where
it stands, for the histogram and the eye, and quantiles of the clips that would move. What is
decided after the rules (duplicates, sampling, rules on what only kept clips get) stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from curation.judging.globs import sql_condition
from pipelines.audit.basis import SECONDS, Basis
from pipelines.audit.thresholds import Threshold, overrides_of
from pipelines.report.axis import nice_step
from pipelines.report.charts import quoted

NUM_BINS = 100
MAX_POINTS = 200
QUANTILES = [round(i / 40, 4) for i in range(1, 40)]
MAX_CURVES = 60
GROUPS = ("kept", "alone", "other")
"""Kept clips; those that fail this rule alone; all others with a value."""

# One column of one threshold, as clips to be moved: ``w`` grows towards what is not kept, so that
# a bound ``x`` keeps the clips with ``w <= sign * x``.
MOVED = """
WITH moved AS MATERIALIZED (
    SELECT * FROM (SELECT CASE WHEN verdict = 'kept' THEN 'kept'
            WHEN verdict = 'rejected' AND len(reasons) = 1 AND reasons[1] = {reason} THEN 'alone'
            ELSE 'other' END AS who,
        {sign} * CAST({column} AS DOUBLE) AS w, {seconds} AS seconds
    FROM clips WHERE {column} IS NOT NULL{mine}) WHERE isfinite(w))
"""
KEPT = """
SELECT CAST(coalesce(sum(n), 0) AS BIGINT) AS n, coalesce(sum(seconds), 0) AS seconds
FROM reason_sets WHERE verdict = 'kept'
"""
SHAPE = f"""
SELECT count(*) AS n, quantile_cont(w, [0.005, 0.995]) AS middle,
    quantile_disc(w, {QUANTILES}) FILTER (who = 'alone') AS alone,
    quantile_disc(w, {QUANTILES}) FILTER (who = 'kept') AS kept
FROM moved
"""
COUNTS = """
SELECT spot, who, count(*) AS n, sum(seconds) AS seconds
FROM moved ASOF LEFT JOIN (SELECT unnest({edges}) AS edge, unnest(range({count})) AS spot)
    ON w <= edge
GROUP BY ALL
"""


@dataclass(kw_only=True)
class Curve:
    """What one threshold does.

    Attributes:
        threshold: Which one.
        num_values: Clips with a value.
        num_alone: Clips that fail it alone.
        places: Where it could stand, rising.
        kept: Clips kept at each place.
        kept_s: Their seconds.
        edges: Edges of the histogram's bins; those at the ends are open.
        bars: Group -> clips per bin.
    """

    threshold: Threshold
    num_values: int
    num_alone: int
    places: list[float] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    kept_s: list[float] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)
    bars: dict[str, list[int]] = field(default_factory=dict)

    @property
    def kept_now(self) -> tuple[int, float]:
        """Clips kept where the threshold stands, and their seconds."""
        at = self.places.index(self.threshold.value or 0.0)
        return self.kept[at], self.kept_s[at]


def make_curves(basis: Basis) -> list[Curve]:
    """Curves of the general thresholds, those first that most clips fail alone."""
    wanted = [
        t
        for t in basis.thresholds
        if t.where is None and t.value is not None and t.column in basis.scores
    ]
    kept = basis.rows(KEPT)[0]
    curves = [_curve(basis, t, (kept["n"], kept["seconds"])) for t in wanted[:MAX_CURVES]]
    return sorted(
        (c for c in curves if c is not None),
        key=lambda c: (-c.num_alone, c.threshold.column, c.threshold.side),
    )


def elsewhere(basis: Basis, column: str) -> str:
    """SQL that leaves out the clips whose sources have another rule on a column."""
    parts = [
        " AND ".join(sql_condition(field, globs) for field, globs in patterns.items())
        for _, patterns, rules in overrides_of(basis.config)
        if patterns and column in rules
    ]
    return "".join(f" AND NOT ({part})" for part in parts)


def _curve(basis: Basis, threshold: Threshold, kept_total: tuple[int, float]) -> Curve | None:
    """One threshold; None when no clip has a value."""
    assert threshold.value is not None
    sign = 1 if threshold.side == "max" else -1
    kind = basis.scores[threshold.column]
    moved = MOVED.format(
        reason="'" + threshold.reason.replace("'", "''") + "'",
        sign=sign,
        column=quoted(threshold.column),
        seconds=SECONDS,
        mine=elsewhere(basis, threshold.column),
    )
    shape = basis.rows(moved + SHAPE)[0]
    if not shape["n"]:
        return None
    steps = _steps(threshold.value, sign, shape, kind)
    places = _places(steps, _near(sign, shape), sign, kind)
    edges = [sign * as_stored(x, kind) for x in places]
    counted = basis.rows(moved + COUNTS.format(edges=edges, count=len(edges)))
    curve = _collect(threshold, sign, steps, places, counted)
    # Kept clips without a value, or under an override, stay wherever this threshold goes.
    stay = kept_total[0] - curve.kept_now[0], kept_total[1] - curve.kept_now[1]
    curve.kept = [n + stay[0] for n in curve.kept]
    curve.kept_s = [round(s + stay[1], 3) for s in curve.kept_s]
    return curve


def as_stored(value: float, kind: pa.DataType) -> float:
    """A threshold as a column of this type compares with it."""
    return float(np.float32(value)) if kind == pa.float32() else float(value)


def _steps(own: float, sign: int, shape: dict[str, Any], kind: pa.DataType) -> list[float]:
    """Equal steps over where the values lie, one of them on the threshold itself.

    Returns:
        Thresholds, from the tightest to the loosest.
    """
    low, high = (sign * w for w in shape["middle"])
    low, high = min(low, high, own), max(low, high, own)
    step = nice_step((high - low or abs(own) or 1.0) / NUM_BINS)
    if kind == pa.bool_() or pa.types.is_integer(kind):
        step = max(1.0, round(step))
    before, after = math.ceil((own - low) / step) + 1, math.ceil((high - own) / step) + 1
    steps = [_plain(own + i * step) if i else own for i in range(-before, after + 1)]
    return steps[::sign]


def _near(sign: int, shape: dict[str, Any]) -> list[float]:
    """Where clips would move: all that fail it alone, and the kept ones nearest to it."""
    kept = sorted(shape["kept"] or [], reverse=True)
    return [sign * w for w in [*(shape["alone"] or []), *kept[: len(QUANTILES) // 2]]]


def _places(steps: list[float], near: list[float], sign: int, kind: pa.DataType) -> list[float]:
    """The steps and, between them, where clips move; no two are the same to the column's type."""
    stored = {as_stored(x, kind): x for x in [*(_plain(x) for x in near), *steps]}
    inside = sorted(x for w, x in stored.items() if x not in steps and min(steps) < w < max(steps))
    room = max(0, MAX_POINTS - len(steps))
    if len(inside) > room:
        inside = inside[:: math.ceil(len(inside) / room)] if room else []
    return sorted([*steps, *inside])[::sign]


def _plain(value: float) -> float:
    """A number as a person would write it into the settings: seven digits."""
    return float(f"{value:.7g}")


def _collect(
    threshold: Threshold,
    sign: int,
    steps: list[float],
    places: list[float],
    counted: Sequence[dict[str, Any]],
) -> Curve:
    """Sums over the counts between places; beyond the loosest lies what none of them keeps."""
    end = len(places)
    num = {who: [0] * (end + 1) for who in GROUPS}
    seconds = {who: [0.0] * (end + 1) for who in GROUPS}
    for row in counted:
        at = end if row["spot"] is None else row["spot"]
        num[row["who"]][at] += row["n"]
        seconds[row["who"]][at] += row["seconds"]
    kept = accumulate(a + b for a, b in zip(num["kept"], num["alone"], strict=True))
    kept_s = accumulate(a + b for a, b in zip(seconds["kept"], seconds["alone"], strict=True))
    curve = Curve(
        threshold=threshold,
        num_values=sum(sum(n) for n in num.values()),
        num_alone=sum(num["alone"]),
        places=places,
        kept=list(kept)[:end],
        kept_s=[round(s, 3) for s in list(kept_s)[:end]],
        edges=steps,
    )
    # Bin i ends at step i; before the first and after the last lie the open ones.
    stops = [0, *(places.index(x) + 1 for x in steps), end + 1]
    for who in GROUPS:
        sums = [0, *accumulate(num[who])]
        curve.bars[who] = [sums[b] - sums[a] for a, b in pairwise(stops)]
    if sign < 0:
        for values in (curve.places, curve.kept, curve.kept_s, curve.edges, *curve.bars.values()):
            values.reverse()
    return curve
