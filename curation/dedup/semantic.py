"""The semantic level: clips whose embeddings point the same way.

SemDeDup (Abbas et al. 2023, arXiv 2303.09540): vectors are clustered, and cosines are taken within
each cluster only. Here each clip also visits the next-nearest clusters, and every found pair gets
its exact cosine. Nothing is decided: pairs down to ``floor`` are edges, and ``min_cosine`` is
applied when the choice is made, so another value takes seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.dedup.compare import PROBES, Pairs, Piece, exact_cosines, read_pairs, work
from curation.dedup.kmeans import default_clusters, learn_centres, nearest_centres
from curation.dedup.vector_file import OpenVectors, VectorFile, write_vectors
from curation.errors import ConfigError
from curation.schema import EDGES, INT32, STRING, schema

if TYPE_CHECKING:  # the catalog knows plans, and plans know these settings
    from curation.catalog.views import Views

LEVEL = "semantic"
ROWS_PER_PIECE = 20_000
REFERENCE_ROWS, OWN_ROWS = 8192, 2048
EDGES_AT_A_TIME = 65_536
CROWDED = schema(clip_id=STRING, clusters=pa.list_(INT32))
"""Clips that have pairs which are not among the edges, and the clusters they lie in or visit."""
Progress = Callable[[int, int], None]
"""Called with the number of clips compared and the number of all."""


class Mapper(Protocol):
    """Does pieces of work, here or elsewhere, and hands the results back in order."""

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterable[Any]:
        """Apply a function to each item."""
        ...


class Semantic(BaseModel):
    """When two clips are the same by their embeddings.

    Attributes:
        min_cosine: Pairs at least this near are duplicates. What a cosine means depends on the
            model; the room's page has measurements.
        floor: Pairs at least this near are stored.
        num_clusters: None: as many as are quickest, one for small datasets.
        probes: Clusters in which a clip is looked for: the nearest ones.
        seed: Of the clustering.
        max_iterations: Rounds of k-means.
        sample_per_cluster: Clips to learn the clusters from, for each cluster.
        max_neighbours: More pairs per clip than this are not stored, but compared again at every
            choice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_cosine: float = Field(default=0.95, gt=0, le=1)
    floor: float = Field(default=0.9, gt=0, le=1)
    num_clusters: int | None = Field(default=None, ge=1)
    probes: int = Field(default=3, ge=1)
    seed: int = Field(default=0, ge=0)
    max_iterations: int = Field(default=20, ge=1)
    sample_per_cluster: int = Field(default=64, ge=1)
    max_neighbours: int = Field(default=50, ge=1)

    @model_validator(mode="after")
    def _order(self) -> Semantic:
        if self.floor > self.min_cosine:
            raise ValueError(f"floor {self.floor} is above min_cosine {self.min_cosine}")
        return self

    @property
    def threshold(self) -> float:
        """From which similarity a pair is a duplicate."""
        return self.min_cosine

    def stored(self) -> dict[str, Any]:
        """The settings that the stored edges depend on."""
        return self.model_dump(mode="json", exclude={"min_cosine"})


def semantic_edges(
    views: Views,
    settings: Semantic,
    *,
    reference: Views | None = None,
    on_progress: Progress = lambda done, total: None,
    on_crowded: Callable[[pa.Table], None] = lambda rows: None,
    mapper: Mapper = map,
    scratch: Path | None = None,
) -> Iterator[pa.RecordBatch]:
    """Pairs of clips with a cosine of at least ``floor``, as rows of ``EDGES``.

    Each pair once, in no particular order; ``reference`` and ``fingerprint`` are left null. With a
    reference, the one nearest clip of it for each clip that is near any: enough to reject it.

    Args:
        views: The dataset.
        settings: How to compare.
        reference: Another dataset to compare with, instead of within this one.
        on_progress: See ``Progress``.
        on_crowded: Called once with the clips whose pairs with each other are missing, a table of
            ``CROWDED``, before the edges end.
        mapper: What does the comparing: ``map``, or ``ray_map.RayMap``.
        scratch: Where the vectors are put meanwhile (as large as they are); every worker must see
            it. None: the system's temporary folder.

    Raises:
        CatalogError: A dataset has no embeddings.
        ConfigError: The vectors of the two datasets have different lengths.
    """
    with tempfile.TemporaryDirectory(prefix="clipmill-dedup-", dir=scratch) as folder:
        own = write_vectors(views, _made(Path(folder) / "own"))
        if reference is not None:
            other = write_vectors(reference, _made(Path(folder) / "reference"))
            yield from _to_reference(own, other, settings.floor, on_progress)
            return
        yield from _within(own, settings, on_progress, on_crowded, mapper)


def as_edges(pairs: Pairs, ids_a: pa.Array, ids_b: pa.Array) -> Iterator[pa.RecordBatch]:
    """Rows of ``EDGES`` of some pairs of ranks; what embeddings do not tell is null."""
    for start in range(0, len(pairs.a), EDGES_AT_A_TIME):
        some = slice(start, start + EDGES_AT_A_TIME)
        columns = {
            "clip_a": ids_a.take(pa.array(pairs.a[some])),
            "clip_b": ids_b.take(pa.array(pairs.b[some])),
            "level": pa.repeat(LEVEL, len(pairs.a[some])),
            "similarity": pa.array(pairs.cosine[some]),
        }
        arrays = [columns.get(f.name, pa.nulls(len(pairs.a[some]), f.type)) for f in EDGES]
        yield pa.record_batch(arrays, schema=EDGES)


def spread_over_clusters(
    file: VectorFile, settings: Semantic, num_clusters: int | None = None
) -> np.ndarray:
    """The nearest clusters of every clip by rank: int32 [clips, probes]."""
    vectors = file.open()
    wanted = num_clusters or settings.num_clusters or default_clusters(file.count)
    centres = learn_centres(
        vectors,
        file.count,
        wanted,
        sample_per_cluster=settings.sample_per_cluster,
        max_iterations=settings.max_iterations,
        seed=settings.seed,
    )
    return np.concatenate(list(nearest_centres(vectors, file.count, centres, settings.probes)))


def _within(
    file: VectorFile,
    settings: Semantic,
    on_progress: Progress,
    on_crowded: Callable[[pa.Table], None],
    mapper: Mapper,
) -> Iterator[pa.RecordBatch]:
    if file.count < 2:
        on_crowded(CROWDED.empty_table())
        return
    probes = spread_over_clusters(file, settings)
    np.save(file.folder / PROBES, probes)
    sizes = np.bincount(probes[:, 0])
    pieces = list(_pieces(file, sizes, settings))
    clip_ids = file.clip_ids()
    crowded: list[np.ndarray] = []
    done = 0
    for piece, path in zip(pieces, mapper(work, pieces), strict=True):
        pairs = read_pairs(path)
        path.unlink()
        crowded.append(pairs.crowded)
        done += int(sizes[list(piece.clusters)].sum())
        on_progress(done, file.count)
        yield from as_edges(pairs, clip_ids, clip_ids)
    ranks = np.unique(np.concatenate(crowded))
    flat, width = pa.array(probes[ranks].ravel()), probes.shape[1]
    lists = pa.FixedSizeListArray.from_arrays(flat, width).cast(pa.list_(INT32))
    on_crowded(pa.table([clip_ids.take(pa.array(ranks)), lists], schema=CROWDED))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _pieces(file: VectorFile, sizes: np.ndarray, settings: Semantic) -> Iterator[Piece]:
    """Clusters in order, enough at a time to be worth sending."""
    waiting: list[int] = []
    for cluster in np.flatnonzero(sizes).tolist():
        waiting.append(cluster)
        if sizes[waiting].sum() >= ROWS_PER_PIECE:
            yield Piece(file, tuple(waiting), settings.floor, settings.max_neighbours)
            waiting = []
    if waiting:
        yield Piece(file, tuple(waiting), settings.floor, settings.max_neighbours)


def _to_reference(
    own: VectorFile, other: VectorFile, floor: float, on_progress: Progress
) -> Iterator[pa.RecordBatch]:
    """The nearest reference clip of each own one; every pair is compared, without clusters."""
    if own.dim != other.dim:
        raise ConfigError(
            f"its vectors have {other.dim} components, those here {own.dim}",
            where="dedup.held_out",
            mend="embed both datasets with the same model",
        )
    if not own.count or not other.count:
        return
    mine, theirs = own.open(), other.open()
    own_ids, other_ids = own.clip_ids(), other.clip_ids()
    for start in range(0, own.count, OWN_ROWS):
        ranks = np.arange(start, min(start + OWN_ROWS, own.count))
        nearest = _nearest(mine.rows(ranks), theirs, other.count)
        cosine = exact_cosines(mine, ranks, theirs, nearest)
        near = cosine >= floor
        mine.release()
        on_progress(int(ranks[-1]) + 1, own.count)
        nothing = np.empty(0, np.int64)
        pairs = Pairs(ranks[near], nearest[near], cosine[near], nothing)
        yield from as_edges(pairs, own_ids, other_ids)


def _nearest(rows: np.ndarray, theirs: OpenVectors, count: int) -> np.ndarray:
    """Rank of the nearest of the others for each row; of equals the first."""
    best, where = np.full(len(rows), -2.0, np.float32), np.zeros(len(rows), np.int64)
    for start in range(0, count, REFERENCE_ROWS):
        block = theirs.rows(np.arange(start, min(start + REFERENCE_ROWS, count)))
        cosines = rows @ block.T
        top = cosines.argmax(axis=1)
        value = cosines[np.arange(len(rows)), top]
        better = value > best
        best[better], where[better] = value[better], top[better] + start
    theirs.release()
    return where
