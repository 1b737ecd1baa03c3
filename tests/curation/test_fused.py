"""The rules of the fused detector, on signals written out by hand."""

from __future__ import annotations

import numpy as np

from curation.signals.fused import find_auto
from curation.signals.transitions import FrameSignals

NUM = 120
CUT, DISSOLVE, FADE, WIPE = range(4)


def signals(
    *stretches: tuple[int, int, int, float], seen: float | None = None, changed: float = 1.0
) -> FrameSignals:
    """120 frames with ``(first, end, kind, probability)``; TransNetV2 sees ``seen`` everywhere."""
    odds = np.zeros((NUM, 4))
    for first, end, kind, value in stretches:
        odds[first:end, kind] = value
    zero = np.zeros(NUM)
    return FrameSignals(
        content=zero,
        histogram=zero,
        rgb_mean=zero + 100,
        odds=odds,
        transnet=np.full((NUM, 2), np.nan if seen is None else seen),
        change_share=np.full(NUM, changed),
        time_s=np.arange(NUM) / 25,
    )


def found(given: FrameSignals) -> list[tuple[str, int, int]]:
    return [(t.kind, t.start_frame, t.end_frame) for t in find_auto(given, 0.5)]


def test_a_wipe_has_to_be_clear_and_to_change_the_whole_picture() -> None:
    assert found(signals((50, 65, WIPE, 0.97))) == [("wipe", 50, 65)]
    assert found(signals((50, 65, WIPE, 0.7))) == []  # a fast pan gets that much
    assert found(signals((50, 65, WIPE, 0.97), changed=0.5)) == []  # something moved through


def test_a_dissolve_needs_both_networks() -> None:
    assert found(signals((50, 65, DISSOLVE, 0.97))) == [("dissolve", 50, 65)]  # one not there
    assert found(signals((50, 65, DISSOLVE, 0.97), seen=0.01)) == []
    assert found(signals((50, 65, DISSOLVE, 0.97), seen=0.8)) == [("dissolve", 50, 65)]


def test_a_wipe_that_runs_into_passing_objects_is_found() -> None:
    both = ((40, 55, WIPE, 0.97), (55, 100, DISSOLVE, 0.9))
    assert found(signals(*both, seen=0.2)) == [("wipe", 40, 55)]
    assert found(signals(*both, seen=0.03)) == []


def test_two_wipes_joined_by_what_moves_between_are_two() -> None:
    joined = ((20, 35, WIPE, 0.97), (35, 60, DISSOLVE, 0.6), (60, 80, WIPE, 0.97))
    assert found(signals(*joined, seen=0.2)) == [("wipe", 20, 35), ("wipe", 60, 80)]


def test_a_doubtful_cut_is_weighed() -> None:
    assert found(signals((50, 51, CUT, 0.6), seen=0.0)) == []
    assert found(signals((50, 51, CUT, 0.6), seen=0.9)) == [("cut", 49, 50)]
    assert found(signals((50, 51, CUT, 0.97), seen=0.0)) == [("cut", 49, 50)]
