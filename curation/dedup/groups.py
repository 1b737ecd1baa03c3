"""The choice: of clips that show the same, the best one stays.

Candidates are taken from the best to the worst. One that is near a clip that stays is dropped for
it; any other stays. So nothing chains: every dropped clip is near the very clip that stands for it,
and no two clips that stay are near each other. Clips near a held-out dataset are dropped first, and
stand for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.dedup.crowd import Crowd
from curation.dedup.near import EXACT, LEVELS, SEMANTIC, NearPairs, best_for_each, pairs_of
from curation.schema import DUPLICATES, FLOAT64, STRING, schema

DUPLICATE, HELD_OUT = "duplicate_", "held_out_"
DROPPED = schema(clip_id=STRING, reason=STRING, margin=FLOAT64)
MARGIN_DIGITS = 6


@dataclass(frozen=True)
class Choice:
    """Which candidates stay.

    Attributes:
        duplicates: Rows of ``DUPLICATES``: every member of a group of two or more, group by group,
            the representative first; then the clips near held-out datasets.
        dropped: Of each dropped candidate ``clip_id, reason, margin``, best first; the margin is
            similarity - threshold, 0 or more.
    """

    duplicates: pa.Table
    dropped: pa.Table


def choose(
    candidates: pa.Table,
    edges: Iterable[pa.RecordBatch],
    thresholds: Mapping[str, float],
    *,
    crowd: Crowd | None = None,
    fingerprint: str | None = None,
) -> Choice:
    """Choose the representatives.

    Args:
        candidates: ``clip_id, video_id`` of the clips that may stay, best first.
        edges: Rows of ``EDGES``, in any order; those of other clips, of other levels and below
            the threshold do not count.
        thresholds: Level -> lowest similarity of a duplicate.
        crowd: Clips whose semantic edges to each other are missing.
        fingerprint: Of the rows of ``duplicates``.
    """
    ids = _column(candidates, "clip_id")
    inner, outer, equal = pairs_of(edges, ids, thresholds)
    held_out = np.zeros(len(ids), bool)
    held_out[outer.clip] = True
    dropped = held_out.copy()
    more = _Others(equal, crowd)
    _go_down(inner, dropped, more)
    for level, found in more.best.items():
        inner = inner.with_more(*found.pairs(level))
    held = outer.take(best_for_each(outer))
    between = inner.take(~dropped[inner.other] & dropped[inner.clip] & ~held_out[inner.clip])
    near = between.take(best_for_each(between))
    return Choice(
        _duplicates(candidates, near, held, fingerprint), _dropped(ids, near, held, thresholds)
    )


class _Others:
    """What the edges leave out: members of a crowd, and copies linked by clips that are out.

    Args:
        equal: Number of the group of copies of each candidate; -1: none.
        crowd: Crowded clips.
    """

    def __init__(self, equal: np.ndarray, crowd: Crowd | None) -> None:
        self._crowd, self._equal = crowd, equal
        crowded = crowd.positions if crowd is not None else np.empty(0, np.int64)
        copies = np.flatnonzero(equal >= 0)
        self.clips = np.union1d(crowded, copies)  # others may be near them, though no edge says so
        self._crowded = frozenset(crowded.tolist())
        order = copies[np.argsort(equal[copies], kind="stable")]
        starts = np.flatnonzero(np.diff(equal[order], prepend=-2))
        self._groups = {
            int(equal[some[0]]): some for some in np.split(order, starts[1:]) if len(some)
        }
        self.best = {EXACT: _Best(len(equal)), SEMANTIC: _Best(len(equal))}

    def drop(self, clip: int, dropped: np.ndarray) -> None:
        """Mark what goes because a clip stays."""
        if clip in self._crowded and self._crowd is not None:
            near, cosine = self._crowd.near(clip, dropped)
            self._mark(clip, near, cosine, SEMANTIC, dropped)
        if self._equal[clip] >= 0:
            mates = self._groups[int(self._equal[clip])]
            mates = mates[mates > clip]
            self._mark(clip, mates, np.ones(len(mates)), EXACT, dropped)

    def _mark(
        self, clip: int, near: np.ndarray, similarity: np.ndarray, level: int, dropped: np.ndarray
    ) -> None:
        dropped[near] = True
        self.best[level].take(clip, near, similarity)


class _Best:
    """Of each candidate the nearest better one so far; of equals the better one, which came first.

    Args:
        count: Candidates.
    """

    def __init__(self, count: int) -> None:
        self._similarity = np.full(count, -1.0)
        self._other = np.full(count, -1, np.int64)

    def take(self, other: int, clips: np.ndarray, similarity: np.ndarray) -> None:
        """A clip that stays is so near to some."""
        nearer = similarity > self._similarity[clips]
        self._similarity[clips[nearer]] = similarity[nearer]
        self._other[clips[nearer]] = other

    def pairs(self, level: int) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
        """Worse, better, the level, similarity."""
        found = np.flatnonzero(self._other >= 0)
        return found, self._other[found], level, self._similarity[found]


def _go_down(pairs: NearPairs, dropped: np.ndarray, others: _Others) -> None:
    """Mark what is dropped, from the best candidate to the worst."""
    order = np.argsort(pairs.other, kind="stable")
    worse = pairs.clip[order]
    counts = np.bincount(pairs.other, minlength=len(dropped))
    ends = np.cumsum(counts).tolist()
    has_others = np.zeros(len(dropped), bool)
    has_others[others.clips] = True
    for clip in np.flatnonzero((counts > 0) | has_others).tolist():
        if dropped[clip]:
            continue
        dropped[worse[ends[clip - 1] if clip else 0 : ends[clip]]] = True
        if has_others[clip]:
            others.drop(clip, dropped)


def _duplicates(
    candidates: pa.Table, near: NearPairs, held: NearPairs, fingerprint: str | None
) -> pa.Table:
    """Rows of ``DUPLICATES``."""
    ids, videos = _column(candidates, "clip_id"), _column(candidates, "video_id")
    stands = np.unique(near.other)
    # Members after their representative: a stable sort by it, with its own row put first.
    clip = np.concatenate([stands, near.clip])
    group = np.concatenate([stands, near.other])
    order = np.argsort(group, kind="stable")
    members = near.relation().append_column("level", near.level_names())
    empty = pa.Table.from_arrays(
        [pa.nulls(len(stands), f.type) for f in members.schema], schema=members.schema
    )
    inside = pa.concat_tables([empty, members])
    inside = (
        inside.append_column("clip_id", ids.take(pa.array(clip)))
        .append_column("video_id", videos.take(pa.array(clip)))
        .append_column("group_id", ids.take(pa.array(group)))
        .append_column("representative", pa.array(np.arange(len(clip)) < len(stands)))
        .take(pa.array(order))
    )
    outside = (
        held.relation()
        .append_column("level", held.level_names())
        .append_column("clip_id", ids.take(pa.array(held.clip)))
        .append_column("video_id", videos.take(pa.array(held.clip)))
        .append_column("group_id", held.details.column("clip_b"))
        .append_column("representative", pa.repeat(False, len(held.clip)))
        .append_column("reference", held.details.column("reference"))
    )
    inside = inside.append_column("reference", pa.nulls(inside.num_rows, STRING))
    rows = pa.concat_tables([t.select(outside.column_names) for t in (inside, outside)])
    stamp = pa.repeat(pa.scalar(fingerprint, STRING), rows.num_rows)
    return rows.append_column("fingerprint", stamp).select(DUPLICATES.names).cast(DUPLICATES)


def _dropped(
    ids: pa.Array, near: NearPairs, held: NearPairs, thresholds: Mapping[str, float]
) -> pa.Table:
    """Reason and margin of each dropped candidate, best first."""
    limits = np.array([thresholds.get(level, np.nan) for level in LEVELS])
    names = [[prefix + level for level in LEVELS] for prefix in (HELD_OUT, DUPLICATE)]
    clip = np.concatenate([held.clip, near.clip])
    reasons = [
        pa.array(some, STRING).take(pa.array(pairs.level))
        for some, pairs in zip(names, (held, near), strict=True)
    ]
    margin = np.concatenate([p.similarity - limits[p.level] for p in (held, near)])
    order = pa.array(np.argsort(clip, kind="stable"))
    columns = [
        ids.take(pa.array(clip)),
        pa.concat_arrays(reasons),
        pa.array(np.round(margin, MARGIN_DIGITS)),
    ]
    return pa.table([c.take(order) for c in columns], schema=DROPPED)


def _column(table: pa.Table, name: str) -> pa.Array:
    found = table.column(name).combine_chunks()
    return pc.cast(found, STRING)
