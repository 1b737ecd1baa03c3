"""Aesthetics: how people would rate the look of each clip, 1 to 10, from the stored embeddings.

Heads that were trained on ratings of pictures (LAION's; see ``curation/models/heads.py``) are laid
over the frame vectors that ``embed`` stored, so no picture is opened. Each head fits the embeddings
of one model alone. Unit: the mean rating; most footage lies between 4 and 6, and 4.5 to 5 is a
usual lower bound. Cost: below a millisecond a clip.

``aesthetic-v2-5-siglip`` belongs to a project under the AGPL-3.0. Clipmill holds none of its code
and never fetches its weights by itself: it reads a file that you put into the models folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr

from curation.errors import ConfigError
from curation.models.embedders import model_label
from curation.models.heads import HEADS, Head, HeadName, load_head
from curation.models.registry import file_sha256, require_weights
from curation.models.weights import Weights
from curation.schema import FLOAT32, STRING, schema
from curation.stage import Output, Stage
from curation.stages.embed import Embed, vector_type
from curation.stages.model_stage import ModelStage

DIGITS = 4


class Aesthetics(ModelStage):
    """Rates clips; null where a clip has no embedding."""

    name: ClassVar[str] = "aesthetics"
    version: ClassVar[int] = 1
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "aesthetics": schema(
            clip_id=STRING,
            aesthetic_mean=FLOAT32,  # over the frames looked at, about 1 to 10
            aesthetic_min=FLOAT32,  # of the worst frame
            aesthetic_max=FLOAT32,  # of the best frame
            aesthetic_head=STRING,  # key@sha12 of the head; null where nothing was rated
        )
    }

    head: HeadName = Field("aesthetic-mlp-l-14", description="which head; it fits one embed.model")

    _head: Head | None = PrivateAttr(default=None)

    @property
    def reads(self) -> pa.Schema:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The frames' vectors of the one model that the head fits; nothing when it cannot run."""
        if not self.ready:
            return schema(clip_id=STRING)
        frames = pa.list_(vector_type(HEADS[self.head].embeds))
        return schema(clip_id=STRING, embedding_frames=frames, embedding_model=STRING)

    def weights(self) -> tuple[Weights, ...]:
        """The head's, and those of the model whose embeddings it reads."""
        return (HEADS[self.head].weights, HEADS[self.head].embeds.weights)

    def model_checksums(self) -> dict[str, str]:
        """The head's file; the model's is part of what it reads."""
        weights = HEADS[self.head].weights
        return {weights.key: file_sha256(require_weights(weights))} if self.ready else {}

    def check_embeddings(self, stages: Iterable[Stage]) -> None:
        """Compare the head with the embeddings that a plan makes.

        Args:
            stages: Those of the plan.

        Raises:
            ConfigError: They are of a model that the head was not trained on.
        """
        wanted = HEADS[self.head].embeds.weights
        for stage in stages:
            if not isinstance(stage, Embed) or stage.in_use.weights == wanted or not self.ready:
                continue
            fitting = [k for k, h in HEADS.items() if h.embeds.weights == stage.in_use.weights]
            other = f"{self.name}.head={fitting[0]}, or " if fitting else ""
            raise ConfigError(
                f"{self.head} rates embeddings of {wanted.key}, but {stage.name} makes those of"
                f" {stage.in_use.weights.key}",
                where=f"stage {self.name!r}",
                mend=f"{other}{stage.name}.model={wanted.key}",
            )

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Rate a batch of clips."""
        columns = self.adds["aesthetics"]
        if not self.ready:
            yield "aesthetics", self.nulls(batch, columns)
            return
        if self._head is None:
            self._head = load_head(self.head)
        label = model_label(HEADS[self.head].weights)
        rows = [
            {"clip_id": clip_id.as_py(), **rate(self._head, frames, label)}
            for clip_id, frames in zip(
                batch.column("clip_id"), batch.column("embedding_frames"), strict=True
            )
        ]
        yield "aesthetics", pa.Table.from_pylist(rows, schema=columns)


def rate(head: Head, frames: pa.ListScalar, label: str) -> dict[str, Any]:
    """The scores of one clip.

    Args:
        head: What rates.
        frames: Its frames' vectors, or null.
        label: Of the head.
    """
    if not frames.is_valid or len(frames.values) == 0:
        return {}
    vectors = frames.values.flatten().to_numpy().reshape(len(frames.values), -1)
    scores = np.round(head.scores(vectors), DIGITS)
    return {
        "aesthetic_mean": round(float(scores.mean()), DIGITS),
        "aesthetic_min": float(scores.min()),
        "aesthetic_max": float(scores.max()),
        "aesthetic_head": label,
    }
