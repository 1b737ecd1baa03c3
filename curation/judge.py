"""The judge: thresholds on columns to a verdict with every failing reason.

Judging reads no pixels. The same function runs inside a worker (to decide what is worth cutting)
and over the whole catalog in seconds. A missing score is never a rejection by accident: each rule
says what a null means. A rule on what is measured after cutting gates nothing before it, and counts
once the value is there.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.errors import ConfigError
from curation.ids import json_digest

NONE_LATE: Mapping[str, str] = MappingProxyType({})
MARGIN_DIGITS = 6
KEPT, REJECTED, FAILED = "kept", "rejected", "failed"


class Rule(BaseModel):
    """Bounds on one numeric or boolean column, both inclusive.

    Attributes:
        min: Lowest value kept.
        max: Highest value kept.
        if_null: What a missing value means: ``keep``, ``reject`` or ``error`` (the clip is
            counted as failed, with the reason ``null_<column>``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float | None = Field(None, allow_inf_nan=False)
    max: float | None = Field(None, allow_inf_nan=False)
    if_null: Literal["keep", "reject", "error"] = "error"

    @model_validator(mode="after")
    def _bounds(self) -> Rule:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Rules(BaseModel):
    """Rules by column. A clip is kept when it fails none.

    A failing clip carries the reasons ``low_<column>``, ``high_<column>`` or ``null_<column>``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: dict[str, Rule] = Field(default_factory=dict)

    def check(self, known: dict[str, pa.DataType]) -> None:
        """Refuse a rule on a column that no stage adds, or that is not a number.

        Args:
            known: Types of the columns by name.

        Raises:
            ConfigError: With the nearest valid column name.
        """
        for column in self.rules:
            where = f"judge.rules.{column}"
            kind = known.get(column)
            if kind is None:
                near = difflib.get_close_matches(column, list(known), n=1)
                hint = (
                    f"did you mean {near[0]!r}?"
                    if near
                    else "see `clipmill sql OUT 'describe clips'`"
                )
                raise ConfigError("no stage adds this column", where=where, mend=hint)
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or kind == pa.bool_()):
                raise ConfigError(f"is {kind}, not a number", where=where)

    def columns(self) -> list[str]:
        """The columns the rules look at, sorted."""
        return sorted(self.rules)

    def fingerprint(self) -> str:
        """32 hex digits that change when a rule does."""
        return json_digest({"verdicts": 1, "rules": self.model_dump(mode="json")})

    def only(self, columns: Collection[str]) -> Rules:
        """The rules on some columns."""
        return Rules(rules={c: rule for c, rule in self.rules.items() if c in columns})

    def judge(self, clips: pa.Table, late: Mapping[str, str] = NONE_LATE) -> pa.Table:
        """Judge a table of clips.

        Args:
            clips: ``clip_id``, ``video_id`` and the columns of the rules.
            late: Columns that only clips which passed the other rules get, each with the boolean
                column of ``clips`` that says whether the clip has come so far. If it has not, the
                column is null and passes; if it has, a null is judged as any other.

        Returns:
            One row per clip, in order: ``clip_id, video_id, verdict, reasons, margins``.
        """
        count = clips.num_rows
        failing: list[tuple[str, np.ndarray, np.ndarray | None]] = []
        errors = np.zeros(count, bool)
        for column in self.columns():
            rule = self.rules[column]
            values = clips.column(column)
            numbers = _as_numbers(values)
            null = np.isnan(numbers)
            if rule.min is not None:
                bound = _like(rule.min, values.type)
                low = numbers < bound  # NaN, which stands for null: False
                failing.append((f"low_{column}", low, numbers - bound))
            if rule.max is not None:
                bound = _like(rule.max, values.type)
                failing.append((f"high_{column}", numbers > bound, numbers - bound))
            if column in late:
                null = null & np.asarray(clips.column(late[column]).to_numpy(), dtype=bool)
            if rule.if_null != "keep":
                failing.append((f"null_{column}", null, None))
            if rule.if_null == "error":
                errors |= null
        reasons, margins = _reason_lists(failing, count)
        rejected = np.zeros(count, bool)
        for _, mask, _ in failing:
            rejected |= mask
        verdict = np.where(errors, FAILED, np.where(rejected, REJECTED, KEPT))
        return pa.table(
            {
                "clip_id": clips.column("clip_id"),
                "video_id": clips.column("video_id"),
                "verdict": pa.array(verdict, pa.string()),
                "reasons": reasons,
                "margins": margins,
            }
        )


def _as_numbers(values: pa.ChunkedArray) -> np.ndarray:
    """A float64 array of a numeric or boolean column, NaN where it is null."""
    return np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _like(bound: float, kind: pa.DataType) -> float:
    """A bound as a column of this type stores it, so that a stored 0.7 is not below 0.7."""
    return float(np.float32(bound)) if kind == pa.float32() else bound


def _reason_lists(
    failing: list[tuple[str, np.ndarray, np.ndarray | None]], count: int
) -> tuple[pa.ListArray, pa.ListArray]:
    """For each of ``count`` rows the names whose mask is set, in order, and their margins."""
    if not failing or count == 0:
        empty = [[]] * count
        return pa.array(empty, pa.list_(pa.string())), pa.array(empty, pa.list_(pa.float64()))
    mask = np.stack([m for _, m, _ in failing], axis=1)
    offsets = pa.array(np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int32))
    rows, which = np.nonzero(mask)
    names = pa.array([n for n, _, _ in failing], pa.string())
    unknown = np.full(count, np.nan)
    table = np.stack([unknown if m is None else m for _, _, m in failing], axis=1)
    margins = pa.array(np.round(table[rows, which], MARGIN_DIGITS), from_pandas=True)
    return (
        pa.ListArray.from_arrays(offsets, names.take(pa.array(which))),
        pa.ListArray.from_arrays(offsets, margins),
    )
