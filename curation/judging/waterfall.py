"""The waterfall: what each rule and cap takes out, step by step, of clips and of hours.

Each rejected clip goes at the first step that fails it. Beside that stands what fails the step at
all, and what fails it alone: what would pass the rules if this one went. (Not all of that would
be kept: further scores, duplicates and caps come after.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from curation.judging.rule import FIELDS
from curation.judging.rules import FAILED, KEPT, REJECTED

LEVELS = ("exact", "perceptual", "semantic")
US_PER_HOUR = 3_600_000_000
COUNTS = """
count(*) AS clips, sum(CASE WHEN isfinite(duration_s)
    THEN CAST(round(duration_s * 1e6) AS BIGINT) ELSE 0 END) AS us
"""


@dataclass
class Amount:
    """Clips and how long they are together.

    Attributes:
        clips: Number.
        hours: Length; a clip of unknown length counts none.
    """

    clips: int = 0
    hours: float = 0.0


@dataclass
class Step:
    """What one reason does.

    Attributes:
        reason: As in the verdicts.
        before: What comes to the step.
        after: What is left behind it.
        removed: What goes here: rejected clips whose first reason in the order this is.
        at_all: Rejected clips that have the reason, wherever they go.
        alone: Rejected clips that have no other.
    """

    reason: str
    before: Amount
    after: Amount
    removed: Amount
    at_all: Amount
    alone: Amount


@dataclass
class Waterfall:
    """From all clips to the kept ones.

    Attributes:
        total: All clips.
        failed: Clips that an error stopped; they go before the first step.
        unjudged: Clips without a verdict; they too.
        judged: What comes to the first step.
        steps: In order.
        kept: What is left.
        failed_by: Failed clips by each of their codes.
    """

    total: Amount
    failed: Amount
    unjudged: Amount
    judged: Amount
    steps: list[Step]
    kept: Amount
    failed_by: dict[str, Amount] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def reasons_in_order(columns: Iterable[str], over: Iterable[str] = ()) -> list[str]:
    """The reasons there can be, in the order of the work.

    Args:
        columns: Columns with a rule, in the order of the stages that make them.
        over: The reasons of the caps that sampling has, in order.
    """
    found = [
        f"rights_{kind}_{name}" for kind in ("missing", "unlisted", "denied") for name in FIELDS
    ]
    found += [f"{kind}_{c}" for c in columns for kind in ("null", "low", "high", "not")]
    found += [f"{kind}_{level}" for kind in ("held_out", "duplicate") for level in LEVELS]
    return [*found, *over]


def waterfall(
    rows: pa.RecordBatchReader | duckdb.DuckDBPyRelation, order: Sequence[str]
) -> Waterfall:
    """Count verdicts step by step.

    Args:
        rows: ``clip_id, duration_s, verdict, reasons`` of every clip, streamed.
        order: Reasons in the order of the steps. Those that no clip has are left out; those not
            in it come last, by name.
    """
    # Equal lists of reasons are counted together: there are few different ones.
    with duckdb.connect() as con:
        relation = con.from_arrow(rows) if isinstance(rows, pa.RecordBatchReader) else rows
        groups = relation.aggregate(f"verdict, reasons, {COUNTS}", "verdict, reasons").fetchall()
    place = {reason: i for i, reason in enumerate(order)}
    total, by_verdict = _Sum(), {v: _Sum() for v in (KEPT, REJECTED, FAILED, None)}
    failed_by: dict[str, _Sum] = {}
    removals: dict[str, _Removal] = {}
    for verdict, reasons, clips, us in groups:
        total.add(clips, us)
        by_verdict[verdict].add(clips, us)
        mine = sorted(set(reasons or ()), key=lambda r: (place.get(r, len(place)), r))
        for reason in mine:
            if verdict == FAILED:
                failed_by.setdefault(reason, _Sum()).add(clips, us)
            elif verdict == REJECTED:
                removals.setdefault(reason, _Removal()).add(reason, mine, clips, us)
    judged = by_verdict[KEPT].plus(by_verdict[REJECTED])
    names = sorted(removals, key=lambda r: (place.get(r, len(place)), r))
    return Waterfall(
        total=total.amount(),
        failed=by_verdict[FAILED].amount(),
        unjudged=by_verdict[None].amount(),
        judged=judged.amount(),
        steps=list(_steps(judged, [(name, removals[name]) for name in names])),
        kept=by_verdict[KEPT].amount(),
        failed_by={code: failed_by[code].amount() for code in sorted(failed_by)},
    )


@dataclass
class _Sum:
    """Clips and microseconds: whole numbers add up exactly, in any order."""

    clips: int = 0
    us: int = 0

    def add(self, clips: int, us: int) -> None:
        self.clips += clips
        self.us += int(us)

    def plus(self, other: _Sum, sign: int = 1) -> _Sum:
        return _Sum(self.clips + sign * other.clips, self.us + sign * other.us)

    def amount(self) -> Amount:
        return Amount(self.clips, self.us / US_PER_HOUR)


@dataclass
class _Removal:
    """What a reason removes: at its step, at all, and alone."""

    first: _Sum = field(default_factory=_Sum)
    all: _Sum = field(default_factory=_Sum)
    alone: _Sum = field(default_factory=_Sum)

    def add(self, reason: str, reasons: Sequence[str], clips: int, us: int) -> None:
        """Take in clips with these reasons, in order, of which this is one."""
        self.all.add(clips, us)
        if reason == reasons[0]:
            self.first.add(clips, us)
        if len(reasons) == 1:
            self.alone.add(clips, us)


def _steps(judged: _Sum, removals: Sequence[tuple[str, _Removal]]) -> Iterator[Step]:
    left = judged
    for reason, removal in removals:
        before, left = left, left.plus(removal.first, -1)
        sums = (before, left, removal.first, removal.all, removal.alone)
        yield Step(reason, *(s.amount() for s in sums))
