"""Safety: how likely the frames of a clip are to be pornographic, from the stored sampled frames.

Probability 0 to 1 by open_nsfw (Mahadeokar and Pesavento, Yahoo, 2016; BSD-2-Clause).
Cost: 30 ms per frame looked at; at most 8 frames a clip.

Its authors call pictures above 0.8 unsafe and below 0.2 safe, with no promise in between; the rule
``nsfw_max: {max: 0.8}`` follows them. Read it as a first sieve, not as a verdict: the model is of
2016, knows pornography of real people and nothing else (no violence, no drawings, no hatred), sees
single frames squeezed to a square, and is known to score bare skin, close-ups and swimwear too
high, of women more than of men. Look at what it rejects before you trust it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, PrivateAttr

from curation.models.open_nsfw import OpenNsfw
from curation.models.weights import OPEN_NSFW, Weights
from curation.schema import FLOAT32, STRING, schema
from curation.stage import Output, StageContext
from curation.stages.model_stage import ModelStage
from curation.stages.sampled import picture, spread

DIGITS = 4


class Safety(ModelStage):
    """Scores the sampled frames of clips with open_nsfw."""

    name: ClassVar[str] = "safety"
    version: ClassVar[int] = 1
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, sample_jpegs=pa.list_(pa.binary()))
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "scores_safety": schema(
            clip_id=STRING,
            nsfw_max=FLOAT32,  # 0 safe - 1 pornographic, of the worst frame looked at
            nsfw_mean=FLOAT32,  # mean over the frames
            safety_model=STRING,  # null: no model was here
        )
    }

    num_frames: int = Field(8, ge=1, description="frames looked at, spread over the clip")

    _net: OpenNsfw | None = PrivateAttr(default=None)

    def weights(self) -> tuple[Weights, ...]:
        """open_nsfw."""
        return (OPEN_NSFW,)

    def setup(self, context: StageContext) -> None:
        """Load the network."""
        if self.ready:
            self._net = OpenNsfw()

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Score a batch of clips."""
        columns = self.adds["scores_safety"]
        if self._net is None:
            yield "scores_safety", self.nulls(batch, columns)
            return
        rows = [self._row(row, self._net) for row in batch.to_pylist()]
        yield "scores_safety", pa.Table.from_pylist(rows, schema=columns)

    def _row(self, row: dict[str, Any], net: OpenNsfw) -> dict[str, Any]:
        jpegs = row["sample_jpegs"]
        found = [net(picture(jpegs[i])) for i in spread(len(jpegs), self.num_frames)]
        return {
            "clip_id": row["clip_id"],
            "nsfw_max": round(max(found), DIGITS) if found else None,
            "nsfw_mean": round(sum(found) / len(found), DIGITS) if found else None,
            "safety_model": OPEN_NSFW.key,
        }
