"""How far each score moved between the kept clips of A and of B, and on the clips both have.

Distributions are compared by the two-sample Kolmogorov-Smirnov statistic, the largest distance of
the two empirical distribution functions, over all values and exact with ties. Its p-value is the
asymptotic one with the small-sample correction of M. A. Stephens, "Use of the Kolmogorov-Smirnov,
Cramer-von Mises and related statistics without extensive tables", J. R. Stat. Soc. B 32 (1970);
the limit itself is N. Smirnov's (1948). It supposes two independent samples of continuous values:
two versions of one dataset share most clips, and ties are many in counts, so it errs towards "no
shift". Many columns are tested at once; ``q`` is the p-value adjusted by Y. Benjamini and
Y. Hochberg, "Controlling the false discovery rate", J. R. Stat. Soc. B 57 (1995).

With a million clips any difference is significant. The order is therefore by effect: the
difference of the means in pooled standard deviations (Cohen's d).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.compare.scratch import Scratch, quoted

FEWEST_FOR_P = 8
"""Fewest values per side for a p-value: below it the asymptotic formula is a guess."""
VALUES_AT_A_TIME = 4_000_000
"""Clips times columns that one question looks at."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One column on the kept clips of one side; all but the counts None without a value.

    Attributes:
        n: Clips with a value.
        num_null: Clips without.
        mean: Mean.
        sd: Standard deviation; None below two values.
        p10: 10th percentile, interpolated.
        median: Median.
        p90: 90th percentile.
    """

    n: int
    num_null: int
    mean: float | None
    sd: float | None
    p10: float | None
    median: float | None
    p90: float | None

    @property
    def null_share(self) -> float | None:
        """Clips without a value as a share of all."""
        total = self.n + self.num_null
        return self.num_null / total if total else None


@dataclass(frozen=True, kw_only=True)
class Paired:
    """A column on the clips that both sides have, kept or not, with a value in both.

    Attributes:
        n: Clips.
        num_changed: Clips whose value is not the same.
        mean: Mean of B's value less A's.
        largest: Largest absolute difference.
    """

    n: int
    num_changed: int
    mean: float | None
    largest: float | None


@dataclass(frozen=True, kw_only=True)
class Shift:
    """What became of one score.

    Attributes:
        column: Its name.
        a: In A.
        b: In B.
        ks: Kolmogorov-Smirnov statistic, 0-1; None when a side has no value.
        p: Its p-value; None with few values.
        q: The p-value adjusted for the number of columns.
        effect: Cohen's d, B less A; None without spread.
        paired: On the clips of both sides.
    """

    column: str
    a: Spread
    b: Spread
    ks: float | None
    p: float | None
    q: float | None
    effect: float | None
    paired: Paired


def find_shifts(scratch: Scratch, columns: Sequence[str]) -> list[Shift]:
    """Compare the columns, those with the largest effect first."""
    if not columns:
        return []
    names = ", ".join(quoted(c) for c in columns)
    for side in ("a", "b"):
        scratch.con.execute(
            f"CREATE TABLE kept_{side} AS SELECT clip_id, {names} FROM {side} "
            "WHERE verdict = 'kept'"
        )
    spreads = [spread_of(scratch, side, columns) for side in ("kept_a", "kept_b")]
    distances = ks_statistics(scratch, columns)
    paired = _paired(scratch, columns)
    shifts = []
    for column in columns:
        a, b = spreads[0][column], spreads[1][column]
        ks = distances.get(column)
        p = None if ks is None or min(a.n, b.n) < FEWEST_FOR_P else ks_p_value(ks, a.n, b.n)
        shifts.append((column, a, b, ks, p, effect_size(a, b), paired[column]))
    q = adjusted([s[4] for s in shifts])
    found = [
        Shift(column=c, a=a, b=b, ks=ks, p=p, q=q[i], effect=effect, paired=pair)
        for i, (c, a, b, ks, p, effect, pair) in enumerate(shifts)
    ]
    return sorted(found, key=_place)


def spread_of(scratch: Scratch, table: str, columns: Sequence[str]) -> dict[str, Spread]:
    """Counts, means and percentiles of some columns of a table."""
    parts = []
    for i, column in enumerate(columns):
        c = quoted(column)
        parts.append(f"count({c}) AS n{i}, avg({c}) AS m{i}, stddev_samp({c}) AS s{i}")
    sums = scratch.one(f"SELECT count(*) AS n, {', '.join(parts)} FROM {table}")
    marks = _percentiles(scratch, table, columns, sums["n"])
    found = {}
    for i, column in enumerate(columns):
        low, middle, high = marks[column] or (None, None, None)
        found[column] = Spread(
            n=sums[f"n{i}"],
            num_null=sums["n"] - sums[f"n{i}"],
            mean=sums[f"m{i}"],
            sd=sums[f"s{i}"],
            p10=low,
            median=middle,
            p90=high,
        )
    return found


def _percentiles(
    scratch: Scratch, table: str, columns: Sequence[str], num_rows: int
) -> dict[str, list[float] | None]:
    """10th, 50th and 90th: they hold all values of the columns asked for at a time in memory."""
    found: dict[str, list[float] | None] = {}
    for chunk in _chunks(columns, num_rows):
        parts = [
            f"quantile_cont({quoted(c)}, [0.1, 0.5, 0.9]) AS q{i}" for i, c in enumerate(chunk)
        ]
        row = scratch.one(f"SELECT {', '.join(parts)} FROM {table}")
        found |= {c: row[f"q{i}"] for i, c in enumerate(chunk)}
    return found


def ks_statistics(scratch: Scratch, columns: Sequence[str]) -> dict[str, float]:
    """Largest distances of the distribution functions of ``kept_a`` and ``kept_b``, exact.

    Columns without a value on either side are missing.
    """
    num_rows = scratch.one(
        "SELECT (SELECT count(*) FROM kept_a) + (SELECT count(*) FROM kept_b) AS n"
    )["n"]
    found: dict[str, float] = {}
    for chunk in _chunks(columns, num_rows):
        names = ", ".join(quoted(c) for c in chunk)
        long = "SELECT name, x, {0} FROM {1} UNPIVOT (x FOR name IN (" + names + "))"
        rows = scratch.rows(
            f"""WITH counted AS (
                {long.format("1 AS a, 0 AS b", "kept_a")} UNION ALL
                {long.format("0, 1", "kept_b")}
            ), steps AS (SELECT name, x, sum(a) AS a, sum(b) AS b FROM counted GROUP BY name, x),
            heights AS (
                SELECT name, sum(a) OVER upto AS a, sum(b) OVER upto AS b,
                    sum(a) OVER whole AS num_a, sum(b) OVER whole AS num_b
                FROM steps WINDOW whole AS (PARTITION BY name), upto AS (PARTITION BY name
                    ORDER BY x ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW))
            SELECT name, max(abs(a / num_a - b / num_b)) AS ks FROM heights
            WHERE num_a > 0 AND num_b > 0 GROUP BY name"""
        )
        found |= {r["name"]: float(r["ks"]) for r in rows}
    return found


def _chunks(columns: Sequence[str], num_rows: int) -> Iterator[Sequence[str]]:
    """Columns to be asked for together: all of a small dataset, one by one of a large one."""
    size = max(1, VALUES_AT_A_TIME // max(1, num_rows))
    for start in range(0, len(columns), size):
        yield columns[start : start + size]


def ks_p_value(ks: float, num_a: int, num_b: int) -> float:
    """Chance of a distance at least this large between samples of one distribution (asymptotic)."""
    root = math.sqrt(num_a * num_b / (num_a + num_b))
    x = (root + 0.12 + 0.11 / root) * ks
    if x < 0.2:  # the series converges too slowly to sum; the value is 1 to twelve digits
        return 1.0
    total, sign = 0.0, 1.0
    for j in range(1, 101):
        term = math.exp(-2.0 * (j * x) ** 2)
        total += sign * term
        if term < 1e-16:
            break
        sign = -sign
    return min(1.0, max(0.0, 2.0 * total))


def effect_size(a: Spread, b: Spread) -> float | None:
    """Cohen's d: difference of the means in pooled standard deviations; None without spread."""
    if a.sd is None or b.sd is None or a.mean is None or b.mean is None:
        return None
    pooled = math.sqrt(((a.n - 1) * a.sd**2 + (b.n - 1) * b.sd**2) / (a.n + b.n - 2))
    if pooled == 0:
        return 0.0 if a.mean == b.mean else None
    return (b.mean - a.mean) / pooled


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini and Hochberg's adjusted p-values; None stays None and does not count."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    result: list[float | None] = [None] * len(p_values)
    smallest = 1.0
    for rank in range(len(known), 0, -1):
        p, i = known[rank - 1]
        smallest = min(smallest, p * len(known) / rank)
        result[i] = smallest
    return result


def _paired(scratch: Scratch, columns: Sequence[str]) -> dict[str, Paired]:
    """One join for all columns."""
    parts = []
    for i, column in enumerate(columns):
        a, b = f"a.{quoted(column)}", f"b.{quoted(column)}"
        parts.append(
            f"count({b} - {a}) AS n{i}, avg({b} - {a}) AS m{i}, max(abs({b} - {a})) AS l{i}, "
            f"count(*) FILTER ({a} <> {b}) AS c{i}"
        )
    row = scratch.one(f"SELECT {', '.join(parts)} FROM a JOIN b USING (clip_id)")
    return {
        column: Paired(
            n=row[f"n{i}"], num_changed=row[f"c{i}"], mean=row[f"m{i}"], largest=row[f"l{i}"]
        )
        for i, column in enumerate(columns)
    }


def _place(shift: Shift) -> tuple[float, float, str]:
    """Largest effect first; a constant that became another constant before all."""
    if shift.effect is not None:
        size = abs(shift.effect)
    elif shift.a.mean is not None and shift.b.mean is not None and shift.a.mean != shift.b.mean:
        size = math.inf
    else:
        size = 0.0
    return -size, -(shift.ks or 0.0), shift.column
