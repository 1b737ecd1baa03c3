"""``auto``: the shot network proposes, TransNetV2 decides where the network is in doubt.

The shot network knows kinds and extents, and was taught flashes, shakes and passing objects.
TransNetV2 has seen far more footage, but takes flashes for cuts and does not know wipes. So the
network's word is enough for a clear wipe that changes the whole picture, for a fade, and for a cut
that it is sure of; a doubtful cut is weighed with TransNetV2's; a dissolve, which large moving
things look like to the small network, needs both. Where TransNetV2 alone sees a transition, there
is none.
"""

from __future__ import annotations

import numpy as np

from curation.signals.changes import SURE
from curation.signals.transitions import FrameSignals, Kind, Transition

KINDS: tuple[Kind, ...] = ("cut", "dissolve", "fade", "wipe")
LOW = 0.1
"""Probability of any change at which a proposal begins and ends."""
GAP_FRAMES = 2
"""Proposals nearer than this are one."""
WIPED = 0.85
"""A wipe leaves next to nothing of the old picture. Where more stays as it was, things have moved
through the picture or over a plain ground."""
SEEN = 0.1
"""TransNetV2's lowest probability over a wipe that the shot network takes for part of a dissolve.
On the labelled footage such a wipe gets 0.2, passing objects that look like one at most 0.04."""
REACH = 2
"""Frames around a transition in which TransNetV2 is heard: its marks lie a little off."""
EDGE = 0.5
"""A gradual transition covers its frames from the first to the last above this."""


def find_auto(signals: FrameSignals, confidence: float) -> list[Transition]:
    """Transitions by the shot network and TransNetV2 together."""
    total = signals.odds.sum(1)
    found: list[Transition] = []
    for start, end in _runs(total >= LOW, GAP_FRAMES):
        found += _decide(signals, start, end)
    return [t for t in found if t.confidence >= confidence]


def find_transnet(signals: FrameSignals, threshold: float) -> list[Transition]:
    """Transitions by TransNetV2 alone: runs of its single-frame head, as published.

    It marks the last frame of the old shot; longer runs are taken for dissolves.
    """
    single = np.nan_to_num(signals.transnet[:, 0])
    num = len(single)
    found = []
    for start, end in _runs(single > threshold, 0):
        peak = round(float(single[start:end].max()), 4)
        if start == 0 and end == num:
            continue
        last = min(end, num - 1)
        if end - start <= 2:
            found.append(Transition(last - 1, last, "cut", peak))
        else:
            found.append(Transition(start, end, "dissolve", peak))
    return found


def _decide(signals: FrameSignals, start: int, end: int) -> list[Transition]:
    """What a proposal ``[start, end)`` is: a cut, a gradual transition, both, or nothing."""
    odds = signals.odds[start:end]
    gradual = odds[:, 1:].sum(1)
    peak = int(odds[:, 0].argmax())
    cut = float(odds[peak, 0])
    best = float(gradual.max())
    if cut >= best:
        frame = start + peak
        return (
            [Transition(frame - 1, frame, "cut", _judged(signals, frame - 1, frame + 1, cut))]
            if frame
            else []
        )
    inside = np.flatnonzero(odds.sum(1) >= min(EDGE, best / 2))
    whole = _gradual(signals, start + int(inside[0]), start + int(inside[-1]) + 1)
    if whole is None or (whole.kind != "wipe" and whole.confidence >= EDGE):
        return [] if whole is None else [whole]
    parts = _stretches(signals, start, end)
    return parts if parts and (whole.kind != "wipe" or len(parts) > 1) else [whole]


def _stretches(signals: FrameSignals, start: int, end: int) -> list[Transition]:
    """Fades and wipes inside one proposal.

    What moves after a wipe may look like a long dissolve to the shot network, and join it to the
    next transition. Each stretch under one leading kind is judged by itself, and counts only where
    TransNetV2 sees something as well: it does not know wipes, but sees next to nothing in passing
    objects.
    """
    odds = signals.odds[start:end, 1:]
    strong, leading = odds.sum(1) >= EDGE, odds.argmax(1)
    found = []
    for kind in (KINDS.index("fade") - 1, KINDS.index("wipe") - 1):
        for first, last in _runs(strong & (leading == kind), 0):
            seen = signals.transnet[start + first : start + last, 1]
            if not np.isnan(seen).all() and float(np.nanmax(seen)) >= SEEN:
                found.append(_gradual(signals, start + first, start + last))
    return sorted((t for t in found if t is not None), key=lambda t: t.start_frame)


def _gradual(signals: FrameSignals, start: int, end: int) -> Transition | None:
    """The gradual transition over frames ``[start, end)``; None for what only resembles a wipe."""
    odds = signals.odds[start:end, 1:]
    kind = KINDS[1 + int(odds.sum(0).argmax())]
    strength = float(odds.sum(1).max())
    if kind == "dissolve":
        strength = min(strength, _confirmed(signals, start, end, strength))
    elif kind == "wipe" and (
        float(odds[:, 2].max()) < SURE or signals.change_share[(start + end) // 2] < WIPED
    ):
        return None
    return Transition(start, end, kind, round(strength, 4))


def _judged(signals: FrameSignals, start: int, end: int, own: float) -> float:
    """Confidence in a cut: the network's, or the mean with TransNetV2's where it is in doubt."""
    around = signals.transnet[max(0, start - REACH) : end + REACH, 0]
    if own >= SURE or np.isnan(around).all():
        return round(own, 4)
    return round((own + float(np.nanmax(around))) / 2, 4)


def _confirmed(signals: FrameSignals, start: int, end: int, own: float) -> float:
    """How much of a dissolve TransNetV2 takes for a transition; the network's word without it."""
    around = signals.transnet[max(0, start - REACH) : end + REACH, 1]
    return own if np.isnan(around).all() else float(np.nanmean(around))


def _runs(mask: np.ndarray, gap: int) -> list[tuple[int, int]]:
    """Maximal runs of True as half-open spans; runs at most ``gap`` apart become one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    runs: list[tuple[int, int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if runs and start - runs[-1][1] <= gap:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
    return runs
