"""What the signals of a clip say over time: repeated and frozen frames, flicker, flashes, bars.

Pure functions of stored numbers. Arrays are per frame, NaN where not measured; a frame lasts from
its time to the next one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from curation.media.bars import EDGE_PX, UNEVEN

REPEAT_RATIO = 0.2
"""A repeated frame differs from the one before by at most this share of what the frames around it
do: what is left is coding noise."""
CANDIDATE_RATIO, AROUND_S, AROUND_SHARE = 0.3, 0.5, 0.8
"""Candidates are found against the change that this share of the frames within half a second
stays below, so one flash does not make its neighbours repeats."""
MOVING = 1 / 255
"""Change of a frame that counts as motion, in luma of 0-1."""
CADENCE_SHARE = 0.9
CADENCE_MAX = 30
"""A cadence repeats after at most so many new frames, ..."""
CADENCE_ROUNDS = 2
"""... and is seen at least so often in full."""
TREND_S = 0.25
"""Light over this long before and after is the trend that flicker is measured from."""
SLOW_S = 0.5
FLASH_CHANGE, FLASH_DARK, FLASH_WINDOW_S = 0.1, 0.8, 1.0
"""WCAG 2.2, success criterion 2.3.1: opposing changes of at least a tenth, from or to a picture
darker than 0.8, counted per second. (There of relative luminance; here of mean luma.)"""


def frozen_frames(
    change: np.ndarray, step_change: np.ndarray, below: float
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a standstill: nothing moves over 1/4 s or longer.

    Args:
        change: Against the frame before, [n].
        step_change: Against the frame at the grid point before, [n].
        below: Change up to which a picture stands still.

    Returns:
        Two bool [n]: those that stand still against the frame before, and those of which is known
        whether they do.
    """
    points = np.flatnonzero(~np.isnan(step_change))
    if len(change) and np.isnan(change[0]):
        points = np.union1d([0], points)  # the video's first frame is a grid point
    frozen = np.zeros(len(change), bool)
    known = change > below  # whatever else, this frame moved
    for start, end in pairwise(points):
        known[start + 1 : end + 1] = True
        if step_change[end] <= below:
            frozen[start + 1 : end + 1] = True
    if not frozen.any():
        return frozen, known
    # The ends of a standstill lie between grid points.
    still = change <= below
    for frames in (range(1, len(change)), range(len(change) - 2, 0, -1)):
        step = 1 if frames.step > 0 else -1
        for i in frames:
            frozen[i] |= still[i] and frozen[i - step]
    return frozen, known | frozen


def repeated_frames(change: np.ndarray, frozen: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """Frames that show the one before once more while the picture moves, bool [n].

    Args:
        change: Against the frame before, [n].
        frozen: Frames of a standstill, bool [n]; never repeats.
        time_s: Times, [n].
    """
    num = len(change)
    out = np.zeros(num, bool)
    moves = np.where(np.isnan(change) | frozen, np.nan, change)
    if num < 3 or np.isnan(moves[1:]).all():
        return out
    low = moves <= CANDIDATE_RATIO * _around(moves, time_s)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], low, [False]]).astype(np.int8)))
    for start, end in edges.reshape(-1, 2):
        beside = [moves[i] for i in (start - 1, end) if 0 <= i < num and not np.isnan(moves[i])]
        if beside and min(beside) >= MOVING:
            out[start:end] = moves[start:end].max() <= REPEAT_RATIO * min(beside)
    return out


def _around(values: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """What most frames near each one stay below."""
    step_s = float(np.median(np.diff(time_s)))
    reach = min(len(values) - 1, max(2, round(AROUND_S / max(step_s, 1e-3))))
    padded = np.pad(np.nan_to_num(values), reach, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    at = int(AROUND_SHARE * 2 * reach)
    return np.partition(windows, at, axis=1)[:, at]


def cadence(repeated: np.ndarray, frozen: np.ndarray) -> str | None:
    """How often each new picture is shown in turn; None: no pattern.

    ``2`` is animation on twos, ``3:2`` 24 pictures in 60 frames, ``2:1x3`` 24 in 30: one picture
    twice, then three once.

    Args:
        repeated: Repeats, bool [n]; the first frame is taken for a new one.
        frozen: Frames of a standstill; the longest stretch without is looked at.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[True], frozen, [True]]).astype(np.int8)))
    start, end = max(edges.reshape(-1, 2), key=lambda e: e[1] - e[0], default=(0, 0))
    new = np.flatnonzero(~repeated[start:end])
    shown = np.diff(new)  # the last one may be cut off by the clip's end
    if len(shown) and new[0] == 0:
        shown = shown[1:]  # and the first by its beginning
    if len(shown) < 3 or shown.max() == 1:
        return None
    for period in range(1, min(CADENCE_MAX, len(shown) // CADENCE_ROUNDS) + 1):
        now, round_before = shown[period:], shown[:-period]
        longer = (now > 1) | (round_before > 1)  # pictures shown once agree anyway
        if longer.any() and (now == round_before)[longer].mean() >= CADENCE_SHARE:
            return _written(shown, period)
    return None


def _written(shown: np.ndarray, period: int) -> str | None:
    """The most usual round of a cadence, beginning with its longest picture."""
    whole = shown[: len(shown) // period * period].reshape(-1, period)
    usual = np.median(whole, axis=0).astype(int).tolist()
    if max(usual) == 1:
        return None
    turned = max(usual[i:] + usual[:i] for i in range(period))
    runs = [(times, len(list(group))) for times, group in groupby(turned)]
    return ":".join(f"{times}x{num}" if num > 1 else str(times) for times, num in runs)


def flicker(luma: np.ndarray, time_s: np.ndarray, lasts_s: np.ndarray) -> float | None:
    """How far the light is off its trend for half of the time, in luma of 0-1.

    The trend is a straight line through half a second, so fades and drifts are none, and neither is
    a flash or two.
    """
    if len(luma) < 5:
        return None
    off = np.abs(luma - _trend(luma, time_s, lasts_s, TREND_S))
    return weighted_quantile(off, lasts_s, 0.5)


def lighting_change(luma: np.ndarray, time_s: np.ndarray, lasts_s: np.ndarray) -> float:
    """Range of the light, averaged over a second, in luma of 0-1."""
    slow = _windowed(luma * lasts_s, time_s, SLOW_S) / _windowed(lasts_s, time_s, SLOW_S)
    return float(slow.max() - slow.min())


def _trend(luma: np.ndarray, time_s: np.ndarray, lasts_s: np.ndarray, reach_s: float) -> np.ndarray:
    """A line fitted through the frames around each one, at its place."""
    zero = time_s - time_s.mean()
    terms = (lasts_s, lasts_s * zero, lasts_s * luma, lasts_s * zero**2, lasts_s * zero * luma)
    w, wt, wy, wtt, wty = (_windowed(term, time_s, reach_s) for term in terms)
    spread = w * wtt - wt**2
    slope = np.where(spread > 1e-12, (w * wty - wt * wy) / np.maximum(spread, 1e-12), 0.0)
    return (wy - slope * wt) / w + slope * zero


def _windowed(values: np.ndarray, time_s: np.ndarray, reach_s: float) -> np.ndarray:
    """Sums over the frames that begin within ``reach_s`` of each one."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    first = np.searchsorted(time_s, time_s - reach_s - 1e-6)
    last = np.searchsorted(time_s, time_s + reach_s + 1e-6)
    return total[last] - total[first]


def flashes_in_a_second(luma: np.ndarray, time_s: np.ndarray) -> float:
    """Most flashes of the whole picture in any one second; a flash is two opposing changes."""
    swings: list[float] = []
    low = high = float(luma[0])
    direction = 0
    for level, at_s in zip(luma.tolist(), time_s.tolist(), strict=True):
        low, high = min(low, level), max(high, level)
        if direction <= 0 and level - low >= FLASH_CHANGE and low < FLASH_DARK:
            swings.append(at_s)
            direction, high = 1, level
        elif direction >= 0 and high - level >= FLASH_CHANGE and level < FLASH_DARK:
            swings.append(at_s)
            direction, low = -1, level
    times = np.array(swings)
    counts = np.searchsorted(times, times + FLASH_WINDOW_S) - np.arange(len(times))
    return float(counts.max() // 2) if len(times) else 0.0


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Bars at the four sides of a picture, as shares of the height or width."""

    top: float = 0.0
    right: float = 0.0
    bottom: float = 0.0
    left: float = 0.0

    def turned(self, turn_deg: int) -> Bars:
        """The same bars after the picture is turned clockwise."""
        sides = [self.top, self.right, self.bottom, self.left]
        quarter = turn_deg // 90 % 4
        top, right, bottom, left = (sides[(i - quarter) % 4] for i in range(4))
        return Bars(top=top, right=right, bottom=bottom, left=left)


def find_bars(
    reach: dict[str, np.ndarray], height_px: int, width_px: int, min_bar: float
) -> Bars | None:
    """Bars that last, by the rules of ``curation/media/bars.py``; None: black from end to end.

    Args:
        reach: Per side, how far black reaches in each frame: shares, negative without a sharp
            edge, NaN where not measured.
        height_px: As stored.
        width_px: As stored.
        min_bar: Smallest bar that counts, share of the side.
    """
    seen = {side: values[~np.isnan(values)] for side, values in reach.items()}
    if not all(map(len, seen.values())):
        return None
    top, bottom = _pair(seen["top"], seen["bottom"], height_px, min_bar)
    left, right = _pair(seen["left"], seen["right"], width_px, min_bar)
    return Bars(top=top, right=right, bottom=bottom, left=left)


def _pair(one: np.ndarray, other: np.ndarray, side_px: int, min_bar: float) -> tuple[float, float]:
    """Bars at both ends of a side, or (0, 0): they come in pairs of about one size."""
    first, last = (float(np.abs(values).min()) for values in (one, other))
    near = EDGE_PX / side_px
    sharp = all(
        (values[np.abs(values) < size + near] > 0).any()
        for values, size in ((one, first), (other, last))
    )
    if not sharp or min(first, last) < max(2 / side_px, min_bar):
        return 0.0, 0.0
    return (first, last) if abs(first - last) <= max(near, UNEVEN) else (0.0, 0.0)


def weighted_mean(values: np.ndarray, weight: np.ndarray) -> float | None:
    """Mean of the measured values; None when there are none."""
    known = ~np.isnan(values)
    total = float(weight[known].sum())
    return float((values[known] * weight[known]).sum()) / total if total > 0 else None


def weighted_quantile(values: np.ndarray, weight: np.ndarray, share: float) -> float | None:
    """The lowest measured value that at least ``share`` of the weight does not exceed."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return None
    order = known[np.argsort(values[known], kind="stable")]
    passed = np.cumsum(weight[order])
    at = min(int(np.searchsorted(passed, share * passed[-1] - 1e-9)), len(order) - 1)
    return float(values[order[at]])
