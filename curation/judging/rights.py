"""Rights: what must be known of a source, what is presumed, allowed and denied.

Reasons: ``rights_missing_<field>``, ``rights_unlisted_<field>``, ``rights_denied_<field>``. They
are part of judging, so a clip without the right licence is not even cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, model_validator

from curation.judging.globs import match_values, spread
from curation.judging.licenses import allowed, denied, is_unknown
from curation.judging.reasons import Reasons
from curation.judging.rule import FIELDS, FieldName, Globs, as_list
from curation.schema import SOURCES

if TYPE_CHECKING:
    from curation.catalog.catalog import Catalog

AllowGlobs = Annotated[tuple[StrictStr | None, ...], BeforeValidator(as_list), Field(min_length=1)]
DEFAULT = "default"
"""The origin of a value that comes from the settings."""
DEFAULTED = ("license", "source")


class Rights(BaseModel):
    """What is demanded of a source before its clips may be used.

    Attributes:
        require: Fields that must be known. Blank text and SPDX's ``NOASSERTION`` are unknown.
        defaults: Values for sources that say nothing; the catalog marks them as such.
        allow: Patterns by field, in any case; what matches none is unlisted. A listed field must
            also be known, unless ``null`` stands in the list.
        deny: Patterns by field that are refused, whatever is allowed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    require: Annotated[tuple[FieldName, ...], BeforeValidator(as_list)] = ()
    defaults: dict[Literal["license", "source"], StrictStr] = Field(default_factory=dict)
    allow: dict[FieldName, AllowGlobs] = Field(default_factory=dict)
    deny: dict[FieldName, Globs] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_defaults(self) -> Rights:
        for name, value in self.defaults.items():
            if is_unknown(value):
                raise ValueError(f"the default {name} {value!r} says nothing")
        return self

    def columns(self) -> list[FieldName]:
        """The fields it looks at, in a fixed order."""
        wanted = {*self.require, *self.allow, *self.deny}
        return [f for f in FIELDS if f in wanted]

    def add_reasons(self, fields: Mapping[str, pa.DictionaryArray], reasons: Reasons) -> None:
        """Add the reasons of clips.

        Args:
            fields: For each of ``columns()`` its value per clip.
            reasons: Of as many clips; they are added here.
        """
        known = {f: spread(fields[f], _known(fields[f].dictionary)) for f in self.columns()}
        for field in self.columns():
            if self.demands(field):
                reasons.add(f"rights_missing_{field}", ~known[field])
        for field in self.columns():
            if field in self.allow:
                globs = [g for g in self.allow[field] if g is not None]
                listed = spread(fields[field], _allowed(field, fields[field].dictionary, globs))
                reasons.add(f"rights_unlisted_{field}", known[field] & ~listed)
        for field in self.columns():
            if field in self.deny:
                globs = list(self.deny[field])
                hit = spread(fields[field], _denied(field, fields[field].dictionary, globs))
                reasons.add(f"rights_denied_{field}", known[field] & hit)

    def demands(self, field: FieldName) -> bool:
        """True when a field has to be known."""
        listed = self.allow.get(field)
        return field in self.require or (listed is not None and None not in listed)


def apply_defaults(catalog: Catalog, rights: Rights) -> int:
    """Give sources without a licence or name the default, and take back an old one.

    Writes a new version of the table ``sources`` only when something changes. The caller holds
    the lease.

    Returns:
        Number of values that changed.
    """
    if not catalog.has("sources"):
        return 0
    columns = catalog.dataset("sources").schema.names
    if not all(f"{f}_origin" in columns for f in DEFAULTED):
        if not rights.defaults:
            return 0
        catalog.create({"sources": SOURCES})  # a table of an older version
    return sum(_apply_default(catalog, f, rights.defaults.get(f)) for f in DEFAULTED)


def _apply_default(catalog: Catalog, field: Literal["license", "source"], value: str | None) -> int:
    origin = f"{field}_origin"
    mine = f"{origin} = '{DEFAULT}'"
    if value is None:
        return _update(
            catalog, mine, {field: "CAST(NULL AS STRING)", origin: "CAST(NULL AS STRING)"}
        )
    text = "'" + value.replace("'", "''") + "'"
    wanted = f"(({mine}) AND {field} <> {text}) OR {field} IS NULL"
    return _update(catalog, wanted, {field: text, origin: f"'{DEFAULT}'"})


def _update(catalog: Catalog, where: str, values: dict[str, str]) -> int:
    dataset = catalog.dataset("sources")
    count = dataset.count_rows(where)
    if count:
        dataset.update(values, where=where)
    return count


def _known(values: pa.Array) -> np.ndarray:
    return np.array([not is_unknown(v) for v in values.to_pylist()], bool).reshape(len(values))


def _allowed(field: str, values: pa.Array, globs: list[str]) -> np.ndarray:
    return allowed(values, globs) if field == "license" else match_values(values, globs)


def _denied(field: str, values: pa.Array, globs: list[str]) -> np.ndarray:
    return denied(values, globs) if field == "license" else match_values(values, globs)
