"""Which clips the page can show one by one: all of a small dataset, a sample of a large one.

A sample holds every clip that another section shows, then clips of every reason in turn (so that a
rare reason is seen), failed ones, and kept ones; each by hash, so the same page comes twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from pipelines.audit.basis import Basis, literals
from pipelines.report.pictures import sample_kept, sample_rejected
from pipelines.report.words import shorten

SHARE_REJECTED = 0.6
KINDS = ("caption_medium", "caption_short", "caption_long")
SAID_CHARS = 300
ALL = "SELECT clip_id FROM clips ORDER BY uri, start_s, clip_id LIMIT {limit}"
FAILED = """
SELECT reason, arg_min(clip_id, md5(concat({seed}, ':', clip_id)), {limit}) AS ids FROM (
    SELECT clip_id, unnest(reasons) AS reason FROM clips WHERE verdict = 'failed')
GROUP BY reason ORDER BY count(*), reason LIMIT {limit}
"""
SAID = """
SELECT clip_id, {texts} AS said FROM current_captions WHERE clip_id IN ({ids})
"""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Clips to list; ``sampled`` is True when there are more."""

    clip_ids: list[str]
    sampled: bool


def choose_clips(basis: Basis, shown: Iterable[str], max_clips: int, seed: int = 0) -> Chosen:
    """Clips for the search box.

    Args:
        basis: The dataset.
        shown: Clips that other sections show: they are always listed.
        max_clips: Most clips beside those.
        seed: Of the sample.
    """
    first = list(dict.fromkeys(shown))
    if basis.num_clips <= max_clips:
        every = [r["clip_id"] for r in basis.rows(ALL.format(limit=max_clips))]
        return Chosen(clip_ids=every, sampled=False)
    room = max(0, max_clips - len(first))
    rejected = sample_rejected(basis.views, int(room * SHARE_REJECTED), seed)
    left = room - len(rejected)
    failed = _failed(basis, left // 2, seed)
    kept = sample_kept(basis.views, left - len(failed), seed)
    ids = dict.fromkeys([*first, *rejected, *failed, *kept])
    return Chosen(clip_ids=list(ids), sampled=True)


def _failed(basis: Basis, limit: int, seed: int) -> list[str]:
    if limit <= 0:
        return []
    by_reason = [r["ids"] for r in basis.rows(FAILED.format(seed=int(seed), limit=limit))]
    turns = (clip for turn in zip_longest(*by_reason) for clip in turn if clip is not None)
    return list(dict.fromkeys(turns))[:limit]


def captions_of(basis: Basis, clip_ids: Sequence[str]) -> dict[str, str]:
    """A caption of each clip that has one."""
    if "captions" not in basis.catalog.current().tables or not basis.catalog.has("captions"):
        return {}
    known = basis.views.columns("current_captions")
    kinds = [c for c in KINDS if c in known]
    if not kinds:
        return {}
    rows = basis.rows(SAID.format(texts=f"coalesce({', '.join(kinds)})", ids=literals(clip_ids)))
    return {r["clip_id"]: shorten(r["said"], SAID_CHARS) for r in rows if r["said"]}
