"""The perceptual level: clips that show the same pictures, however they were encoded or cut out.

Candidates come from a search among all prints (``perceptual_search.py``), each pair is laid over
another in space and time (``perceptual_register.py``), and what then agrees is the similarity
(``perceptual_match.py``). Nothing is decided: pairs down to ``floor`` are edges, and
``min_similarity`` is applied when the choice is made, so another value takes seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.dedup.perceptual_groups import missing_pairs
from curation.dedup.perceptual_match import Limits, compare
from curation.dedup.perceptual_search import QUERY_STEP, build_index, votes
from curation.dedup.perceptual_store import PrintFile, write_prints
from curation.schema import EDGES

if TYPE_CHECKING:  # the catalog knows plans, and plans know these settings
    from curation.catalog.views import Views

LEVEL = "perceptual"
PAIRS_PER_PIECE = 512
DIGITS = 4
LINKED = 0.78
"""Clips this similar belong together: of their group every two are compared."""
Progress = Callable[[int, int], None]
"""Called with the number of clips compared and the number of all."""
Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Does pieces of work, here or elsewhere, and hands the results back in order."""


class Perceptual(BaseModel):
    """When two clips are the same by their pictures.

    Attributes:
        min_similarity: Pairs at least this similar are duplicates. Most copies have 0.9 and more,
            other moments of the same scene rarely 0.75; the room's page has measurements.
        floor: Pairs at least this similar are stored.
        min_overlap: Share of the shorter clip that has to be seen in both.
        max_offset_s: The same moment may lie so much later or earlier in one clip; null: any.
        max_speed: One clip may run this many times faster than the other; 1: the same speed.
        mirrored: Look for clips with left and right exchanged as well.
        min_cosine: Prints at least this near make two clips candidates.
        min_votes: Share of a clip's prints that have to find the other clip (weighted by cosine).
        max_candidates: Clips that each one is compared with at most, the likeliest first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_similarity: float = Field(default=0.8, gt=0, le=1)
    floor: float = Field(default=0.6, gt=0, le=1)
    min_overlap: float = Field(default=0.5, gt=0, le=1)
    max_offset_s: float | None = Field(default=None, ge=0)
    max_speed: float = Field(default=1.1, ge=1, le=1.25)
    mirrored: bool = True
    min_cosine: float = Field(default=0.55, gt=0, lt=1)
    min_votes: float = Field(default=0.6, gt=0, lt=1)
    max_candidates: int = Field(default=24, ge=1)

    @model_validator(mode="after")
    def _order(self) -> Perceptual:
        if self.floor > self.min_similarity:
            raise ValueError(f"floor {self.floor} is above min_similarity {self.min_similarity}")
        return self

    @property
    def threshold(self) -> float:
        """From which similarity a pair is a duplicate."""
        return self.min_similarity

    def stored(self) -> dict[str, Any]:
        """The settings that the stored edges depend on."""
        return self.model_dump(mode="json", exclude={"min_similarity"})

    def limits(self) -> Limits:
        """What a copy may differ in."""
        return Limits(self.min_overlap, self.max_offset_s, self.max_speed, self.mirrored)


def perceptual_edges(
    views: Views,
    settings: Perceptual,
    *,
    reference: Views | None = None,
    on_progress: Progress = lambda done, total: None,
    mapper: Mapper = map,
    scratch: Path | None = None,
) -> Iterator[pa.RecordBatch]:
    """Pairs of clips with a similarity of at least ``floor``, as rows of ``EDGES``.

    Each pair once; ``reference`` and ``fingerprint`` are left null. Half of the progress is the
    search, half the comparing.

    Args:
        views: The dataset.
        settings: How to compare.
        reference: Another dataset to compare with, instead of within this one.
        on_progress: See ``Progress``.
        mapper: What does the comparing: ``map``, or one that hands pieces to other processes.
        scratch: Where the prints are put meanwhile (as large as they are); every worker must see
            it. None: the system's temporary folder.

    Raises:
        CatalogError: A dataset has no prints.
    """
    with tempfile.TemporaryDirectory(prefix="clipmill-dedup-", dir=scratch) as name:
        folder = Path(name)
        own = write_prints(views, _made(folder / "own"))
        other = write_prints(reference, _made(folder / "reference")) if reference else None
        yield from edges_between(own, other, settings, on_progress=on_progress, mapper=mapper)


def edges_between(
    own: PrintFile,
    other: PrintFile | None,
    settings: Perceptual,
    *,
    on_progress: Progress = lambda done, total: None,
    mapper: Mapper = map,
) -> Iterator[pa.RecordBatch]:
    """The edges among clips, or from clips to those of a reference; see :func:`perceptual_edges`.

    Args:
        own: The clips of the dataset.
        other: Those of a reference; None: within the dataset.
        settings: How to compare.
        on_progress: See ``Progress``.
        mapper: What does the comparing.
    """
    total = own.num_clips

    def searched(done: int) -> None:
        on_progress(done // 2, total)

    pairs = candidates(own, other, settings, searched)
    ids_a = own.clip_ids()
    ids_b = other.clip_ids() if other else ids_a
    done, linked = 0, [np.empty((0, 2), np.int32)]
    for found in _compared(own, other, pairs, settings, mapper):
        done += PAIRS_PER_PIECE
        share = min(1.0, done / max(1, len(pairs)))
        on_progress(int(total / 2 * (1 + share)), total)
        linked.append(found.pairs[found.numbers[:, 0] >= LINKED])
        yield from found.edges(ids_a, ids_b)
    if other is None:
        more = missing_pairs(np.concatenate(linked), pairs)
        for found in _compared(own, None, more, settings, mapper):
            yield from found.edges(ids_a, ids_b)
    on_progress(total, total)


def candidates(
    own: PrintFile, other: PrintFile | None, settings: Perceptual, on_clip: Callable[[int], None]
) -> np.ndarray:
    """Pairs worth comparing.

    Args:
        own: The clips of the dataset.
        other: Those of a reference; None: pairs within the dataset.
        settings: How to search.
        on_clip: Called with the number of clips looked for.

    Returns:
        int32 [pairs, 2], ranks, sorted; within the dataset the first is the smaller one.
    """
    prints = own.open()
    index = build_index((other or own).open())
    found: list[np.ndarray] = [np.empty((0, 2), np.int32)]
    for rank in range(own.num_clips):
        film = prints.film(rank)
        need = settings.min_votes * settings.min_overlap * -(-len(film.pictures) // QUERY_STEP)
        likely = votes(
            film,
            index,
            mirror=settings.mirrored,
            min_cosine=settings.min_cosine,
            skip=None if other else rank,
        )
        ranks = [clip for clip, vote in likely[: settings.max_candidates] if vote >= need]
        if ranks:
            mine = np.full(len(ranks), rank, np.int32)
            found.append(np.stack([mine, np.array(ranks, np.int32)], axis=1))
        on_clip(rank + 1)
    pairs = np.concatenate(found)
    return np.unique(pairs if other else np.sort(pairs, axis=1), axis=0)


@dataclass(frozen=True)
class Piece:
    """Some pairs to compare.

    Attributes:
        own: The clips of the dataset.
        other: Those of a reference; None: the same.
        pairs: int32 [n, 2], ranks.
        limits: What a copy may differ in.
        floor: Lowest similarity that is reported.
    """

    own: PrintFile
    other: PrintFile | None
    pairs: np.ndarray
    limits: Limits
    floor: float


@dataclass(frozen=True)
class Found:
    """Pairs that show the same.

    Attributes:
        pairs: int32 [n, 2], ranks.
        numbers: float64 [n, 5]: similarity, offset_s, speed, mirrored (0 or 1), overlap_s.
    """

    pairs: np.ndarray
    numbers: np.ndarray

    def edges(self, ids_a: pa.Array, ids_b: pa.Array) -> Iterator[pa.RecordBatch]:
        """Rows of ``EDGES``."""
        if not len(self.pairs):
            return
        count = len(self.pairs)
        columns = {
            "clip_a": ids_a.take(pa.array(self.pairs[:, 0])),
            "clip_b": ids_b.take(pa.array(self.pairs[:, 1])),
            "level": pa.repeat(LEVEL, count),
            "similarity": pa.array(self.numbers[:, 0]),
            "offset_s": pa.array(self.numbers[:, 1]),
            "speed": pa.array(self.numbers[:, 2]),
            "mirrored": pa.array(self.numbers[:, 3] > 0),
            "overlap_s": pa.array(self.numbers[:, 4]),
        }
        arrays = [columns.get(f.name, pa.nulls(count, f.type)) for f in EDGES]
        yield pa.record_batch(arrays, schema=EDGES)


def work(piece: Piece) -> Found:
    """Compare the pairs of a piece."""
    own = piece.own.open()
    other = piece.other.open() if piece.other else own
    pairs, numbers = [], []
    rank, film = -1, None
    for a, b in piece.pairs.tolist():
        if a != rank or film is None:
            rank, film = a, own.film(a)
        result = compare(film, other.film(b), piece.limits)
        if result is None or round(result[0], DIGITS) < piece.floor:
            continue
        score, fit = result
        pairs.append((a, b))
        numbers.append((score, fit.offset_s, fit.speed, float(fit.mirrored), fit.overlap_s))
    return Found(
        np.array(pairs, np.int32).reshape(-1, 2),
        np.round(np.array(numbers, np.float64).reshape(-1, 5), DIGITS),
    )


def _compared(
    own: PrintFile,
    other: PrintFile | None,
    pairs: np.ndarray,
    settings: Perceptual,
    mapper: Mapper,
) -> Iterator[Found]:
    pieces = (
        Piece(own, other, pairs[at : at + PAIRS_PER_PIECE], settings.limits(), settings.floor)
        for at in range(0, len(pairs), PAIRS_PER_PIECE)
    )
    yield from mapper(work, pieces)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
