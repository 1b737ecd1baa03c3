"""The thresholds of a dataset as numbers: those written in its settings, and resolved quantiles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from curation.ids import canonical_json

Side = Literal["min", "max"]
SIDES: tuple[Side, Side] = ("min", "max")
PREFIX: dict[Side, str] = {"min": "low", "max": "high"}
"""What a reason begins with, by the bound that gives it."""
ALWAYS: dict[str, dict[str, Any]] = {"residual_cut": {"min": None, "max": 0, "if_null": "error"}}
"""Rules that hold without being written down, see ``CurateConfig.plan``."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """One bound of one rule.

    Attributes:
        column: The score it looks at.
        side: ``min`` or ``max``; both bounds are inclusive.
        value: The number; None: a quantile of a column without values.
        key: The rule it belongs to: ``judge.rules.sharpness``.
        quantile: The share of clips it was taken at; None: a fixed number.
        where: Patterns of the override it belongs to, as JSON; None: the general rule.
        if_null: What a missing score means: ``keep``, ``reject`` or ``error``.
    """

    column: str
    side: Side
    value: float | None
    key: str
    quantile: float | None = None
    where: str | None = None
    if_null: str = "error"

    @property
    def reason(self) -> str:
        """The reason that clips beyond it carry."""
        return f"{PREFIX[self.side]}_{self.column}"

    @property
    def words(self) -> str:
        """``at least 0.06`` or ``at most 0.8``."""
        at = "at least" if self.side == "min" else "at most"
        if self.value is None:
            return f"{at} (no value)"
        share = f" (quantile {self.quantile:g})" if self.quantile is not None else ""
        return f"{at} {self.value:.6g}{share}"

    def set_to(self, value: float | str) -> str:
        """The settings that put another number in its place."""
        number = value if isinstance(value, str) else f"{value:g}"
        fixed = f"{self.key}.{self.side}={number}"
        return fixed if self.quantile is None else f"{self.key}.{self.side}_quantile=null {fixed}"


def rules_of(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The general rules of a recorded configuration, by column; malformed ones are left out."""
    rules = (config.get("judge") or {}).get("rules") or {}
    found = {str(c): dict(r) for c, r in rules.items() if isinstance(r, Mapping)}
    return {**ALWAYS, **found}


def overrides_of(config: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, list[str]], dict]]:
    """The overrides of a recorded configuration: number, patterns by field, rules by column."""
    given = (config.get("judge") or {}).get("overrides")
    for i, override in enumerate(given if isinstance(given, list | tuple) else ()):
        if isinstance(override, Mapping) and isinstance(override.get("rules"), Mapping):
            yield i, _patterns(override.get("where")), dict(override["rules"])


def resolve(
    config: Mapping[str, Any], computed: Sequence[Mapping[str, Any]], known: Sequence[str]
) -> list[Threshold]:
    """All thresholds, the general rules first.

    Args:
        config: Configuration of the latest run.
        computed: Rows of the table ``thresholds`` that count now: what quantiles came to.
        known: Columns of the view ``clips``; rules on others are left out.
    """
    quantiles = {(r["column"], r["bound"], _spelled(r["where"])): r["value"] for r in computed}
    found = list(_bounds(rules_of(config), "judge.rules", None, quantiles))
    for i, patterns, rules in overrides_of(config):
        where = canonical_json(patterns)
        found += _bounds(rules, f"judge.overrides.{i}.rules", where, quantiles)
    return [t for t in found if t.column in known]


def _patterns(where: object) -> dict[str, list[str]]:
    """Patterns by field, without the fields that are not asked about."""
    if not isinstance(where, Mapping):
        return {}
    return {
        str(f): [str(g) for g in (globs if isinstance(globs, list | tuple) else [globs])]
        for f, globs in where.items()
        if globs is not None
    }


def _spelled(where: str | None) -> str | None:
    """The JSON of an override in one spelling."""
    try:
        return None if where is None else canonical_json(_patterns(json.loads(where)))
    except ValueError:
        return where


def _bounds(
    rules: Mapping[str, Any],
    prefix: str,
    where: str | None,
    quantiles: Mapping[tuple[str, str, str | None], float | None],
) -> Iterator[Threshold]:
    """Of a number and a quantile on one side the stricter holds."""
    for column, rule in rules.items():
        if not isinstance(rule, Mapping):
            continue
        for side in SIDES:
            fixed, share = rule.get(side), rule.get(f"{side}_quantile")
            fixed = float(fixed) if isinstance(fixed, int | float) else None
            if fixed is None and share is None:
                continue
            value = fixed
            if share is not None:
                resolved = quantiles.get((column, side, where))
                both = [b for b in (fixed, resolved) if b is not None]
                value = (max if side == "min" else min)(both, default=None)
                share = float(share) if value is None or value == resolved else None
            yield Threshold(
                column=column,
                side=side,
                value=value,
                key=f"{prefix}.{column}",
                quantile=share,
                where=where,
                if_null=str(rule.get("if_null") or "error"),
            )
