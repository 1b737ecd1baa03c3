"""The run's integrity gate: do captions stand on the clips that they were written for?

Ids guard every step, and this looks at the outcome: over a run, a caption has to fit its own clip
better than other clips (``curation/captions/shuffled.py``), and must not be one that stands on
everything. It runs before shards are written, on the captions of kept clips; what it reads is
bounded, whatever the size of the dataset.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from curation.captions.alignment import TAGS_LABEL
from curation.captions.shuffled import (
    MAX_PAIRS,
    MAX_PER_VIDEO,
    MIN_PAIRS,
    GateResult,
    alignment_gate,
    duplicate_share,
)
from curation.catalog.views import Views
from curation.errors import GateError

__all__ = ["GateReport", "GateResult", "alignment_gate", "duplicate_share", "run_gate"]

MAX_DUPLICATES = 0.5
"""Share of clips with a caption of another video, from which the captions are worthless."""
KEPT = "(SELECT clip_id FROM current_verdicts WHERE verdict = 'kept')"
# The draw is by video, and a video's clips stay together in order: a shift stays visible.
SAMPLE = """
WITH here AS (
    SELECT video_id, clip_id FROM caption_vectors
    WHERE text_vector IS NOT NULL AND clip_vector IS NOT NULL AND clip_id IN {kept}
), placed AS (
    SELECT h.*, md5('{seed}:' || h.video_id) AS draw,
        row_number() OVER (PARTITION BY h.video_id ORDER BY c.start_s, h.clip_id) AS place
    FROM here h JOIN current_clips c USING (clip_id)
), drawn AS (
    SELECT * FROM placed WHERE place <= {each} ORDER BY draw, place LIMIT {pairs}
)
SELECT d.video_id, v.text_vector, v.clip_vector
FROM drawn d JOIN caption_vectors v USING (clip_id) ORDER BY d.draw, d.place
"""
DUPLICATES = """
SELECT coalesce(sum(n), 0) AS total, coalesce(sum(n) FILTER (WHERE first <> last), 0) AS shared
FROM (
    SELECT count(*) AS n, min(video_id) AS first, max(video_id) AS last FROM captions
    WHERE clip_id IN {kept} GROUP BY
        md5(trim(regexp_replace(lower(caption_medium), '[^\\p{{L}}\\p{{N}}]+', ' ', 'g')))
)
"""
"""As :func:`duplicate_share` counts them."""
DISTRUSTED = """
SELECT count(DISTINCT clip_id) AS clips, min(message) AS message FROM current_errors
WHERE code = 'caption_gate' AND clip_id NOT IN
    (SELECT clip_id FROM current_verdicts WHERE verdict = 'rejected')
HAVING clips > 0
"""
"""Batches whose ids or canaries were wrong: while they stand, nobody knows what else is. Clips that
are rejected meanwhile will never be tried again, and do not count."""
MODEL = "SELECT any_value(caption_alignment_model) AS model FROM caption_checks"
SEEN = "SELECT count(*) > 0 AS seen FROM captions WHERE caption_backend <> 'embedded'"
"""False where all captions are written from measurements: alike numbers give alike captions, and
there is no server that could mix them up."""


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """The gate of a dataset, for its report.

    Attributes:
        alignment: What the vectors say.
        model: Of the vectors; None: there are none.
        num_captions: Captions in the dataset.
        duplicate_share: See :func:`duplicate_share`, of the medium captions.
        problems: Why the run must not go on; empty: it may.
    """

    alignment: GateResult
    model: str | None = None
    num_captions: int = 0
    duplicate_share: float = 0.0
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def raise_if_failed(self, where: str = "") -> None:
        """Stop a run whose captions cannot be trusted.

        Args:
            where: The dataset root.

        Raises:
            GateError: With the mend.
        """
        if self.problems:
            raise GateError(
                "the captions failed the gate: " + "; ".join(self.problems),
                where=where or "table captions",
                mend=f"look at some (`clipmill sql {where or 'OUT'} 'select uri, caption_short from"
                f" clips'`), mend the captioner, then write them again: clipmill redo"
                f" {where or 'OUT'} caption",
            )


def run_gate(views: Views, *, seed: int = 0) -> GateReport:
    """Look at the current captions of a dataset; at most ``MAX_PAIRS`` vectors are read.

    Args:
        views: Of the catalog; without captions or vectors the result is ``undecided``.
        seed: Of the draw.
    """
    known = set(views.query("SHOW TABLES").column("name").to_pylist())
    if "captions" not in known:
        return GateReport(alignment=GateResult(verdict="undecided", reason="there are no captions"))
    total, shared = _duplicates(views)
    problems = [
        f"{row['clips']} clips are without a caption, because a batch failed: {row['message']}"
        for row in views.query(DISTRUSTED).to_pylist()
    ]
    seen = views.query(SEEN).column("seen")[0].as_py()
    if seen and total >= MIN_PAIRS and shared > MAX_DUPLICATES:
        problems.append(f"{shared:.0%} of {total} captions also stand on clips of other videos")
    model, result = None, GateResult(verdict="undecided", reason="no model compared them")
    if "caption_vectors" in known and "caption_checks" in known:
        model = views.query(MODEL).column("model")[0].as_py()
    if model is not None:
        sample = SAMPLE.format(seed=seed, pairs=MAX_PAIRS, each=MAX_PER_VIDEO, kept=KEPT)
        rows = views.query(sample)
        result = alignment_gate(
            _matrix(rows.column("text_vector")),
            _matrix(rows.column("clip_vector")),
            rows.column("video_id").to_pylist(),
            seed=seed,
        )
    if result.verdict == "failed" and not seen:
        reason = f"written from measurements, which say too little of each clip: {result.reason}"
        result = replace(result, verdict="undecided", reason=reason)
    if result.verdict == "failed":
        weak = " (by a weak way: tags)" if model == TAGS_LABEL else ""
        problems.append(result.reason + weak)
    return GateReport(
        alignment=result,
        model=model,
        num_captions=total,
        duplicate_share=round(shared, 4),
        problems=problems,
    )


def _duplicates(views: Views) -> tuple[int, float]:
    """Number of captions of kept clips, and the share that also stands on another video."""
    row = views.query(DUPLICATES.format(kept=KEPT)).to_pylist()[0]
    return int(row["total"]), int(row["shared"]) / max(1, int(row["total"]))


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """float64 [n, dim] of a column of lists of one length."""
    if not len(column):
        return np.empty((0, 0))
    return np.array(column.to_pylist(), np.float64)
