"""What the camera does in one clip: its class and how sure that is, its moves in order of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curation.signals.camera_moves import (
    AXES,
    LABELS,
    MIXED,
    RADIUS,
    STILL,
    Move,
    Track,
    intended,
    label_costs,
    moves,
    track,
    unsteadiness,
)

SHIFT_REST, TURN_REST = 0.07, 0.35
"""Share of a shift, and of a zoom or roll, that stays as object motion in a picture without any:
flow is cut off at the picture's edges. Measured on moving stills (tests/bench/camera.py)."""
TOP_SHARE = 0.65
"""Share of all travel that the one movement has after which a clip is named."""
NET_SHARE, NET_OF_PATH = 0.9, 0.4
"""A clip of many moves is named after where they lead in the end: along one axis to this share of
the net way, which is this share of the whole. So is a shaky walk up to something."""
LONG_TRAVEL = 0.15
"""A clip whose camera covers this many diagonals is not at rest, however short the move."""
NOISE_PER_S = 0.005
"""Motion that counts as none in the smoothness, diagonals per second."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """See the fields of the stage ``Camera``."""

    moving_from_per_s: float
    shaky_from: float
    min_moving_fraction: float


@dataclass(frozen=True, kw_only=True)
class NamedMove:
    """A stretch of one movement, in seconds of the video and diagonals per second."""

    start_s: float
    end_s: float
    camera_class: str
    speed_per_s: float


@dataclass(frozen=True, kw_only=True)
class CameraWork:
    """The camera's work in one clip.

    Attributes:
        camera_class: One of ``LABELS`` but ``still``, or static or handheld.
        confidence: 0-1.
        mean_rates: float [4], pan, tilt, zoom, roll as flow.
        moving_fraction: Share of the time in moves, 0-1.
        shake: Median distance from the smooth path, diagonals; None for under half a second.
        smoothness: 0-1.
        subject_per_s: Mean object motion beyond what the camera leaves behind.
        moves: In order of time, without gaps.
    """

    camera_class: str
    confidence: float
    mean_rates: np.ndarray
    moving_fraction: float
    shake: float | None
    smoothness: float
    subject_per_s: float
    moves: list[NamedMove]


def displayed_rates(
    rates: np.ndarray, width_px: int, height_px: int, pixel_aspect: float, turn_deg: int
) -> np.ndarray:
    """Rates of the displayed picture as flow, from those of the stored one.

    Args:
        rates: float [n, 4]: pan, tilt (diagonals per second), zoom, roll of the content
            (relative, radians per second, clockwise).
        width_px: Displayed width of the stored pixels, after the turn.
        height_px: Their height.
        pixel_aspect: Width of a pixel over its height, after the turn.
        turn_deg: Clockwise turn that the display applies.

    Returns:
        float [n, 4] in diagonals per second: pan, tilt, zoom, roll of the camera.
    """
    pan, tilt, zoom, roll = rates.astype(np.float64).T
    turned = {90: (tilt, -pan), 180: (-pan, -tilt), 270: (-tilt, pan)}
    pan, tilt = turned.get(turn_deg, (pan, tilt))
    shrink = np.hypot(width_px, height_px) / np.hypot(width_px * pixel_aspect, height_px)
    return np.stack(
        [pan * pixel_aspect * shrink, tilt * shrink, zoom * RADIUS, -roll * RADIUS], axis=1
    )


def camera_work(
    start_s: np.ndarray,
    end_s: np.ndarray,
    rates: np.ndarray,
    objects: np.ndarray,
    steady_light: np.ndarray,
    limits: Thresholds,
) -> CameraWork:
    """Judge a clip from its pairs.

    Args:
        start_s: float [n], starts of the pairs, rising.
        end_s: float [n], their ends.
        rates: float [n, 4], see :func:`displayed_rates`.
        objects: float [n], what the camera does not explain, diagonals per second.
        steady_light: bool [n], False where the light changed so much that the flow is not
            believed; such pairs take the rates between their neighbours'.
        limits: Thresholds.
    """
    if steady_light.any():
        middle = (start_s + end_s) / 2
        known = middle[steady_light]
        rates = np.stack([np.interp(middle, known, c[steady_light]) for c in rates.T], axis=1)
        objects = np.interp(middle, known, objects[steady_light])
    found = track(start_s, end_s, rates, objects)
    strays = unsteadiness(found)
    shake = None if strays is None else float(np.median(strays))
    shaky = shake is not None and shake >= limits.shaky_from
    smooth = intended(found, shaky)
    parts = moves(found, smooth, limits.moving_from_per_s, shake or 0.0)
    label, moving = _label(parts, smooth, limits)
    sure = _agreement(smooth, label, limits.moving_from_per_s) * float(steady_light.mean())
    if label == STILL and shake is not None:
        sure *= 1 - 0.5 * float(np.exp(-2 * abs(np.log(max(shake, 1e-6) / limits.shaky_from))))
    return CameraWork(
        camera_class=_name(label, shaky),
        confidence=sure,
        mean_rates=found.rates.mean(axis=0),
        moving_fraction=moving,
        shake=shake,
        smoothness=_smoothness(found),
        subject_per_s=float(_subject(found).mean()),
        moves=[_named(move, found, shaky) for move in parts],
    )


def _label(parts: list[Move], rates: np.ndarray, limits: Thresholds) -> tuple[int, float]:
    """The clip's label and the share of its time in moves."""
    going = [m for m in parts if m.label != STILL]
    moving = sum(m.end - m.first for m in going) / len(rates)
    travel = np.zeros(len(LABELS))
    for move in going:
        travel[move.label] += move.travel
    if moving < limits.min_moving_fraction:
        return (MIXED if travel.sum() >= LONG_TRAVEL else STILL), moving
    top = int(travel.argmax())
    if travel[top] < TOP_SHARE * travel.sum():
        top = MIXED
    return (_net_label(rates) if top == MIXED else top), moving


def _net_label(rates: np.ndarray) -> int:
    """The axis along which a path leads in the end, or ``MIXED``."""
    net, path = rates.sum(axis=0), float(np.sqrt((rates**2).sum(axis=1)).sum())
    along = AXES @ net
    way = float(np.sqrt((net**2).sum()))
    straight = along.max() >= NET_SHARE * way and way >= NET_OF_PATH * path
    return int(along.argmax()) if straight else MIXED


def _agreement(rates: np.ndarray, label: int, moving_from_per_s: float) -> float:
    """How well one label fits all cells, 0-1; a mixed clip is one that no other label fits."""
    fit = 1 - np.minimum(label_costs(rates, moving_from_per_s), 1.0).mean(axis=0)
    if label == MIXED:
        return float(1 - np.delete(fit, MIXED).max())
    return float(fit[label])


def _name(label: int, shaky: bool) -> str:
    if label == STILL:
        return "handheld" if shaky else "static"
    return LABELS[label]


def _named(move: Move, found: Track, shaky: bool) -> NamedMove:
    seconds = (move.end - move.first) * found.cell_s
    return NamedMove(
        start_s=found.start_s + move.first * found.cell_s,
        end_s=found.start_s + move.end * found.cell_s,
        camera_class=_name(move.label, shaky),
        speed_per_s=move.travel / seconds,
    )


def _subject(found: Track) -> np.ndarray:
    """Motion of objects alone, float [n]."""
    pan, tilt, zoom, roll = found.rates.T
    left = SHIFT_REST * np.hypot(pan, tilt) + TURN_REST * np.hypot(zoom, roll)
    return np.maximum(0.0, found.objects - left)


def _smoothness(found: Track) -> float:
    """One less the change of motion from cell to cell over twice the motion itself.

    Even motion does not change, random motion changes by 1.4 times itself, motion back and forth
    or in jerks (repeated frames) by up to twice itself.
    """
    motion = np.c_[found.rates, found.objects]
    change = np.sqrt((np.diff(motion, axis=0) ** 2).sum(axis=1).mean()) if len(motion) > 1 else 0.0
    size = np.sqrt((motion**2).sum(axis=1).mean())
    return float(max(0.0, 1 - change / (2 * size + NOISE_PER_S)))
