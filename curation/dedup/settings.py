"""Which clips count as the same, and which of them stays."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from curation.catalog.vectors import TABLES as VECTOR_TABLES
from curation.dedup.exact import Exact
from curation.dedup.near import LEVELS
from curation.dedup.perceptual import Perceptual
from curation.dedup.semantic import Semantic
from curation.errors import ConfigError

PREFER = ("height_px", "width_px", "duration_s", "sharpness")
"""A copy is rarely larger than what it was made of. Of equal sizes the clip that shows more stays,
then the one with the harder edges. All of it is known of every clip, whatever the plan."""
NEEDS = {
    "exact": ("packets", "put the stage packets in the plan"),
    "perceptual": ("prints", "put the stage prints in the plan"),
    "semantic": (VECTOR_TABLES, "put the stage embed in the plan"),
}
"""Level -> how the name of the table it reads begins, and what brings that table."""


class Dedup(BaseModel):
    """Of clips that show the same one stays. Levels that are not named are off.

    Attributes:
        exact: The same coded pictures.
        perceptual: The same pictures, however they were encoded, resized or cut out.
        semantic: Much the same content, by embeddings.
        prefer: What makes one clip better than another: columns, the first that differs counts.
            More is better; less is, with a minus before the name. A clip without a value comes
            last; clips equal in all go by their id.
        held_out: Roots of other datasets, such as evaluation sets: clips near any of theirs are
            dropped, by the same levels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    exact: Exact | None = None
    perceptual: Perceptual | None = None
    semantic: Semantic | None = None
    prefer: tuple[str, ...] = PREFER
    held_out: tuple[str, ...] = Field(default=())

    @model_validator(mode="after")
    def _some_level(self) -> Dedup:
        if not self.levels():
            raise ValueError(
                f"names no level: give any of {', '.join(LEVELS)}, such as exact: {{}}"
            )
        return self

    @field_validator("prefer")
    @classmethod
    def _once(cls, prefer: tuple[str, ...]) -> tuple[str, ...]:
        names = [name.removeprefix("-") for name in prefer]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError(f"names a column twice, or none: {', '.join(prefer)}")
        return prefer

    @field_validator("held_out")
    @classmethod
    def _roots(cls, roots: tuple[str, ...]) -> tuple[str, ...]:
        if not all(roots) or len(set(roots)) < len(roots):
            raise ValueError("names a root twice, or an empty one")
        return roots

    def levels(self) -> dict[str, Any]:
        """Name -> settings of the levels that are on, the surest first."""
        return {name: found for name in LEVELS if (found := getattr(self, name)) is not None}

    def thresholds(self) -> dict[str, float]:
        """Level -> similarity from which two clips are duplicates."""
        return {name: level.threshold for name, level in self.levels().items()}

    def check(self, tables: Collection[str]) -> None:
        """Check that every level finds what it reads.

        Args:
            tables: Names of the tables that the plan writes.

        Raises:
            ConfigError: A level needs a table that no stage of the plan writes.
        """
        for level in self.levels():
            needed, mend = NEEDS[level]
            if not any(table.startswith(needed) for table in tables):
                raise ConfigError(
                    f"no stage of the plan writes what it compares ({needed.rstrip('_')})",
                    where=f"dedup.{level}",
                    mend=f"{mend}, or leave the level out",
                )
