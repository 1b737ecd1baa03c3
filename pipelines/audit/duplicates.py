"""Groups of clips that show the same: the largest, the most doubtful, and what was held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.audit.basis import Basis, literals
from pipelines.audit.likeness import Likeness, likeness_of
from pipelines.report.words import source_label

MAX_GROUPS = 8
MAX_MEMBERS = 6

ROWS = "SELECT * FROM raw_duplicates WHERE fingerprint = '{fingerprint}'"
TOTALS = """
SELECT coalesce(level, 'none') AS level, reference IS NOT NULL AS held_out, count(*) AS num_clips,
    count(DISTINCT group_id) AS num_groups, min(similarity) AS lowest, median(similarity) AS middle
FROM duplicate_rows WHERE NOT representative GROUP BY ALL ORDER BY num_clips DESC
"""
LARGEST = f"""
SELECT group_id, count(*) AS n FROM duplicate_rows
WHERE NOT representative AND reference IS NULL
GROUP BY group_id HAVING count(*) > 1 ORDER BY n DESC, group_id LIMIT {MAX_GROUPS}
"""
DOUBTFUL = f"""
SELECT * FROM duplicate_rows WHERE NOT representative AND reference IS NULL
AND similarity IS NOT NULL ORDER BY similarity, clip_id LIMIT {MAX_GROUPS}
"""
HELD_OUT = f"""
SELECT * FROM duplicate_rows WHERE NOT representative AND reference IS NOT NULL
ORDER BY similarity DESC, clip_id LIMIT {MAX_GROUPS}
"""
MEMBERS = f"""
SELECT * FROM (SELECT *, row_number() OVER (
        PARTITION BY group_id ORDER BY similarity DESC, clip_id) AS turn
    FROM duplicate_rows WHERE NOT representative AND group_id IN ({{ids}}))
WHERE turn <= {MAX_MEMBERS} ORDER BY group_id, turn
"""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A clip that goes, and how it is like the one that stays."""

    clip_id: str
    likeness: Likeness


@dataclass(kw_only=True)
class Group:
    """A representative, in this root or a reference, beside some of its members."""

    stays: str
    reference: str | None
    num_members: int
    members: list[Member] = field(default_factory=list)


@dataclass(kw_only=True)
class Duplicates:
    """What was found; ``made`` is False when nobody looked for duplicates."""

    made: bool
    totals: list[dict[str, Any]] = field(default_factory=list)
    largest: list[Group] = field(default_factory=list)
    doubtful: list[Group] = field(default_factory=list)
    held_out: list[Group] = field(default_factory=list)

    @property
    def clip_ids(self) -> list[str]:
        """All clips to be shown, the representatives first."""
        groups = [*self.doubtful, *self.largest, *self.held_out]
        stay = [g.stays for g in groups if g.reference is None]
        return list(dict.fromkeys([*stay, *(m.clip_id for g in groups for m in g.members)]))


def find_duplicates(basis: Basis) -> Duplicates:
    """Look at the groups of the verdicts that count now."""
    if not basis.has_rows("duplicates"):
        return Duplicates(made=bool(basis.config.get("dedup")))
    basis.views.keep("duplicate_rows", ROWS.format(fingerprint=basis.verdict_print))
    largest = basis.rows(LARGEST)
    members = _members(basis, [r["group_id"] for r in largest])
    return Duplicates(
        made=True,
        totals=basis.rows(TOTALS),
        largest=[
            Group(
                stays=r["group_id"],
                reference=None,
                num_members=r["n"],
                members=members.get(r["group_id"], []),
            )
            for r in largest
        ],
        doubtful=[_pair(r) for r in basis.rows(DOUBTFUL)],
        held_out=[_pair(r) for r in basis.rows(HELD_OUT)],
    )


def _members(basis: Basis, group_ids: Sequence[str]) -> dict[str, list[Member]]:
    found: dict[str, list[Member]] = {}
    for row in basis.rows(MEMBERS.format(ids=literals(group_ids))):
        member = Member(clip_id=row["clip_id"], likeness=likeness_of(row))
        found.setdefault(row["group_id"], []).append(member)
    return found


def _pair(row: dict[str, Any]) -> Group:
    return Group(
        stays=row["group_id"],
        reference=None if row["reference"] is None else source_label(row["reference"]),
        num_members=1,
        members=[Member(clip_id=row["clip_id"], likeness=likeness_of(row))],
    )
