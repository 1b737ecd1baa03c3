"""Signals of single frames as series over the clip's own time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

STEP_S = 0.25
"""Grid of the series that events are read from: flow is measured every 1/8 s."""


@dataclass(frozen=True)
class Series:
    """A signal on a regular grid over a clip.

    Attributes:
        step_s: Length of a cell.
        values: float64 [n], the mean of each cell; without gaps.
    """

    step_s: float
    values: np.ndarray

    def smooth(self, over_s: float) -> Series:
        """The running mean over a window, shorter at the ends."""
        width = max(1, round(over_s / self.step_s))
        ones = np.ones(min(width, len(self.values)))
        total = np.convolve(self.values, ones, "same")
        return Series(self.step_s, total / np.convolve(np.ones(len(self.values)), ones, "same"))


def series(facts: Mapping[str, Any], name: str, duration_s: float) -> Series | None:
    """A per-frame list of the facts over the clip's time; None where it was not measured.

    Args:
        facts: With ``frame_time_s`` (seconds of the video) and the list.
        name: Of the list; nulls are gaps, filled between their neighbours.
        duration_s: Length of the clip.
    """
    time_s, values = numbers(facts, "frame_time_s"), numbers(facts, name)
    if time_s is None or values is None or len(time_s) != len(values) or duration_s <= 0:
        return None
    known = ~np.isnan(values)
    if name == "frame_object_per_s" or name == "frame_motion_per_s":
        known &= _inside(facts, time_s)
    if known.sum() < 2:
        return None
    num = max(1, int(duration_s / STEP_S))
    step_s = duration_s / num
    # Ten points in each cell: a pair of frames that is longer than a cell still fills it.
    fine_s = (np.arange(num * 10) + 0.5) * step_s / 10
    dense = np.interp(fine_s, time_s[known] - time_s[0], values[known])
    return Series(step_s, dense.reshape(num, 10).mean(1))


def numbers(facts: Mapping[str, Any], name: str) -> np.ndarray | None:
    """A list of the facts as float64, nulls as NaN; None for a missing or empty one."""
    values = facts.get(name)
    if values is None or not len(values):
        return None
    return np.array([np.nan if v is None else v for v in values], np.float64)


def number(facts: Mapping[str, Any], name: str) -> float | None:
    """A number of the facts; None for a missing one, null and NaN."""
    value = facts.get(name)
    if value is None or isinstance(value, str) or value != value:
        return None
    return float(value)


def _inside(facts: Mapping[str, Any], time_s: np.ndarray) -> np.ndarray:
    """Frames whose pair begins inside the clip: the first one's may lie across a cut."""
    start_s = numbers(facts, "frame_pair_start_s")
    if start_s is None or len(start_s) != len(time_s):
        return np.ones(len(time_s), bool)
    return start_s >= time_s[0] - 1e-6
