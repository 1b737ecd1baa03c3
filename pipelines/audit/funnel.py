"""The funnel of clips: what every step takes out here, at all, and alone.

All rules are asked of every clip, so a clip may fail several. Taken out *here* is a clip whose
first failing step this is, in the order of the plan: those numbers add up. *Alone* are clips that
fail nothing else: what lifting this one step would bring back.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.audit.basis import Basis
from pipelines.audit.reasons import label, place

MAX_STEPS = 40
"""Reasons with a step of their own; a user's stages may invent any number."""
OTHER = "all other reasons"

DISTINCT = f"""
SELECT reason FROM (SELECT unnest(reasons) AS reason, n FROM reason_sets WHERE verdict = 'rejected')
GROUP BY reason ORDER BY sum(n) DESC, reason LIMIT {MAX_STEPS}
"""
STEPS = """
WITH place(reason, spot) AS (VALUES {places}),
sets AS (SELECT row_number() OVER () AS id, reasons, n, seconds FROM reason_sets
    WHERE verdict = 'rejected'),
each AS (SELECT id, n, seconds, len(reasons) AS k, unnest(reasons) AS reason FROM sets),
ranked AS (SELECT e.*, coalesce(p.spot, {last}) AS spot, row_number() OVER (
        PARTITION BY id ORDER BY coalesce(p.spot, {last}), e.reason) AS turn
    FROM each e LEFT JOIN place p USING (reason))
SELECT spot, CAST(sum(n) AS BIGINT) AS num_clips, sum(seconds) AS seconds,
    CAST(coalesce(sum(n) FILTER (turn = 1), 0) AS BIGINT) AS num_here,
    coalesce(sum(seconds) FILTER (turn = 1), 0) AS seconds_here,
    CAST(coalesce(sum(n) FILTER (k = 1), 0) AS BIGINT) AS num_alone,
    coalesce(sum(seconds) FILTER (k = 1), 0) AS seconds_alone
FROM ranked GROUP BY spot ORDER BY spot
"""
TOTALS = """
SELECT coalesce(verdict, 'unjudged') AS verdict, CAST(sum(n) AS BIGINT) AS n,
    coalesce(sum(seconds), 0) AS seconds FROM reason_sets GROUP BY 1
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the funnel; seconds are sums over clips.

    Attributes:
        code: The reason; empty for the rest.
        label: In words.
        num_here: Clips that this step is the first to take out, and their seconds.
        num_clips: Clips that fail it at all.
        num_alone: Clips that fail nothing else.
        left: Clips left after it, and their seconds.
    """

    code: str
    label: str
    num_here: int
    seconds_here: float
    num_clips: int
    seconds: float
    num_alone: int
    seconds_alone: float
    left: int
    left_s: float


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """The clips of a dataset from all to kept.

    Attributes:
        totals: Verdict (also ``unjudged``) -> clips and seconds.
        steps: In order.
    """

    totals: dict[str, tuple[int, float]]
    steps: list[Step]

    @property
    def all(self) -> tuple[int, float]:
        """All clips and their seconds."""
        return sum(n for n, _ in self.totals.values()), sum(s for _, s in self.totals.values())

    def of(self, verdict: str) -> tuple[int, float]:
        """Clips of one verdict and their seconds."""
        return self.totals.get(verdict, (0, 0.0))


def make_funnel(basis: Basis) -> Funnel:
    """Count the steps; see the module."""
    if not basis.has_clips:
        return Funnel(totals={}, steps=[])
    totals = {r["verdict"]: (r["n"], r["seconds"]) for r in basis.rows(TOTALS)}
    codes = [r["reason"] for r in basis.rows(DISTINCT)]
    columns = {c: i for i, c in enumerate(basis.scores)}
    codes = sorted(codes, key=lambda code: place(code, columns))
    counted = basis.rows(
        STEPS.format(
            places=", ".join(f"({_literal(c)}, {i})" for i, c in enumerate(codes)) or "('', 0)",
            last=len(codes),
        )
    )
    general = {t.reason: t for t in basis.thresholds if t.where is None}
    rows = [
        (codes[r["spot"]] if r["spot"] < len(codes) else "", r) for r in counted if r["num_clips"]
    ]
    left, left_s = sum(n for n, _ in totals.values()), sum(s for _, s in totals.values())
    steps = []
    for code, row in rows:
        left, left_s = left - row["num_here"], left_s - row["seconds_here"]
        steps.append(
            Step(
                code=code,
                label=label(code, general) if code else OTHER,
                **{k: v for k, v in row.items() if k != "spot"},
                left=left,
                left_s=max(0.0, left_s),
            )
        )
    return Funnel(totals=totals, steps=steps)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
