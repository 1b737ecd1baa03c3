"""Comparing the clips of some clusters with each other: a piece of work over files.

A clip lies in its nearest cluster and visits the next-nearest; those that meet in a cluster are
compared. So a pair that a cluster's border divides is still found. A piece reads the vectors it
needs from the scratch folder and leaves one file of pairs there, so it may be done in this process
or in any other that sees the folder.

A cluster in which clips have too many neighbours is *crowded*: fifty thousand clips of one slate
make a billion pairs. Of those, pairs of two clips with more than ``max_neighbours`` each are not
written down. They are not forgotten: the clips are, and ``crowd.py`` compares them again when the
choice is made. Every pair is either written down or of two such clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.dedup.vector_file import OpenVectors, VectorFile

ROWS, COLUMNS = 1024, 8192
"""Of one block of cosines: 32 MB."""
PAIRS_AT_A_TIME = 4096
SLACK = 1e-5
"""A block's cosines are off by less, however the library adds up; see ``exact_cosines``."""
DIGITS = 6
PROBES = "probes.npy"


@dataclass(frozen=True)
class Piece:
    """Some clusters to work on.

    Attributes:
        file: The vectors.
        clusters: Numbers of the clusters.
        floor: Lowest cosine of a pair.
        max_neighbours: Pairs per clip from which a cluster is crowded.
    """

    file: VectorFile
    clusters: tuple[int, ...]
    floor: float
    max_neighbours: int


@dataclass(frozen=True)
class Pairs:
    """What was found.

    Attributes:
        a: int64 [pairs], rank of the clip with the smaller id.
        b: int64 [pairs], of the other one.
        cosine: float64 [pairs].
        crowded: int64, ranks of clips whose pairs with each other are missing.
    """

    a: np.ndarray
    b: np.ndarray
    cosine: np.ndarray
    crowded: np.ndarray


def work(piece: Piece) -> Path:
    """Find the pairs of a piece; returns the file they are in."""
    vectors = piece.file.open()
    probes = np.load(piece.file.folder / PROBES, mmap_mode="r")
    found = [_compare(vectors, np.asarray(probes), cluster, piece) for cluster in piece.clusters]
    target = piece.file.folder / f"pairs-{piece.clusters[0]:08d}.npz"
    np.savez(
        target,
        a=np.concatenate([p.a for p in found]),
        b=np.concatenate([p.b for p in found]),
        cosine=np.concatenate([p.cosine for p in found]),
        crowded=np.concatenate([p.crowded for p in found]),
    )
    return target


def read_pairs(path: Path) -> Pairs:
    """What a piece left."""
    with np.load(path) as stored:
        return Pairs(stored["a"], stored["b"], stored["cosine"], stored["crowded"])


def exact_cosines(
    left: OpenVectors, a: np.ndarray, right: OpenVectors, b: np.ndarray
) -> np.ndarray:
    """Cosines of pairs of ranks, float64 rounded to 6 digits.

    Products of matrices differ in the last bits with the size of the block and the number of
    threads. These are summed pair by pair, so they are the same in every engine.
    """
    cosines = np.empty(len(a))
    for start in range(0, len(a), PAIRS_AT_A_TIME):
        some = slice(start, start + PAIRS_AT_A_TIME)
        rows = left.rows(a[some]).astype(np.float64)
        cosines[some] = np.einsum("ij,ij->i", rows, right.rows(b[some]).astype(np.float64))
    return np.round(np.minimum(cosines, 1.0), DIGITS)


def _compare(vectors: OpenVectors, probes: np.ndarray, cluster: int, piece: Piece) -> Pairs:
    ranks = np.flatnonzero((probes == cluster).any(axis=1))
    crowded = np.zeros(len(ranks), bool)
    pairs = _near_pairs(vectors, ranks, piece.floor, crowded, piece.max_neighbours * len(ranks))
    if pairs is None:
        degree = np.zeros(len(ranks), np.int64)
        for i, j in _hits(vectors, ranks, piece.floor):
            degree += np.bincount(i, minlength=len(ranks)) + np.bincount(j, minlength=len(ranks))
        crowded = degree > piece.max_neighbours
        pairs = _near_pairs(vectors, ranks, piece.floor, crowded, None)
    assert pairs is not None
    a, b = (ranks[side] for side in pairs)
    once = _told_here(probes, a, b, cluster)
    a, b = a[once], b[once]
    cosine = exact_cosines(vectors, a, vectors, b)
    vectors.release()
    near = cosine >= piece.floor
    return Pairs(a[near], b[near], cosine[near], ranks[crowded])


def _near_pairs(
    vectors: OpenVectors, ranks: np.ndarray, floor: float, crowded: np.ndarray, limit: int | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """All pairs but those of two crowded clips; None when there are more than the limit."""
    left, right, total = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for i, j in _hits(vectors, ranks, floor):
        stays = ~(crowded[i] & crowded[j])
        left.append(i[stays])
        right.append(j[stays])
        total += len(left[-1])
        if limit is not None and total > limit:
            return None
    return np.concatenate(left), np.concatenate(right)


def _hits(
    vectors: OpenVectors, ranks: np.ndarray, floor: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Near pairs as positions in ``ranks``, the smaller first, block by block."""
    for top in range(0, len(ranks), ROWS):
        rows = vectors.rows(ranks[top : top + ROWS])
        for left in range(top, len(ranks), COLUMNS):
            columns = vectors.rows(ranks[left : left + COLUMNS])
            i, j = np.nonzero(rows @ columns.T >= floor - SLACK)
            i, j = i + top, j + left
            later = j > i
            yield i[later], j[later]


def _told_here(probes: np.ndarray, a: np.ndarray, b: np.ndarray, cluster: int) -> np.ndarray:
    """True for pairs of which this cluster is the first, by number, that they meet in."""
    meet = (probes[a][:, :, None] == probes[b][:, None, :]).any(axis=2)
    return np.where(meet, probes[a], np.iinfo(probes.dtype).max).min(axis=1) == cluster
