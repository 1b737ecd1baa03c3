"""From shots to clips: length policy, edge trim at real cuts, and a reason for every other second.

Everything is in frame indices over the exact times of the frames, so variable frame rates and odd
first pts need no special case. Together the clips and the spans tile the whole timeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from curation.signals.shots import Shot

SpanReason = Literal["transition", "edge_trim", "too_short", "remainder", "damaged", "missing"]
EPSILON_S = 2e-6
"""Times are stored to the microsecond: two of them are equal when they differ by no more."""


@dataclass(frozen=True, kw_only=True)
class ClipPolicy:
    """How shots become clips.

    Attributes:
        min_s: Shortest clip.
        max_s: Longest clip.
        stride_s: Distance between clip starts in a long shot; None: ``max_s``, no overlap.
        edge_trim_s: Cut off beside a real transition, where compression and detection smear.
    """

    min_s: float
    max_s: float
    stride_s: float | None
    edge_trim_s: float


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
        spans += _split_shot(index, shot, damaged, time_s, policy)
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
            spans += _pieces(index, run_start, run_end, time_s, policy)
    return spans + tail


def _pieces(index: int, start: int, end: int, time_s: np.ndarray, policy: ClipPolicy) -> list[Span]:
    """Clips of at most ``max_s`` every ``stride_s``; what is left over gets a reason."""
    stride_s = policy.stride_s or policy.max_s
    pieces: list[Span] = []
    covered = at = start
    while at < end:
        stop = min(end, _last_within(time_s, time_s[at] + policy.max_s))
        if time_s[stop] - time_s[at] >= policy.min_s - EPSILON_S:
            if at > covered:
                pieces.append(Span(covered, at, index, "remainder"))
            pieces.append(Span(at, stop, index, None))
            covered, resume = stop, _first_at(time_s, time_s[at] + stride_s)
            if stride_s <= policy.max_s:  # frames rarely fall on the stride: leave no gap
                resume = min(resume, stop)
            at = max(at + 1, resume)
        else:
            at += 1  # the next frame is shown for too long to fit: a later start may take it in
        if stop == end:
            break
    if covered < end:
        short = time_s[end] - time_s[start] < policy.min_s
        pieces.append(Span(covered, end, index, "too_short" if short else "remainder"))
    return pieces


def _runs(damaged: np.ndarray, start: int, end: int) -> list[tuple[int, int, bool]]:
    """Maximal runs of equal damage in ``[start, end)``."""
    if end <= start:
        return []
    part = damaged[start:end]
    edges = np.flatnonzero(np.diff(part.astype(np.int8))) + 1
    bounds = [0, *edges.tolist(), len(part)]
    return [(start + a, start + b, bool(part[a])) for a, b in pairwise(bounds)]


def _first_at(time_s: np.ndarray, when_s: float) -> int:
    """The first frame that starts at or after a time."""
    return int(np.searchsorted(time_s, when_s - EPSILON_S, side="left"))


def _last_within(time_s: np.ndarray, when_s: float) -> int:
    """The largest frame index whose start is not after a time: an exclusive end."""
    return int(np.searchsorted(time_s, when_s + EPSILON_S, side="right")) - 1
