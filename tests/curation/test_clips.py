"""Clips and spans: for any shots, damage, times and policy they account for every frame."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curation.signals.clips import ClipPolicy, Span, clip_spans
from curation.signals.transitions import Shot

EPSILON_S = 1e-5
Case = tuple[list[Shot], np.ndarray, np.ndarray, ClipPolicy]


def times_from(steps_s: list[float]) -> np.ndarray:
    """Frame times from steps, rounded as they are stored."""
    return np.round(np.cumsum([0.0, *steps_s]), 6)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Shots with gaps between some of them, damage, times of any rate, and a policy."""
    count = draw(st.integers(1, 200))
    if draw(st.booleans()):
        steps = [1 / draw(st.sampled_from([1, 5, 23.976, 24, 29.97, 60]))] * count
    else:
        step = st.sampled_from([0.016667, 0.02, 0.033, 0.041667, 0.1, 0.5, 3.0, 25.0])
        steps = draw(st.lists(step, min_size=count, max_size=count))
    marks = sorted(draw(st.sets(st.integers(1, count), max_size=8)) - {count})
    shots, at = [], 0
    for mark in [*marks, count]:
        end = mark if mark == count else max(at + 1, mark - draw(st.integers(0, 3)))
        if at < end <= mark:
            shots.append(Shot(at, end, at > 0, mark < count))
            at = mark
    damaged = np.zeros(count, bool)
    for start in draw(st.lists(st.integers(0, count - 1), max_size=4)):
        damaged[start : start + draw(st.integers(1, 20))] = True
    return shots, damaged, times_from(steps), draw(policies())


@st.composite
def policies(draw: st.DrawFn) -> ClipPolicy:
    """Any policy that does not contradict itself."""
    min_s = draw(st.sampled_from([0.1, 0.5, 1.0, 2.0, 2.002]))
    room_s = draw(st.sampled_from([0.0, 0.05, 1.0, 8.0]))
    preferred_s = draw(st.sampled_from([None, min_s, min_s + 0.3 * room_s, min_s + room_s]))
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 0.95]))
    return ClipPolicy(
        min_s=min_s,
        max_s=min_s + room_s,
        preferred_s=preferred_s,
        pieces=draw(st.sampled_from(["fixed", "even"])),
        overlap_s=share * (min_s + room_s if preferred_s is None else preferred_s),
        remainder=draw(st.sampled_from(["drop", "keep", "merge"])),
        max_clips_per_shot=draw(st.sampled_from([None, None, 1, 2, 5])),
        edge_trim_s=draw(st.sampled_from([0.0, 0.05, 0.2, 1.0])),
    )


def slideshow() -> Case:
    """A still shown for 25 s between normal frames: it fits no clip, what follows does."""
    steps = [*([0.04] * 25), 25.0, *([0.04] * 100)]
    policy = ClipPolicy(min_s=2, max_s=10, edge_trim_s=0.2)
    return [Shot(0, 126, False, False)], np.zeros(126, bool), times_from(steps), policy


@settings(max_examples=300, deadline=None)
@given(cases())
@example(slideshow())
def test_every_frame_is_accounted_for(case: Case) -> None:
    shots, damaged, time_s, policy = case
    spans = clip_spans(shots, damaged, time_s, policy)
    clips = [s for s in spans if s.reason is None]
    rest = [s for s in spans if s.reason is not None]
    num = len(damaged)
    covered = np.zeros(num, int)
    for span in rest:
        assert span.start < span.end
        covered[span.start : span.end] += 1
    in_clip = np.zeros(num, bool)
    for clip in clips:
        in_clip[clip.start : clip.end] = True
    assert (covered <= 1).all(), "spans with a reason overlap"
    assert not (in_clip & (covered > 0)).any(), "a clip and a span overlap"
    assert (in_clip | (covered > 0)).all(), "a frame is nowhere"
    assert [s.start for s in spans] == sorted(s.start for s in spans)
    for clip in clips:
        length_s = time_s[clip.end] - time_s[clip.start]
        assert policy.min_s - EPSILON_S <= length_s <= policy.max_s + EPSILON_S
        assert not damaged[clip.start : clip.end].any()
        assert clip.shot_index is not None
        shot = shots[clip.shot_index]
        trim_s = policy.edge_trim_s - EPSILON_S
        assert shot.start_frame <= clip.start
        assert clip.end <= shot.end_frame
        if shot.starts_at_cut:
            assert time_s[clip.start] - time_s[shot.start_frame] >= trim_s
        if shot.ends_at_cut:  # the frame that the trim begins in stays
            assert time_s[shot.end_frame] - time_s[clip.end - 1] >= trim_s
    check_reasons(case, rest)
    check_overlap(case, clips)


def check_reasons(case: Case, rest: list[Span]) -> None:
    """Each reason is true."""
    shots, damaged, time_s, policy = case
    in_shot = np.zeros(len(damaged), bool)
    for shot in shots:
        in_shot[shot.start_frame : shot.end_frame] = True
    for span in rest:
        frames = slice(span.start, span.end)
        if span.reason == "transition":
            assert not in_shot[frames].any()
            continue
        assert span.shot_index is not None
        shot = shots[span.shot_index]
        length_s = time_s[span.end] - time_s[span.start]
        if span.reason == "edge_trim":
            first = shot.starts_at_cut and span.start == shot.start_frame
            last = shot.ends_at_cut and span.end == shot.end_frame
            assert first or last, "a trim away from a real transition"
            frame_s = np.diff(time_s[span.start : span.end + 1]).max()
            assert length_s < policy.edge_trim_s + frame_s + EPSILON_S, "more than was asked for"
        if span.reason == "damaged":
            assert damaged[frames].all()
        if span.reason == "too_short":
            assert length_s < policy.min_s
        if span.reason == "surplus":
            assert policy.max_clips_per_shot is not None


def check_overlap(case: Case, clips: list[Span]) -> None:
    """Clips go forward at both ends, and share no more than they should, to a frame."""
    _, _, time_s, policy = case
    for a, b in pairwise(clips):
        assert b.start > a.start
        assert b.end > a.end
        if b.start < a.end:
            assert a.shot_index == b.shot_index
            # The frame in which the wanted start lies, and the one after it.
            frame_s = np.diff(time_s[max(0, b.start - 1) : b.start + 2]).max()
            assert time_s[a.end] - time_s[b.start] <= policy.overlap_s + frame_s + EPSILON_S


def spans_of(
    fps: float, seconds: float, policy: ClipPolicy, *, cuts: tuple[bool, bool] = (False, False)
) -> list[tuple[int, int, str | None]]:
    """Start, end and reason of the spans of one clean shot."""
    num = round(fps * seconds)
    shots = [Shot(0, num, *cuts)]
    time_s = times_from([1 / fps] * num)
    found = clip_spans(shots, np.zeros(num, bool), time_s, policy)
    return [(s.start, s.end, s.reason) for s in found]


def policy_of(min_s: float, max_s: float, overlap_s: float = 0.0) -> ClipPolicy:
    """The defaults but for lengths."""
    return ClipPolicy(min_s=min_s, max_s=max_s, overlap_s=overlap_s, edge_trim_s=0.2)


def test_consecutive_clips_leave_no_gap_between_them() -> None:
    """29.97 frames a second never hit ten seconds: the next clip starts where the last ended."""
    found = spans_of(30000 / 1001, 30, policy_of(2, 10))
    assert found == [(0, 299, None), (299, 598, None), (598, 897, None), (897, 899, "remainder")]


def test_overlap() -> None:
    assert spans_of(10, 8, policy_of(2, 4, overlap_s=2)) == [
        (0, 40, None),
        (20, 60, None),
        (40, 80, None),
    ]


def test_trim_only_at_real_transitions() -> None:
    assert spans_of(10, 3, policy_of(1, 5)) == [(0, 30, None)]
    assert spans_of(10, 3, policy_of(1, 5), cuts=(True, True)) == [
        (0, 2, "edge_trim"),
        (2, 28, None),
        (28, 30, "edge_trim"),
    ]
    # Between two clips of one long shot there is no transition, so nothing is cut off.
    assert spans_of(10, 4, policy_of(1, 2), cuts=(False, True))[:2] == [
        (0, 20, None),
        (20, 38, None),
    ]


@pytest.mark.parametrize(("seconds", "reason"), [(2.0, None), (1.9, "too_short")])
def test_shortest_clip_is_inclusive(seconds: float, reason: str | None) -> None:
    assert spans_of(10, seconds, policy_of(2, 10)) == [(0, round(seconds * 10), reason)]


def test_exact_lengths_survive_rounded_times() -> None:
    """A length of exactly fifty frames, wherever they begin: microseconds cannot say 1/24 s."""
    for lead in range(60):
        num = lead + 50
        time_s = times_from([1 / 24] * num)
        shots = [Shot(0, lead, False, False), Shot(lead, num, False, False)]
        policy = policy_of(50 / 24, 50 / 24)
        found = clip_spans(shots, np.zeros(num, bool), time_s, policy)
        assert found[-1] == Span(lead, num, 1, None), lead


def test_what_follows_a_long_still_is_not_lost() -> None:
    found = [(s.start, s.end, s.reason) for s in clip_spans(*slideshow())]
    assert found == [(0, 26, "remainder"), (26, 126, None)]
