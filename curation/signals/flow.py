"""Motion between two pictures a fixed time apart, split into camera and object motion.

Unit: fractions of the frame diagonal per second, so neither resolution nor frame rate enters.
Pairs are about 1/8 s apart whatever the frame rate. Dense inverse search optical flow (Kroeger et
al., ECCV 2016; OpenCV's DIS, preset fast) at half the analysis size; the camera is the similarity
transform (shift, zoom, roll) that fits the flow best under Cauchy weights, objects are the rest.
Cost: about 1 ms a pair, 8 pairs a second of video.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

PAIR_INTERVAL_S = 0.125
EPSILON_S = 1e-6
"""Times are stored to the microsecond."""
GRID_PX = 6
SCALE_PX = 1.0
"""Cauchy scale of the camera fit: residuals well above one flow pixel count as objects."""
ITERATIONS = 4
FINEST_SCALE = 1
"""Flow is refined down to half the picture. The preset stops at a quarter: then a turn is measured
13 % too slow and a small moving object drags the camera along (4 % and a third of that here)."""


@dataclass(frozen=True)
class Motion:
    """Motion of one pair of pictures.

    Attributes:
        total_per_s: Mean length of the flow, frame diagonals per second.
        camera_per_s: Mean length of the camera's part.
        object_per_s: Mean length of what the camera does not explain.
        pan_per_s: Camera's mean shift to the right, diagonals per second (content moves left).
        tilt_per_s: Camera's mean shift upwards (content moves down).
        zoom_per_s: Relative growth of the content per second.
        roll_per_s: Turn of the content, radians per second, clockwise.
    """

    total_per_s: float
    camera_per_s: float
    object_per_s: float
    pan_per_s: float
    tilt_per_s: float
    zoom_per_s: float
    roll_per_s: float


class FlowMeter:
    """Feeds on luma pictures with times and yields a :class:`Motion` about every 1/8 s.

    Pairs join the first frames at or after the points of a grid of 1/8 s from time 0, so a pass
    that begins anywhere finds the same pairs from the second grid point on.
    """

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._dis.setFinestScale(FINEST_SCALE)
        self._cell: int | None = None
        self._anchor: tuple[float, np.ndarray] | None = None

    def push(self, luma: np.ndarray, time_s: float) -> tuple[Motion, float] | None:
        """Take the next frame.

        Args:
            luma: uint8 [h, w] analysis picture; another size than before begins anew.
            time_s: Its time from the video's first frame.

        Returns:
            The motion since the pair's first frame and that frame's time, or None between pairs.
        """
        cell = int((time_s + EPSILON_S) / PAIR_INTERVAL_S)
        crossed = time_s == 0.0 or (self._cell is not None and cell != self._cell)
        self._cell = cell
        if not crossed:
            return None
        half = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        before, self._anchor = self._anchor, (time_s, half)
        if before is None or before[1].shape != half.shape:
            return None
        flow = self._dis.calc(before[1], half, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return split_motion(flow, time_s - before[0]), before[0]


def split_motion(flow: np.ndarray, dt_s: float) -> Motion:
    """Split a dense flow field into camera and object motion.

    Args:
        flow: float32 [h, w, 2], pixels of displacement (x, y).
        dt_s: Time between the two pictures.
    """
    height, width = flow.shape[:2]
    diagonal = float(np.hypot(height, width))
    x, y, design = _grid(height, width)
    moved = flow[GRID_PX // 2 :: GRID_PX, GRID_PX // 2 :: GRID_PX].reshape(-1, 2)
    moved = moved.astype(np.float64)
    shift_x, shift_y, grow, turn = _fit_similarity(design, moved)
    model = np.stack([shift_x + grow * x - turn * y, shift_y + grow * y + turn * x], axis=1)
    per_s = 1.0 / (diagonal * dt_s)

    def mean_length(field: np.ndarray) -> float:
        return float(np.sqrt((field**2).sum(axis=1)).mean()) * per_s

    return Motion(
        total_per_s=mean_length(moved),
        camera_per_s=mean_length(model),
        object_per_s=mean_length(moved - model),
        pan_per_s=-shift_x * per_s,
        tilt_per_s=shift_y * per_s,
        zoom_per_s=grow / dt_s,
        roll_per_s=turn / dt_s,
    )


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grid points relative to the picture's centre, and the fit's design matrix [2n, 4]."""
    ys, xs = np.mgrid[GRID_PX // 2 : height : GRID_PX, GRID_PX // 2 : width : GRID_PX]
    x = (xs.ravel() - (width - 1) / 2).astype(np.float64)
    y = (ys.ravel() - (height - 1) / 2).astype(np.float64)
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = np.stack([one, zero, x, -y], axis=1), np.stack([zero, one, y, x], axis=1)
    return x, y, np.concatenate(rows)


def _fit_similarity(design: np.ndarray, moved: np.ndarray) -> tuple[float, float, float, float]:
    """Robust least squares of ``(tx + g x - r y, ty + g y + r x)`` to displacements [n, 2].

    Starts from the median shift, so that half the picture may belong to moving objects.
    """
    target = moved.T.ravel()
    num = len(moved)
    fit = np.array([*np.median(moved, axis=0), 0.0, 0.0])
    for _ in range(ITERATIONS):
        square = (target - design @ fit) ** 2
        weight = 1.0 / (1.0 + (square[:num] + square[num:]) / SCALE_PX**2)
        weighted = (design * np.concatenate([weight, weight])[:, None]).T
        fit = np.linalg.solve(weighted @ design, weighted @ target)
    shift_x, shift_y, grow, turn = (float(v) for v in fit)
    return shift_x, shift_y, grow, turn
