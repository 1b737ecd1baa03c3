"""Light: whether the picture is dark or bright, and when it gets darker or brighter.

Said of the picture, not of the scene: a lamp, a cloud and a lorry that drives past all make it
brighter, and nothing here can tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from curation.captions.embedded.say import Said, seconds
from curation.captions.embedded.series import Series, series

DARK_BELOW, BRIGHT_ABOVE = 0.2, 0.72
"""Mean luma of pictures that anyone calls dark or bright; 0.35-0.6 is usual."""
LOW_RANGE = 0.25
"""Low contrast: between the darkest and the brightest hundredth of a picture lies less."""
BLACK_BELOW, WHITE_ABOVE, HIGH_SHARE = 0.12, 0.85, 0.18
"""High contrast: this share of the picture is nearly black, and as much nearly white."""
MIN_CHANGE = 0.12
"""Of the mean luma, between two moments: less is hardly noticed in passing."""
SMOOTH_S = 0.5
REACHED = 0.8
"""Share of a change after which it counts as done; it begins at one less this."""


def light_of(
    pictures: Sequence[np.ndarray], facts: Mapping[str, Any], duration_s: float
) -> list[Said]:
    """What is to be said of the light.

    Args:
        pictures: uint8 BGR [h, w, 3], small copies, at least one.
        facts: Of the clip; ``frame_luma_mean`` gives the changes.
        duration_s: Length of the clip.
    """
    lumas = [cv2.cvtColor(p, cv2.COLOR_BGR2GRAY).astype(np.float64) / 255 for p in pictures]
    mean = float(np.mean([luma.mean() for luma in lumas]))
    said = []
    changes = light_changes(series(facts, "frame_luma_mean", duration_s))
    if not changes:
        if mean < DARK_BELOW:
            said.append(Said("The picture is dark."))
        elif mean > BRIGHT_ABOVE:
            said.append(Said("The picture is bright."))
    if all(_high_contrast(luma) for luma in lumas):
        said.append(Said("The contrast is high."))
    elif all(np.diff(np.quantile(luma, (0.01, 0.99)))[0] < LOW_RANGE for luma in lumas):
        said.append(Said("The contrast is low."))
    for start_s, end_s, rises in changes:
        word = "brighter" if rises else "darker"
        told = f"The picture gets {word} {seconds(start_s, end_s, duration_s)}."
        said.append(Said(told, (start_s, end_s), f"the picture gets {word}"))
    return said


def _high_contrast(luma: np.ndarray) -> bool:
    dark, bright = float((luma < BLACK_BELOW).mean()), float((luma > WHITE_ABOVE).mean())
    return min(dark, bright) >= HIGH_SHARE


def light_changes(luma: Series | None) -> list[tuple[float, float, bool]]:
    """The largest rise and the largest fall: start and end in seconds, and whether it rises."""
    if luma is None:
        return []
    values = luma.smooth(SMOOTH_S).values
    found = []
    for sign in (1, -1):
        way = sign * values
        low = np.minimum.accumulate(way)
        end = int((way - low).argmax())
        change = float(way[end] - low[end])
        if change < MIN_CHANGE:
            continue
        start = int(np.flatnonzero(way[: end + 1] == low[end])[-1])
        part = way[start : end + 1] - low[end]
        begins = start + int(np.flatnonzero(part <= (1 - REACHED) * change)[-1])
        done = start + int(np.flatnonzero(part >= REACHED * change)[0])
        cells = begins + 0.5, done + 0.5
        found.append((cells[0] * luma.step_s, cells[1] * luma.step_s, sign > 0))
    return sorted(found)
