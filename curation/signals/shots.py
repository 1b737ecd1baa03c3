"""From stored signals to transitions: one detector of several.

``auto`` fuses the shot network, TransNetV2 and the cheap signals (``fused.py``). ``transnet`` is
TransNetV2 alone. The others are PySceneDetect's (``classic.py``). All are pure functions of stored
signals. A cut is a transition of two frames ``(last old, first new)``; a gradual transition is the
half-open span of its frames, which belong to no shot.
"""

from __future__ import annotations

from curation.signals import classic, fused
from curation.signals.transitions import FrameSignals, ShotSettings, Transition


def find_transitions(signals: FrameSignals, settings: ShotSettings) -> list[Transition]:
    """Find the transitions of a video.

    Args:
        signals: What is stored of its frames.
        settings: Which detector, and its thresholds.

    Returns:
        Transitions in order, not overlapping; a cut inside or beside a gradual one is part of it.
    """
    if settings.detector == "auto":
        return fused.find_auto(signals, settings.confidence)
    if settings.detector == "transnet":
        return fused.find_transnet(signals, settings.confidence)
    fades: list[Transition] = []
    if settings.detect_fades or settings.detector == "threshold":
        fades = classic.find_fades(signals, settings)
    cuts = [] if settings.detector == "threshold" else classic.find_cuts(signals, settings)
    inside = {i for f in fades for i in range(f.start_frame, f.end_frame + 1)}
    merged = sorted(
        fades + [c for c in cuts if c.end_frame not in inside and c.start_frame not in inside],
        key=lambda t: t.start_frame,
    )
    return classic.long_enough(merged, signals.time_s, settings.min_shot_s)
