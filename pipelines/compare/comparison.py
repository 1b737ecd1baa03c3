"""The comparison: everything that differs between two sides, as one value; see :func:`compare`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.compare.expression import parse_condition
from pipelines.compare.fates import Fates, find_fates
from pipelines.compare.figures import figures_of
from pipelines.compare.others import (
    Captions,
    Sources,
    compare_captions,
    compare_sources,
    models_changed,
)
from pipelines.compare.records import (
    Change,
    Count,
    account_counts,
    cost_counts,
    settings_changed,
    stages_changed,
    versions_changed,
)
from pipelines.compare.scratch import Scratch
from pipelines.compare.shifts import Shift, find_shifts
from pipelines.compare.side import Side, open_side


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One ``--fail-if``.

    Attributes:
        text: The expression.
        failed: It holds.
        values: The figures it used.
    """

    text: str
    failed: bool
    values: dict[str, float | None]


@dataclass(kw_only=True)
class Comparison:
    """What changed from A to B.

    Attributes:
        a: The first side.
        b: The second.
        settings: Settings that differ.
        stages: Stages whose fingerprint differs.
        versions: Libraries recorded in another version.
        account: Figures of both accounts.
        cost: Figures of both runs' work.
        fates: Kept clips; None like all below when the rows of a side are gone.
        sources: Sources by content.
        captions: Captions of clips kept in both; None also when a side has none, or other kinds of
            texts than the other.
        models: Columns that name a model, where they differ.
        shifts: Scores that both have.
        scores_only: Score columns of one side alone.
        no_clips: Why clips cannot be compared; empty: they are.
        gates: What was asked by ``--fail-if``.
    """

    a: Side
    b: Side
    settings: list[Change]
    stages: list[Change]
    versions: list[Change]
    account: list[Count]
    cost: list[Count]
    fates: Fates | None = None
    sources: Sources | None = None
    captions: Captions | None = None
    models: list[Change] | None = None
    shifts: list[Shift] = field(default_factory=list)
    scores_only: dict[str, list[str]] = field(default_factory=dict)
    no_clips: str = ""
    gates: list[Gate] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """True when a ``--fail-if`` holds."""
        return any(gate.failed for gate in self.gates)

    @property
    def configs(self) -> list[dict[str, Any]]:
        """Both configurations."""
        return [side.run.config if side.run else {} for side in (self.a, self.b)]

    @property
    def accounts_known(self) -> list[bool]:
        """Whether A and B have an account."""
        return [side.account is not None for side in (self.a, self.b)]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "a": self.a.about(),
            "b": self.b.about(),
            "failed": self.failed,
            "gates": [asdict(gate) for gate in self.gates],
            "no_clips": self.no_clips,
            "settings": [asdict(c) for c in self.settings],
            "stages": [asdict(c) for c in self.stages],
            "versions": [asdict(c) for c in self.versions],
            "models": None if self.models is None else [asdict(c) for c in self.models],
            "account": [c.as_dict() for c in self.account],
            "cost": [c.as_dict() for c in self.cost],
            "clips": asdict(self.fates) if self.fates else None,
            "sources": asdict(self.sources) if self.sources else None,
            "captions": asdict(self.captions) if self.captions else None,
            "shifts": [asdict(s) for s in self.shifts],
            "scores_only": self.scores_only,
            "figures": figures_of(self),
        }


def compare(
    a: str,
    b: str,
    fail_if: Sequence[str] = (),
    *,
    scratch: Scratch | None = None,
    on_step: Callable[[str], object] = lambda _: None,
) -> Comparison:
    """Compare two datasets, runs or releases.

    Args:
        a: The side before: ``ROOT``, ``ROOT@TAG``, ``ROOT@RUN_ID`` or ``ROOT@latest~1``.
        b: The side after.
        fail_if: Conditions that make the comparison fail, see ``expression.py``.
        scratch: Where clips are held side by side, for questions afterwards (pictures); None: a
            scratch database of its own, which is gone at the end.
        on_step: Called with what is being done.

    Returns:
        What changed; ``failed`` when a condition holds.

    Raises:
        CatalogError: A side is not there.
        ConfigError: A condition cannot be read or answered.
    """
    for text in fail_if:  # what cannot be read is told before minutes of work
        parse_condition(text)
    on_step("opening both sides")
    sides = open_side(a), open_side(b)
    settings = settings_changed(*sides)
    found = Comparison(
        a=sides[0],
        b=sides[1],
        settings=settings,
        stages=stages_changed(*sides, settings),
        versions=versions_changed(*sides),
        account=account_counts(*sides),
        cost=cost_counts(*sides),
    )
    without = [s for s in sides if not s.has_clips]
    if without:
        found.no_clips = "; ".join(f"{s.text}: {s.gone}" for s in without)
    elif scratch is not None:
        _compare_clips(found, scratch, on_step)
    else:
        with Scratch() as own:
            _compare_clips(found, own, on_step)
    figures = figures_of(found)
    for text in fail_if:
        condition = parse_condition(text, figures)
        values = {name: figures[name] for name in condition.names}
        found.gates.append(Gate(text=text, failed=condition.holds(figures), values=values))
    return found


def _compare_clips(found: Comparison, scratch: Scratch, on_step: Callable[[str], object]) -> None:
    """What needs the rows of both sides."""
    scratch.load("a", found.a, on_step)
    scratch.load("b", found.b, on_step)
    on_step("matching clips")
    found.fates = find_fates(scratch)
    found.sources = compare_sources(scratch)
    if scratch.words["a"] and scratch.words["a"] == scratch.words["b"]:
        found.captions = compare_captions(scratch)
    found.models = models_changed(scratch)
    common = scratch.common_scores
    found.scores_only = {
        side: [c for c in scratch.scores[side] if c not in set(common)] for side in ("a", "b")
    }
    on_step(f"comparing {len(common)} scores")
    found.shifts = find_shifts(scratch, common)
