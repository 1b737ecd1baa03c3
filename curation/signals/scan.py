"""State of one pass over a video, or over a part of it: frames in, rows of signals out.

A pass over a part begins some blocks earlier and ends one block later than what it is asked for,
and emits the same numbers as a pass over the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.media.decode import Decoded
from curation.signals.analysis import Sampler, Shrinker
from curation.signals.appearance import Appearance, AppearanceMeter
from curation.signals.changes import COLUMNS, ChangeMeter, thumbnail
from curation.signals.flow import EPSILON_S, FlowMeter, Motion
from curation.signals.prints import PrintMeter
from curation.signals.technical import Technical, TechnicalMeter

DIGITS = 5
"""Decimal places kept of every signal: below what any threshold can tell, above float noise."""
APPEARANCE = [f"frame_{name}" for name in Appearance._fields]
MOTION = [
    "frame_motion_per_s",
    "frame_camera_per_s",
    "frame_object_per_s",
    "frame_pan_per_s",
    "frame_tilt_per_s",
    "frame_zoom_per_s",
    "frame_roll_per_s",
]
TECHNICAL = [f"frame_{name}" for name in Technical._fields]
CHANGES = [f"frame_{name}" for name in COLUMNS]


@dataclass(frozen=True, kw_only=True)
class ScanRange:
    """Which frames a pass sees and which it reports.

    Attributes:
        lead_frame: Index in the video of the first frame it sees; a multiple of 50.
        start_frame: First frame to report.
        end_frame: First frame not to report; None: to the end of the video.
        first_pts: pts of the video's first frame; None: of the first frame it sees.
    """

    lead_frame: int = 0
    start_frame: int = 0
    end_frame: int | None = None
    first_pts: int | None = None


class Scan:
    """Measures frames; holds the rows of frames whose numbers are not all known yet."""

    def __init__(
        self,
        meter: ChangeMeter,
        sampler: Sampler,
        unit_s: float,
        interval_s: float,
        row_frames: int,
        span: ScanRange,
    ) -> None:
        self._changes, self._sampler = meter, sampler
        self._unit_s, self._interval_s, self._row_frames = unit_s, interval_s, row_frames
        self._span = span
        self._first_pts = span.first_pts
        self._shrink, self._flow, self._looks = Shrinker(), FlowMeter(), AppearanceMeter()
        self._technical, self._prints = TechnicalMeter(), PrintMeter()
        self._lists: dict[str, list[Any]] = {}
        self._samples: list[dict[str, Any]] = []
        self._cell: int | None = None  # of the sampling grid
        self._reported = span.start_frame
        self.count = span.lead_frame
        self._judged = span.lead_frame
        self._clear()

    def push(self, decoded: Decoded) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Measure one frame; yields tables' rows whenever some are complete."""
        if self._first_pts is None:
            self._first_pts = decoded.pts
        time_s = round((decoded.pts - self._first_pts) * self._unit_s, 6)
        small = self._shrink(decoded.frame)
        looks = self._looks.push(small)
        pair = self._flow.push(small.luma, time_s)
        technical = self._technical.push(decoded.frame, small, time_s)
        picture = self._prints.push(small.luma, time_s)
        if self._reports(self.count):
            values: dict[str, Any] = {
                "frame_pts": decoded.pts,
                "frame_time_s": time_s,
                "frame_damaged": decoded.damaged,
                "frame_print": picture,
            }
            values |= zip(APPEARANCE, (round(v, DIGITS) for v in looks), strict=True)
            values |= _motion_values(pair)
            rounded = (None if v is None else round(v, DIGITS) for v in technical)
            values |= zip(TECHNICAL, rounded, strict=True)
            for name, value in values.items():
                self._lists[name].append(value)
        self._sample(decoded, time_s)
        self.count += 1
        for block in self._changes.push(thumbnail(small.bgr)):
            yield from self._take(block)

    def finish(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The video has ended: the rest."""
        for block in self._changes.finish():
            yield from self._take(block)
        yield from self._emit(len(self._lists["frame_pts"]))

    def _reports(self, frame: int) -> bool:
        end = self._span.end_frame
        return frame >= self._span.start_frame and (end is None or frame < end)

    def _take(self, block: np.ndarray) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Change probabilities of the next block of frames."""
        mask = [self._reports(self._judged + i) for i in range(len(block))]
        self._judged += len(block)
        rounded = np.round(block[mask].astype(np.float64), DIGITS)
        for name, column in zip(CHANGES, rounded.T, strict=True):
            self._lists[name] += [None if np.isnan(v) else float(v) for v in column]
        while len(self._lists[CHANGES[0]]) >= self._row_frames:
            yield from self._emit(self._row_frames)
        end = self._span.end_frame
        if end is not None and self._judged >= end:
            yield from self._emit(len(self._lists["frame_pts"]))

    def _emit(self, size: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The first ``size`` frames as a row of ``segments``, and the samples up to there."""
        if size:
            row = {name: values[:size] for name, values in self._lists.items()}
            self._lists = {name: values[size:] for name, values in self._lists.items()}
            yield "segments", [{"segment_start_frame": self._reported, **row}]
            self._reported += size
        ready = [s for s in self._samples if s["sample_frame_index"] < self._reported]
        self._samples = self._samples[len(ready) :]
        if ready:
            yield "frames", ready

    def _sample(self, decoded: Decoded, time_s: float) -> None:
        """Store a JPEG of the first frame at or after each point of the sampling grid."""
        cell = int((time_s + EPSILON_S) / self._interval_s)
        crossed = time_s == 0.0 or (self._cell is not None and cell != self._cell)
        self._cell = cell
        if not crossed or not self._reports(self.count):
            return
        jpeg, width, height = self._sampler(decoded.frame)
        self._samples.append(
            {
                "sample_frame_index": self.count,
                "sample_pts": decoded.pts,
                "sample_time_s": time_s,
                "sample_width_px": width,
                "sample_height_px": height,
                "jpeg": jpeg,
            }
        )

    def _clear(self) -> None:
        names = ["frame_pts", "frame_time_s", "frame_damaged", "frame_print"]
        names += ["frame_pair_start_s"]
        self._lists = {name: [] for name in [*names, *APPEARANCE, *MOTION, *TECHNICAL, *CHANGES]}


def _motion_values(pair: tuple[Motion, float] | None) -> dict[str, float | None]:
    if pair is None:
        return {"frame_pair_start_s": None, **dict.fromkeys(MOTION)}
    motion, start_s = pair
    values = (
        motion.total_per_s,
        motion.camera_per_s,
        motion.object_per_s,
        motion.pan_per_s,
        motion.tilt_per_s,
        motion.zoom_per_s,
        motion.roll_per_s,
    )
    rounded = (round(v, DIGITS) for v in values)
    return {"frame_pair_start_s": round(start_s, 6), **dict(zip(MOTION, rounded, strict=True))}
