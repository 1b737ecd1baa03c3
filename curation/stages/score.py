"""Score: motion, light, sharpness and stillness of each clip, from the stored signals.

No pixel is touched. Everything is weighted by time, not by frames, and motion is in frame
diagonals per second, so the same footage at other sizes and frame rates scores the same.
Cost: below a millisecond a clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.schema import BOOLS, DOUBLES, FLOAT32, FLOAT64, FLOATS, STRING, schema
from curation.stage import Grain, Output, Stage

DIGITS = 5


class Score(Stage):
    """Scores clips from signals."""

    name: ClassVar[str] = "score"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "clip"
    reads: ClassVar[pa.Schema] = schema(
        clip_id=STRING,
        start_s=FLOAT64,
        end_s=FLOAT64,
        frame_time_s=DOUBLES,
        frame_damaged=BOOLS,
        frame_luma_mean=FLOATS,
        frame_luma_std=FLOATS,
        frame_dark_fraction=FLOATS,
        frame_bright_fraction=FLOATS,
        frame_sharpness=FLOATS,
        frame_pair_start_s=DOUBLES,
        frame_motion_per_s=FLOATS,
        frame_camera_per_s=FLOATS,
        frame_object_per_s=FLOATS,
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "scores": schema(
            clip_id=STRING,
            motion_per_s=FLOAT32,  # mean flow, frame diagonals per second
            camera_motion_per_s=FLOAT32,  # the part that a moving camera explains
            object_motion_per_s=FLOAT32,  # the rest
            peak_motion_per_s=FLOAT32,  # 95th percentile over time
            static_fraction=FLOAT32,  # share of the time with motion below static_below_per_s
            luma_mean=FLOAT32,  # 0 black - 1 white
            dark_fraction=FLOAT32,  # share of crushed pixels
            bright_fraction=FLOAT32,  # share of clipped pixels
            black_fraction=FLOAT32,  # share of the time that shows an empty dark picture
            sharpness=FLOAT32,  # median over time; about 0.1 blurred - 1 crisp
        )
    }

    static_below_per_s: float = Field(0.002, ge=0, description="diagonals per second")
    black_luma_below: float = Field(0.08, ge=0, le=1, description="mean luma of a black picture")
    black_contrast_below: float = Field(0.05, ge=0, description="luma deviation of a black picture")

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Score a batch of clips."""
        rows = [self._row(row) for row in _rows(batch)]
        yield "scores", pa.Table.from_pylist(rows, schema=self.adds["scores"])

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        time_s = row["frame_time_s"]
        weight = np.diff(np.append(time_s, row["end_s"]))
        luma, contrast = row["frame_luma_mean"], row["frame_luma_std"]
        black = (luma < self.black_luma_below) & (contrast < self.black_contrast_below)
        return {
            "clip_id": row["clip_id"],
            **self._motion(row),
            "luma_mean": _mean(luma, weight),
            "dark_fraction": _mean(row["frame_dark_fraction"], weight),
            "bright_fraction": _mean(row["frame_bright_fraction"], weight),
            "black_fraction": _mean(black.astype(float), weight),
            "sharpness": _quantile(row["frame_sharpness"], weight, 0.5),
        }

    def _motion(self, row: dict[str, Any]) -> dict[str, float | None]:
        """Motion over the pairs that lie wholly inside the clip; null when there is none."""
        start_s = row["frame_pair_start_s"]
        inside = start_s >= row["start_s"] - 1e-6  # NaN (no pair) compares false
        names = ("motion_per_s", "camera_motion_per_s", "object_motion_per_s")
        if not inside.any():
            return dict.fromkeys((*names, "peak_motion_per_s", "static_fraction"))
        weight = (row["frame_time_s"] - start_s)[inside]
        total = row["frame_motion_per_s"][inside]
        return {
            "motion_per_s": _mean(total, weight),
            "camera_motion_per_s": _mean(row["frame_camera_per_s"][inside], weight),
            "object_motion_per_s": _mean(row["frame_object_per_s"][inside], weight),
            "peak_motion_per_s": _quantile(total, weight, 0.95),
            "static_fraction": _mean((total < self.static_below_per_s).astype(float), weight),
        }


def _rows(batch: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows with list columns as float arrays (nulls as NaN)."""
    for i in range(batch.num_rows):
        row: dict[str, Any] = {}
        for name in batch.column_names:
            cell = batch.column(name)[i]
            is_list = isinstance(cell, pa.ListScalar)
            row[name] = cell.values.to_numpy(zero_copy_only=False) if is_list else cell.as_py()
        yield row


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    return round(float(np.average(values.astype(np.float64), weights=weight)), DIGITS)


def _quantile(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    """The lowest value that at least ``share`` of the time does not exceed."""
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weight[order])
    at = min(int(np.searchsorted(passed, share * passed[-1] - 1e-9)), len(values) - 1)
    return round(float(values[order[at]]), DIGITS)
