"""Whether two clips show the same, from their prints: the verdict on one pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curation.dedup.perceptual_bars import without_dark_sides
from curation.dedup.perceptual_path import Film, guesses
from curation.dedup.perceptual_register import Fit, Register
from curation.signals.prints import STEP_S

NUM_GUESSES = 3
MIN_GUESS = 0.35
"""Lowest agreement of a guess worth refining."""
CLOSE = 0.98
"""A guess this good counts as it is, too."""
SURE = 0.95
"""A fit this good is not looked for again from another guess."""
HOPELESS = 0.2
"""After a fit this bad the other guesses, which are worse ones, are not tried."""
STILL = 1.0
"""Change in luma levels at which picture and change count the same; noise of prints is 0.2-0.4."""
STRICTNESS = 8.0
"""Where nothing changes the picture decides alone, and has to agree so many times better: all
pictures of one standing camera correlate above 0.95."""
EVIDENCE = 0.15
"""Where both are seen there has to be so much of the change of the whole clip, or less of it
counts: an empty room is no proof when people walk through it before and after."""
ENOUGH = 4.0
"""Change in luma levels that is proof enough, whatever happens before and after."""
SAME_SPEED = 0.03
"""How exact a speed is. From twice this on, what is missing from full agreement counts double:
two people who walk the same way agree well once one walk is stretched to the other."""
SPEED_STEPS = 5
SPEED_SLACK = 1.02
OVERLAP_SLACK, OFFSET_SLACK_S = 0.95, STEP_S
"""How far a fit may go beyond the limits: it is no more exact than this."""


@dataclass(frozen=True)
class Limits:
    """What a copy may differ in.

    Attributes:
        min_overlap: Share of the shorter clip that is seen in both.
        max_offset_s: None: any.
        max_speed: Highest speed, and one over the lowest.
        mirrored: Left and right may be exchanged.
    """

    min_overlap: float
    max_offset_s: float | None
    max_speed: float
    mirrored: bool


def similarity(fit: Fit) -> float:
    """How surely two clips that are laid over each other show the same, 0 to 1.

    What changes over time has to agree: the picture alone is the same at any other moment before
    the same camera. The less changes, the more the picture counts, and by a stricter measure.
    """
    seen = fit.evidence * fit.activity**2
    proof = min(1.0, max(fit.evidence / EVIDENCE, seen / ENOUGH**2))
    moving = min(fit.picture, fit.change * proof)
    still = 1 - STRICTNESS * (1 - fit.picture)
    weight = fit.activity**2 / (fit.activity**2 + STILL**2)
    agreed = weight * moving + (1 - weight) * still
    stretched = np.clip((abs(np.log(fit.speed)) - SAME_SPEED) / SAME_SPEED, 0, 1)
    return float(np.clip(1 - (1 - agreed) * (1 + stretched), 0, 1))


def compare(a: Film, b: Film, limits: Limits) -> tuple[float, Fit] | None:
    """Lay a clip over another in the best way: whole pictures, then those without dark sides.

    Args:
        a: First clip.
        b: Second clip.
        limits: What a copy may differ in.

    Returns:
        Similarity and fit; None when nothing fits at all.
    """
    best = _best(a, b, limits)
    if best is None or best[0] < SURE:
        inner = without_dark_sides(a), without_dark_sides(b)
        if inner[0] is not a or inner[1] is not b:
            found = _best(*inner, limits)
            if found is not None and (best is None or found[0] > best[0]):
                return found
    return best


def _best(a: Film, b: Film, limits: Limits) -> tuple[float, Fit] | None:
    speeds = np.linspace(1 / limits.max_speed, limits.max_speed, SPEED_STEPS)
    found = guesses(
        a,
        b,
        speeds=tuple(speeds.tolist()) if limits.max_speed > 1 else (1.0,),
        min_overlap=limits.min_overlap,
        flips=(False, True) if limits.mirrored else (False,),
        count=NUM_GUESSES,
        max_offset_s=limits.max_offset_s,
    )
    register = Register(a, b, limits.max_speed * SPEED_SLACK)
    best: tuple[float, Fit] | None = None
    for guess in found:
        if guess.score < MIN_GUESS:
            break
        refined = register.fit(guess)
        if refined is None:
            continue
        tried: list[Fit | None] = [refined]
        # Where little moves, a step may go astray.
        if guess.score >= CLOSE and similarity(refined) < SURE:
            tried.append(register.unrefined(guess))
        for fit in tried:
            if fit is not None and _within(fit, limits):
                score = similarity(fit)
                if best is None or score > best[0]:
                    best = score, fit
        if similarity(refined) < HOPELESS or (best is not None and best[0] >= SURE):
            break
    return best


def _within(fit: Fit, limits: Limits) -> bool:
    farthest_s = limits.max_offset_s
    near = farthest_s is None or abs(fit.offset_s) <= farthest_s + OFFSET_SLACK_S
    return near and fit.overlap_share >= limits.min_overlap * OVERLAP_SLACK
