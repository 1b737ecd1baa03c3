"""Another clip that shows the same: which one, and how alike the two are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.audit.basis import Basis, literals
from pipelines.audit.reasons import LEVELS

LIKENESS = """
SELECT clip_id, group_id, level, similarity, offset_s, speed, mirrored, reference
FROM raw_duplicates WHERE fingerprint = '{fingerprint}' AND NOT representative
AND clip_id IN ({ids})
"""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Another clip that shows the same.

    Attributes:
        clip_id: Its id: the one that stays, here or in a reference.
        level: ``exact``, ``perceptual`` or ``semantic``.
        similarity: 0 to 1.
        offset_s: Time in it minus time in this clip of the same moment.
        speed: Its seconds for one second of this clip.
        mirrored: Left and right are exchanged.
        reference: The root it lies in; None: this one.
    """

    clip_id: str
    level: str
    similarity: float | None
    offset_s: float | None = None
    speed: float | None = None
    mirrored: bool | None = None
    reference: str | None = None

    @property
    def words(self) -> str:
        """``looks the same: similarity 0.97, 1.2 s later, mirrored``."""
        parts = []
        if self.similarity is not None:
            parts.append(f"similarity {self.similarity:.4g}")
        if self.offset_s and abs(self.offset_s) >= 0.05:
            side = "later" if self.offset_s > 0 else "earlier"
            parts.append(f"{abs(self.offset_s):.2g} s {side} there")
        if self.speed is not None and abs(self.speed - 1) > 0.005:
            parts.append(f"at {self.speed:.3g} times the speed")
        if self.mirrored:
            parts.append("mirrored")
        told = LEVELS.get(self.level, self.level or "alike")
        return f"{told}: {', '.join(parts)}" if parts else told


def likenesses(basis: Basis, clip_ids: Sequence[str]) -> dict[str, Likeness]:
    """What clips are duplicates of, by clip id."""
    if not basis.has_rows("duplicates"):
        return {}
    sql = LIKENESS.format(fingerprint=basis.verdict_print, ids=literals(clip_ids))
    return {row["clip_id"]: likeness_of(row) for row in basis.rows(sql)}


def likeness_of(row: Mapping[str, Any]) -> Likeness:
    """A row of ``duplicates``, seen from the clip that goes."""
    return Likeness(
        clip_id=row["group_id"],
        level=row["level"] or "",
        similarity=row["similarity"],
        offset_s=row["offset_s"],
        speed=row["speed"],
        mirrored=row["mirrored"],
        reference=row["reference"],
    )
