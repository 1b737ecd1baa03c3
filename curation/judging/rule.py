"""One rule on one column, exceptions from the rules, and what they may say."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from curation.errors import ConfigError
from curation.ids import canonical_json

FieldName = Literal["license", "source", "title", "uri"]
FIELDS: tuple[FieldName, ...] = ("license", "source", "title", "uri")
"""What is told with a source, in the order of the reasons."""


def as_list(value: object) -> object:
    """A single value as a list of one: YAML may leave out the brackets."""
    return value if value is None or isinstance(value, (list, tuple)) else (value,)


Value = StrictBool | StrictInt | StrictStr
Values = Annotated[tuple[Value, ...], BeforeValidator(as_list), Field(min_length=1)]
Globs = Annotated[tuple[StrictStr, ...], BeforeValidator(as_list), Field(min_length=1)]
Quantile = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Rule(BaseModel):
    """What one column of a clip must be. Everything said has to hold.

    Attributes:
        min: Lowest number kept.
        max: Highest number kept.
        min_quantile: The share of clips with the lowest values that goes, 0 to 1: the lowest
            number kept is this quantile of all clips that have a value.
        max_quantile: The highest number kept is this quantile: 0.95 takes out the highest 5 %.
        one_of: The values kept: patterns of text in any case, whole numbers, or true and false.
        none_of: The values that are not.
        if_null: What a missing value means: ``keep``, ``reject`` or ``error`` (the clip is
            counted as failed, with the reason ``null_<column>``). Said alone it is a rule too:
            ``{if_null: reject}`` keeps whatever is known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    min_quantile: Quantile | None = None
    max_quantile: Quantile | None = None
    one_of: Values | None = None
    none_of: Values | None = None
    if_null: Literal["keep", "reject", "error"] = "error"

    @model_validator(mode="after")
    def _means_something(self) -> Rule:
        for low, high in (("min", "max"), ("min_quantile", "max_quantile")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} {least} is above {high} {most}")
        if self.bounded and self.lists:
            raise ValueError("bounds are for numbers, one_of and none_of for what is no measure")
        only_nulls = "if_null" in self.model_fields_set and self.if_null != "keep"
        if not (self.bounded or self.lists or only_nulls):
            raise ValueError(
                "says nothing: give min, max, min_quantile, max_quantile, one_of or none_of "
                "(null instead of a rule switches one off)"
            )
        return self

    @property
    def bounded(self) -> bool:
        """True when it compares numbers."""
        return self.quantiles or self.min is not None or self.max is not None

    @property
    def quantiles(self) -> bool:
        """True when a bound depends on the other clips."""
        return self.min_quantile is not None or self.max_quantile is not None

    @property
    def lists(self) -> bool:
        """True when it compares with a list of values."""
        return self.one_of is not None or self.none_of is not None

    def local(self) -> Rule | None:
        """The part that needs no other clip; None: nothing."""
        if not self.quantiles:
            return self
        rest = self.model_copy(update={"min_quantile": None, "max_quantile": None})
        return rest if rest.bounded or rest.if_null != "keep" else None

    def with_bounds(self, low: float | None, high: float | None) -> Rule:
        """The rule with numbers instead of quantiles; of two bounds on one side the stricter."""
        lows = [b for b in (self.min, low) if b is not None]
        highs = [b for b in (self.max, high) if b is not None]
        numbers = {"min": max(lows, default=None), "max": min(highs, default=None)}
        return self.model_copy(update=numbers | {"min_quantile": None, "max_quantile": None})

    def check(self, kind: pa.DataType, where: str) -> None:
        """Refuse a rule that a column of this type cannot be held to.

        Raises:
            ConfigError: It cannot.
        """
        text = is_text(kind)
        whole = pa.types.is_integer(kind)
        if not (text or whole or pa.types.is_floating(kind) or kind == pa.bool_()):
            raise ConfigError(f"is {kind}, not a number", where=where, mend="text, numbers, flags")
        if self.bounded and text:
            mend = "text has one_of and none_of"
            raise ConfigError(f"is {kind}, not a number", where=where, mend=mend)
        if self.quantiles and kind == pa.bool_():
            raise ConfigError("is true or false and has no quantiles", where=where, mend="max: 0")
        values = (*(self.one_of or ()), *(self.none_of or ()))
        if not values:
            return
        if pa.types.is_floating(kind):
            mend = "use min and max"
            raise ConfigError("is measured, so no list of values fits it", where=where, mend=mend)
        wanted, name = (str, "text") if text else (int, "whole numbers")
        if kind == pa.bool_():
            wanted, name = bool, "true or false"
        wrong = [v for v in values if type(v) is not wanted]
        if wrong:
            raise ConfigError(
                f"is {kind}, so its values are {name}, not {wrong[0]!r}",
                where=where,
                mend='put text in quotes ("3:2", "no")' if text else "",
            )


class Where(BaseModel):
    """The sources that an override is about: all that is given has to match.

    Attributes:
        source: Patterns of the source's name; one of them has to match. Unknown matches nothing.
        license: Patterns of its licence.
        title: Patterns of its title.
        uri: Patterns of its URI.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Globs | None = None
    license: Globs | None = None
    title: Globs | None = None
    uri: Globs | None = None

    @model_validator(mode="after")
    def _some(self) -> Where:
        if not self.patterns():
            raise ValueError(f"needs one of {', '.join(FIELDS)}")
        return self

    def patterns(self) -> dict[str, tuple[str, ...]]:
        """The given fields with their patterns."""
        return {f: globs for f in FIELDS if (globs := getattr(self, f)) is not None}

    def as_json(self) -> str:
        """As it stands in the table ``thresholds``."""
        return canonical_json({f: list(globs) for f, globs in self.patterns().items()})


class Override(BaseModel):
    """Other rules for some sources.

    Attributes:
        where: Which sources.
        rules: Rules by column. Each replaces the general one wholly; null switches it off. A
            quantile is taken over the clips of these sources.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: Where
    rules: dict[str, Rule | None] = Field(min_length=1)


@dataclass(frozen=True)
class QuantileBound:
    """A bound that the other clips decide.

    Attributes:
        column: The column.
        bound: Which end.
        quantile: 0 to 1.
        override: The number of its override; None: the general rule.
    """

    column: str
    bound: Literal["min", "max"]
    quantile: float
    override: int | None = None


def bounds_of(column: str, rule: Rule | None, override: int | None) -> Iterable[QuantileBound]:
    """The quantile bounds of one rule."""
    if rule is not None and rule.min_quantile is not None:
        yield QuantileBound(column, "min", rule.min_quantile, override)
    if rule is not None and rule.max_quantile is not None:
        yield QuantileBound(column, "max", rule.max_quantile, override)


def is_text(kind: pa.DataType) -> bool:
    """True for columns of text, plain or as indices into their distinct values."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def unknown_column(column: str, known: Iterable[str], where: str) -> ConfigError:
    """The error for a column that no stage adds, with the nearest that there is."""
    near = difflib.get_close_matches(column, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see `clipmill sql OUT 'describe clips'`"
    return ConfigError("no stage adds this column", where=where, mend=hint)
