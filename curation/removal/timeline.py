"""Seconds that are taken out stay in the account: spans with the reason ``removed``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from curation.removal.tombstones import REASON

Row = Mapping[str, Any]
TIMES = ("start_frame", "end_frame", "start_s", "end_s")


def removed_spans(gone: Sequence[Row], rest: Sequence[Row]) -> list[dict[str, Any]]:
    """Spans for the frames of clips that go, as far as nothing that stays covers them.

    ::

        gone     |---------|   |-----|
        rest  |----|      |-----|
        spans      |------|     |----|

    Args:
        gone: Clips that go, with ``start_frame, end_frame, start_s, end_s``.
        rest: Clips and spans of the same video that stay, with the same.

    Returns:
        Rows with the same keys and ``reason``, in order, overlapping nothing.
    """
    time_s = {row[f"{end}_frame"]: row[f"{end}_s"] for row in (*rest, *gone) for end in ENDS}
    free = _union(gone)
    for start, end in _union(rest):
        free = [piece for span in free for piece in _minus(span, start, end)]
    return [
        {
            "start_frame": start,
            "end_frame": end,
            "start_s": time_s[start],
            "end_s": time_s[end],
            "reason": REASON,
        }
        for start, end in free
    ]


ENDS = ("start", "end")


def _union(rows: Iterable[Row]) -> list[tuple[int, int]]:
    """The frames that rows cover, as spans in order that do not touch."""
    spans: list[tuple[int, int]] = []
    for start, end in sorted((r["start_frame"], r["end_frame"]) for r in rows):
        if end <= start:
            continue
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def _minus(span: tuple[int, int], start: int, end: int) -> list[tuple[int, int]]:
    """What is left of a span without ``[start, end)``."""
    pieces = [(span[0], min(span[1], start)), (max(span[0], end), span[1])]
    return [(a, b) for a, b in pieces if a < b]
