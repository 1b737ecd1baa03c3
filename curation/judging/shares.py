"""Caps that are shares of what is kept in the end, several at a time.

A cap of a share ``p`` depends on the number kept, which depends on the cap. Let ``F(n)`` be the
number of clips that can be kept when every share is taken of ``n``. A number with ``F(n) >= n`` is
sound: each group has at most ``p * n`` of at least ``n`` clips. The largest such number is wanted.

For one share it is found exactly, from the sizes of the groups (``n -> F(n)`` goes down from above
to the greatest fixed point, because ``F`` does not fall with ``n``; Tarski). Several shares are
filled together: clip by clip in the shuffled order, one is taken when each of its groups has room,
so that no source's room is spent on clips that a full cluster turns away. There the descent takes
full passes; when it is slow, halving finds a number within a thousandth of where it stood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from curation.judging.caps import NEARLY, Division

CHEAP_PASSES = 10_000
EXACT_PASSES = 6
HALVINGS = 10
ROUNDS = 3
"""Of deciding many clips at once, before the rest is decided one by one."""


@dataclass(frozen=True)
class Share:
    """A limit for each group, as a share of all that is kept in the end.

    Attributes:
        reason: Of the clips above it.
        division: Into groups.
        max_share: Most of one group; but one clip may always stay.
        mix: float64 [groups], the share that each group is to have; together 1.
    """

    reason: str
    division: Division
    max_share: float | None = None
    mix: np.ndarray | None = None

    def limits(self, total: int) -> np.ndarray:
        """Most clips of each group when so many are kept in all, int64 [groups]."""
        if self.mix is not None:  # rounded up: the parts have to make up the whole
            return np.ceil(self.mix * total - NEARLY).astype(np.int64)
        most = max(1, int((self.max_share or 1) * total + NEARLY))
        return np.full(self.division.num_groups, most)

    def attainable(self, sizes: np.ndarray) -> bool:
        """False when there are too few groups: two cannot each be below 40 %."""
        present = int(np.count_nonzero(sizes))
        return self.max_share is None or present == 0 or present * self.max_share >= 1 - NEARLY


def settle(
    shares: Sequence[Share],
    candidates: np.ndarray,
    most: int,
    finish: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, int]:
    """The clips that stay under all shares.

    Args:
        shares: At least one.
        candidates: bool [clips], what the other caps leave.
        most: Most clips in all.
        finish: What comes after the shares: a function of and to bool [clips].

    Returns:
        bool [clips] before ``finish``; and the number that shares were taken of, at most as many
        as stay after it.
    """
    total = _cheap_bound(shares, candidates, min(most, int(candidates.sum())))
    low, best = 0, np.zeros(len(candidates), bool)
    for _ in range(EXACT_PASSES):
        filled = fill(shares, total, candidates)
        found = int(finish(filled).sum())
        if found >= total:
            return filled, total
        total = found
    high = total + 1
    for _ in range(HALVINGS):
        if high - low <= 1:
            break
        middle = (low + high) // 2
        filled = fill(shares, middle, candidates)
        if finish(filled).sum() >= middle:
            low, best = middle, filled
        else:
            high = middle
    return best, low


def fill(shares: Sequence[Share], total: int, candidates: np.ndarray) -> np.ndarray:
    """Take clips in order, each when all its groups have room, bool [clips].

    Many are decided at once: a clip is in when its groups had room even if all undecided ones
    before it were taken, and out when those surely taken before it fill one.
    """
    taken = np.zeros(len(candidates), bool)
    open_ = candidates.copy()
    rooms = [s.limits(total)[s.division.groups] for s in shares]
    before: list[np.ndarray] = []
    for _ in range(ROUNDS):
        possible = taken | open_
        fits = open_.copy()
        for share, room in zip(shares, rooms, strict=True):
            fits &= share.division.running(possible) <= room
        taken |= fits
        open_ &= ~fits
        before = [share.division.running(taken) for share in shares]
        for count, room in zip(before, rooms, strict=True):
            open_ &= count < room  # of clips not taken themselves
        if not open_.any():
            return taken
    return taken | _one_by_one(shares, rooms, before, open_)


def _one_by_one(
    shares: Sequence[Share],
    rooms: Sequence[np.ndarray],
    before: Sequence[np.ndarray],
    open_: np.ndarray,
) -> np.ndarray:
    """Decide what is left; ``before``: clips of the group that are surely taken before each."""
    places = np.flatnonzero(open_)
    groups = [s.division.groups[places].tolist() for s in shares]
    left = [(r[places] - b[places]).tolist() for r, b in zip(rooms, before, strict=True)]
    extra = [[0] * share.division.num_groups for share in shares]
    taken = np.zeros(len(open_), bool)
    kinds = range(len(shares))
    for i, place in enumerate(places.tolist()):
        if all(extra[k][groups[k][i]] < left[k][i] for k in kinds):
            taken[place] = True
            for k in kinds:
                extra[k][groups[k][i]] += 1
    return taken


def _cheap_bound(shares: Sequence[Share], candidates: np.ndarray, total: int) -> int:
    """A number that the final one does not exceed: each share by itself, from sizes alone."""
    sizes = [s.division.sizes(candidates) for s in shares]
    for _ in range(CHEAP_PASSES):
        allowed = [
            int(np.minimum(size, s.limits(total)).sum())
            for s, size in zip(shares, sizes, strict=True)
        ]
        if min(allowed) >= total:
            break
        total = min(allowed)
    return total
