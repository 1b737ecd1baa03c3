"""A row of a strip: flags, shots, clips and signal lanes over one stretch of the timeline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from curation.signals.clips import EPSILON_S, Span
from curation.signals.transitions import Shot
from pipelines.strip.canvas import (
    INK,
    LINE,
    SOFT,
    TRACK,
    Canvas,
    fitting,
    ink_on,
    rgb,
    shortened,
    text_width,
)
from pipelines.strip.colors import CLIP_COLOR, kind_color, reason_color
from pipelines.strip.lanes import Lane, Track, tracks_of
from pipelines.strip.plan import Mark, Row

LABEL_PX = 138
FLAG_PX, BAND_PX, BAND_GAP_PX = 18, 18, 3
LANE_PX, LANE_GAP_PX, AXIS_PX = 46, 7, 50
MAX_CLIP_BANDS = 4
"""Overlapping clips are drawn below each other; more than so many share the last band."""
TICKS_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
TICK_PX = 90
GAP_STEPS = 2.5
"""A gap longer than so many usual steps between the values of a signal is shown as one."""
POINTS_PER_PX = 2
"""Denser frames are drawn by their lowest and highest value in each pixel."""
CURVE, BAR = rgb("#1f4e79"), rgb("#b3261e")
SHOT_COLORS = rgb("#cfd6dd"), rgb("#e4e8ec")


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that was found in a video; see :func:`pipelines.strip.draw.draw_strip`."""

    time_s: np.ndarray
    lanes: Sequence[Lane]
    transitions: Sequence[Mark]
    shots: Sequence[Shot]
    spans: Sequence[Span]


class RowSheet:
    """Draws rows of one video, all to the same scale."""

    def __init__(self, found: Found, width_px: int, margin_px: int) -> None:
        self._found = found
        self._tracks = tracks_of(found.lanes, len(found.time_s) - 1)
        self._margin = margin_px
        self._left, self._right = margin_px + LABEL_PX, width_px - margin_px
        self._clip_bands = _bands(found.spans)
        self._num_bands = 1 + max(self._clip_bands, default=0)
        self._start_s = self._end_s = 0.0

    @property
    def height_px(self) -> int:
        """Height of a row without its cards."""
        lanes = len(self._tracks) * (LANE_PX + LANE_GAP_PX)
        return self._bands_px + lanes + AXIS_PX

    @property
    def _bands_px(self) -> int:
        return FLAG_PX + (1 + self._num_bands) * (BAND_PX + BAND_GAP_PX) + LANE_GAP_PX

    def draw(self, canvas: Canvas, top: int, row: Row) -> None:
        """Draw a row below ``top``."""
        self._start_s, self._end_s = row.start_s, row.end_s
        shots_y = top + FLAG_PX
        clips_y = shots_y + BAND_PX + BAND_GAP_PX
        bottom = top + self.height_px - AXIS_PX
        self._label(canvas, shots_y + BAND_PX / 2, "shots")
        self._shots(canvas, shots_y)
        self._label(canvas, clips_y + BAND_PX / 2, "clips")
        self._clips(canvas, clips_y)
        lanes_y = [
            top + self._bands_px + i * (LANE_PX + LANE_GAP_PX) for i in range(len(self._tracks))
        ]
        for y, track in zip(lanes_y, self._tracks, strict=True):
            self._lane_back(canvas, y, track)
        self._marks(canvas, top, shots_y, top + self._bands_px, bottom)
        for y, track in zip(lanes_y, self._tracks, strict=True):
            self._lane_curves(canvas, y, track)
        self._axis(canvas, bottom)

    def _x(self, at_s: float) -> float:
        """Where a time is drawn."""
        share = (at_s - self._start_s) / (self._end_s - self._start_s)
        return self._left + share * (self._right - self._left)

    def _reach(self, start: int, end: int) -> tuple[float, float] | None:
        """Both ends of some frames in this row; None when they are not in it."""
        start_s, end_s = self._found.time_s[[start, end]].tolist()
        if start_s >= self._end_s or end_s <= self._start_s:
            return None
        return self._x(max(start_s, self._start_s)), self._x(min(end_s, self._end_s))

    def _label(self, canvas: Canvas, y: float, text: str) -> None:
        canvas.text(self._margin, y, shortened(text, LABEL_PX - 10))

    def _shots(self, canvas: Canvas, y: float) -> None:
        for number, shot in enumerate(self._found.shots, start=1):
            if (ends := self._reach(shot.start_frame, shot.end_frame)) is None:
                continue
            length_s = self._found.time_s[shot.end_frame] - self._found.time_s[shot.start_frame]
            canvas.box(ends[0], y, ends[1], y + BAND_PX, SHOT_COLORS[number % 2])
            texts = [f"shot {number}   {length_s:.2f} s", f"shot {number}", str(number)]
            self._inside(canvas, ends, y, texts, INK)

    def _clips(self, canvas: Canvas, top: float) -> None:
        number = 0
        for span, band in zip(self._found.spans, self._clip_bands, strict=True):
            number += span.reason is None
            if span.end <= span.start or (ends := self._reach(span.start, span.end)) is None:
                continue
            length_s = self._found.time_s[span.end] - self._found.time_s[span.start]
            if span.reason is None:
                y = top + band * (BAND_PX + BAND_GAP_PX)
                canvas.box(ends[0], y, ends[1], y + BAND_PX, CLIP_COLOR)
                canvas.box(ends[0], y, ends[0] + 1, y + BAND_PX, CURVE)
                texts = [f"clip {number}   {length_s:.2f} s", f"clip {number}", str(number)]
                self._inside(canvas, ends, y, texts, INK)
            else:
                color, word = reason_color(span.reason), span.reason.replace("_", " ")
                canvas.box(ends[0], top, ends[1], top + BAND_PX, color)
                texts = [f"{word}   {length_s:.2f} s", word]
                self._inside(canvas, ends, top, texts, ink_on(color))

    @staticmethod
    def _inside(
        canvas: Canvas,
        ends: tuple[float, float],
        y: float,
        texts: list[str],
        color: tuple[int, int, int],
    ) -> None:
        """The longest text that fits into a box."""
        canvas.text(ends[0] + 5, y + BAND_PX / 2, fitting(texts, ends[1] - ends[0] - 9), color)

    def _marks(
        self, canvas: Canvas, flags_y: float, shots_y: float, lanes_y: float, bottom: float
    ) -> None:
        """Poles and washes through the row, and as many words on the flags as there is room."""
        here = list(self._marks_here())
        starts = [ends[0] for _, _, ends in here] + [self._right + self._margin]
        free = float(self._left - LABEL_PX / 2)
        for (number, mark, ends), following in zip(here, starts[1:], strict=True):
            color = kind_color(mark.kind)
            if mark.kind != "cut":
                canvas.wash(ends[0], lanes_y, ends[1], bottom, color, 0.16)
                canvas.box(ends[0], shots_y, ends[1], shots_y + BAND_PX, color)
                canvas.box(ends[1], lanes_y, ends[1] + 1, bottom, color)
            canvas.box(ends[0], flags_y, ends[0] + 2, shots_y + BAND_PX, color)
            canvas.box(ends[0], lanes_y, ends[0] + 1, bottom, color)
            free = self._flag(canvas, flags_y, number, mark, (free, ends[0], following))

    def _marks_here(self) -> Iterator[tuple[int, Mark, tuple[float, float]]]:
        """Number, transition and ends of those in this row; a cut's line is at its new frame."""
        num = len(self._found.time_s) - 1
        for number, mark in enumerate(self._found.transitions, start=1):
            start = mark.end_frame if mark.kind == "cut" else mark.start_frame
            start = min(start, num - 1)
            ends = self._reach(start, max(start + 1, min(mark.end_frame, num)))
            if ends is not None:
                yield number, mark, ends

    @staticmethod
    def _flag(
        canvas: Canvas, y: float, number: int, mark: Mark, room: tuple[float, float, float]
    ) -> float:
        """Draw a flag right of its pole, or left where only there is room; returns its end."""
        free, pole, following = room
        color, text = kind_color(mark.kind), str(number)
        width = text_width(text) + 8
        if pole + width + 3 <= following:
            canvas.box(pole, y, pole + width, y + 14, color)
            canvas.text(pole + 4, y + 7, text, ink_on(color))
            words = [f"{mark.kind} {mark.confidence:.2f}", f"{mark.confidence:.2f}"]
            word = fitting(words, following - pole - width - 12)
            canvas.text(pole + width + 4, y + 7, word, INK)
            return pole + width + 4 + text_width(word)
        if free + width + 3 <= pole:
            canvas.box(pole - width, y, pole, y + 14, color)
            canvas.text(pole - width + 4, y + 7, text, ink_on(color))
        return pole + 2

    def _lane_back(self, canvas: Canvas, y: float, track: Track) -> None:
        canvas.box(self._left, y, self._right, y + LANE_PX, TRACK)
        canvas.text(self._margin, y + 9, shortened(track.name, LABEL_PX - 10))
        scale = f"{track.low:.3g} to {track.high:.3g}"
        canvas.text(self._margin, y + 24, "no values" if track.is_empty else scale, SOFT)
        if track.threshold is not None:
            canvas.text(self._margin, y + 39, f"threshold {track.threshold:.3g}", BAR)

    def _lane_curves(self, canvas: Canvas, y: float, track: Track) -> None:
        def height(value: np.ndarray) -> np.ndarray:
            share = (value - track.low) / (track.high - track.low)
            return y + (LANE_PX - 2) - np.clip(share, 0, 1) * (LANE_PX - 4)

        for values, kind in track.curves:
            color = CURVE if kind is None else kind_color(kind)
            for x, part in self._points(values):
                canvas.curve(np.stack([x, height(part)], axis=1), color)
        if track.threshold is not None:
            at = float(height(np.array([track.threshold]))[0])
            canvas.dashes(self._left, self._right, at, BAR)

    def _points(self, values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Unbroken runs of a signal in this row: x in pixels, and values."""
        time_s = self._found.time_s[:-1]
        here = (time_s >= self._start_s - EPSILON_S) & (time_s <= self._end_s + EPSILON_S)
        known = np.flatnonzero(here & ~np.isnan(values))
        if not len(known):
            return
        # A signal of every third frame is one line; where it is missing for longer, it breaks.
        steps = np.diff(known)
        breaks = np.flatnonzero(steps > GAP_STEPS * np.median(steps)) + 1 if len(steps) else []
        scale = (self._right - self._left) / (self._end_s - self._start_s)
        for run in np.split(known, breaks):
            x = self._left + (time_s[run] - self._start_s) * scale
            yield _thinned(np.clip(x, self._left, self._right), values[run])

    def _axis(self, canvas: Canvas, y: float) -> None:
        """Seconds, and below them the frames shown then."""
        time_s, span_s = self._found.time_s, self._end_s - self._start_s
        wanted_s = span_s * TICK_PX / (self._right - self._left)
        step_s = next((t for t in TICKS_S if t >= wanted_s), math.ceil(wanted_s / 3600) * 3600)
        canvas.box(self._left, y, self._right, y + 1, LINE)
        self._label(canvas, y + 12, "seconds")
        self._label(canvas, y + 27, "frame")
        first = int(np.ceil((self._start_s - 1e-9) / step_s))
        for tick in range(first, int((self._end_s + 1e-9) / step_s) + 1):
            at_s = tick * step_s
            frame = int(np.searchsorted(time_s[:-1], at_s + 1e-6, side="right")) - 1
            x = self._x(at_s)
            canvas.box(x, y, x + 1, y + 5, SOFT)
            for dy, text in ((12, f"{at_s:.10g}"), (27, str(max(0, frame)))):
                half = text_width(text) / 2
                left = min(x - half, self._right + self._margin - 2 * half)
                canvas.text(left, y + dy, text, SOFT)


def _bands(spans: Sequence[Span]) -> list[int]:
    """In which band each span is drawn, so that overlapping clips do not hide each other."""
    ends: list[int] = []
    bands: list[int] = []
    for span in spans:
        if span.reason is not None:
            bands.append(0)
            continue
        band = next((i for i, end in enumerate(ends) if end <= span.start), len(ends))
        band = min(band, MAX_CLIP_BANDS - 1)
        ends[band : band + 1] = [span.end]
        bands.append(band)
    return bands


def _thinned(x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest value per pixel, where there are many frames to a pixel."""
    if len(x) < POINTS_PER_PX * (x[-1] - x[0] + 1):
        return x, values
    starts = np.flatnonzero(np.diff(np.floor(x), prepend=-1))
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return np.repeat(np.floor(x[starts]) + 0.5, 2), np.stack([low, high], axis=1).ravel()
