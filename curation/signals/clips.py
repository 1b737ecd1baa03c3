"""From shots to clips: length policy, edge trim at real transitions, a reason for all other time.

Everything is in frame indices over the exact times of the frames, so variable frame rates and odd
first pts need no special case. Together the clips and the spans tile the whole timeline.

A *stretch* is what remains of a shot between its trimmed edges and damaged frames. One shorter
than ``min_s`` is ``too_short``; one of up to ``max_s`` becomes one clip, whole; a longer one is
divided into pieces that begin and end on frames, here with an overlap::

    fixed   |---------|                        each of preferred_s, what is left by the remainder
                   |---------|                 rule
                          |---------|rest|
    even    |-----------|                      equal, of the length next to preferred_s that leaves
                     |-----------|             nothing over
                              |-----------|

Whatever the frame times, no clip is shorter than ``min_s`` or longer than ``max_s``: a piece that
frames do not fit exactly ends on the last frame that does. A stretch of frames of which no clip can
be made (each shown for longer than ``max_s``, say) is ``remainder``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from curation.signals.transitions import Shot

SpanReason = Literal[
    "transition", "edge_trim", "too_short", "remainder", "surplus", "damaged", "missing"
]
Pieces = Literal["fixed", "even"]
Remainder = Literal["drop", "keep", "merge"]
EPSILON_S = 2e-6
"""Times are stored to the microsecond: two of them are equal when they differ by no more."""
MAX_TRIES = 16
"""Numbers of even pieces tried: only wild frame times need more than two."""


@dataclass(frozen=True, kw_only=True)
class ClipPolicy:
    """How shots become clips.

    Attributes:
        min_s: Shortest clip.
        max_s: Longest clip; a longer stretch is divided.
        preferred_s: Length to aim at when dividing; None: ``max_s``.
        pieces: ``fixed`` or ``even``, see above.
        overlap_s: Time that neighbouring pieces share, to one frame; less than the preferred
            length.
        remainder: What becomes of the end of a stretch after its last full fixed piece (one that
            a further frame would make longer than preferred). ``keep``: a clip if that is at least
            ``min_s`` long together with its overlap. ``merge``: the last piece takes it in if that
            stays within ``max_s``. ``drop``, and where those cannot: a ``remainder`` span.
        max_clips_per_shot: So many, spread evenly over the shot; the others are ``surplus``.
        edge_trim_s: Cut off beside a real transition, where compression and detection smear;
            never where pieces meet, nor at the beginning or end of the video.
    """

    min_s: float
    max_s: float
    preferred_s: float | None = None
    pieces: Pieces = "fixed"
    overlap_s: float = 0.0
    remainder: Remainder = "keep"
    max_clips_per_shot: int | None = None
    edge_trim_s: float = 0.0

    def __post_init__(self) -> None:
        if self.min_s > self.max_s:
            raise ValueError(f"min_s {self.min_s} is above max_s {self.max_s}")
        if not self.min_s <= self.aim_s <= self.max_s:
            raise ValueError(
                f"preferred_s {self.preferred_s} is not within min_s {self.min_s} "
                f"and max_s {self.max_s}"
            )
        if not 0 <= self.overlap_s < self.aim_s:
            raise ValueError(
                f"overlap_s {self.overlap_s} is not below the length of a piece, {self.aim_s} "
                "(preferred_s, else max_s)"
            )

    @property
    def aim_s(self) -> float:
        """The length to aim at."""
        return self.max_s if self.preferred_s is None else self.preferred_s


@dataclass(frozen=True)
class Span:
    """Frames ``[start, end)``: a clip when ``reason`` is None, else why they are none."""

    start: int
    end: int
    shot_index: int | None
    reason: SpanReason | None


def clip_spans(
    shots: list[Shot], damaged: np.ndarray, time_s: np.ndarray, policy: ClipPolicy
) -> list[Span]:
    """Cut shots into clips.

    Args:
        shots: In order, not overlapping.
        damaged: bool [n], frames that did not decode cleanly.
        time_s: float [n + 1], start of each frame, and the end of the last.
        policy: Lengths and trims.

    Returns:
        Clips and reasons, in order; with the clips they cover every frame, and spans with a
        reason overlap nothing.
    """
    spans: list[Span] = []
    at = 0
    for index, shot in enumerate(shots):
        if shot.start_frame > at:
            spans.append(Span(at, shot.start_frame, None, "transition"))
        found = _split_shot(index, shot, damaged, time_s, policy)
        spans += _limited(found, index, policy.max_clips_per_shot)
        at = shot.end_frame
    if at < len(damaged):
        spans.append(Span(at, len(damaged), None, "transition"))
    return spans


def _split_shot(
    index: int, shot: Shot, damaged: np.ndarray, time_s: np.ndarray, policy: ClipPolicy
) -> list[Span]:
    """Trim a shot's real edges, set damaged runs aside, and divide the rest."""
    start, end = shot.start_frame, shot.end_frame
    spans: list[Span] = []
    tail: list[Span] = []
    if shot.starts_at_cut and policy.edge_trim_s > 0:
        inner = min(end, _first_at(time_s, time_s[start] + policy.edge_trim_s))
        if inner > start:
            spans.append(Span(start, inner, index, "edge_trim"))
            start = inner
    if shot.ends_at_cut and policy.edge_trim_s > 0 and end > start:
        inner = max(start, _first_at(time_s, time_s[end] - policy.edge_trim_s))
        if inner < end:
            tail.append(Span(inner, end, index, "edge_trim"))
            end = inner
    for run_start, run_end, is_damaged in _runs(damaged, start, end):
        if is_damaged:
            spans.append(Span(run_start, run_end, index, "damaged"))
        else:
            spans += _split_stretch(index, run_start, run_end, time_s, policy)
    return spans + tail


def _split_stretch(
    index: int, start: int, end: int, time_s: np.ndarray, policy: ClipPolicy
) -> list[Span]:
    """The clips of a clean stretch, and why its other frames are in none."""
    length_s = time_s[end] - time_s[start]
    if length_s < policy.min_s - EPSILON_S:
        return [Span(start, end, index, "too_short")]
    if _in_one(start, end, time_s, policy):
        pieces = [(start, end)]
    elif policy.pieces == "even":
        pieces = _even(start, end, time_s, policy)
    else:
        pieces = _fixed(start, end, time_s, policy, policy.aim_s, policy.remainder)
    spans: list[Span] = []
    covered = start
    for first, stop in pieces:
        if first > covered:
            spans.append(Span(covered, first, index, "remainder"))
        spans.append(Span(first, stop, index, None))
        covered = stop
    if covered < end:
        spans.append(Span(covered, end, index, "remainder"))
    return spans


def _fixed(
    start: int,
    end: int,
    time_s: np.ndarray,
    policy: ClipPolicy,
    aim_s: float,
    remainder: Remainder,
) -> list[tuple[int, int]]:
    """Pieces of ``aim_s`` one after the other; the end of the stretch by the remainder rule."""
    pieces: list[tuple[int, int]] = []
    covered = at = start
    while at < end:
        # Where frames are long, none may end between min_s and aim_s: the next one may do.
        shortest = _first_at(time_s, time_s[at] + policy.min_s)
        stop = min(end, max(shortest, _last_within(time_s, time_s[at] + aim_s)))
        length_s = time_s[stop] - time_s[at]
        fits = length_s >= policy.min_s - EPSILON_S and _in_one(at, stop, time_s, policy)
        if not fits or stop <= covered:
            at += 1  # a later start may fit, and end later than the piece before
            continue
        frame_s = time_s[stop] - time_s[stop - 1]
        full = length_s + frame_s > aim_s + EPSILON_S
        if stop < end or full or remainder == "keep":
            pieces.append((at, stop))
            covered, at = stop, max(at + 1, _nearest(time_s, time_s[stop] - policy.overlap_s))
        if stop == end:
            break
    if remainder == "merge" and pieces and covered < end:
        first, _ = pieces[-1]
        if _in_one(first, end, time_s, policy):
            pieces[-1] = (first, end)
    return pieces


def _even(start: int, end: int, time_s: np.ndarray, policy: ClipPolicy) -> list[tuple[int, int]]:
    """Equal pieces that leave nothing over; where no number of them fits, fixed ones of ``max_s``.

    No number fits a stretch just longer than ``max_s`` when ``min_s`` is more than half of that.
    """
    total_s = float(time_s[end] - time_s[start])
    overlap_s = policy.overlap_s
    for count in _even_counts(total_s, end - start, policy)[:MAX_TRIES]:
        length_s = overlap_s + (total_s - overlap_s) / count
        later_s = (time_s[start] + np.arange(1, count) * (length_s - overlap_s)).tolist()
        firsts = [start, *(_nearest(time_s, at_s) for at_s in later_s)]
        stops = [*(_nearest(time_s, at_s + overlap_s) for at_s in later_s), end]
        lengths_s = time_s[stops] - time_s[firsts]
        forward = all(np.diff(firsts) > 0) and all(np.diff(stops) > 0)
        long_enough = lengths_s.min() >= policy.min_s - EPSILON_S
        pieces = list(zip(firsts, stops, strict=True))
        if forward and long_enough and all(_in_one(*p, time_s, policy) for p in pieces):
            return pieces
    return _fixed(start, end, time_s, policy, policy.max_s, "keep")


def _even_counts(total_s: float, num_frames: int, policy: ClipPolicy) -> list[int]:
    """Numbers of pieces that may fit, the one whose length is nearest the preferred first.

    A piece may have a frame more or less than its neighbour, so both bounds are taken to the whole
    frame; and each has to begin a frame after the one before it.
    """
    frame_s = total_s / num_frames
    shortest_s = math.ceil((policy.min_s - EPSILON_S) / frame_s) * frame_s - EPSILON_S
    longest_s = math.floor((policy.max_s + EPSILON_S) / frame_s) * frame_s + EPSILON_S
    overlap_s, spare_s = policy.overlap_s, total_s - policy.overlap_s
    if longest_s <= overlap_s:
        return []
    # Of n pieces each is overlap_s + spare_s / n long: the more, the shorter.
    fewest = math.ceil(spare_s / (longest_s - overlap_s))
    most = math.floor(spare_s / frame_s + EPSILON_S)
    if shortest_s > overlap_s:
        most = min(most, math.floor(spare_s / (shortest_s - overlap_s)))
    best = min(max(fewest, math.floor(spare_s / (policy.aim_s - overlap_s))), most)
    near = range(max(fewest, best - MAX_TRIES), min(most, best + MAX_TRIES) + 1)
    return sorted(near, key=lambda count: abs(overlap_s + spare_s / count - policy.aim_s))


def _in_one(start: int, end: int, time_s: np.ndarray, policy: ClipPolicy) -> bool:
    """True when frames are not too long for one clip."""
    return end <= _last_within(time_s, time_s[start] + policy.max_s)


def _limited(spans: list[Span], index: int, max_clips: int | None) -> list[Span]:
    """Keep so many clips of a shot, spread evenly; frames in no other clip become surplus."""
    clips = [s for s in spans if s.reason is None]
    if max_clips is None or len(clips) <= max_clips:
        return spans
    chosen = [clips[(2 * k + 1) * len(clips) // (2 * max_clips)] for k in range(max_clips)]
    base = spans[0].start
    lost = np.zeros(spans[-1].end - base, bool)
    for clip in clips:
        lost[clip.start - base : clip.end - base] = True
    for clip in chosen:
        lost[clip.start - base : clip.end - base] = False
    surplus = [
        Span(start, end, index, "surplus")
        for start, end, is_lost in _runs(lost, 0, len(lost), base)
        if is_lost
    ]
    rest = [s for s in spans if s.reason is not None]
    return sorted(chosen + surplus + rest, key=lambda s: s.start)


def _runs(flags: np.ndarray, start: int, end: int, base: int = 0) -> list[tuple[int, int, bool]]:
    """Maximal runs of equal flags in ``[start, end)``, counted from ``base``."""
    if end <= start:
        return []
    part = flags[start:end]
    edges = np.flatnonzero(np.diff(part.astype(np.int8))) + 1
    bounds = [0, *edges.tolist(), len(part)]
    return [(base + start + a, base + start + b, bool(part[a])) for a, b in pairwise(bounds)]


def _first_at(time_s: np.ndarray, when_s: float) -> int:
    """The first frame that starts at or after a time."""
    return int(np.searchsorted(time_s, when_s - EPSILON_S, side="left"))


def _last_within(time_s: np.ndarray, when_s: float) -> int:
    """The largest frame index whose start is not after a time: an exclusive end."""
    return int(np.searchsorted(time_s, when_s + EPSILON_S, side="right")) - 1


def _nearest(time_s: np.ndarray, when_s: float) -> int:
    """The frame that starts next to a time; half way between two, the earlier, always."""
    before = min(max(0, _last_within(time_s, when_s)), len(time_s) - 2)
    later = time_s[before + 1] - when_s < when_s - time_s[before] - EPSILON_S
    return before + int(later)
