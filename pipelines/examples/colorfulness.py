"""A user's own stage: colorfulness of each clip, from the sampled frames that are stored anyway.

Unit: Hasler and Suesstrunk's M3 (2003), about 0 (grey) to 110 (extremely colorful).
Cost: 2 ms per sampled frame. Use it from a config:

    stages:
      - {use: "pipelines.examples.colorfulness:Colorfulness", max_frames: 8}
    judge:
      rules:
        colorfulness: {min: 5}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.schema import FLOAT32, STRING, schema
from curation.stage import Grain, Output, Stage


class Colorfulness(Stage):
    """Mean colorfulness over the sampled frames of a clip; null when it has none."""

    name: ClassVar[str] = "colorfulness"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "clip"
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, sample_jpegs=pa.list_(pa.binary()))
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "scores_colorfulness": schema(clip_id=STRING, colorfulness=FLOAT32)
    }

    max_frames: int = Field(8, ge=1, description="frames looked at, spread over the clip")

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Score a batch of clips."""
        rows = []
        for row in batch.to_pylist():
            jpegs = row["sample_jpegs"]
            step = max(1, len(jpegs) // self.max_frames)
            values = [colorfulness(jpeg) for jpeg in jpegs[::step][: self.max_frames]]
            mean = round(float(np.mean(values)), 3) if values else None
            rows.append({"clip_id": row["clip_id"], "colorfulness": mean})
        schema_ = self.adds["scores_colorfulness"]
        yield "scores_colorfulness", pa.Table.from_pylist(rows, schema=schema_)


def colorfulness(jpeg: bytes) -> float:
    """Hasler and Suesstrunk's M3 of one picture."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    blue, green, red = (image[..., i].astype(np.float64) for i in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    shift = np.hypot(red_green.mean(), yellow_blue.mean())
    return float(spread + 0.3 * shift)
