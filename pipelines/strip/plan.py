"""What goes on a strip: how many rows of time, which frames beside them, what has to be left out.

Everything is bounded: however long the video and however many its transitions, there are at most
``MAX_ROWS`` rows and ``MAX_THUMBS`` thumbnails. Where that is not enough, the frames of shots go
first, then the most confident transitions: a reviewer looks for those that may be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from curation.signals.transitions import Shot

MAX_ROWS = 24
MAX_THUMBS = 480
ROW_S = 60.0
"""Longest row, while there are fewer than ``MAX_ROWS``."""
ROW_TRANSITIONS = 8
"""Transitions a row should hold, likewise."""
FRAMES_PER_ROW = 8
"""Frames of a shot that fills a row; shorter ones show fewer."""


class Mark(Protocol):
    """A transition of any kind, as :class:`curation.signals.transitions.Transition`."""

    @property
    def start_frame(self) -> int:
        """A cut: the last old frame. A gradual one: its first frame."""
        ...

    @property
    def end_frame(self) -> int:
        """A cut: the first new frame. A gradual one: the first frame after it."""
        ...

    @property
    def kind(self) -> str:
        """``cut``, ``dissolve``, ``fade``, ``wipe`` or another word."""
        ...

    @property
    def confidence(self) -> float:
        """0-1; 0.5 is the detector's own threshold."""
        ...


@dataclass(frozen=True, kw_only=True)
class Card:
    """Frames that are shown side by side: around a transition, or from the middle of a shot.

    Attributes:
        frames: Their numbers.
        number: Of the transition or shot, from 1.
        mark: The transition; None: a shot.
    """

    frames: tuple[int, ...]
    number: int
    mark: Mark | None


@dataclass(kw_only=True)
class Row:
    """A piece of the timeline, ``[start_s, end_s)``, with its cards in order of time."""

    start_s: float
    end_s: float
    cards: list[Card] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Rows, and what a reader has to know of what is not shown."""

    rows: list[Row]
    notes: list[str]


def plan_strip(
    time_s: np.ndarray, transitions: Sequence[Mark], shots: Sequence[Shot], max_card_frames: int
) -> Plan:
    """Choose rows and frames.

    Args:
        time_s: float [n + 1], start of each frame, and the end of the last.
        transitions: In order.
        shots: In order.
        max_card_frames: Most frames side by side.

    Returns:
        The plan; every row has the same length.
    """
    duration_s = float(time_s[-1] - time_s[0])
    wanted = max(duration_s / ROW_S, len(transitions) / ROW_TRANSITIONS)
    num_rows = min(MAX_ROWS, max(1, math.ceil(wanted - 1e-9)))
    edges = time_s[0] + np.linspace(0, duration_s, num_rows + 1)
    cards: list[Card] = []
    notes: list[str] = []
    num_frames = len(time_s) - 1
    shown = _least_confident(transitions, num_frames)
    if len(shown) < len(transitions):
        notes.append(
            f"Frames of the {len(shown)} least confident of {len(transitions)} transitions; "
            "all are marked on the time line."
        )
    for index in sorted(shown):
        mark = transitions[index]
        cards.append(Card(frames=frames_around(mark, num_frames), number=index + 1, mark=mark))
    left = MAX_THUMBS - sum(len(c.frames) for c in cards)
    parts = _shot_cards(time_s, shots, edges, max_card_frames)
    if sum(len(c.frames) for c in parts) > left:
        parts = [_middle(c) for c in parts]
    if len(parts) > left:
        notes.append(f"No frames from within shots: {len(parts)} would be too many.")
        parts = []
    rows = [
        Row(start_s=a, end_s=b)
        for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
    for card in sorted(cards + parts, key=lambda c: (c.frames[0], c.mark is not None)):
        at_s = time_s[card.frames[0]]
        row = int(np.searchsorted(edges, at_s, side="right")) - 1
        rows[min(row, num_rows - 1)].cards.append(card)
    return Plan(rows=rows, notes=notes)


def frames_around(mark: Mark, num_frames: int) -> tuple[int, ...]:
    """A cut: last old, first new. A gradual transition: before, middle, after."""
    start, end = mark.start_frame, mark.end_frame
    wanted = (start, end) if mark.kind == "cut" else (start - 1, (start + end) // 2, end)
    return tuple(sorted({min(max(0, f), num_frames - 1) for f in wanted}))


def _least_confident(transitions: Sequence[Mark], num_frames: int) -> set[int]:
    """Those whose frames fit into the budget."""
    chosen: set[int] = set()
    left = MAX_THUMBS
    for index in sorted(range(len(transitions)), key=lambda i: transitions[i].confidence):
        left -= len(frames_around(transitions[index], num_frames))
        if left < 0:
            break
        chosen.add(index)
    return chosen


def _shot_cards(
    time_s: np.ndarray, shots: Sequence[Shot], edges_s: np.ndarray, max_card_frames: int
) -> list[Card]:
    """Frames from the inside of each shot, row by row, the more the longer it is."""
    cards: list[Card] = []
    row_s = float(edges_s[1] - edges_s[0])
    for number, shot in enumerate(shots, start=1):
        start_s, end_s = time_s[shot.start_frame], time_s[shot.end_frame]
        first = max(0, int(np.searchsorted(edges_s, start_s, side="right")) - 1)
        for left_s in edges_s[first:-1].tolist():
            a, b = max(start_s, left_s), min(end_s, left_s + row_s)
            whole = a == start_s and b == end_s
            if b <= a or (b - a < row_s / FRAMES_PER_ROW and not whole):
                if left_s >= end_s:
                    break
                continue
            count = min(max(1, round((b - a) / row_s * FRAMES_PER_ROW)), max_card_frames)
            at_s = a + (np.arange(count) + 0.5) * (b - a) / count
            frames = np.searchsorted(time_s, at_s, side="right") - 1
            frames = np.clip(frames, shot.start_frame, shot.end_frame - 1)
            cards.append(Card(frames=tuple(sorted(set(frames.tolist()))), number=number, mark=None))
    return cards


def _middle(card: Card) -> Card:
    frame = card.frames[len(card.frames) // 2]
    return Card(frames=(frame,), number=card.number, mark=None)
