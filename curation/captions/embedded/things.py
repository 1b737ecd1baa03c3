"""Who or what is to be seen: named when networks are sure of it in many frames, else not at all.

Two networks look: a detector of COCO's 80 kinds and a classifier of ImageNet's 1000. Both call a
drawn circle a clock, and cars from above mobile phones with a score of 0.93. So a thing is named
when both see it, or when one is as sure as it hardly ever is when it is wrong. People alone are
named by the detector; it has seen more of them than of all other kinds. Thresholds were set on
footage looked at by eye (``tests/bench/captions.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.captions.embedded.nouns import NOUNS, PERSON, SETTINGS, Noun
from curation.models.fastest_det import Thing

BOTH_SCORE, BOTH_SHARE, BOTH_PROBABILITY = 0.6, 0.5, 0.5
"""Seen by both: detector's score in this share of the frames, classifier's mean probability."""
PERSON_SCORE, PERSON_SHARE, PERSON_FRAMES = 0.85, 0.2, 2
"""A person: score of the detector, in this share of the frames and in so many at least."""
LONE_SCORE, LONE_SHARE = 0.9, 0.6
"""Another kind by the detector alone."""
LONE_PROBABILITY, LONE_EVER, LONE_EVER_SHARE = 0.75, 0.5, 0.75
"""By the classifier alone: mean probability, and that of so many of the frames."""
MANY_SCORE, MANY_SHARE = 0.65, 0.5
"""More than one: boxes of this score in this share of the frames that surely show one."""
ABSENT_SCORE, ABSENT_FRAMES = 0.35, 2
"""A thing is not there yet, or no more, in so many frames without any box of this score."""
SETTING_PROBABILITY = 0.7


@dataclass(frozen=True)
class Named:
    """A thing that is to be seen.

    Attributes:
        words: With its article or in the plural.
        comes_s: Times of the last frame surely without it and of the first with it; None: it is
            there from the start, or that is not clear.
        leaves_s: Times of the last frame with it and of the first surely without it.
    """

    words: str
    comes_s: tuple[float, float] | None = None
    leaves_s: tuple[float, float] | None = None

    @property
    def single(self) -> bool:
        """One thing, not many."""
        return self.words.startswith(("a ", "an "))


def name_things(
    times_s: Sequence[float],
    found: Sequence[Sequence[Thing]] | None,
    probabilities: np.ndarray | None,
) -> list[Named]:
    """What is to be seen, people first.

    Args:
        times_s: Times of the frames.
        found: Things in each frame; None: no detector looked.
        probabilities: float [frames, 1000]; None: no classifier looked.
    """
    named = []
    for noun in NOUNS:
        scores = None if found is None or not noun.kinds else _scores(found, noun)
        classes = noun.indices()
        likely = (
            probabilities[:, classes].sum(1) if probabilities is not None and len(classes) else None
        )
        sure = _sure(noun, scores, likely)
        if sure is None:
            continue
        many = found is not None and scores is not None and _many(found, noun, sure)
        words = noun.many if many else noun.one
        if scores is None:
            named.append(Named(words))
            continue
        absent = scores < ABSENT_SCORE
        comes = _border(times_s, sure, absent)
        leaves = _border(times_s[::-1], sure[::-1], absent[::-1])
        left = None if leaves is None else (leaves[1], leaves[0])
        named.append(Named(words, comes, left))
    return named


def name_setting(probabilities: np.ndarray | None) -> str:
    """The place, or nothing."""
    if probabilities is None or not len(probabilities):
        return ""
    for words, classes in SETTINGS.items():
        likely = probabilities[:, Noun(words, "", classes).indices()].sum(1)
        if likely.mean() >= SETTING_PROBABILITY:
            return words
    return ""


def _scores(found: Sequence[Sequence[Thing]], noun: Noun) -> np.ndarray:
    """The best score of a noun in each frame."""
    return np.array(
        [max((t.score for t in things if t.kind in noun.kinds), default=0.0) for things in found]
    )


def _sure(noun: Noun, scores: np.ndarray | None, likely: np.ndarray | None) -> np.ndarray | None:
    """In which frames a thing surely is; None: it is not sure at all."""
    if noun is PERSON:
        if scores is None:
            return None
        sure = scores >= PERSON_SCORE
        return sure if sure.sum() >= PERSON_FRAMES and sure.mean() >= PERSON_SHARE else None
    if scores is not None and likely is not None:
        both = (scores >= BOTH_SCORE) & (likely >= BOTH_PROBABILITY)
        often = (scores >= BOTH_SCORE).mean() >= BOTH_SHARE
        if often and likely.mean() >= BOTH_PROBABILITY and both.any():
            return both
    if scores is not None and (scores >= LONE_SCORE).mean() >= LONE_SHARE:
        return scores >= LONE_SCORE
    if likely is not None and likely.mean() >= LONE_PROBABILITY:
        sure = likely >= LONE_EVER
        return sure if sure.mean() >= LONE_EVER_SHARE else None
    return None


def _border(
    times_s: Sequence[float], sure: np.ndarray, absent: np.ndarray
) -> tuple[float, float] | None:
    """Times of the last frame without a thing and of the first with it; None: not clear."""
    first = int(sure.argmax())
    without = 0
    while without < first and absent[without]:
        without += 1
    # Nothing but the moment of coming may lie between: a box that was there before is no coming.
    if without < ABSENT_FRAMES or first - without > 1:
        return None
    return times_s[without - 1], times_s[first]


def _many(found: Sequence[Sequence[Thing]], noun: Noun, sure: np.ndarray) -> bool:
    counts = [
        sum(t.kind in noun.kinds and t.score >= MANY_SCORE for t in things)
        for things, yes in zip(found, sure, strict=True)
        if yes
    ]
    return float(np.mean([n >= 2 for n in counts])) >= MANY_SHARE
