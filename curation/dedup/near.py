"""Edges as numbers: pairs of near candidates by their positions in order of quality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.dedup.lookup import positions, sorted_order
from curation.schema import EDGES

LEVELS = ("exact", "perceptual", "semantic")
"""Surest first: a clip that is near in several ways is dropped for the first of them."""
EXACT, SEMANTIC = LEVELS.index("exact"), LEVELS.index("semantic")
RELATION = ("offset_s", "speed", "mirrored", "overlap_s")
DETAILS = pa.schema([EDGES.field(name) for name in (*RELATION, "clip_b", "reference")])
BY_ROOT = [("reference", "ascending"), ("clip_b", "ascending")]
ROWS_AT_A_TIME = 1_000_000


@dataclass(frozen=True)
class NearPairs:
    """Pairs of a candidate and a clip it may be dropped for.

    Attributes:
        clip: int64 [pairs], position of the candidate.
        other: int64 [pairs], position of the better one; of pairs with a held-out dataset all 0.
        level: int64 [pairs], index into ``LEVELS``.
        similarity: float64 [pairs].
        turned: bool [pairs], true where the candidate is ``clip_b`` of its edge.
        details: What else the edges say; ``clip_b`` only of pairs with a held-out dataset.
    """

    clip: np.ndarray
    other: np.ndarray
    level: np.ndarray
    similarity: np.ndarray
    turned: np.ndarray
    details: pa.Table

    def take(self, which: np.ndarray) -> NearPairs:
        """Some of them: by mask or by position."""
        at = np.flatnonzero(which) if which.dtype == bool else which
        return NearPairs(
            self.clip[at],
            self.other[at],
            self.level[at],
            self.similarity[at],
            self.turned[at],
            self.details.take(pa.array(at)),
        )

    def with_more(
        self, clip: np.ndarray, other: np.ndarray, level: int, similarity: np.ndarray
    ) -> NearPairs:
        """These and some of one level, of which nothing else is known."""
        count = len(clip)
        nothing = pa.Table.from_arrays([pa.nulls(count, f.type) for f in DETAILS], schema=DETAILS)
        return NearPairs(
            np.concatenate([self.clip, clip]),
            np.concatenate([self.other, other]),
            np.concatenate([self.level, np.full(count, level)]),
            np.concatenate([self.similarity, similarity]),
            np.concatenate([self.turned, np.zeros(count, bool)]),
            pa.concat_tables([self.details, nothing]),
        )

    def level_names(self) -> pa.Array:
        """The level of each."""
        return pa.array(LEVELS).take(pa.array(self.level))

    def relation(self) -> pa.Table:
        """``similarity`` and how times in the candidate lie to those in the other clip.

        An edge says of a moment ``b = speed * a + offset_s``; read the other way round that is
        ``a = b / speed - offset_s / speed``.
        """
        offset, speed, overlap = (
            _numbers(self.details.column(c)) for c in ("offset_s", "speed", "overlap_s")
        )
        rate = np.where(np.isnan(speed), 1.0, speed)
        columns = {
            "similarity": pa.array(self.similarity),
            "offset_s": _known(np.where(self.turned, -offset / rate, offset)),
            "speed": _known(np.where(self.turned, 1 / speed, speed)),
            "mirrored": self.details.column("mirrored"),
            "overlap_s": _known(np.where(self.turned, overlap * rate, overlap)),
        }
        return pa.table(columns)


def pairs_of(
    edges: Iterable[pa.RecordBatch], ids: pa.Array, thresholds: Mapping[str, float]
) -> tuple[NearPairs, NearPairs, np.ndarray]:
    """The edges that count: those among candidates, those to held-out datasets, and what is equal.

    What is equal to the same clip is equal, be that clip a candidate or not. Large groups of exact
    copies are linked with their first clips only (see ``exact.py``), and those may be no
    candidates: of copies that some of them are linked with, every candidate gets the first one.

    Args:
        edges: Rows of ``EDGES``.
        ids: Candidates, best first.
        thresholds: Level -> lowest similarity.

    Returns:
        Pairs of candidates, pairs with held-out clips, and of each candidate the number of the
        group of equal ones it is known to be in, int64 [candidates]; -1: none.
    """
    limits = np.array([thresholds.get(level, np.inf) for level in LEVELS])
    inner, outer, copies = [_no_pairs()], [_no_pairs()], []
    for rows in _large(edges):
        level = positions(rows.column("level"), pa.array(LEVELS))
        code = np.maximum(level, 0)
        counts = (level >= 0) & (rows.column("similarity").to_numpy() >= limits[code])
        a = positions(rows.column("clip_a"), ids)
        b = positions(rows.column("clip_b"), ids)
        outside = np.asarray(rows.column("reference").is_valid())
        inside = counts & ~outside & (a >= 0) & (b >= 0) & (a != b)
        inner.append(_pairs(rows, inside, code, np.maximum(a, b), np.minimum(a, b), b > a))
        lost = counts & ~outside & (code == EXACT) & (a < 0) & (b >= 0)
        copies.append((rows.column("clip_a").filter(pa.array(lost)), b[lost]))
        held = counts & outside & (a >= 0)
        nobody = np.zeros(len(a), np.int64)
        outer.append(_pairs(rows, held, code, a, nobody, np.zeros(len(a), bool), keep_ids=True))
    return _joined(inner), _joined(outer), _equal(copies, len(ids))


def _equal(copies: list[tuple[pa.ChunkedArray, np.ndarray]], count: int) -> np.ndarray:
    """Group of each candidate by the first clip, no candidate itself, that it is a copy of."""
    group = np.full(count, -1, np.int64)
    if not any(len(clips) for _, clips in copies):
        return group
    firsts = pa.chunked_array([chunk for ids, _ in copies for chunk in ids.chunks], pa.string())
    clips = np.concatenate([clips for _, clips in copies])
    known = firsts.unique()
    number = np.empty(len(known), np.int64)
    number[sorted_order(pa.chunked_array([known]))] = np.arange(len(known))
    mine = number[positions(firsts, known)]
    order = np.argsort(-mine, kind="stable")
    group[clips[order]] = mine[order]  # the smallest number comes last
    return group


def best_for_each(pairs: NearPairs) -> np.ndarray:
    """Positions of the pair that counts for each candidate: the surest level, then the nearest.

    Of equals the better clip; of equals in held-out datasets the first by root and id.
    """
    tie = np.zeros(len(pairs.clip))
    held_out = pairs.details.select([name for name, _ in BY_ROOT])
    if held_out.column("reference").null_count < len(tie):
        order = pc.call_function("sort_indices", [held_out], pc.SortOptions(BY_ROOT))
        tie[order.to_numpy()] = np.arange(len(tie))
    order = np.lexsort((tie, pairs.other, -pairs.similarity, pairs.level, pairs.clip))
    ordered = pairs.clip[order]
    first = np.ones(len(order), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first]


def _pairs(
    rows: pa.Table,
    which: np.ndarray,
    level: np.ndarray,
    clip: np.ndarray,
    other: np.ndarray,
    turned: np.ndarray,
    *,
    keep_ids: bool = False,
) -> NearPairs:
    details = rows.select(DETAILS.names).filter(pa.array(which))
    if not keep_ids:  # millions of edges: the ids are known by position
        at = details.column_names.index("clip_b")
        details = details.set_column(
            at, DETAILS.field("clip_b"), pa.nulls(len(details), pa.string())
        )
    return NearPairs(
        clip[which],
        other[which],
        level[which],
        rows.column("similarity").to_numpy()[which],
        turned[which],
        details.cast(DETAILS),
    )


def _no_pairs() -> NearPairs:
    none = np.empty(0, np.int64)
    details = DETAILS.empty_table()
    return NearPairs(none, none, none, np.empty(0), np.empty(0, bool), details)


def _joined(pairs: list[NearPairs]) -> NearPairs:
    return NearPairs(
        np.concatenate([p.clip for p in pairs]),
        np.concatenate([p.other for p in pairs]),
        np.concatenate([p.level for p in pairs]),
        np.concatenate([p.similarity for p in pairs]),
        np.concatenate([p.turned for p in pairs]),
        pa.concat_tables([p.details for p in pairs]),
    )


def _large(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches put together: looking up ids costs the more the more often it is begun."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(b.num_rows for b in waiting) >= ROWS_AT_A_TIME:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """float64, NaN for null."""
    return column.cast(pa.float64()).to_numpy()


def _known(values: np.ndarray) -> pa.Array:
    """NaN to null."""
    return pa.array(values, pa.float64(), from_pandas=True)
