"""Transitions, shots and clips of no particular video, for the tests of the strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.signals.clips import ClipPolicy, clip_spans
from curation.signals.transitions import Shot
from pipelines.strip import Lane
from pipelines.strip.rows import Found

MARGIN_PX, WIDTH_PX = 16, 1600
LADDER_S = np.arange(51) / 25


@dataclass(frozen=True)
class Change:
    """A transition of any kind."""

    start_frame: int
    end_frame: int
    kind: str = "cut"
    confidence: float = 0.75


def shots_of(changes: Sequence[Change], num_frames: int) -> list[Shot]:
    """The shots between changes."""
    shots, at = [], 0
    for change in changes:
        stop = change.end_frame if change.kind == "cut" else change.start_frame
        if stop > at:
            shots.append(Shot(at, stop, at > 0, True))
        at = change.end_frame
    return [*shots, Shot(at, num_frames, at > 0, False)] if at < num_frames else shots


def found_of(changes: Sequence[Change], time_s: np.ndarray, *lanes: Lane) -> Found:
    """Shots and clips between changes."""
    num = len(time_s) - 1
    shots = shots_of(changes, num)
    policy = ClipPolicy(min_s=0.5, max_s=4, overlap_s=1, edge_trim_s=0.2)
    spans = clip_spans(shots, np.zeros(num, bool), time_s, policy)
    return Found(time_s=time_s, lanes=lanes, transitions=changes, shots=shots, spans=spans)
