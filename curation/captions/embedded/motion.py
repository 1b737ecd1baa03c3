"""Movement in the picture over time: when something moves, when nothing does, when most does.

What moves is not known here, so it is "something"; before a camera that may move itself, not even
that is said. Speeds are in frame diagonals per second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curation.captions.embedded.say import Said, seconds
from curation.captions.embedded.series import Series, number, series

STILL_BELOW, MOVES_ABOVE = 0.002, 0.006
"""Mean flow of a picture at rest, and of one in which movement is plain to see."""
ALWAYS_ABOVE = 0.01
"""Noise and breathing focus reach 0.008: only what stays above moves all along."""
SMOOTH_S = 0.75
MIN_REST_S = 1.0
"""Shorter rests are left to the movement around them; movement is never left to a rest."""
PEAK_OVER_MEAN, MIN_PEAK = 2.0, 0.03
"""A peak is so many times the clip's mean, and at least so fast."""
PEAK_SIDES = 0.75
"""It reaches as far as this share of its height, and nothing else in the clip is so high."""
SURE_STATIC = 0.9
"""From which confidence of a static camera what moves is known to be no camera: hands that shake
for a moment make 0.6-0.85."""
FAST_ABOVE = 0.06
"""Mean flow of the whole picture, diagonals per second; the stage ``camera`` says so too."""
MIN_STATIC = 0.98


def motion_of(facts: Mapping[str, Any], duration_s: float) -> list[Said]:
    """What is to be said of movement; empty where it was not measured."""
    total = series(facts, "frame_motion_per_s", duration_s)
    if total is None:
        return []
    sure = number(facts, "camera_confidence") or 0.0
    if facts.get("camera_class") == "static" and sure >= SURE_STATIC:
        said = _stands(total, facts, duration_s)
    elif not any(moves for _, _, moves in spans(total)):
        said = [Said("Hardly anything moves.")]
    else:
        said = []
    return said + _peak(total, duration_s)


def spans(total: Series) -> list[tuple[float, float, bool]]:
    """Rest and movement in order of time: start, end in seconds, whether it moves.

    What lies between the two thresholds belongs to what came before.
    """
    values = total.smooth(SMOOTH_S).values
    state, states = bool(values[0] >= (STILL_BELOW + MOVES_ABOVE) / 2), []
    for value in values.tolist():
        state = True if value >= MOVES_ABOVE else False if value < STILL_BELOW else state
        states.append(state)
    runs: list[list[float]] = []
    for i, moves in enumerate(states):
        if runs and runs[-1][2] == moves:
            runs[-1][1] = (i + 1) * total.step_s
        else:
            runs.append([i * total.step_s, (i + 1) * total.step_s, moves])
    for run in runs:
        if not run[2] and run[1] - run[0] < MIN_REST_S:
            run[2] = True
    runs = _joined(runs)
    return [(start, end, bool(moves)) for start, end, moves in runs]


def _joined(runs: list[list[float]]) -> list[list[float]]:
    """Neighbours of one state as one run."""
    joined: list[list[float]] = []
    for run in runs:
        if joined and joined[-1][2] == run[2]:
            joined[-1][1] = run[1]
        else:
            joined.append(list(run))
    return joined


def _stands(total: Series, facts: Mapping[str, Any], duration_s: float) -> list[Said]:
    """Rest and movement before a camera that stands."""
    found = spans(total)
    if len(found) == 1:
        _, _, moves = found[0]
        if moves:
            always = float(total.smooth(SMOOTH_S).values.min()) >= ALWAYS_ABOVE
            return [Said(f"Something moves{_how_fast(facts)}{' all along' * always}.")]
        still = number(facts, "static_fraction")
        if still is not None and still >= MIN_STATIC:
            return [Said("Nothing moves.")]
        return [Said("Hardly anything moves.")]
    return [
        Said(f"{word} {seconds(start, end, duration_s)}.", (start, end), f"{word.lower()}")
        for start, end, moves in found
        for word in ("Something moves" if moves else "Hardly anything moves",)
    ]


def _how_fast(facts: Mapping[str, Any]) -> str:
    """Never "slowly": a small thing that runs moves a whole picture little on average."""
    speed = number(facts, "subject_motion_per_s")
    return " fast" if speed is not None and speed >= FAST_ABOVE else ""


def _peak(total: Series, duration_s: float) -> list[Said]:
    """The second or so in which most moves, where it stands out."""
    smooth = total.smooth(SMOOTH_S).values
    top, mean = float(smooth.max()), float(smooth.mean())
    if top < MIN_PEAK or top < PEAK_OVER_MEAN * mean:
        return []
    high = smooth >= PEAK_SIDES * top
    first = last = int(smooth.argmax())
    while first > 0 and high[first - 1]:
        first -= 1
    while last + 1 < len(high) and high[last + 1]:
        last += 1
    if high[:first].any() or high[last + 1 :].any():
        return []  # a second peak as good as this one
    span = first * total.step_s, (last + 1) * total.step_s
    told = f"The movement is strongest {seconds(*span, duration_s)}."
    return [Said(told, span, "the movement is strongest")]
