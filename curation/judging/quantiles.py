"""Quantile rules become numbers: one pass of DuckDB over the clips that have a value.

A quantile is DuckDB's ``quantile_cont`` over double: between two clips it is interpolated. It is
taken over every clip of the dataset with a value, kept or not, whatever else fails it; that of an
override over the clips of its sources. A score that only kept clips get has values for those alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa

from curation.catalog.views import Views
from curation.judging.globs import sql_condition
from curation.judging.rule import QuantileBound, Where
from curation.judging.rules import Rules
from curation.schema import THRESHOLDS


def resolve(rules: Rules, views: Views) -> tuple[Rules, pa.Table]:
    """Take the quantiles of a catalog.

    Args:
        rules: As the settings have them.
        views: Of the catalog.

    Returns:
        The rules with numbers, for ``Rules.judge``; and rows of the table ``thresholds``, whose
        ``fingerprint`` is that of the given rules. A column that no clip has a value of gives a
        null threshold, which fails none.
    """
    bounds = rules.quantile_bounds()
    values = dict(zip(bounds, _values(rules, bounds, views), strict=True))
    fingerprint = rules.fingerprint()
    rows = [
        {
            "column": bound.column,
            "bound": bound.bound,
            "quantile": bound.quantile,
            "value": value,
            "where": None if (where := _where(rules, bound)) is None else where.as_json(),
            "fingerprint": fingerprint,
        }
        for bound, value in values.items()
    ]
    return rules.with_thresholds(values), pa.Table.from_pylist(rows, schema=THRESHOLDS)


def _values(rules: Rules, bounds: Sequence[QuantileBound], views: Views) -> list[float | None]:
    """The quantile of each bound; None: no clip has a value."""
    if not bounds:
        return []
    wanted = {b.column for b in bounds}
    terms = []
    for number, bound in enumerate(bounds):
        where, value = _where(rules, bound), f'CAST("{bound.column}" AS DOUBLE)'
        conditions = [f"NOT isnan({value})"]  # null is left out by itself
        if where is not None:
            conditions += [sql_condition(f, globs) for f, globs in where.patterns().items()]
            wanted |= set(where.patterns())
        terms.append(
            f"quantile_cont({value}, {bound.quantile!r}) FILTER ({' AND '.join(conditions)}) "
            f"AS q{number}"
        )
    clips = views.clips(["clip_id", *sorted(wanted)])
    row = views.query(f"SELECT {', '.join(terms)} FROM ({clips})").to_pylist()[0]
    found = [row[f"q{number}"] for number in range(len(bounds))]
    # Between two infinities there is no number.
    return [None if value is None or math.isnan(value) else value for value in found]


def _where(rules: Rules, bound: QuantileBound) -> Where | None:
    return None if bound.override is None else rules.overrides[bound.override].where
