"""The length policy rule by rule: even and fixed pieces, overlap, what is left, how many."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.signals.clips import ClipPolicy, Pieces, Remainder, Span, clip_spans
from curation.signals.transitions import Shot
from curation.stages.split import Split
from tests.curation.test_clips import EPSILON_S, policies, times_from

RATES_FPS = [5.0, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 60.0]


def cut_up(time_s: np.ndarray, policy: ClipPolicy) -> list[Span]:
    """The spans of a video that is one clean shot."""
    num = len(time_s) - 1
    return clip_spans([Shot(0, num, False, False)], np.zeros(num, bool), time_s, policy)


def told(seconds: float, policy: ClipPolicy) -> list[tuple[float, float, str | None]]:
    """Start and end in seconds, and reason, of the spans of one shot at ten frames a second."""
    time_s = times_from([0.1] * round(10 * seconds))
    spans = cut_up(time_s, policy)
    return [(round(time_s[s.start], 3), round(time_s[s.end], 3), s.reason) for s in spans]


@st.composite
def long_shots(
    draw: st.DrawFn, pieces: Pieces | None = None
) -> tuple[float, np.ndarray, ClipPolicy]:
    """A constant rate, and the times of a shot that is longer than the longest clip."""
    policy = replace(draw(policies()), max_clips_per_shot=None)
    policy = replace(policy, pieces=pieces or policy.pieces)
    fps = draw(st.sampled_from(RATES_FPS))
    longest = int(policy.max_s * fps) + 1
    num = draw(st.integers(longest + 1, max(longest + 1, 1500)))
    return fps, times_from([1 / fps] * num), policy


@settings(max_examples=1500, deadline=None)
@given(long_shots(pieces="even"))
def test_even_pieces_are_equal_and_leave_nothing(
    case: tuple[float, np.ndarray, ClipPolicy],
) -> None:
    """Or, where no number of pieces fits, they are as long as they may be."""
    fps, time_s, policy = case
    spans = cut_up(time_s, policy)
    clips = [s for s in spans if s.reason is None]
    frames = [c.end - c.start for c in clips]
    total_s, overlap_s = time_s[-1], policy.overlap_s
    lengths_s = overlap_s + (total_s - overlap_s) / np.arange(1, len(time_s))
    sure = (lengths_s >= max(policy.min_s, overlap_s) + 1 / fps) & (
        lengths_s <= policy.max_s - 1 / fps
    )
    if sure.any():
        assert len(clips) == len(spans), "frames remain though equal pieces fit"
        assert max(frames) - min(frames) <= 1
        miss_s = np.abs(lengths_s - policy.aim_s)[sure].min()
        mean_s = overlap_s + (total_s - overlap_s) / len(clips)
        assert abs(mean_s - policy.aim_s) <= miss_s + EPSILON_S, "another number is nearer"
    elif len(clips) != len(spans):
        assert len({*frames[:-1]} or {0}) == 1
        assert all(n / fps > policy.max_s - 1 / fps - EPSILON_S for n in frames[:-1])


@settings(max_examples=150, deadline=None)
@given(long_shots())
def test_overlap_is_exact_to_a_frame(case: tuple[float, np.ndarray, ClipPolicy]) -> None:
    fps, time_s, policy = case
    clips = [s for s in cut_up(time_s, policy) if s.reason is None]
    # Half a frame each at the two ends of an even piece; a start that cannot move by so little
    # moves by one frame.
    for a, b in pairwise(clips):
        shared_s = time_s[a.end] - time_s[b.start]
        assert abs(shared_s - policy.overlap_s) < 1 / fps + EPSILON_S or b.start == a.start + 1


@settings(max_examples=1500, deadline=None)
@given(long_shots(pieces="fixed"))
def test_fixed_pieces_and_what_is_left(case: tuple[float, np.ndarray, ClipPolicy]) -> None:
    fps, time_s, policy = case
    assume(1 / fps < policy.min_s)
    spans = cut_up(time_s, policy)
    clips = [s for s in spans if s.reason is None]
    rest = [s for s in spans if s.reason is not None]
    full = int((policy.aim_s + EPSILON_S) * fps)
    assume(full / fps >= policy.min_s)
    assert all(c.end - c.start == full for c in clips[:-1])
    assert [s.reason for s in rest] in ([], ["remainder"])
    assert all(s.start == clips[-1].end and s.end == len(time_s) - 1 for s in rest)
    last = clips[-1].end - clips[-1].start
    if policy.remainder == "keep":
        assert last <= full
        for span in rest:
            assert time_s[span.end] - time_s[span.start] + policy.overlap_s < (
                policy.min_s + 1 / fps
            )
    else:
        assert last >= full
    if policy.remainder == "drop":
        assert last == full
    if policy.remainder == "merge" and rest:
        assert time_s[-1] - time_s[clips[-1].start] > policy.max_s


@settings(max_examples=150, deadline=None)
@given(long_shots(), st.integers(1, 6))
def test_surplus_clips_are_the_only_difference(
    case: tuple[float, np.ndarray, ClipPolicy], limit: int
) -> None:
    _, time_s, policy = case
    every = cut_up(time_s, policy)
    some = cut_up(time_s, replace(policy, max_clips_per_shot=limit))
    all_clips = [s for s in every if s.reason is None]
    clips = [s for s in some if s.reason is None]
    assert len(clips) == min(limit, len(all_clips))
    assert set(clips) <= set(all_clips)
    reasons = [s for s in every if s.reason is not None]
    assert [s for s in some if s.reason not in (None, "surplus")] == reasons
    if len(all_clips) <= limit:
        assert some == every
        return
    # Spread evenly: between neighbours as many are left out, give or take one.
    at = [all_clips.index(c) for c in clips]
    assert at == [len(all_clips) - 1 - i for i in reversed(at)] or len(set(np.diff(at))) <= 2
    gaps = np.diff(at)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_even_chooses_the_number_nearest_the_preferred_length() -> None:
    even = ClipPolicy(min_s=2, max_s=10, pieces="even")
    fives = replace(even, preferred_s=5)
    assert told(10, fives) == [(0, 10, None)]  # not long: whole
    assert told(12, fives) == [(0, 6, None), (6, 12, None)]
    assert [b - a for a, b, _ in told(13.5, replace(even, preferred_s=4))] == [4.5, 4.5, 4.5]
    assert [b - a for a, b, _ in told(24, even)] == [8, 8, 8]  # as long as they may be
    overlapping = replace(even, preferred_s=6, overlap_s=1)
    assert told(11, overlapping) == [(0, 6, None), (5, 11, None)]


def test_where_no_number_of_even_pieces_fits() -> None:
    """11 s are too long for one clip, and two of 5.5 s would be too short."""
    policy = ClipPolicy(min_s=6, max_s=10, pieces="even", preferred_s=8)
    assert told(11, policy) == [(0, 10, None), (10, 11, "remainder")]
    assert told(12, policy) == [(0, 6, None), (6, 12, None)]


@pytest.mark.parametrize(
    ("remainder", "seconds", "want"),
    [
        ("keep", 13.0, [(0, 5, None), (5, 10, None), (10, 13, None)]),
        ("keep", 11.0, [(0, 5, None), (5, 10, None), (10, 11, "remainder")]),
        ("drop", 13.0, [(0, 5, None), (5, 10, None), (10, 13, "remainder")]),
        ("drop", 15.0, [(0, 5, None), (5, 10, None), (10, 15, None)]),
        ("merge", 12.0, [(0, 5, None), (5, 12, None)]),
        ("merge", 12.1, [(0, 5, None), (5, 10, None), (10, 12.1, "remainder")]),
        ("merge", 7.0, [(0, 7, None)]),
        ("drop", 7.0, [(0, 7, None)]),
    ],
)
def test_what_becomes_of_the_rest(
    remainder: Remainder, seconds: float, want: list[tuple[float, float, str | None]]
) -> None:
    policy = ClipPolicy(min_s=2, max_s=7, preferred_s=5, remainder=remainder)
    assert told(seconds, policy) == want


def test_the_rest_counts_with_its_overlap() -> None:
    """9 to 10.5 s alone would be too short; with the second that it shares it is not."""
    policy = ClipPolicy(min_s=2, max_s=5, overlap_s=1)
    assert told(10.5, policy) == [(0, 5, None), (4, 9, None), (8, 10.5, None)]
    assert told(9.5, policy)[-1] == (9, 9.5, "remainder")


def test_a_full_piece_need_not_fall_on_the_bound() -> None:
    """299 frames are the most that ten seconds at 29.97 hold, so 598 are two full pieces."""
    fps = 30000 / 1001
    time_s = times_from([1 / fps] * 598)
    spans = cut_up(time_s, ClipPolicy(min_s=2, max_s=10, remainder="drop"))
    assert [(s.start, s.end, s.reason) for s in spans] == [(0, 299, None), (299, 598, None)]


def test_surplus_is_spread_and_takes_no_shared_frame() -> None:
    one = ClipPolicy(min_s=1, max_s=2, max_clips_per_shot=1)
    assert told(10, one) == [(0, 4, "surplus"), (4, 6, None), (6, 10, "surplus")]
    assert told(10, replace(one, max_clips_per_shot=2)) == [
        (0, 2, "surplus"),
        (2, 4, None),
        (4, 6, "surplus"),
        (6, 8, None),
        (8, 10, "surplus"),
    ]
    assert told(4, replace(one, overlap_s=1)) == [
        (0, 1, "surplus"),
        (1, 3, None),
        (3, 4, "surplus"),
    ]


@pytest.mark.parametrize("pieces", ["fixed", "even"])
@pytest.mark.parametrize("remainder", ["drop", "keep", "merge"])
@pytest.mark.parametrize(
    ("steps_s", "want"),
    [
        ([0.04], [(0, 1, "too_short")]),
        ([3.0], [(0, 1, None)]),
        ([3600.0], [(0, 1, "remainder")]),
        ([3600.0, 0.04], [(0, 2, "remainder")]),
        ([0.04, 3600.0], [(0, 2, "remainder")]),
        ([7.0, 7.0], [(0, 1, None), (1, 2, None)]),
        ([11.0, 11.0, 11.0], [(0, 3, "remainder")]),
    ],
)
def test_few_and_long_frames(
    steps_s: list[float],
    want: list[tuple[int, int, str | None]],
    pieces: Pieces,
    remainder: Remainder,
) -> None:
    for overlap_s in (0.0, 1.5, 4.9):
        policy = ClipPolicy(
            min_s=2,
            max_s=10,
            preferred_s=7,
            pieces=pieces,
            remainder=remainder,
            overlap_s=overlap_s,
        )
        spans = cut_up(times_from(steps_s), policy)
        assert [(s.start, s.end, s.reason) for s in spans] == want


def test_a_piece_may_pass_the_preferred_length_to_reach_the_shortest() -> None:
    """Frames of 1.5 s: none ends between 2 and 2.5 s, so pieces are of two frames."""
    policy = ClipPolicy(min_s=2, max_s=4, preferred_s=2.5)
    assert [(s.start, s.end, s.reason) for s in cut_up(times_from([1.5] * 5), policy)] == [
        (0, 2, None),
        (2, 4, None),
        (4, 5, "remainder"),
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_s": 11}, "min_s 11.0 is above max_s 10.0"),
        ({"preferred_s": 1}, "preferred_s 1.0 is not within"),
        ({"preferred_s": 11}, "preferred_s 11.0 is not within"),
        ({"overlap_s": 10}, "overlap_s 10.0 is not below"),
        ({"overlap_s": 5, "preferred_s": 5}, "overlap_s 5.0 is not below"),
        ({"pieces": "odd"}, "pieces"),
        ({"max_clips_per_shot": 0}, "max_clips_per_shot"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Split.model_validate(fields)
