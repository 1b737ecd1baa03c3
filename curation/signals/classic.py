"""PySceneDetect's detectors, run on the stored numbers of the signals pass.

They decide on one number per frame (content change, histogram change, or mean colour for fades).
Those are stored, so another threshold or detector needs no decode.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode, ThresholdDetector

from curation.signals.transitions import FrameSignals, ShotSettings, Transition

FADE_REACH_S = 1.0
FADE_CONTRAST = 1.5


class _StoredAdaptive(AdaptiveDetector):
    """AdaptiveDetector on stored scores: the 'image' is an array holding the frame's score."""

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: np.ndarray) -> float:
        del timecode
        return float(frame_img[0])


class _StoredContent(ContentDetector):
    """ContentDetector on stored scores."""

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: np.ndarray) -> float:
        del timecode
        return float(frame_img[0])


def find_cuts(signals: FrameSignals, settings: ShotSettings) -> list[Transition]:
    """Run the chosen detector over stored content values (lengths are filtered later, by pts)."""
    if settings.detector == "histogram":
        return _histogram_cuts(signals.histogram, settings.histogram_threshold)
    content = signals.content
    if settings.detector == "adaptive":
        detector = _StoredAdaptive(
            adaptive_threshold=settings.adaptive_threshold,
            min_content_val=settings.min_content,
            min_scene_len=0,
        )
        bar = settings.min_content
    else:
        detector = _StoredContent(threshold=settings.content_threshold, min_scene_len=0)
        bar = settings.content_threshold
    frames: list[int] = []
    for index, value in enumerate(content):
        found = detector.process_frame(_timecode(index), np.array([value]))
        frames += [t.frame_num for t in found]
    cuts = []
    for frame in sorted({f for f in frames if f > 0}):
        value = float(content[frame])
        cuts.append(Transition(frame - 1, frame, "cut", round(value / (value + bar), 4)))
    return cuts


def find_fades(signals: FrameSignals, settings: ShotSettings) -> list[Transition]:
    """Runs of dark frames around which the threshold detector sees a fade out and in.

    A night scene that hovers about the threshold is no fade: the picture has to come from or
    reach real brightness within a second.
    """
    detector = ThresholdDetector(threshold=settings.fade_threshold, min_scene_len=0)  # pyright: ignore[reportArgumentType]
    rgb_mean, time_s = signals.rgb_mean, signals.time_s
    dark = rgb_mean < int(settings.fade_threshold)
    fades = []
    for index, value in enumerate(rgb_mean):
        for _ in detector.process_frame(_timecode(index), np.array([value])):
            start = index
            while start > 0 and dark[start - 1]:
                start -= 1
            lo, hi = np.searchsorted(
                time_s, [time_s[start] - FADE_REACH_S, time_s[index] + FADE_REACH_S]
            )
            bright = rgb_mean[lo:hi].max() >= FADE_CONTRAST * settings.fade_threshold
            if start > 0 and bright:  # darkness at the very beginning has no shot before it
                level = float(rgb_mean[start:index].mean()) / max(settings.fade_threshold, 1e-6)
                fades.append(Transition(start, index, "fade", round(1 - level / 2, 4)))
    return fades


def long_enough(
    transitions: list[Transition], time_s: np.ndarray, min_shot_s: float
) -> list[Transition]:
    """Drop a cut that follows another too soon; the more confident of the two stays."""
    kept: list[Transition] = []
    for t in transitions:
        if kept and t.kind == "cut" and kept[-1].kind == "cut":
            gap_s = time_s[t.end_frame] - time_s[kept[-1].end_frame]
            if gap_s < min_shot_s:
                if t.confidence > kept[-1].confidence:
                    kept[-1] = t
                continue
        kept.append(t)
    return kept


def _timecode(index: int) -> FrameTimecode:
    """Detectors only count frames here; real times are looked up by index afterwards."""
    return FrameTimecode(index, fps=Fraction(30))


def _histogram_cuts(histogram: np.ndarray, threshold: float) -> list[Transition]:
    """PySceneDetect's HistogramDetector: the correlation falls by more than the threshold."""
    return [
        Transition(i - 1, i, "cut", round(float(histogram[i] / (histogram[i] + threshold)), 4))
        for i in np.flatnonzero(histogram >= threshold).tolist()
        if i > 0
    ]
