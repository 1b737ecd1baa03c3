"""From the motion of pairs of pictures to what the camera does: shake, moves, their class.

A camera has four rates: pan (shift to the right), tilt (shift upwards), zoom (relative growth of
the picture) and roll (turn of the camera, clockwise). To weigh them against each other, zoom and
roll are multiplied by the mean distance of a point from the picture's centre, so that all four are
the mean length of the flow they cause, in frame diagonals per second.

The path is the running sum of the rates on a grid of 1/8 s. Its smooth part is the intended
movement; what a local parabola does not follow is shake, as in video stabilisation (Grundmann et
al., CVPR 2011: intended paths are piecewise constant, linear and parabolic; Liu et al., SIGGRAPH
2013: stability is the share of low frequencies in the path).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

CELL_S = 0.125
"""Step of the camera's path; that of the flow's pairs."""
RADIUS = 0.265
"""Mean distance of a point from the centre, in diagonals: 0.27 of a square, 0.26 of 16:9."""
SMOOTH_S = 0.35
"""Standard deviation of the window that tells intended movement from sway: passes 80 % at 0.3 Hz,
10 % at 1 Hz. Human hands shake at 1-12 Hz."""
STEADY_SMOOTH_S = 0.15
"""The same for a camera that does not shake: short rests between moves stay visible."""
SHAKE_WINDOW_S = 1.25
"""Length of the parabola under which the path counts as intended: half passes at about 1 Hz."""
NAMES = (
    ("pan_right", "pan_left"),
    ("tilt_up", "tilt_down"),
    ("zoom_in", "zoom_out"),
    ("roll_cw", "roll_ccw"),
)
MIXED, STILL = 8, 9
LABELS = (*(name for pair in NAMES for name in pair), "mixed", "still")
AXES = np.concatenate([np.eye(4), -np.eye(4)]).reshape(2, 4, 4).swapaxes(0, 1).reshape(8, 4)
"""Unit movement of each of the first eight labels, [8, 4]."""
SLANT = 0.6
"""Sine of the angle (37 degrees) beyond which a movement is no longer along one axis."""
SWITCH_COST = 2.0
"""What a change of label has to save: a whole wrong label over two cells, a quarter of a second."""
MIN_TRAVEL = 0.01
"""Diagonals that a move has to cover: one per cent of the picture is not seen as a move."""
TRAVEL_OVER_SHAKE = 5.0
"""... and how many times the shake: what hands drift in passing is no move."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """The camera's rates on a regular grid.

    Attributes:
        start_s: Start of the first cell.
        cell_s: Length of a cell, about 1/8 s.
        rates: float [n, 4] of pan, tilt, zoom, roll as flow, diagonals per second.
        objects: float [n], flow that the camera does not explain, diagonals per second.
    """

    start_s: float
    cell_s: float
    rates: np.ndarray
    objects: np.ndarray


def track(start_s: np.ndarray, end_s: np.ndarray, rates: np.ndarray, objects: np.ndarray) -> Track:
    """Put pairs of uneven length on a grid; the way travelled stays the same.

    Args:
        start_s: float [n], starts of the pairs, rising.
        end_s: float [n], their ends.
        rates: float [n, 4] of pan, tilt, zoom and roll per second, as flow.
        objects: float [n].
    """
    edges = np.append(start_s, end_s[-1])
    steps = np.diff(edges)[:, None]
    way = np.concatenate([np.zeros((1, 5)), np.cumsum(np.c_[rates, objects] * steps, axis=0)])
    count = max(1, round((edges[-1] - edges[0]) / CELL_S))
    grid = np.linspace(edges[0], edges[-1], count + 1)
    cell_s = float(edges[-1] - edges[0]) / count
    columns = [np.diff(np.interp(grid, edges, column)) / cell_s for column in way.T]
    return Track(
        start_s=float(edges[0]),
        cell_s=cell_s,
        rates=np.stack(columns[:4], axis=1),
        objects=columns[4],
    )


def intended(found: Track, shaky: bool) -> np.ndarray:
    """The rates without sway and shake, float [n, 4]; reflected at the ends."""
    smooth_s = SMOOTH_S if shaky else STEADY_SMOOTH_S
    reach = int(np.ceil(3 * smooth_s / found.cell_s))
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) * found.cell_s / smooth_s) ** 2)
    padded = np.pad(found.rates, ((reach, reach), (0, 0)), mode="symmetric")
    columns = [np.convolve(column, window / window.sum(), mode="valid") for column in padded.T]
    return np.stack(columns, axis=1)


def unsteadiness(found: Track) -> np.ndarray | None:
    """Distance of the path from its local parabola, diagonals, float [n + 1]."""
    path = np.concatenate([np.zeros((1, 4)), np.cumsum(found.rates * found.cell_s, axis=0)])
    size = min(round(SHAKE_WINDOW_S / found.cell_s) // 2 * 2 + 1, (len(path) - 1) // 2 * 2 + 1)
    if size < 5:
        return None
    hat, half = _parabola(size), size // 2
    inside = np.stack([np.convolve(p, hat[half][::-1], mode="valid") for p in path.T], axis=1)
    smooth = np.concatenate([hat[:half] @ path[:size], inside, hat[half + 1 :] @ path[-size:]])
    return np.sqrt(((path - smooth) ** 2).sum(axis=1))


@lru_cache(maxsize=16)
def _parabola(size: int) -> np.ndarray:
    """Least-squares parabola over ``size`` points as a matrix from values to values."""
    basis = np.vander(np.linspace(-1, 1, size), 3)
    return basis @ np.linalg.pinv(basis)


@dataclass(frozen=True, kw_only=True)
class Move:
    """A stretch of one movement.

    Attributes:
        first: First cell of the track.
        end: First cell after.
        label: Index into ``LABELS``.
        travel: Net way of the intended movement, diagonals.
    """

    first: int
    end: int
    label: int
    travel: float


def moves(found: Track, rates: np.ndarray, moving_from_per_s: float, shake: float) -> list[Move]:
    """Divide a track into moves and rests.

    Args:
        found: The track.
        rates: Its intended rates, float [n, 4].
        moving_from_per_s: Slowest movement, diagonals per second.
        shake: How far the path strays from its smooth part, diagonals.
    """
    labels = _cheapest(label_costs(rates, moving_from_per_s))
    least = max(MIN_TRAVEL, TRAVEL_OVER_SHAKE * shake)
    for move in _runs(labels, rates, found.cell_s):
        if move.travel < least:
            labels[move.first : move.end] = STILL
    _sharpen(labels, rates)
    return _runs(labels, rates, found.cell_s)


def _sharpen(labels: np.ndarray, rates: np.ndarray) -> None:
    """Take the ramps that smoothing adds to a move before and after a rest off it.

    A sudden start is at half its speed where it was before smoothing.
    """
    speed = np.sqrt((rates**2).sum(axis=1))
    edges = np.flatnonzero(np.diff(labels)) + 1
    for first, end in pairwise([0, *edges.tolist(), len(labels)]):
        if labels[first] == STILL:
            continue
        fast = first + np.flatnonzero(speed[first:end] >= np.median(speed[first:end]) / 2)
        if first > 0 and labels[first - 1] == STILL:
            labels[first : fast[0]] = STILL
        if end < len(labels) and labels[end] == STILL:
            labels[fast[-1] + 1 : end] = STILL


def label_costs(rates: np.ndarray, moving_from_per_s: float) -> np.ndarray:
    """How badly each label fits each cell, about 0-1, float [n, 10].

    For an axis: the sine of the angle to it, and how far the movement is from being one. For a
    rest: the speed. At the slowest movement, along an axis, both cost one half.
    """
    speed = np.sqrt((rates**2).sum(axis=1))
    along = np.maximum(rates @ AXES.T, 0.0)
    aside = np.sqrt(np.maximum(speed[:, None] ** 2 - along**2, 0.0))
    still = np.minimum(speed / (2 * moving_from_per_s), 1.0)
    slow = 1.0 - still
    axes = aside / np.maximum(speed, moving_from_per_s)[:, None] + slow[:, None]
    mixed = SLANT + slow
    return np.c_[axes, mixed, still]


def _cheapest(costs: np.ndarray) -> np.ndarray:
    """The labelling int [n] of least total cost, switches included (Viterbi)."""
    total = costs[0].copy()
    came = np.zeros(costs.shape, np.int64)
    for i in range(1, len(costs)):
        best = int(total.argmin())
        switch = total[best] + SWITCH_COST < total
        came[i] = np.where(switch, best, np.arange(costs.shape[1]))
        total = np.where(switch, total[best] + SWITCH_COST, total) + costs[i]
    labels = np.empty(len(costs), np.int64)
    labels[-1] = int(total.argmin())
    for i in range(len(costs) - 1, 0, -1):
        labels[i - 1] = came[i, labels[i]]
    return labels


def _runs(labels: np.ndarray, rates: np.ndarray, cell_s: float) -> list[Move]:
    """Stretches of equal labels; a rest travels nothing."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    found = []
    for first, end in pairwise(edges):
        way = float(np.sqrt((rates[first:end].sum(axis=0) ** 2).sum()) * cell_s)
        label = int(labels[first])
        found.append(Move(first=first, end=end, label=label, travel=0.0 if label == STILL else way))
    return found
