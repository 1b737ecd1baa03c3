"""Caps on groups of clips: at most so many of one video, source or value.

Clips stand in a fixed shuffled order, and a cap keeps the first ones of each group. A smaller cap
therefore keeps some of those that a larger one keeps, and never others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NO_LIMIT = np.iinfo(np.int64).max
NEARLY = 1e-9
"""So that 0.29 * 100 is 29."""


class Division:
    """Clips in their shuffled order, divided into groups.

    Args:
        groups: int64 [clips], the number of each clip's group, from 0.
        num_groups: With those that no clip is in; 0: up to the highest that there is.
    """

    def __init__(self, groups: np.ndarray, num_groups: int = 0) -> None:
        self.groups = groups
        # Clips group by group, in their order within each.
        self._by_group = np.argsort(groups, kind="stable")
        self._sorted = groups[self._by_group]
        count = num_groups or int(groups.max(initial=-1)) + 1
        self._starts = np.searchsorted(self._sorted, np.arange(count))

    @property
    def num_groups(self) -> int:
        """With empty ones."""
        return len(self._starts)

    def sizes(self, kept: np.ndarray) -> np.ndarray:
        """Clips of each group among those kept (bool [clips]), int64 [groups]."""
        return np.bincount(self.groups[kept], minlength=self.num_groups)

    def running(self, values: np.ndarray) -> np.ndarray:
        """Sum over the clips of a clip's group, up to and with the clip; int64 [clips]."""
        sums = np.cumsum(values[self._by_group], dtype=np.int64)
        before = np.concatenate([[0], sums])[self._starts]
        result = np.empty(len(values), np.int64)
        result[self._by_group] = sums - before[self._sorted]
        return result


@dataclass(frozen=True)
class Cap:
    """A limit for each group that depends on nothing but the clips before this cap.

    Attributes:
        reason: Of the clips above it.
        division: Into groups.
        max_clips: Most clips of a group.
        max_us: Most microseconds of a group; the first clip that does not fit ends it.
        temperature: At least 1. Groups up to the median size stay whole; one of ``n`` clips above
            the median ``m`` keeps ``m * (n / m) ** (1 / temperature)``.
    """

    reason: str
    division: Division
    max_clips: int | None = None
    max_us: int | None = None
    temperature: float | None = None

    def limits(self, sizes: np.ndarray) -> np.ndarray:
        """Most clips of groups of these sizes, int64 [groups]."""
        limits = np.full(len(sizes), NO_LIMIT if self.max_clips is None else self.max_clips)
        if self.temperature is not None and sizes.any():
            median = float(np.median(sizes[sizes > 0]))
            flat = median * (np.maximum(sizes, 1) / median) ** (1 / self.temperature)
            flat = np.floor(flat + NEARLY).astype(np.int64)
            limits = np.where(sizes > median, np.minimum(limits, flat), limits)
        return limits

    def apply(self, kept: np.ndarray, lengths_us: np.ndarray) -> np.ndarray:
        """Of the clips kept so far (bool [clips]) those within the cap.

        Args:
            kept: Clips that the caps before leave.
            lengths_us: int64 [clips], in microseconds.
        """
        limits = self.limits(self.division.sizes(kept))
        within = kept & (self.division.running(kept) <= limits[self.division.groups])
        if self.max_us is not None:
            within &= self.division.running(np.where(kept, lengths_us, 0)) <= self.max_us
        return within
