"""Lanes: the signals of a strip, each to its own scale; those of one name share a lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from curation.signals.transitions import FrameSignals, ShotSettings

THRESHOLD_ROOM = 1.15
"""A threshold is not drawn on the very edge of its lane."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One signal over time.

    Attributes:
        name: Its label; neighbours of the same name are drawn in one lane.
        values: float [n], one per frame; NaN or None where there is none.
        threshold: Drawn as a dashed line.
        top: Upper end of the scale; None: as high as values and threshold reach.
        kind: Drawn in the colour of this kind of transition.
    """

    name: str
    values: np.ndarray | Sequence[float | None]
    threshold: float | None = None
    top: float | None = None
    kind: str | None = None


@dataclass(frozen=True, kw_only=True)
class Track:
    """A lane ready to draw: its curves, float [n] with NaN, their kinds, and one scale."""

    name: str
    curves: list[tuple[np.ndarray, str | None]]
    threshold: float | None
    low: float
    high: float

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to draw."""
        return all(bool(np.isnan(values).all()) for values, _ in self.curves)


def tracks_of(lanes: Sequence[Lane], num_frames: int) -> list[Track]:
    """Put lanes of one name together, and find their scale.

    Raises:
        ValueError: A lane has more or fewer values than there are frames.
    """
    return [_track(list(group), num_frames) for _, group in groupby(lanes, lambda lane: lane.name)]


def _track(lanes: list[Lane], num_frames: int) -> Track:
    curves = [(_numbers(lane, num_frames), lane.kind) for lane in lanes]
    joined = np.concatenate([values for values, _ in curves])
    known = joined[~np.isnan(joined)]
    threshold = next((lane.threshold for lane in lanes if lane.threshold is not None), None)
    tops = [lane.top for lane in lanes if lane.top is not None]
    low = min(0.0, float(known.min(initial=0.0)))
    reach = max(float(known.max(initial=0.0)), THRESHOLD_ROOM * (threshold or 0.0))
    high = max(tops) if tops else reach
    return Track(
        name=lanes[0].name,
        curves=curves,
        threshold=threshold,
        low=low,
        high=high if high > low else low + 1.0,
    )


def _numbers(lane: Lane, num_frames: int) -> np.ndarray:
    values = np.asarray([np.nan if v is None else v for v in lane.values], np.float64)
    if len(values) != num_frames:
        raise ValueError(f"{lane.name} has {len(values)} values for {num_frames} frames")
    return np.where(np.isfinite(values), values, np.nan)


def signal_lanes(
    signals: FrameSignals,
    settings: ShotSettings,
    motion_per_s: np.ndarray | Sequence[float | None] | None = None,
) -> list[Lane]:
    """The lanes of a video's stored signals, with the thresholds that the detector looks at.

    Args:
        signals: Of all frames.
        settings: Of the detector that made the transitions.
        motion_per_s: float [n], motion of each frame, frame diagonals per second.
    """
    detector, fused = settings.detector, settings.detector in ("auto", "transnet")
    sure = settings.confidence if fused else None
    lanes = [
        Lane(name="shot network", values=odds, threshold=sure, top=1.0, kind=kind)
        for kind, odds in zip(
            ("cut", "dissolve", "fade", "wipe"), np.moveaxis(signals.odds, 1, 0), strict=True
        )
    ]
    lanes += [Lane(name="TransNetV2", values=signals.transnet[:, 0], threshold=sure, top=1.0)]
    levels = {"content": settings.content_threshold, "adaptive": settings.min_content}
    lost = settings.histogram_threshold if detector == "histogram" else None
    dark = settings.fade_threshold if not fused and settings.detect_fades else None
    lanes += [
        Lane(name="content change", values=signals.content, threshold=levels.get(detector)),
        Lane(name="histogram change", values=signals.histogram, threshold=lost),
        Lane(name="brightness", values=signals.rgb_mean, threshold=dark, top=255.0),
    ]
    if motion_per_s is not None:
        lanes.append(Lane(name="motion (per second)", values=motion_per_s))
    return [lane for lane in lanes if not _is_empty(lane)]


def _is_empty(lane: Lane) -> bool:
    """True for a signal that was not measured: it takes no room."""
    return not any(v is not None and np.isfinite(v) for v in lane.values)
