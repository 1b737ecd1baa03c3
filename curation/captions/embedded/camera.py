"""The camera in words, from its class over the whole clip and its moves over time.

A similarity transform does not tell a zoom from a ride forwards, nor a pan from a walk sideways;
the words leave both open. What the measurement was not sure of is not said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from curation.captions.embedded.say import Said, capital, seconds
from curation.captions.embedded.series import number, numbers, series
from curation.signals.camera_work import CameraWork, Thresholds, camera_work, displayed_rates

WORDS = {
    "pan_right": "the camera pans to the right",
    "pan_left": "the camera pans to the left",
    "tilt_up": "the camera tilts up",
    "tilt_down": "the camera tilts down",
    "zoom_in": "the view moves closer",
    "zoom_out": "the view moves away",
    "roll_cw": "the camera turns clockwise",
    "roll_ccw": "the camera turns counter-clockwise",
}
SURE = {"static": 0.9, "handheld": 0.7, "mixed": 0.7}
"""From which confidence a class is said; a named move from ``SURE_MOVE``."""
SURE_MOVE = 0.6
MAX_OBJECTS, MAX_OBJECTS_MIXED = 0.4, 0.5
"""Share of all flow that the camera does not explain, up to which its movement is believed: drawn
things that move, and people before a bare wall, are taken for a moving camera above it."""
MIN_MOVE_S, MIN_MOVE_TRAVEL = 1.0, 0.06
"""Length and way (diagonals of the frame) of a move that is told as an event."""
RATES = ("frame_pan_per_s", "frame_tilt_per_s", "frame_zoom_per_s", "frame_roll_per_s")
# The defaults of the stage ``camera``; its rows hold the class, not the moves.
LIMITS = Thresholds(moving_from_per_s=0.004, shaky_from=0.001, min_moving_fraction=0.35)
FLASH_LUMA = 0.1


def camera_of(facts: Mapping[str, Any], duration_s: float) -> list[Said]:
    """What is to be said of the camera; empty where nothing was measured or nothing is sure."""
    label, sure = facts.get("camera_class"), number(facts, "camera_confidence")
    if not isinstance(label, str) or sure is None:
        return []
    if label == "static" and sure >= SURE[label]:
        return [Said("The camera does not move.")]
    if label == "handheld" and sure >= SURE[label]:
        return [Said("The camera shakes a little.")]
    if label in WORDS and sure >= SURE_MOVE:
        if _objects(facts, duration_s) > MAX_OBJECTS:
            return []
        return [Said(f"{capital(WORDS[label])}.", (0.0, duration_s), WORDS[label])]
    moves = camera_moves(facts, duration_s)
    sure_of_it = label == "mixed" and sure >= SURE[label]
    if sure_of_it and _objects(facts, duration_s) <= MAX_OBJECTS_MIXED:
        return [Said("The camera moves."), *moves]
    return moves


def camera_moves(facts: Mapping[str, Any], duration_s: float) -> list[Said]:
    """The clear moves of a clip, each with its time.

    No rolls: a camera that walks around a thing on a table seems to turn now and then.
    """
    found = _work(facts)
    start_s = numbers(facts, "frame_time_s")
    if found is None or start_s is None:
        return []
    said = []
    for move in found.moves:
        lasts_s = move.end_s - move.start_s
        far = move.speed_per_s * lasts_s >= MIN_MOVE_TRAVEL
        if (
            move.camera_class not in WORDS
            or "roll" in move.camera_class
            or lasts_s < MIN_MOVE_S
            or not far
        ):
            continue
        span = max(0.0, move.start_s - start_s[0]), min(duration_s, move.end_s - start_s[0])
        if _objects(facts, duration_s, span) > MAX_OBJECTS:
            continue
        told = f"{capital(WORDS[move.camera_class])} {seconds(*span, duration_s)}."
        said.append(Said(told, span, WORDS[move.camera_class]))
    return said


def _objects(
    facts: Mapping[str, Any], duration_s: float, span_s: tuple[float, float] | None = None
) -> float:
    """Share of the flow that the camera does not explain, 0-1; 1 where it was not measured."""
    objects = series(facts, "frame_object_per_s", duration_s)
    total = series(facts, "frame_motion_per_s", duration_s)
    if objects is None or total is None:
        return 1.0
    first, last = span_s or (0.0, duration_s)
    start = int(first / total.step_s)
    cells = slice(start, max(start + 1, int(last / total.step_s)))
    return float(objects.values[cells].mean() / max(total.values[cells].mean(), 1e-9))


def _work(facts: Mapping[str, Any]) -> CameraWork | None:
    """The camera's work over the pairs inside the clip; None where it was not measured."""
    lists = {n: numbers(facts, n) for n in (*RATES, "frame_object_per_s", "frame_luma_mean")}
    end_s, start_s = numbers(facts, "frame_time_s"), numbers(facts, "frame_pair_start_s")
    size = number(facts, "width_px"), number(facts, "height_px")
    if end_s is None or start_s is None or not all(size) or any(v is None for v in lists.values()):
        return None
    inside = start_s >= end_s[0] - 1e-6  # NaN (no pair) compares false
    if not inside.any():
        return None
    values = {n: v for n, v in lists.items() if v is not None}
    rates = displayed_rates(
        np.stack([values[n][inside] for n in RATES], axis=1),
        round(size[0] or 0),
        round(size[1] or 0),
        number(facts, "sample_aspect_ratio") or 1.0,
        round(number(facts, "rotation_deg") or 0),
    )
    luma = values["frame_luma_mean"]
    at = np.searchsorted(end_s, start_s[inside] - 1e-6)
    steady = np.abs(luma[inside] - luma[at]) < FLASH_LUMA
    objects = values["frame_object_per_s"][inside]
    return camera_work(start_s[inside], end_s[inside], rates, objects, steady, LIMITS)
