"""Camera: what the camera does in each clip, how steadily, and how lively the subject is.

From the stored motion of picture pairs; no pixel is touched. Speeds are in frame diagonals per
second as displayed, so size, frame rate and rotation do not enter; directions are the camera's
own: it pans right when the content moves left, and rolls clockwise when the content turns
counter-clockwise. A walk sideways looks like a pan and a lift like a tilt; a ride forwards is told
from a zoom by parallax, which a similarity transform does not see, so both are called a zoom.
Cost: about 3 ms a clip of five seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.schema import DOUBLES, FLOAT32, FLOAT64, FLOATS, INT32, STRING, schema
from curation.signals.camera_moves import RADIUS
from curation.signals.camera_work import (
    CameraWork,
    Thresholds,
    camera_work,
    displayed_rates,
)
from curation.stage import Grain, Output, Stage

DIGITS = 5
RATES = ("frame_pan_per_s", "frame_tilt_per_s", "frame_zoom_per_s", "frame_roll_per_s")
FLASH_LUMA = 0.1
"""Change of mean luma within a pair (of 0-1) that no camera on its way makes: a flash, a lamp, a
fade. Flow across it is not believed."""


class Camera(Stage):
    """Classifies camera movement from signals."""

    name: ClassVar[str] = "camera"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "clip"
    reads: ClassVar[pa.Schema] = schema(
        clip_id=STRING,
        start_s=FLOAT64,
        end_s=FLOAT64,
        width_px=INT32,
        height_px=INT32,
        sample_aspect_ratio=FLOAT64,
        rotation_deg=INT32,
        frame_time_s=DOUBLES,
        frame_luma_mean=FLOATS,
        frame_pair_start_s=DOUBLES,
        frame_object_per_s=FLOATS,
        **dict.fromkeys(RATES, FLOATS),
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "scores_camera": schema(
            clip_id=STRING,
            camera_class=STRING,  # static | handheld | pan_right ... roll_ccw | mixed
            camera_confidence=FLOAT32,  # 0-1, how well the class fits the whole clip
            camera_pan_per_s=FLOAT32,  # mean shift to the right, frame diagonals per second
            camera_tilt_per_s=FLOAT32,  # mean shift upwards, frame diagonals per second
            camera_zoom_per_s=FLOAT32,  # mean relative growth of the content per second
            camera_roll_per_s=FLOAT32,  # mean turn of the camera, radians per second, clockwise
            camera_moving_fraction=FLOAT32,  # share of the time in an intended movement
            camera_shake=FLOAT32,  # typical distance from the smooth path above 1 Hz, diagonals
            motion_smoothness=FLOAT32,  # 1 even motion or none - 0.3 random - 0 back and forth
            subject_motion_per_s=FLOAT32,  # mean flow beyond what a moving camera leaves behind
            motion_class=STRING,  # of the subject: still | slow | moderate | fast
        ),
        "camera_moves": schema(
            clip_id=STRING,
            move_start_s=FLOAT64,  # seconds of the video, as the clip's start_s
            move_end_s=FLOAT64,
            move_class=STRING,  # as camera_class
            move_speed_per_s=FLOAT32,  # net speed, diagonals per second
        ),
    }
    details: ClassVar[frozenset[str]] = frozenset({"camera_moves"})

    moving_from_per_s: float = Field(
        0.004, gt=0, description="slowest intended camera movement, diagonals per second"
    )
    shaky_from: float = Field(
        0.001, gt=0, description="camera_shake of a hand-held camera, diagonals"
    )
    min_moving_fraction: float = Field(
        0.35, ge=0, le=1, description="share of the time that a clip named after a move moves"
    )
    slow_from_per_s: float = Field(0.003, ge=0, description="subject_motion_per_s of slow")
    moderate_from_per_s: float = Field(0.02, ge=0, description="subject_motion_per_s of moderate")
    fast_from_per_s: float = Field(0.06, ge=0, description="subject_motion_per_s of fast")

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Classify a batch of clips."""
        scores, moves = [], []
        for row in _rows(batch):
            found = self._work(row)
            scores.append(self._score(row["clip_id"], found))
            moves += _moves(row["clip_id"], found)
        yield "scores_camera", pa.Table.from_pylist(scores, schema=self.adds["scores_camera"])
        yield "camera_moves", pa.Table.from_pylist(moves, schema=self.adds["camera_moves"])

    def _work(self, row: dict[str, Any]) -> CameraWork | None:
        """The camera's work over the pairs that lie wholly inside the clip; None without any."""
        start_s, end_s = row["frame_pair_start_s"], row["frame_time_s"]
        inside = start_s >= row["start_s"] - 1e-6  # NaN (no pair) compares false
        if not inside.any():
            return None
        pixels = row["width_px"], row["height_px"], row["sample_aspect_ratio"] or 1.0
        rates = displayed_rates(
            np.stack([row[name][inside] for name in RATES], axis=1), *pixels, row["rotation_deg"]
        )
        luma = row["frame_luma_mean"]
        at = np.searchsorted(end_s, start_s[inside] - 1e-6)
        steady = np.abs(luma[inside] - luma[at]) < FLASH_LUMA
        limits = Thresholds(
            moving_from_per_s=self.moving_from_per_s,
            shaky_from=self.shaky_from,
            min_moving_fraction=self.min_moving_fraction,
        )
        spans = start_s[inside], end_s[inside]
        return camera_work(*spans, rates, row["frame_object_per_s"][inside], steady, limits)

    def _score(self, clip_id: str, found: CameraWork | None) -> dict[str, Any]:
        if found is None:
            return {"clip_id": clip_id}
        pan, tilt, zoom, roll = (float(v) for v in found.mean_rates)
        numbers = {
            "camera_confidence": found.confidence,
            "camera_pan_per_s": pan,
            "camera_tilt_per_s": tilt,
            "camera_zoom_per_s": zoom / RADIUS,
            "camera_roll_per_s": roll / RADIUS,
            "camera_moving_fraction": found.moving_fraction,
            "camera_shake": found.shake,
            "motion_smoothness": found.smoothness,
            "subject_motion_per_s": found.subject_per_s,
        }
        rounded = {k: None if v is None else round(v, DIGITS) for k, v in numbers.items()}
        bounds = (self.slow_from_per_s, self.moderate_from_per_s, self.fast_from_per_s)
        speed = sum(found.subject_per_s >= bound for bound in bounds)
        return {
            "clip_id": clip_id,
            "camera_class": found.camera_class,
            "motion_class": ("still", "slow", "moderate", "fast")[speed],
            **rounded,
        }


def _moves(clip_id: str, found: CameraWork | None) -> list[dict[str, Any]]:
    return [
        {
            "clip_id": clip_id,
            "move_start_s": round(move.start_s, 3),
            "move_end_s": round(move.end_s, 3),
            "move_class": move.camera_class,
            "move_speed_per_s": round(move.speed_per_s, DIGITS),
        }
        for move in (found.moves if found is not None else [])
    ]


def _rows(batch: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows with list columns as float arrays (nulls as NaN)."""
    for i in range(batch.num_rows):
        row: dict[str, Any] = {}
        for name in batch.column_names:
            cell = batch.column(name)[i]
            is_list = isinstance(cell, pa.ListScalar)
            row[name] = cell.values.to_numpy(zero_copy_only=False) if is_list else cell.as_py()
        yield row
