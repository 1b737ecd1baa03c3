"""What stages that run a model share: their weights, what happens without them, the cascade."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from curation.models.registry import file_sha256, find_weights, how_to_get, require_weights
from curation.models.weights import Weights
from curation.stage import Grain, Stage


class ModelStage(Stage):
    """A scorer of clips that needs weights.

    A subclass names its weights in ``weights`` and writes nulls when ``ready`` is False. Every such
    stage stores in a column of its own which model made the row, null where none did.
    """

    grain: ClassVar[Grain] = "clip"
    operational: ClassVar[frozenset[str]] = Stage.operational | {"cascade", "if_missing"}

    cascade: bool = Field(
        True, description="score only clips that pass the rules on cheaper scores so far"
    )
    if_missing: Literal["fail", "skip"] = Field(
        "fail",
        description="without its weights: refuse to start (fail), or leave the scores null (skip)",
    )

    @property
    def gated(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """In a cascade only clips that the judge keeps so far come here."""
        return self.cascade

    def weights(self) -> tuple[Weights, ...]:
        """The weights that this configuration loads."""
        raise NotImplementedError

    @cached_property
    def ready(self) -> bool:
        """False when weights are missing and the scores stay null."""
        return all(find_weights(w) is not None for w in self.weights())

    def missing(self) -> list[Weights]:
        """Weights without which the run must not start."""
        if self.if_missing == "skip":
            return []
        return [w for w in self.weights() if find_weights(w) is None]

    def unknown(self) -> frozenset[str]:
        """Without its weights, all that it would write."""
        if self.ready:
            return frozenset()
        return frozenset(name for columns in self.adds.values() for name in columns.names)

    def model_checksums(self) -> dict[str, str]:
        """sha256 of each file in use; another file is another score."""
        if not self.ready:
            return {}
        return {w.key: file_sha256(require_weights(w)) for w in self.weights()}

    def fallbacks(self) -> list[str]:
        """Scores that stay null."""
        if self.ready:
            return []
        lost = [w for w in self.weights() if find_weights(w) is None]
        return [
            f"{self.name}: {w.name} is not here, its scores are null ({how_to_get(w)})"
            for w in lost
        ]

    def nulls(self, batch: pa.Table, columns: pa.Schema) -> pa.Table:
        """Rows without scores, one for each clip of a batch."""
        rows: list[dict[str, Any]] = [
            {"clip_id": clip_id} for clip_id in batch.column("clip_id").to_pylist()
        ]
        return pa.Table.from_pylist(rows, schema=columns)
