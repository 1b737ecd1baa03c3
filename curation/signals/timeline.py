"""What the times of all frames say about a video: length, frame rate, whether it is constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from curation.media.decode import last_frame_pts_step

VFR_TOLERANCE = 0.1
"""A video whose frame steps differ by more than this share of the median is VFR ..."""
VFR_MIN_SHARE = 0.02
"""... when at least this share of its steps do."""
MAX_DISTINCT_STEPS = 4096
TAIL_FRAMES = 26


class Timeline:
    """Folds frame times, in order, into the totals of a video; memory does not grow with it."""

    def __init__(self, unit_s: float) -> None:
        self._unit_s = unit_s
        self._steps: Counter[int] = Counter()
        self._tail: list[int] = []
        self._first_pts = 0
        self._damaged = 0
        self.count = 0

    def push(self, pts: Iterable[int], damaged: Iterable[bool]) -> None:
        """Take the next frames: pts in stream units, and whether each is damaged."""
        for value, broken in zip(pts, damaged, strict=True):
            if self.count == 0:
                self._first_pts = value
            else:
                step = value - self._tail[-1]
                if step in self._steps or len(self._steps) < MAX_DISTINCT_STEPS:
                    self._steps[step] += 1
            self._tail = [*self._tail[1 - TAIL_FRAMES :], value]
            self._damaged += bool(broken)
            self.count += 1

    def totals(self, declared_s: float | None) -> dict[str, Any]:
        """The columns of ``decodes``.

        Args:
            declared_s: Length that the container's header states, seconds.
        """
        end_pts = self._tail[-1] + last_frame_pts_step(self._tail)
        duration_s = (end_pts - self._first_pts) * self._unit_s
        missing_s = 0.0
        if declared_s and declared_s - duration_s > max(0.5, 0.02 * declared_s):
            missing_s = declared_s - duration_s
        median = self._median_step()
        return {
            "video_first_pts": self._first_pts,
            "video_end_pts": end_pts,
            "video_num_frames": self.count,
            "video_duration_s": round(duration_s, 6),
            "missing_s": round(missing_s, 6),
            "num_damaged_frames": self._damaged,
            "is_vfr": self._is_vfr(median),
            "median_fps": self._median_fps(median),
        }

    def _median_step(self) -> int | None:
        total, seen = sum(self._steps.values()), 0
        for step in sorted(self._steps):
            seen += self._steps[step]
            if 2 * seen >= total:
                return step
        return None

    def _is_vfr(self, median: int | None) -> bool:
        if not median:
            return False
        total = sum(self._steps.values())
        return total - sum(self._near(median).values()) > VFR_MIN_SHARE * total

    def _median_fps(self, median: int | None) -> float | None:
        """The frame rate of the steps near the median, which evens out coarse time bases."""
        if not median:
            return None
        near = self._near(median)
        mean = sum(step * n for step, n in near.items()) / sum(near.values())
        return round(1 / (mean * self._unit_s), 6)

    def _near(self, median: int) -> dict[int, int]:
        """Steps that count as regular. Milliseconds round 33.3 to 33 and 34: one unit is none."""
        tolerance = max(1, VFR_TOLERANCE * median)
        return {step: n for step, n in self._steps.items() if abs(step - median) <= tolerance}
