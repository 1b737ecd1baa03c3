"""Motion between two pictures a fixed time apart, split into camera and object motion.

Unit: fractions of the frame diagonal per second, so neither resolution nor frame rate enters.
Pairs are about 1/8 s apart whatever the frame rate. Dense inverse search optical flow (Kroeger et
al., ECCV 2016; OpenCV's DIS, preset fast) at half the analysis size; the camera is the similarity
transform (shift, zoom, roll) that fits the flow best under Cauchy weights of shrinking scale,
objects are the rest. Places without texture, such as black bars, have next to no say in the fit,
and a fit that does not lay the pictures over each other better than a camera at rest is dropped.
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
SCALES_PX = (1.0, 0.5, 0.3, 0.15, 0.15)
"""Cauchy scale of the camera fit in each round: residuals well above it count as objects. A fit
that stays at one pixel lets slow objects drag the camera: a third to two thirds of what it reports
of a camera on a tripod is theirs, and is gone at 0.15, which is about the noise of the flow."""
TEXTURE = 1e-6
"""Smaller eigenvalue of the gradients (Shi and Tomasi, CVPR 1994; luma 0-1) at which a place counts
half: above that of black bars (0), below that of asphalt and painted walls."""
TEXTURE_BLOCK_PX = 5
TEXTURE_FLOOR = 0.05
"""Share of its say that a place keeps without any texture: a few letters on a blank screen should
not outvote it."""
FINEST_SCALE = 1
"""Flow is refined down to half the picture. The preset stops at a quarter: then a turn is measured
13 % too slow and a small moving object drags the camera along (4 % and a third of that here)."""


NEAR_REST_PX, NEAR_REST = 0.3, 0.15
"""A fit is also tried from rest when this share of the places moves less than this."""
LOCAL_PX = 9
"""Detail is what differs from the mean of a square of this side: a change of exposure leaves it."""
DETAIL_CAP = 8.0
"""Luma levels (0-255) at which a difference of detail stops to count: objects move as they like."""
REST_SHARE = 0.99
"""A camera is at rest unless its movement explains the second picture this much better. Without it
DIS, which spreads the flow of objects over weak texture around them, moves a camera on a tripod by
0.002-0.017 diagonals per second; with it most such pairs are exactly at rest, and true pans and
zooms keep their speed down to 0.006."""
OPPOSITE_SHARE = 0.95
"""... and this much better than the opposite movement does. Resampling smooths noise, so among
noise any movement matches better than none (by 3-8 %), but the opposite one as well (within 5 %);
against true movements from 0.006 diagonals per second on the opposite is 20-50 % worse."""


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


@dataclass(frozen=True)
class View:
    """A picture as pairs are made of it: uint8 [h, w] luma and float32 [h, w] detail."""

    luma: np.ndarray
    detail: np.ndarray

    @classmethod
    def of(cls, luma: np.ndarray) -> View:
        """The view of an analysis picture: half the size."""
        half = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        smooth = cv2.GaussianBlur(half.astype(np.float32), (3, 3), 0)
        return cls(half, smooth - cv2.boxFilter(smooth, -1, (LOCAL_PX, LOCAL_PX)))


class FlowMeter:
    """Feeds on luma pictures with times and yields a :class:`Motion` about every 1/8 s.

    Pairs join the first frames at or after the points of a grid of 1/8 s from time 0, so a pass
    that begins anywhere finds the same pairs from the second grid point on.
    """

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._dis.setFinestScale(FINEST_SCALE)
        self._cell: int | None = None
        self._anchor: tuple[float, View] | None = None

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
        view = View.of(luma)
        before, self._anchor = self._anchor, (time_s, view)
        if before is None or before[1].luma.shape != view.luma.shape:
            return None
        flow = self._dis.calc(before[1].luma, view.luma, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return split_motion(flow, time_s - before[0], before[1], view), before[0]


def split_motion(
    flow: np.ndarray, dt_s: float, before: View | None = None, after: View | None = None
) -> Motion:
    """Split a dense flow field into camera and object motion.

    Args:
        flow: float32 [h, w, 2], pixels of displacement (x, y).
        dt_s: Time between the two pictures.
        before: The first picture; None: all places count alike.
        after: The second picture; None: a camera at rest is not looked for.
    """
    height, width = flow.shape[:2]
    diagonal = float(np.hypot(height, width))
    place = _grid(height, width)
    at = slice(GRID_PX // 2, None, GRID_PX)
    moved = _complex(flow[at, at])
    say = np.ones(len(place)) if before is None else _say(before.luma)
    shift, grow = _fit_similarity(place, moved, say)
    if before is not None and after is not None and _at_rest(before, after, shift, grow):
        shift = grow = 0j
    model = shift + grow * place
    per_s = 1.0 / (diagonal * dt_s)
    return Motion(
        total_per_s=float(np.abs(moved).mean()) * per_s,
        camera_per_s=float(np.abs(model).mean()) * per_s,
        object_per_s=float(np.abs(moved - model).mean()) * per_s,
        pan_per_s=-shift.real * per_s,
        tilt_per_s=shift.imag * per_s,
        zoom_per_s=grow.real / dt_s,
        roll_per_s=grow.imag / dt_s,
    )


def _say(luma: np.ndarray) -> np.ndarray:
    """Weight of each place of the grid in the fit, 0-1, from the texture around it."""
    at = slice(GRID_PX // 2, None, GRID_PX)
    texture = cv2.cornerMinEigenVal(luma, TEXTURE_BLOCK_PX)[at, at].ravel().astype(np.float64)
    return TEXTURE_FLOOR + (1 - TEXTURE_FLOOR) * texture / (texture + TEXTURE)


def _at_rest(before: View, after: View, shift: complex, grow: complex) -> bool:
    """True when a camera's movement does not lay the pictures over each other any better."""
    moved = _mismatch(before, after, shift, grow)
    if moved >= REST_SHARE * _mismatch(before, after, 0j, 0j):
        return True
    return moved >= OPPOSITE_SHARE * _mismatch(before, after, -shift, -grow)


def _mismatch(before: View, after: View, shift: complex, grow: complex) -> float:
    """Mean difference of detail between the first picture and the second moved back, capped."""
    height, width = before.detail.shape
    middle = complex(width - 1, height - 1) / 2
    start = middle + shift - (1 + grow) * middle
    zoom, turn = 1 + grow.real, grow.imag
    matrix = np.array([[zoom, -turn, start.real], [turn, zoom, start.imag]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(
        after.detail, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE
    )
    return float(np.minimum(cv2.absdiff(moved, before.detail), DETAIL_CAP).mean())


def _complex(field: np.ndarray) -> np.ndarray:
    """Vectors [..., 2] as complex128 [n], x + iy."""
    flat = field.reshape(-1, 2).astype(np.float64)
    return flat[:, 0] + 1j * flat[:, 1]


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> np.ndarray:
    """Grid points relative to the picture's centre, complex [n]."""
    ys, xs = np.mgrid[GRID_PX // 2 : height : GRID_PX, GRID_PX // 2 : width : GRID_PX]
    return (xs.ravel() - (width - 1) / 2) + 1j * (ys.ravel() - (height - 1) / 2)


def _fit_similarity(
    place: np.ndarray, moved: np.ndarray, say: np.ndarray
) -> tuple[complex, complex]:
    """Robust least squares of ``shift + grow * place`` to displacements, all complex.

    In complex numbers a similarity is a straight line: the real part of ``grow`` is the zoom, the
    imaginary part the turn. It starts from the median shift, so that half the picture may belong
    to moving objects, and from rest, for a camera that stands while more than half moves; the
    better of the two is kept.
    """
    sums = np.stack([np.ones(len(place)), place, moved, _square(place), moved * place.conj()])
    starts = [complex(_median(np.real(moved), say), _median(np.imag(moved), say))]
    if (
        abs(starts[0]) > NEAR_REST_PX
        and say @ (np.abs(moved) < NEAR_REST_PX) > NEAR_REST * say.sum()
    ):
        starts.append(0j)
    fits = [_descend(place, moved, say, sums, start) for start in starts]
    _, shift, grow = min(fits, key=lambda fit: fit[0])
    return shift, grow


def _descend(
    place: np.ndarray, moved: np.ndarray, say: np.ndarray, sums: np.ndarray, shift: complex
) -> tuple[float, complex, complex]:
    """Cost, shift and growth of the fit that is reached from a shift.

    The normal equations need only weighted ``sums``, complex [5, n]: of 1, place, displacement,
    square of place, displacement times conjugate place.
    """
    grow, square = 0j, _square(moved - shift)
    for scale_px in SCALES_PX:
        weight = say / (1.0 + square / scale_px**2)
        total, place_sum, moved_sum, place_square, product = (complex(v) for v in sums @ weight)
        middle = place_sum / total
        grow = (product - moved_sum * middle.conjugate()) / (
            place_square - place_sum * middle.conjugate()
        ).real
        shift = (moved_sum - grow * place_sum) / total
        square = _square(moved - shift - grow * place)
    return float(say @ np.log1p(square / SCALES_PX[-1] ** 2)), shift, grow


def _square(values: np.ndarray) -> np.ndarray:
    return np.abs(values) ** 2


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(passed, passed[-1] / 2)]])
