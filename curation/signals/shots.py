"""From stored signals to shots: PySceneDetect's detectors run on the numbers of the signals pass.

The detectors decide on one number per frame (content change, or mean colour for fades). Those are
stored, so another threshold or detector needs no decode. A cut is a transition of two frames
``(last old, first new)``; a fade is the half-open span of dark frames, which belongs to no shot.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode, ThresholdDetector

DetectorName = Literal["adaptive", "content", "threshold"]
FADE_REACH_S = 1.0
FADE_CONTRAST = 1.5
WEIGHTS = ContentDetector.DEFAULT_COMPONENT_WEIGHTS


@dataclass(frozen=True)
class Transition:
    """A change of shot.

    Attributes:
        start_frame: A cut: the last frame of the old shot. A gradual one: its first frame.
        end_frame: A cut: the first frame of the new shot. A gradual one: first frame after it.
        kind: ``cut`` or ``fade``.
        confidence: 0-1; 0.5 is the detector's own threshold.
    """

    start_frame: int
    end_frame: int
    kind: Literal["cut", "fade"]
    confidence: float


@dataclass(frozen=True)
class Shot:
    """Frames ``[start_frame, end_frame)`` without a transition; flags tell real edges.

    Attributes:
        start_frame: First frame.
        end_frame: First frame after.
        starts_at_cut: False at the beginning of the video.
        ends_at_cut: False at the end of the video.
    """

    start_frame: int
    end_frame: int
    starts_at_cut: bool
    ends_at_cut: bool


@dataclass(frozen=True, kw_only=True)
class ShotSettings:
    """Detector settings; defaults are PySceneDetect's.

    Attributes:
        detector: ``adaptive``, ``content`` or ``threshold`` (fades alone).
        adaptive_threshold: Ratio of a frame's change to that of its neighbours.
        min_content: Lowest change that the adaptive detector takes for a cut.
        content_threshold: Change that the content detector takes for a cut.
        fade_threshold: Mean colour (0-255) below which a picture is faded out.
        detect_fades: Look for fades beside the cuts.
        min_shot_s: Shortest shot.
    """

    detector: DetectorName = "adaptive"
    adaptive_threshold: float = 3.0
    min_content: float = 15.0
    content_threshold: float = 27.0
    fade_threshold: float = 12.0
    detect_fades: bool = True
    min_shot_s: float = 0.5


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


def content_scores(hue: np.ndarray, sat: np.ndarray, val: np.ndarray) -> np.ndarray:
    """PySceneDetect's content value of each frame from the three deltas, 0-255."""
    total = hue * WEIGHTS.delta_hue + sat * WEIGHTS.delta_sat + val * WEIGHTS.delta_lum
    return total / sum(abs(w) for w in WEIGHTS)


def find_transitions(
    content: np.ndarray, rgb_mean: np.ndarray, time_s: np.ndarray, settings: ShotSettings
) -> list[Transition]:
    """Find cuts and fades.

    Args:
        content: float [n], content value per frame (0 on the first).
        rgb_mean: float [n], mean colour per frame, 0-255.
        time_s: float [n], frame times.
        settings: Which detector, and its thresholds.

    Returns:
        Transitions in order, not overlapping; a cut inside or beside a fade is part of the fade.
    """
    fades: list[Transition] = []
    if settings.detect_fades or settings.detector == "threshold":
        fades = _fades(rgb_mean, time_s, settings)
    cuts = [] if settings.detector == "threshold" else _cuts(content, settings)
    inside = {i for f in fades for i in range(f.start_frame, f.end_frame + 1)}
    merged = sorted(
        fades + [c for c in cuts if c.end_frame not in inside and c.start_frame not in inside],
        key=lambda t: t.start_frame,
    )
    return _long_enough(merged, time_s, settings.min_shot_s)


def shots_between(transitions: list[Transition], num_frames: int) -> list[Shot]:
    """The shots that transitions leave; a cut's two frames belong to the shots beside it."""
    shots: list[Shot] = []
    start = 0
    for t in transitions:
        stop, resume = (
            (t.end_frame, t.end_frame) if t.kind == "cut" else (t.start_frame, t.end_frame)
        )
        if stop > start:
            shots.append(Shot(start, stop, start > 0, True))
        start = max(start, resume)
    if num_frames > start:
        shots.append(Shot(start, num_frames, start > 0, False))
    return shots


def _cuts(content: np.ndarray, settings: ShotSettings) -> list[Transition]:
    """Run the chosen detector over stored content values (lengths are filtered later, by pts)."""
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


def _fades(rgb_mean: np.ndarray, time_s: np.ndarray, settings: ShotSettings) -> list[Transition]:
    """Runs of dark frames around which the threshold detector sees a fade out and in.

    A night scene that hovers about the threshold is no fade: the picture has to come from or
    reach real brightness within a second.
    """
    detector = ThresholdDetector(threshold=settings.fade_threshold, min_scene_len=0)  # pyright: ignore[reportArgumentType]
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


def _long_enough(
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
