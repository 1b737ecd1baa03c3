"""What shot detection works with and what it says: signals of frames, transitions, shots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scenedetect import ContentDetector

Kind = Literal["cut", "dissolve", "fade", "wipe"]
DetectorName = Literal["auto", "transnet", "adaptive", "content", "histogram", "threshold"]
WEIGHTS = ContentDetector.DEFAULT_COMPONENT_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class ShotSettings:
    """Detector settings.

    Attributes:
        detector: ``auto``, ``transnet``, or one of PySceneDetect's: ``adaptive``, ``content``,
            ``histogram``, ``threshold`` (fades alone).
        confidence: Lowest confidence that ``auto`` and ``transnet`` take for a transition.
        adaptive_threshold: Ratio of a frame's change to that of its neighbours.
        min_content: Lowest change that the adaptive detector takes for a cut.
        content_threshold: Change that the content detector takes for a cut.
        histogram_threshold: Loss of correlation that the histogram detector takes for a cut.
        fade_threshold: Mean colour (0-255) below which a picture is faded out.
        detect_fades: PySceneDetect's detectors: look for fades beside the cuts.
        min_shot_s: PySceneDetect's detectors: shortest shot.
    """

    detector: DetectorName = "auto"
    confidence: float = 0.5
    adaptive_threshold: float = 3.0
    min_content: float = 15.0
    content_threshold: float = 27.0
    histogram_threshold: float = 0.2
    fade_threshold: float = 12.0
    detect_fades: bool = True
    min_shot_s: float = 0.5


@dataclass(frozen=True, kw_only=True)
class FrameSignals:
    """Stored signals of all frames of a video, as far as detectors read them.

    Attributes:
        content: float64 [n], PySceneDetect's content value, 0-255; 0 on the first frame.
        histogram: float64 [n], one minus the correlation of luma histograms, 0-2.
        rgb_mean: float64 [n], mean colour, 0-255.
        odds: float64 [n, 4], the shot network's cut, dissolve, fade, wipe, 0-1.
        transnet: float64 [n, 2], TransNetV2's single and many; NaN where it was not asked.
        change_share: float64 [n], share of the picture that differs around a frame, 0-1.
        time_s: float64 [n], times from the first frame.
    """

    content: np.ndarray
    histogram: np.ndarray
    rgb_mean: np.ndarray
    odds: np.ndarray
    transnet: np.ndarray
    change_share: np.ndarray
    time_s: np.ndarray


@dataclass(frozen=True)
class Transition:
    """A change of shot.

    Attributes:
        start_frame: A cut: the last frame of the old shot. A gradual one: its first frame.
        end_frame: A cut: the first frame of the new shot. A gradual one: first frame after it.
        kind: ``cut``, ``dissolve``, ``fade`` or ``wipe``.
        confidence: 0-1; 0.5 is the detector's own threshold.
    """

    start_frame: int
    end_frame: int
    kind: Kind
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


def content_scores(hue: np.ndarray, sat: np.ndarray, val: np.ndarray) -> np.ndarray:
    """PySceneDetect's content value of each frame from the three deltas, 0-255."""
    total = hue * WEIGHTS.delta_hue + sat * WEIGHTS.delta_sat + val * WEIGHTS.delta_lum
    return total / sum(abs(w) for w in WEIGHTS)


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
