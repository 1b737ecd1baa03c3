"""The axis of a histogram: round bin edges that show the values and both bounds of a rule."""

from __future__ import annotations

import math
from dataclasses import dataclass

TARGET_BINS = 40
LOG_FROM_RATIO = 50.0
"""Bounds this far apart cannot be told apart on a linear axis."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Equal bins from ``low`` to ``high``, or equal ratios when ``log``; the ends are open."""

    low: float
    high: float
    num_bins: int
    log: bool = False

    def at(self, value: float) -> float:
        """Position of a value, 0 (low) to 1 (high)."""
        if self.log:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))

    def edge(self, index: int) -> float:
        """Lower edge of a bin."""
        share = index / self.num_bins
        if self.log:
            return self.low * (self.high / self.low) ** share
        return self.low + (self.high - self.low) * share

    def bin_sql(self, value: str) -> str:
        """SQL for the bin of a DOUBLE expression; values beyond the axis go to the end bins."""
        if self.log:
            per_bin = math.log(self.high / self.low) / self.num_bins
            share = f"ln(greatest({value}, {self.low!r}) / {self.low!r}) / {per_bin!r}"
        else:
            share = f"({value} - ({self.low!r})) / {(self.high - self.low) / self.num_bins!r}"
        # A float32 score that equals an edge may lie a hair below it.
        floor = f"floor({share} + 1e-6)"
        return f"CAST(greatest(0, least({self.num_bins - 1}, {floor})) AS INTEGER)"

    def ticks(self) -> list[float]:
        """Round values to be written below the axis."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**k for k in range(first, last + 1)]
        step = nice_step((self.high - self.low) / 4)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


def choose_axis(
    span: tuple[float, float] | None, minimum: float | None, maximum: float | None
) -> Axis:
    """An axis that shows the values and both bounds, with bin edges on round numbers.

    Args:
        span: Where the values lie; None without any.
        minimum: Lower bound of the rule.
        maximum: Upper bound of the rule.
    """
    bounds = [b for b in (minimum, maximum) if b is not None]
    if minimum and maximum and minimum > 0 and maximum / minimum >= LOG_FROM_RATIO:
        return _log_axis(span, minimum, maximum)
    low = min([*bounds, *(span or ())], default=0.0)
    high = max([*bounds, *(span or ())], default=1.0)
    if 0 <= low < 0.35 * high:
        low = 0.0
    step = nice_step((high - low or abs(high) or 1.0) / TARGET_BINS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # A bound at the very end of the axis would hide that there is another side.
    if minimum is not None and minimum != 0 and minimum / step < first + 0.5:
        first -= 2
    if maximum is not None and maximum / step > last - 0.5:
        last += 2
    last = max(last, first + 4)
    return Axis(low=first * step, high=last * step, num_bins=last - first)


def nice_step(raw: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below ``raw``."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))


def _log_axis(span: tuple[float, float] | None, minimum: float, maximum: float) -> Axis:
    """Bins of equal ratio with edges on both bounds, up to a decade beyond each."""
    between = max(1, round(10 * math.log10(maximum / minimum)))
    ratio = (maximum / minimum) ** (1 / between)
    low, high = span or (minimum, maximum)
    decade = round(math.log(10) / math.log(ratio))
    before = math.ceil(math.log(minimum / max(low, minimum / 10)) / math.log(ratio))
    after = math.ceil(math.log(min(high, maximum * 10) / maximum) / math.log(ratio))
    before, after = min(decade, max(3, before)), min(decade, max(3, after))
    return Axis(
        low=minimum * ratio**-before,
        high=maximum * ratio**after,
        num_bins=before + between + after,
        log=True,
    )
