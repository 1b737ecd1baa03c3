"""Embed: what each clip looks like, as a unit vector, from its sampled frames.

Clips whose vectors have a high cosine show alike things; near copies are close to 1. With CLIP and
SigLIP texts live in the same space. The clip's vector is the mean of its frames' vectors, brought
back to length 1; the frames' own are kept for heads such as aesthetics. Cost, per sampled frame
(8 a clip at most): EfficientNet-lite0 0.4 GFLOP, CLIP ViT-B/32 4.4, ViT-L/14 81, SigLIP 670.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr

from curation.errors import ErrorCode, MediaError
from curation.models.embedders import (
    MODELS,
    Embedder,
    EmbedderName,
    EmbeddingModel,
    load_embedder,
    model_label,
)
from curation.models.registry import find_weights, how_to_get
from curation.models.weights import Weights
from curation.schema import DOUBLES, FLOAT32, INT32, STRING, schema
from curation.stage import Output, StageContext
from curation.stages.model_stage import ModelStage

DIGITS = 6
"""Of a vector's components."""
SPREAD_DIGITS = 5


class Embed(ModelStage):
    """Embeds clips; null where a clip has no sampled frame."""

    name: ClassVar[str] = "embed"
    version: ClassVar[int] = 1
    reads: ClassVar[pa.Schema] = schema(
        clip_id=STRING, sample_pts_s=DOUBLES, sample_jpegs=pa.list_(pa.binary())
    )

    model: EmbedderName = Field(
        "efficientnet-lite0", description="which network; efficientnet-lite0 needs no download"
    )
    fallback: EmbedderName | None = Field(
        None, description="which network instead, when the first one's weights are not here"
    )
    num_frames: int = Field(8, ge=1, description="frames per clip, spread evenly over its time")

    _context: StageContext | None = PrivateAttr(default=None)
    _embedder: Embedder | None = PrivateAttr(default=None)

    @property
    def adds(self) -> Mapping[str, pa.Schema]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One table for each network: the length of a vector is part of its type."""
        model = self.in_use
        return {
            model.table: schema(
                clip_id=STRING,
                embedding=vector_type(model),  # length 1
                embedding_frames=pa.list_(vector_type(model)),  # of each frame looked at
                embedding_model=STRING,  # key@sha12 of what made the row; null: nothing did
                embedding_num_frames=INT32,
                embedding_spread=FLOAT32,  # 1 - mean cosine of the frames to the clip; 0 still
            )
        }

    @cached_property
    def in_use(self) -> EmbeddingModel:
        """The network that runs: the fallback when only that one is here."""
        if find_weights(MODELS[self.model].weights) is None and self.fallback is not None:
            other = MODELS[self.fallback]
            if find_weights(other.weights) is not None:
                return other
        return MODELS[self.model]

    def weights(self) -> tuple[Weights, ...]:
        """Those of the network that runs."""
        return (self.in_use.weights,)

    def fallbacks(self) -> list[str]:
        """Another network in place of the one asked for, or nulls."""
        asked = MODELS[self.model].weights
        if self.in_use.weights == asked:
            return super().fallbacks()
        return [
            f"{self.name}: {asked.name} is not here, {self.in_use.weights.name} runs instead"
            f" ({how_to_get(asked)})"
        ]

    def settings(self) -> dict[str, object]:
        """The network that runs, whether asked for or in place of another."""
        fields = super().settings() | {"model": self.in_use.weights.key}
        return {name: value for name, value in fields.items() if name != "fallback"}

    def setup(self, context: StageContext) -> None:
        """Keep the heartbeat."""
        self._context = context

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Embed a batch of clips."""
        table, columns = next(iter(self.adds.items()))
        if not self.ready:
            yield table, self.nulls(batch, columns)
            return
        chosen: list[list[bytes]] = []
        for row in batch.select(["sample_pts_s", "sample_jpegs"]).to_pylist():
            picked = spread_evenly(row["sample_pts_s"] or [], self.num_frames)
            chosen.append([row["sample_jpegs"][i] for i in picked])
        vectors = self._load().pictures(self._decoded(chosen))
        label = model_label(self.in_use.weights)
        yield table, clip_rows(batch.column("clip_id"), vectors, chosen, label, columns)

    def _load(self) -> Embedder:
        if self._embedder is None:
            key, gpu = self.in_use.weights.key, self.resources.num_gpus > 0
            self._embedder = load_embedder(key, on_gpu=gpu)
        return self._embedder

    def _decoded(self, chosen: list[list[bytes]]) -> Iterator[np.ndarray]:
        """Pictures one by one, with a sign of life for each."""
        for jpegs in chosen:
            for jpeg in jpegs:
                if self._context is not None:
                    self._context.beat()
                picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
                if picture is None:
                    raise MediaError(ErrorCode.MISSING_INPUT, "a stored frame is no picture")
                yield picture


def vector_type(model: EmbeddingModel) -> pa.DataType:
    """The Arrow type of a model's vectors."""
    return pa.list_(pa.float32(), model.dim)


def spread_evenly(times_s: list[float], count: int) -> list[int]:
    """Indices of at most ``count`` times, in order, at even distances between first and last.

    Args:
        times_s: Increasing.
        count: All are taken when there are no more; a single one is from the middle.
    """
    if len(times_s) <= count:
        return list(range(len(times_s)))
    span = (times_s[0], times_s[-1])
    wanted = np.linspace(*span, count) if count > 1 else np.array([sum(span) / 2])
    distance = np.abs(np.array(times_s)[None] - wanted[:, None])
    return sorted(set(distance.argmin(axis=1).tolist()))


def mean_vector(frames: np.ndarray) -> tuple[np.ndarray, float]:
    """The unit vector in the middle of some, and how far they spread around it.

    Args:
        frames: float32 [n, dim] of length 1, n at least 1.

    Returns:
        float32 [dim], and 1 - the mean cosine of the frames to it: 0 when all are equal.
    """
    mean = frames.astype(np.float64).mean(axis=0)
    length = float(np.linalg.norm(mean))  # equals the mean cosine of unit vectors to their mean
    return np.round(mean / length, DIGITS).astype(np.float32), max(0.0, 1 - length)


def clip_rows(
    clip_ids: pa.ChunkedArray,
    vectors: np.ndarray,
    chosen: list[list[bytes]],
    label: str,
    columns: pa.Schema,
) -> pa.Table:
    """Rows of clips from the vectors of all their frames, [sum of frames, dim]."""
    vectors = np.round(vectors, DIGITS)
    counts = np.array([len(jpegs) for jpegs in chosen])
    ends = np.cumsum(counts)
    empty = counts == 0
    clips = np.zeros((len(counts), vectors.shape[1]), np.float32)
    spreads: list[float | None] = [None] * len(counts)
    for i in np.flatnonzero(~empty):
        clips[i], spread = mean_vector(vectors[ends[i] - counts[i] : ends[i]])
        # Of a single frame nothing is known of change.
        spreads[i] = round(spread, SPREAD_DIGITS) if counts[i] > 1 else None
    dim = vectors.shape[1]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), dim)
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    arrays = {
        "clip_id": clip_ids,
        "embedding": pa.FixedSizeListArray.from_arrays(
            pa.array(clips.ravel(), pa.float32()), dim, mask=pa.array(empty)
        ),
        "embedding_frames": pa.ListArray.from_arrays(offsets, flat, mask=pa.array(empty)),
        "embedding_model": pa.array([None if e else label for e in empty], pa.string()),
        "embedding_num_frames": pa.array(counts, pa.int32()),
        "embedding_spread": pa.array(spreads, pa.float32()),
    }
    return pa.table([arrays[f.name] for f in columns], schema=columns)
