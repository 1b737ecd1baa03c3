"""Score shifts against scipy, and on data whose answer is known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.compare.scratch import Scratch
from pipelines.compare.shifts import (
    Spread,
    adjusted,
    effect_size,
    find_shifts,
    ks_p_value,
    ks_statistics,
)

Values = list[float | None]


@pytest.fixture(scope="module")
def scratch() -> Iterator[Scratch]:
    with Scratch() as made:
        yield made


def fill(scratch: Scratch, a: Values, b: Values, *, first_of_b: int = 0) -> None:
    """Tables of both sides, all clips kept; B's clips are numbered from ``first_of_b``."""
    for side, values, first in (("a", a, 0), ("b", b, first_of_b)):
        rows = pa.table(
            {
                "clip_id": [f"c{first + i}" for i in range(len(values))],
                "verdict": ["kept"] * len(values),
                "x": pa.array(values, pa.float64()),
            }
        )
        for table in (side, f"kept_{side}"):
            scratch.con.execute(f"DROP TABLE IF EXISTS {table}")
        scratch.con.register("rows", rows)
        scratch.con.execute(f"CREATE TABLE {side} AS SELECT * FROM rows")
        scratch.con.unregister("rows")


few = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-2, 2)), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(few, few)
def test_the_statistic_is_exact_also_with_ties(
    scratch: Scratch, a: list[float], b: list[float]
) -> None:
    stats = pytest.importorskip("scipy.stats")
    fill(scratch, [*a], [*b])
    scratch.con.execute("CREATE TABLE kept_a AS FROM a")
    scratch.con.execute("CREATE TABLE kept_b AS FROM b")
    expected = stats.ks_2samp(a, b, method="asymp").statistic
    assert ks_statistics(scratch, ["x"])["x"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("num_a", "num_b", "ks"), [(40, 60, 0.3), (500, 400, 0.08), (12, 12, 0.5)])
def test_p_values_are_near_the_exact_ones(num_a: int, num_b: int, ks: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    # The distribution of one sample of the effective size, which scipy's "asymp" uses.
    size = num_a * num_b / (num_a + num_b)
    assert ks_p_value(ks, num_a, num_b) == pytest.approx(stats.kstwo.sf(ks, round(size)), abs=0.03)


def test_p_values_at_the_ends() -> None:
    assert ks_p_value(0.0, 100, 100) == 1.0
    assert ks_p_value(1.0, 1000, 1000) < 1e-100
    values = [ks_p_value(d / 100, 50, 80) for d in range(101)]
    assert values == sorted(values, reverse=True)
    # Where the two branches meet there is no step.
    assert abs(ks_p_value(0.0280, 50, 50) - ks_p_value(0.0285, 50, 50)) < 1e-6


def test_few_values_have_no_p(scratch: Scratch) -> None:
    fill(scratch, [1.0] * 7, [2.0] * 70)
    (shift,) = find_shifts(scratch, ["x"])
    assert shift.ks == 1.0 and shift.p is None and shift.q is None
    assert shift.effect is None  # no spread at all: no unit to tell it in


def test_a_moved_score_is_described(scratch: Scratch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 2000), rng.normal(0.5, 1, 1000)
    fill(scratch, [*a.tolist(), None], b.tolist(), first_of_b=10_000)
    (shift,) = find_shifts(scratch, ["x"])
    assert shift.effect == pytest.approx(0.5, abs=0.08)
    assert (shift.a.n, shift.a.num_null, shift.b.n) == (2000, 1, 1000)
    assert shift.a.median == pytest.approx(np.median(a))
    assert shift.b.p90 == pytest.approx(np.quantile(b, 0.9))
    assert shift.p is not None and shift.p < 1e-12
    assert shift.paired.n == 0 and shift.paired.mean is None


def test_pairs_show_what_distributions_hide(scratch: Scratch) -> None:
    """Every clip changed its value, the values as a whole did not."""
    fill(scratch, [float(i) for i in range(20)], [float(19 - i) for i in range(20)])
    (shift,) = find_shifts(scratch, ["x"])
    assert shift.ks == 0.0 and shift.effect == 0.0
    assert shift.paired.n == 20 and shift.paired.num_changed == 20
    assert shift.paired.mean == 0.0 and shift.paired.largest == 19.0


def test_the_largest_effect_comes_first(scratch: Scratch) -> None:
    for side, shift in (("a", 0.0), ("b", 1.0)):
        i = np.arange(50.0)
        rows = pa.table(
            {
                "clip_id": [f"c{n}" for n in range(50)],
                "verdict": ["kept"] * 50,
                "still": i,
                "little": i + shift,
                "much": i + 40 * shift,
                "constant": np.full(50, shift),
                "empty": pa.nulls(50, pa.float64()),
            }
        )
        scratch.con.execute(f"DROP TABLE IF EXISTS {side}; DROP TABLE IF EXISTS kept_{side}")
        scratch.con.register("rows", rows)
        scratch.con.execute(f"CREATE TABLE {side} AS SELECT * FROM rows")
    found = find_shifts(scratch, ["empty", "still", "little", "much", "constant"])
    assert [s.column for s in found] == ["constant", "much", "little", "empty", "still"]
    assert found[3].ks is None and found[3].a.mean is None


def test_adjusted_p_values() -> None:
    """The example of Benjamini and Hochberg (1995), table of section 3.2: four are below 0.05."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    q = adjusted([*p, None])
    assert q[-1] is None
    known = [x for x in q if x is not None]
    assert sum(x <= 0.05 for x in known) == 4
    assert known == sorted(known) and known[3] == pytest.approx(0.0095 * 15 / 4)


def test_effect_of_single_values() -> None:
    one = Spread(n=1, num_null=0, mean=1.0, sd=None, p10=1.0, median=1.0, p90=1.0)
    assert effect_size(one, one) is None
