"""Prints: of each clip the tiny pictures that perceptual deduplication compares.

What the signals pass stored, as displayed and inside black bars: a letterboxed or turned copy of a
clip has the prints of the clip. No pixel of the video is touched. A clip that is too short, or
whose frames are far apart, has none. Cost: about a millisecond a clip; 2.3 kB per second of clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.schema import (
    BOOLS,
    DOUBLES,
    FLOAT32,
    FLOAT64,
    FLOATS,
    INT32,
    STRING,
    schema,
)
from curation.signals.flow import EPSILON_S
from curation.signals.prints import SIDE_PX, STEP_S, grid_point, read_print
from curation.signals.technical_time import Bars, find_bars
from curation.stage import Grain, Output, Stage

PRINT_PX = 24
"""Side of a clip's prints."""
DIGITS = 4
SIDES = ("top", "right", "bottom", "left")
NO_BARS = Bars(top=0.0, right=0.0, bottom=0.0, left=0.0)
MIN_CELL = 0.25
"""Share of a cell inside the bars from which its picture can be told from the black beside it."""


class Prints(Stage):
    """Takes the prints of clips out of the signals."""

    name: ClassVar[str] = "prints"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "clip"
    reads: ClassVar[pa.Schema] = schema(
        clip_id=STRING,
        start_s=FLOAT64,
        width_px=INT32,
        height_px=INT32,
        rotation_deg=INT32,
        frame_time_s=DOUBLES,
        frame_damaged=BOOLS,
        frame_print=pa.list_(pa.binary()),
        **dict.fromkeys((f"frame_bar_{side}" for side in SIDES), FLOATS),
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "prints": schema(
            clip_id=STRING,
            num_prints=INT32,
            print_detail=FLOAT32,  # deviation inside a picture, mean over time, luma of 0-1
            print_change=FLOAT32,  # deviation from the clip's mean picture, apart from its light
        ),
        "print_pictures": schema(
            clip_id=STRING,
            print_times_s=DOUBLES,  # middle of the quarter second each shows, from the clip's start
            print_luma=pa.binary(),  # uint8 [num_prints, 24, 24], luma 0-255
        ),
    }
    details: ClassVar[frozenset[str]] = frozenset({"print_pictures"})

    min_bar: float = Field(0.02, gt=0, lt=0.5, description="smallest bar, share of the side")

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Take out the prints of a batch of clips."""
        numbers, pictures = [], []
        for i in range(batch.num_rows):
            row = {name: batch.column(name)[i] for name in batch.column_names}
            clip_id = row["clip_id"].as_py()
            times_s, luma = self._prints(row)
            numbers.append({"clip_id": clip_id, **_measures(luma)})
            pictures.append(
                {
                    "clip_id": clip_id,
                    "print_times_s": [round(t, 6) for t in times_s],
                    "print_luma": luma.tobytes(),
                }
            )
        for table, rows in (("prints", numbers), ("print_pictures", pictures)):
            yield table, pa.Table.from_pylist(rows, schema=self.adds[table])

    def _prints(self, row: dict[str, Any]) -> tuple[list[float], np.ndarray]:
        """Times from the clip's start, and uint8 [n, PRINT_PX, PRINT_PX]."""
        start_s, frames = row["start_s"].as_py(), row["frame_time_s"].as_py()
        found = [
            (grid_point(time_s), read_print(data))
            for time_s, data in zip(frames, row["frame_print"].as_py(), strict=True)
            if data is not None
        ]
        # A print shows the time before its frame; the first one may begin before the clip.
        inside = [(at, p) for at, p in found if at - STEP_S >= start_s - EPSILON_S]
        if not inside:
            return [], np.empty((0, PRINT_PX, PRINT_PX), np.uint8)
        turn = row["rotation_deg"].as_py() or 0
        bars = self._bars(row, turn)
        down = inner_part(bars.top, 1 - bars.bottom)
        across = inner_part(bars.left, 1 - bars.right)
        shown = down @ np.stack([p for _, p in inside]).astype(np.float32) @ across.T
        shown = np.clip(np.round(np.rot90(shown, -turn // 90, axes=(1, 2))), 0, 255)
        return [at - STEP_S / 2 - start_s for at, _ in inside], shown.astype(np.uint8)

    def _bars(self, row: dict[str, Any], turn: int) -> Bars:
        """Bars as stored, before any turn."""
        width, height = row["width_px"].as_py(), row["height_px"].as_py()
        stored = (height, width) if turn in (90, 270) else (width, height)
        sound = ~row["frame_damaged"].values.to_numpy(zero_copy_only=False).astype(bool)
        reach = {
            side: row[f"frame_bar_{side}"].values.to_numpy(zero_copy_only=False)[sound]
            for side in SIDES
        }
        return find_bars(reach, stored[1], stored[0], self.min_bar) or NO_BARS


def inner_part(start: float, end: float) -> np.ndarray:
    """Averages the part [start, end) of a print's side, of which the rest is black.

    Args:
        start: 0 is the first edge.
        end: 1 is the last edge.

    Returns:
        float32 [PRINT_PX, SIDE_PX]. A cell that a bar's edge runs through is a mixture with black:
        its picture is brighter by the share that it fills.
    """
    edges = start + (end - start) * np.arange(PRINT_PX + 1) / PRINT_PX
    cells = np.arange(SIDE_PX + 1) / SIDE_PX
    low = np.maximum(edges[:-1, None], cells[None, :-1])
    shared = np.clip(np.minimum(edges[1:, None], cells[None, 1:]) - low, 0, None)
    filled = np.minimum(end, cells[1:]) - np.maximum(start, cells[:-1])
    weights = shared / shared.sum(axis=1, keepdims=True)
    return (weights / np.maximum(filled * SIDE_PX, MIN_CELL)).astype(np.float32)


def _measures(luma: np.ndarray) -> dict[str, Any]:
    """The scalar columns; null without prints."""
    if not len(luma):
        return {"num_prints": 0, "print_detail": None, "print_change": None}
    shown = luma.astype(np.float64) / 255
    change = shown - shown.mean(axis=0)
    change = (change - change.mean(axis=(1, 2), keepdims=True)).std()  # without that of the light
    detail = shown.std(axis=(1, 2)).mean()
    return {
        "num_prints": len(luma),
        "print_detail": round(float(detail), DIGITS),
        "print_change": round(float(change), DIGITS),
    }
