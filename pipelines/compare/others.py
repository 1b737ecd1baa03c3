"""What else differs: sources, captions, and the models that made the rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.compare.records import Change
from pipelines.compare.scratch import Scratch
from pipelines.report.words import source_label

MAX_EXAMPLES = 20


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Sources by content: two addresses of the same bytes are one.

    Attributes:
        both: In both.
        lost: Only in A.
        gained: Only in B.
        lost_examples: Names of some that were lost.
        gained_examples: Names of some that are new.
    """

    both: int
    lost: int
    gained: int
    lost_examples: list[str] = field(default_factory=list)
    gained_examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Captions of the clips that both sides keep under the same id.

    Attributes:
        both: Clips with a caption in both.
        changed: Of those, clips of which any text differs.
        lost: Clips with a caption in A alone.
        gained: Clips with a caption in B alone.
    """

    both: int
    changed: int
    lost: int
    gained: int


def compare_sources(scratch: Scratch) -> Sources:
    """Count the sources of one side, the other, and both."""
    both = scratch.one("SELECT count(*) AS n FROM sources_a JOIN sources_b USING (key)")["n"]
    found = []
    for mine, other in (("a", "b"), ("b", "a")):
        alone = f"FROM sources_{mine} ANTI JOIN sources_{other} USING (key)"
        count = scratch.one(f"SELECT count(*) AS n {alone}")["n"]
        names = scratch.rows(f"SELECT uri {alone} ORDER BY uri LIMIT {MAX_EXAMPLES}")
        found.append((count, [source_label(r["uri"] or "") for r in names]))
    return Sources(
        both=both,
        lost=found[0][0],
        gained=found[1][0],
        lost_examples=found[0][1],
        gained_examples=found[1][1],
    )


def compare_captions(scratch: Scratch) -> Captions:
    """Count captions that differ on the clips kept in both."""
    row = scratch.one(
        """SELECT count(*) FILTER (x IS NOT NULL AND y IS NOT NULL) AS both,
            count(*) FILTER (x <> y) AS changed,
            count(*) FILTER (x IS NOT NULL AND y IS NULL) AS lost,
            count(*) FILTER (x IS NULL AND y IS NOT NULL) AS gained
        FROM (SELECT a."caption digest" AS x, b."caption digest" AS y
            FROM a JOIN b USING (clip_id) WHERE a.verdict = 'kept' AND b.verdict = 'kept')"""
    )
    return Captions(**row)


def models_changed(scratch: Scratch) -> list[Change]:
    """Columns that name a model, where the two sides do not name the same ones.

    A side that knows of no model there, like one whose stage is off, is told by its stages.
    """
    changes = []
    for column in dict.fromkeys([*scratch.models["a"], *scratch.models["b"]]):
        a, b = (set(scratch.models[side].get(column, [])) for side in ("a", "b"))
        if a and b and a != b:
            changes.append(Change(key=column, a=sorted(a), b=sorted(b)))
    return changes
