"""The funnel: from sources to samples in shards, in things and in seconds, and what is lost where.

Step rows are what remains; loss rows below a step say why the next one is smaller. Seconds are
unique source seconds (``curation/catalog/account.py``); those of single reasons are sums over
clips, because a clip may carry several reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.shards.index import INDEX, batches
from pipelines.report.words import plural, size

RowKind = Literal["step", "loss", "reason"]
MAX_REASONS = 40
"""Reasons listed one by one; a user's own stages may invent any number of codes."""

REASONS = f"""
SELECT verdict, reason, count(*) AS n, sum(end_s - start_s) AS seconds FROM (
    SELECT verdict, unnest(reasons) AS reason, start_s, end_s FROM clips
    WHERE verdict IN ('rejected', 'failed'))
GROUP BY verdict, reason ORDER BY n DESC, reason LIMIT {MAX_REASONS * 5}
"""
SPANS = """
SELECT reason, count(*) AS n, sum(end_s - start_s) AS seconds FROM spans
SEMI JOIN complete_videos USING (video_id) GROUP BY reason ORDER BY seconds DESC, reason
"""
DECODED = """
SELECT count(*) AS n, coalesce(sum(video_duration_s + missing_s), 0) AS seconds
FROM decodes SEMI JOIN complete_videos USING (video_id)
"""
SPAN_WORDS = {
    "too_short": "shots shorter than the shortest clip",
    "remainder": "what is left of a shot after its last clip",
    "surplus": "beyond the most clips taken of one shot",
    "edge_trim": "cut off beside a transition",
    "transition": "inside a dissolve, fade or wipe",
    "damaged": "frames that did not decode cleanly",
    "missing": "declared by the file's header but not there",
    "removed": "taken out on request",
}


@dataclass(frozen=True, kw_only=True)
class ReasonCount:
    """How often one reason stands on clips of one verdict."""

    verdict: str
    reason: str
    num_clips: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the funnel.

    Attributes:
        label: What is counted.
        kind: ``step`` (what remains), ``loss`` (what does not), ``reason`` (why, within a loss).
        seconds: Length; None when it has none.
        seconds_share: Of the longest row, 0 to 1.
        count: How many, in words: ``64 clips``; empty when they are not counted.
        count_share: Of the first row of the same unit, 0 to 1.
        note: One sentence for a person.
        code: A reason's name in the catalog; empty otherwise.
        files: True when sources or videos are counted, not clips.
    """

    label: str
    kind: RowKind
    seconds: float | None = None
    seconds_share: float = 0.0
    count: str = ""
    count_share: float = 0.0
    note: str = ""
    code: str = ""
    files: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardTotals:
    """What the shard index holds."""

    num_shards: int = 0
    num_samples: int = 0
    num_bytes: int = 0
    seconds: float = 0.0


def count_reasons(views: Views) -> list[ReasonCount]:
    """Reasons of rejected and failed clips, the most frequent first."""
    return [
        ReasonCount(
            verdict=r["verdict"], reason=r["reason"], num_clips=r["n"], seconds=r["seconds"] or 0.0
        )
        for r in views.query(REASONS).to_pylist()
    ]


def shard_totals(catalog: Catalog) -> ShardTotals:
    """Totals of the shard index, read in batches; zeros when nothing was sharded yet.

    Raises:
        DamagedError: The index is damaged.
    """
    if not catalog.storage.exists(INDEX):
        return ShardTotals()
    samples, seconds = 0, 0.0
    sizes: dict[str, int] = {}
    for batch in batches(catalog.storage, INDEX, ["shard", "shard_bytes", "duration_s"]):
        samples += batch.num_rows
        lengths = batch.column("duration_s").to_numpy(zero_copy_only=False)
        seconds += float(np.nansum(lengths))
        keys = ["shard", "shard_bytes"]
        found = pa.Table.from_batches([batch]).group_by(keys).aggregate([])
        sizes |= {row["shard"]: row["shard_bytes"] for row in found.to_pylist()}
    return ShardTotals(
        num_shards=len(sizes),
        num_samples=samples,
        num_bytes=sum(sizes.values()),
        seconds=seconds,
    )


def draw_funnel(
    views: Views, account: Mapping[str, Any], reasons: list[ReasonCount], shards: ShardTotals
) -> list[Row]:
    """All rows of the funnel, top to bottom.

    Args:
        views: The catalog.
        account: ``Account.as_dict()``.
        reasons: See :func:`count_reasons`.
        shards: See :func:`shard_totals`.
    """
    videos, clips = account["videos"], account["clips"]
    if not clips:
        return _Funnel(0.0, videos["total"], 0).sources(videos, None, 0.0)
    seconds = account["seconds"]
    decoded = views.query(DECODED).to_pylist()[0]
    spans = views.query(SPANS).to_pylist()
    spans_s = sum(s["seconds"] for s in spans)
    in_clips_s = max(0.0, decoded["seconds"] - spans_s)
    rejected_s = max(0.0, seconds["rejected"] - spans_s)
    failed_clips_s = max(0.0, in_clips_s - seconds["kept"] - rejected_s)
    lost_s = max(0.0, seconds["total"] - decoded["seconds"])
    funnel = _Funnel(seconds["total"], videos["total"], clips["total"])
    rows = funnel.sources(videos, seconds, lost_s)
    rows += funnel.timeline(decoded, spans)
    rows.append(funnel.row("In clips", "step", clips["total"], "clip", in_clips_s))
    rows += funnel.lost("Rejected", "rejected", clips["rejected"], rejected_s, reasons)
    rows += funnel.lost("Failed", "failed", clips["failed"], failed_clips_s, reasons)
    if clips["unjudged"]:
        rows.append(funnel.row("Not judged", "loss", clips["unjudged"], "clip", None))
    rows.append(funnel.row("Kept", "step", clips["kept"], "clip", seconds["kept"]))
    if clips["uncut"]:
        rows.append(funnel.row("Not cut yet", "loss", clips["uncut"], "clip", None))
    rows.append(funnel.shards(shards, clips["kept"]))
    return rows


class _Funnel:
    """Makes rows on common scales.

    Args:
        total_s: Length of everything, the scale of the bars of time.
        num_sources: The scale of the bars of sources and videos.
        num_clips: The scale of the bars of clips.
    """

    def __init__(self, total_s: float, num_sources: int, num_clips: int) -> None:
        self._total_s = total_s
        self._wholes = {"source": num_sources, "video": num_sources}
        self._wholes |= {"clip": num_clips, "sample": num_clips}

    def row(
        self,
        label: str,
        kind: RowKind,
        count: int,
        noun: str,
        seconds: float | None,
        *,
        note: str = "",
        code: str = "",
    ) -> Row:
        """One row; things of a noun without a scale (spans) get no bar of their count."""
        return Row(
            label=label,
            kind=kind,
            seconds=seconds,
            seconds_share=_share(seconds, self._total_s),
            count=plural(count, noun),
            count_share=_share(count, self._wholes.get(noun, 0)),
            note=note,
            code=code,
            files=noun in ("source", "video"),
        )

    def sources(
        self, videos: Mapping[str, int], seconds: Mapping[str, Any] | None, lost_s: float
    ) -> list[Row]:
        """What was given and what could not be read."""
        unknown = seconds["unknown_videos"] if seconds else 0
        note = f"and {plural(unknown, 'source')} of unknown length" if unknown else ""
        total_s = seconds["total"] if seconds else None
        rows = [self.row("Sources", "step", videos["total"], "source", total_s, note=note)]
        if videos["failed"]:
            known = lost_s if unknown < videos["failed"] else None
            note = f"{unknown:,} of unknown length" if unknown else ""
            rows.append(self.row("Failed", "loss", videos["failed"], "source", known, note=note))
        if removed := videos.get("removed", 0):
            note = "taken out on request; their seconds are not counted any more"
            rows.append(self.row("Removed", "loss", removed, "source", None, note=note))
        if videos["duplicates"]:
            count, note = videos["duplicates"], "the same bytes as another source"
            rows.append(self.row("Duplicates", "loss", count, "source", None, note=note))
        if videos["pending"]:
            count = videos["pending"]
            note = "neither done nor failed: the next run goes on with them"
            rows.append(self.row("Pending", "loss", count, "source", None, note=note))
        return rows

    def timeline(self, decoded: Mapping[str, Any], spans: list[dict[str, Any]]) -> list[Row]:
        """What was decoded, and the spans of it that became no clip."""
        rows = [self.row("Timeline", "step", decoded["n"], "video", decoded["seconds"])]
        for span in spans[:MAX_REASONS]:
            reason, count, lost_s = str(span["reason"]), span["n"], span["seconds"]
            note = SPAN_WORDS.get(reason, "")
            rows.append(
                self.row(_words(reason), "loss", count, "span", lost_s, note=note, code=reason)
            )
        return rows

    def lost(
        self,
        label: str,
        verdict: str,
        count: int,
        seconds: float,
        reasons: list[ReasonCount],
    ) -> list[Row]:
        """Clips of one verdict, and their reasons one by one."""
        if not count:
            return []
        mine = [r for r in reasons if r.verdict == verdict]
        several = sum(r.num_clips for r in mine) > count
        note = "a clip counts under each of its reasons" if several else ""
        rows = [self.row(label, "loss", count, "clip", seconds, note=note)]
        for r in mine[:MAX_REASONS]:
            label = _words(r.reason)
            rows.append(self.row(label, "reason", r.num_clips, "clip", r.seconds, code=r.reason))
        return rows

    def shards(self, shards: ShardTotals, num_kept: int) -> Row:
        """What lies in the shards."""
        note = f"{plural(shards.num_shards, 'shard')}, {size(shards.num_bytes)}"
        if shards.num_samples != num_kept:
            note += "; the verdicts have changed since the shards were written"
        count = shards.num_samples
        return self.row("In shards", "step", count, "sample", shards.seconds, note=note)


def _words(code: str) -> str:
    """A reason as a label."""
    return code.replace("_", " ").capitalize()


def _share(value: float | None, whole: float) -> float:
    """A part as a number from 0 to 1."""
    return min(1.0, max(0.0, value / whole)) if value and whole > 0 else 0.0
