"""The judge: rules on columns to a verdict with every failing reason.

Judging reads no pixels. The same function runs inside a worker (to decide what is worth cutting)
and over the whole catalog in seconds. A missing score is never a rejection by accident: each rule
says what a null means. A rule on what is measured after cutting gates nothing before it, and counts
once the value is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, field_validator

from curation.ids import json_digest
from curation.judging.globs import encode, match_values, matches
from curation.judging.reasons import Reasons
from curation.judging.rights import Rights
from curation.judging.rule import (
    FIELDS,
    Override,
    QuantileBound,
    Rule,
    Where,
    bounds_of,
    is_text,
    unknown_column,
)

__all__ = ["FAILED", "KEPT", "REJECTED", "Override", "QuantileBound", "Rule", "Rules", "Where"]

NONE_LATE: Mapping[str, str] = MappingProxyType({})
KEPT, REJECTED, FAILED = "kept", "rejected", "failed"


class Rules(BaseModel):
    """Rules by column, exceptions for some sources, and rights. A clip is kept when it fails none.

    Reasons stand in this order: rights; then column by column ``low_<column>``, ``high_<column>``,
    ``not_<column>``, ``null_<column>``.

    Attributes:
        rules: By column. A null switches off a rule that stands before it (in a preset).
        overrides: Exceptions, for each column the last one that matches.
        rights: What is demanded of the source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: dict[str, Rule] = Field(default_factory=dict)
    overrides: tuple[Override, ...] = ()
    rights: Rights = Rights()

    @field_validator("rules", mode="before")
    @classmethod
    def _without_null(cls, rules: object) -> object:
        if isinstance(rules, dict):
            return {column: rule for column, rule in rules.items() if rule is not None}
        return rules

    def check(self, known: dict[str, pa.DataType]) -> None:
        """Refuse a rule on a column that no stage adds, or that the column cannot be held to.

        Args:
            known: Types of the columns by name.

        Raises:
            ConfigError: With the nearest valid column name.
        """
        for where, column, rule in self._all():
            kind = known.get(column)
            if kind is None:
                raise unknown_column(column, known, where)
            if rule is not None:
                rule.check(kind, where)

    def _all(self) -> Iterator[tuple[str, str, Rule | None]]:
        """Every rule with the place where it stands."""
        for column, rule in self.rules.items():
            yield f"judge.rules.{column}", column, rule
        for number, override in enumerate(self.overrides):
            for column, rule in override.rules.items():
                yield f"judge.overrides.{number}.rules.{column}", column, rule

    def rule_columns(self) -> list[str]:
        """The columns with a rule, sorted."""
        return sorted({column for _, column, rule in self._all() if rule is not None})

    def source_columns(self) -> list[str]:
        """What overrides and rights need to know of a source, in a fixed order."""
        wanted = {f for override in self.overrides for f in override.where.patterns()}
        wanted |= set(self.rights.columns())
        return [f for f in FIELDS if f in wanted]

    def columns(self) -> list[str]:
        """All it looks at, sorted."""
        return sorted({*self.rule_columns(), *self.source_columns()})

    def fingerprint(self) -> str:
        """32 hex digits that change when a rule does.

        Taken before quantiles become numbers: those follow the clips.
        """
        return json_digest({"verdicts": 2, "rules": self.model_dump(mode="json")})

    def only(self, columns: Collection[str]) -> Rules:
        """The rules on some columns, with their overrides; rights, known from the start, stay."""
        rules = {c: rule for c, rule in self.rules.items() if c in columns}
        kept = [{c: r for c, r in o.rules.items() if c in columns} for o in self.overrides]
        return self._with(rules, kept)

    def local(self) -> Rules:
        """The rules without quantiles: what can be said of a clip that is seen without the rest."""
        rules = {c: local for c, rule in self.rules.items() if (local := rule.local()) is not None}
        others = [{c: r and r.local() for c, r in o.rules.items()} for o in self.overrides]
        return self._with(rules, others)

    def quantile_bounds(self) -> list[QuantileBound]:
        """The bounds that the other clips decide, in a fixed order."""
        found: list[QuantileBound] = []
        for column, rule in sorted(self.rules.items()):
            found += bounds_of(column, rule, None)
        for number, override in enumerate(self.overrides):
            for column, rule in sorted(override.rules.items()):
                found += bounds_of(column, rule, number)
        return found

    def with_thresholds(self, values: Mapping[QuantileBound, float | None]) -> Rules:
        """The rules with numbers instead of quantiles.

        Args:
            values: One for each of ``quantile_bounds()``; None: no clip has a value, so the bound
                fails none.
        """

        def bounded(column: str, rule: Rule | None, number: int | None) -> Rule | None:
            if rule is None or not rule.quantiles:
                return rule
            mine = {b.bound: values[b] for b in bounds_of(column, rule, number)}
            return rule.with_bounds(mine.get("min"), mine.get("max"))

        rules = {c: new for c, r in self.rules.items() if (new := bounded(c, r, None)) is not None}
        others = [
            {c: bounded(c, r, i) for c, r in o.rules.items()} for i, o in enumerate(self.overrides)
        ]
        return self._with(rules, others)

    def _with(self, rules: dict[str, Rule], others: list[dict[str, Rule | None]]) -> Rules:
        """These rules and, for each override, those; rules as they are, checked before."""
        overrides = tuple(
            o.model_copy(update={"rules": mine})
            for o, mine in zip(self.overrides, others, strict=True)
            if mine
        )
        return self.model_copy(update={"rules": rules, "overrides": overrides})

    def judge(self, clips: pa.Table, late: Mapping[str, str] = NONE_LATE) -> pa.Table:
        """Judge a table of clips.

        Args:
            clips: ``clip_id``, ``video_id`` and ``columns()``.
            late: Columns that only clips which passed the other rules get, each with the boolean
                column of ``clips`` that says whether the clip has come so far. If it has not, the
                column is null and passes; if it has, a null is judged as any other.

        Returns:
            One row per clip, in order: ``clip_id, video_id, verdict, reasons, margins``. A margin
            is value minus threshold in the column's unit; null where there is no number.

        Raises:
            ValueError: A quantile has not become a number yet (see ``quantiles.py``).
        """
        if self.quantile_bounds():
            raise ValueError("quantiles have to become numbers first: quantiles.resolve()")
        reasons = Reasons(clips.num_rows)
        fields = {f: encode(clips.column(f)) for f in self.source_columns()}
        self.rights.add_reasons({f: fields[f] for f in self.rights.columns()}, reasons)
        matched = [_matched(o.where, fields, clips.num_rows) for o in self.overrides]
        errors = np.zeros(clips.num_rows, bool)
        for column in self.rule_columns():
            reached = clips.column(late[column]) if column in late else None
            rules = self._choose(column, matched, clips.num_rows)
            errors |= _judge_column(column, rules, clips.column(column), reached, reasons)
        codes = np.where(errors, 2, reasons.any().astype(np.int8)).astype(np.int8)
        verdicts = pa.DictionaryArray.from_arrays(codes, pa.array([KEPT, REJECTED, FAILED]))
        lists, margins = reasons.lists()
        return pa.table(
            {
                "clip_id": clips.column("clip_id"),
                "video_id": clips.column("video_id"),
                "verdict": verdicts.cast(pa.string()),
                "reasons": lists,
                "margins": margins,
            }
        )

    def _choose(self, column: str, matched: list[np.ndarray], count: int) -> _Chosen:
        """Which rule on a column is each clip's."""
        rules: list[Rule | None] = [self.rules.get(column)]
        which = None
        for override, mask in zip(self.overrides, matched, strict=True):
            if column in override.rules:
                which = np.zeros(count, np.int32) if which is None else which
                which[mask] = len(rules)
                rules.append(override.rules[column])
        return _Chosen(rules, which)


@dataclass(frozen=True)
class _Chosen:
    """Rules on one column, and for each clip the number of its own; None: the first for all."""

    rules: list[Rule | None]
    which: np.ndarray | None

    def each(self, values: list[Any]) -> Any:  # noqa: ANN401 - numpy of any type
        """A value per rule, as one per clip (or one for all)."""
        array = np.asarray(values)
        return array[0] if self.which is None else array[self.which]


def _matched(where: Where, fields: Mapping[str, pa.DictionaryArray], count: int) -> np.ndarray:
    """Clips of the sources that an override is about, bool [clips]."""
    found = np.ones(count, bool)
    for name, globs in where.patterns().items():
        found &= matches(fields[name], globs)
    return found


def _judge_column(
    column: str,
    chosen: _Chosen,
    values: pa.ChunkedArray,
    reached: pa.ChunkedArray | None,
    reasons: Reasons,
) -> np.ndarray:
    """Add the reasons of one column; which clips have failed for want of it, bool [clips]."""
    null = pc.call_function("is_null", [values], pc.NullOptions(nan_is_null=True)).to_numpy()
    if any(rule and rule.bounded for rule in chosen.rules):
        numbers = _as_numbers(values)
        for side, name in (("min", "low"), ("max", "high")):
            bounds = [None if r is None else getattr(r, side) for r in chosen.rules]
            if any(b is not None for b in bounds):
                # NaN, which stands for no bound and for null, is neither below nor above.
                bound = chosen.each(
                    [np.nan if b is None else _like(b, values.type) for b in bounds]
                )
                beyond = numbers < bound if side == "min" else numbers > bound
                reasons.add(f"{name}_{column}", beyond, numbers - bound)
    if any(rule and rule.lists for rule in chosen.rules):
        reasons.add(f"not_{column}", ~_listed(chosen, values))
    if reached is not None:
        null = null & np.asarray(reached.to_numpy(), dtype=bool)
    policies = ["keep" if rule is None else rule.if_null for rule in chosen.rules]
    counts = null & chosen.each([p != "keep" for p in policies])
    reasons.add(f"null_{column}", counts)
    return counts & chosen.each([p == "error" for p in policies])


def _listed(chosen: _Chosen, values: pa.ChunkedArray) -> np.ndarray:
    """Whether the value is one that the clip's rule keeps, or null, bool [clips]."""
    encoded = encode(values)
    fine = np.ones((len(chosen.rules), len(encoded.dictionary) + 1), bool)  # last: null
    for number, rule in enumerate(chosen.rules):
        if rule is not None and rule.one_of is not None:
            fine[number, :-1] &= _among(encoded.dictionary, rule.one_of)
        if rule is not None and rule.none_of is not None:
            fine[number, :-1] &= ~_among(encoded.dictionary, rule.none_of)
    places = pc.fill_null(encoded.indices.cast(pa.int64()), len(encoded.dictionary))
    places = places.to_numpy(zero_copy_only=False)
    return fine[0 if chosen.which is None else chosen.which, places]


def _among(distinct: pa.Array, listed: tuple[bool | int | str, ...]) -> np.ndarray:
    """Whether each value is in a list, or matches a pattern in it, bool [distinct values]."""
    if is_text(distinct.type):
        return match_values(distinct, [str(v) for v in listed])
    wide = distinct if distinct.type == pa.bool_() else distinct.cast(pa.int64())
    options = pc.SetLookupOptions(value_set=pa.array(listed, wide.type))
    found = pc.call_function("is_in", [wide], options)
    return found.to_numpy(zero_copy_only=False)


def _as_numbers(values: pa.ChunkedArray) -> np.ndarray:
    """A float64 array of a numeric or boolean column, NaN where it is null."""
    return np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _like(bound: float, kind: pa.DataType) -> float:
    """A bound as a column of this type stores it, so that a stored 0.7 is not below 0.7."""
    return float(np.float32(bound)) if kind == pa.float32() else bound
