"""Which clips may show the same: nearest neighbours among descriptors of their prints, and votes.

A descriptor is the low frequencies (DCT) of a print and of what sets it apart from the clip's mean
picture; the latter tells clips of one standing camera apart, whose pictures are all alike. Cropping
and mirroring are linear, so prints are looked for as they are, mirrored, and with sides cut off,
against plain ones; that finds a copy whichever of the two was cropped. The search is FAISS's
(Douze et al. 2024, arXiv 2401.08281): all against all up to ``FLAT_PRINTS``, above that in inverted
lists of vectors of one byte per component.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curation.dedup.perceptual_path import CENTRES, SIDE_PX, Film, sampling
from curation.dedup.perceptual_store import OpenPrints

if TYPE_CHECKING:  # loaded where it is used: the settings of this room are read by every command
    import faiss

FREQUENCIES = 7
"""Of each side, with u + v below this."""
WHOLE = (1.0, 0.0, 0.0)
CROPS = (
    WHOLE,
    (0.93, 0, 0),
    (0.87, 0, 0),
    *((0.87, x, y) for x in (-0.13, 0.13) for y in (-0.13, 0.13)),
)
"""Parts of a picture that are looked for in other clips: size, and place of the middle."""
FLAT = 3.0
"""Deviation in luma levels of prints that show nothing: black, a fade."""
ACTIVE = 2.0
"""Change in luma levels at which what changes weighs half as much as the picture."""
QUERY_STEP = 2
"""Every other print is looked for."""
NEIGHBOURS = 48
FLAT_PRINTS = 100_000
PRINTS_PER_LIST = 256
PROBES = 24
TRAIN_PER_LIST = 48
BLOCK_PRINTS = 16_384
"""Prints in memory at a time, beside the index."""


def _basis() -> tuple[np.ndarray, np.ndarray]:
    """Low frequencies of a print but the mean: float32 [k, SIDE_PX ** 2], and -1 for odd ones."""
    angle = np.pi * (np.arange(SIDE_PX) + 0.5) / SIDE_PX
    rows, signs = [], []
    for v in range(FREQUENCIES):
        for u in range(FREQUENCIES - v):
            if u + v:
                wave = np.outer(np.cos(v * angle), np.cos(u * angle))
                # Pictures have little power in high frequencies; here each counts about the same.
                rows.append((wave * np.hypot(u, v) / np.linalg.norm(wave)).ravel())
                signs.append(-1 if u % 2 else 1)
    return np.array(rows, np.float32), np.array(signs, np.float32)


BASIS, MIRROR = _basis()
NUM_COMPONENTS = 2 * len(BASIS)


def descriptors(
    film: Film, crop: tuple[float, float, float] = WHOLE
) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of a clip's prints.

    Args:
        film: The clip.
        crop: Part that is looked at, as in ``CROPS``.

    Returns:
        float32 [n, NUM_COMPONENTS] of length 1, and bool [n]: false for prints that show nothing.
    """
    pictures = film.pictures
    if crop != WHOLE:
        size, x, y = crop
        across, _ = sampling(size * CENTRES + x)
        down, _ = sampling(size * CENTRES + y)
        pictures = down @ pictures @ across.T
    flat = pictures.reshape(len(pictures), -1)
    shows = flat.std(axis=1) >= FLAT
    change = flat - flat.mean(axis=0)
    power = (change - change.mean(axis=1, keepdims=True)).var(axis=1)
    weight = np.sqrt(power / (power + ACTIVE**2))[:, None]
    both = np.concatenate([_unit(flat @ BASIS.T), weight * _unit(change @ BASIS.T)], axis=1)
    return _unit(both), shows


def mirrored(rows: np.ndarray) -> np.ndarray:
    """Descriptors of the flipped pictures."""
    return rows * np.tile(MIRROR, 2)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


@dataclass(frozen=True)
class Index:
    """Descriptors of all prints of a dataset, to be searched.

    Attributes:
        found: The FAISS index.
        owner: int32 [n], rank of the clip of each entry.
    """

    found: faiss.Index
    owner: np.ndarray


def build_index(prints: OpenPrints, beat: Callable[[], None] = lambda: None) -> Index:
    """Index the prints of all clips."""
    import faiss

    total = int(prints.counts.sum())
    blocks = list(prints.blocks(BLOCK_PRINTS))
    if total <= FLAT_PRINTS:
        index: faiss.Index = faiss.IndexFlatIP(NUM_COMPONENTS)
    else:
        num_lists = total // PRINTS_PER_LIST
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(NUM_COMPONENTS),
            NUM_COMPONENTS,
            num_lists,
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
        )
        index.nprobe = PROBES
        index.cp.seed, index.cp.niter = 1, 8
        index.train(_sample(prints, num_lists * TRAIN_PER_LIST))
    owners = []
    for start, end in blocks:
        beat()
        rows, owner = _rows(prints, start, end)
        index.add(rows)
        owners.append(owner)
    return Index(index, np.concatenate([np.empty(0, np.int32), *owners]))


def _rows(prints: OpenPrints, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of the clips [start, end), and the clip of each."""
    found, owner = [np.empty((0, NUM_COMPONENTS), np.float32)], [np.empty(0, np.int32)]
    for rank in range(start, end):
        rows, shows = descriptors(prints.film(rank))
        found.append(rows[shows])
        owner.append(np.full(int(shows.sum()), rank, np.int32))
    return np.concatenate(found), np.concatenate(owner)


def _sample(prints: OpenPrints, wanted: int) -> np.ndarray:
    """Descriptors to learn the lists from: of clips spread evenly over all."""
    num_clips = len(prints.counts)
    share = min(1.0, wanted / max(1, int(prints.counts.sum())))
    picked = np.unique(np.linspace(0, num_clips - 1, max(1, round(num_clips * share))).astype(int))
    rows = [descriptors(prints.film(int(rank))) for rank in picked]
    return np.concatenate([r[shows] for r, shows in rows])


def votes(
    film: Film, index: Index, *, mirror: bool, min_cosine: float, skip: int | None
) -> list[tuple[int, float]]:
    """Clips of an index that may show what a clip shows, the likeliest first.

    Args:
        film: The clip.
        index: Where to look.
        mirror: Look for it mirrored as well.
        min_cosine: Lowest cosine of two descriptors that counts.
        skip: Rank of the clip itself in the index.

    Returns:
        Rank and votes: the sum over its prints of their best cosine with one of that clip.
    """
    queries = []
    for crop in CROPS:
        rows, shows = descriptors(film, crop)
        rows = rows[::QUERY_STEP][shows[::QUERY_STEP]]
        queries += [rows, mirrored(rows)] if mirror else [rows]
    total: dict[int, float] = {}
    if not len(queries[0]) or not index.found.ntotal:
        return []
    cosine, entry = index.found.search(np.concatenate(queries), NEIGHBOURS)
    clip = np.where(entry >= 0, index.owner[entry], -1)
    good = (cosine >= min_cosine) & (clip >= 0) & (clip != (-2 if skip is None else skip))
    ends = np.cumsum([len(rows) for rows in queries])
    for end, rows in zip(ends.tolist(), queries, strict=True):
        some = slice(end - len(rows), end)
        for found, vote in _best(cosine[some], clip[some], good[some]).items():
            total[found] = max(total.get(found, 0.0), vote)
    return sorted(total.items(), key=lambda item: (-round(item[1], 4), item[0]))


def _best(cosine: np.ndarray, clip: np.ndarray, good: np.ndarray) -> dict[int, float]:
    """Votes of the prints of one version of a clip.

    Args:
        cosine: float32 [n, NEIGHBOURS], with what was found for each print.
        clip: int [n, NEIGHBOURS], whose it is.
        good: bool [n, NEIGHBOURS], whether it counts.
    """
    rows = len(cosine)
    which = np.broadcast_to(np.arange(rows)[:, None], cosine.shape)[good]
    keys, values = clip[good].astype(np.int64) * rows + which, cosine[good]
    order = np.lexsort((-values, keys))
    keys, values = keys[order], values[order]
    first = np.concatenate([[True], keys[1:] != keys[:-1]]) if len(keys) else np.empty(0, bool)
    found: dict[int, float] = {}
    for key, value in zip(keys[first].tolist(), values[first].tolist(), strict=True):
        found[key // rows] = found.get(key // rows, 0.0) + value
    return found
