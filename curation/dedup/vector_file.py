"""A scratch file of all clips' unit vectors, so that comparing them takes no memory for the whole.

A million vectors of 1280 components are 5 GB. They are streamed from the catalog into one file in
the order they come, and rows are read back by the rank of their clip id: what is made of them does
not depend on the order in which a run happened to commit its clips.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from curation.dedup.lookup import is_among, sorted_order
from curation.errors import CatalogError

if TYPE_CHECKING:  # the catalog knows plans, and plans know the settings of this room
    from curation.catalog.views import Views

BATCH_ROWS = 8192
VECTORS, ORDER, IDS = "vectors.f32", "order.npy", "ids.arrow"


@dataclass(frozen=True)
class VectorFile:
    """Unit vectors in a folder; small enough to be sent to a worker, which opens the files.

    Attributes:
        folder: Holds the files; anything else may be put beside them.
        count: Clips with a vector.
        dim: Components of each.
    """

    folder: Path
    count: int
    dim: int

    def clip_ids(self) -> pa.StringArray:
        """Ids by rank: sorted, each once."""
        if self.count == 0:
            return pa.array([], pa.string())
        with pa.OSFile(str(self.folder / IDS)) as file:
            return pa.ipc.open_file(file).read_all().column("clip_id").combine_chunks()

    def open(self) -> OpenVectors:
        """Open for reading."""
        return OpenVectors(self)


class OpenVectors:
    """Rows of a :class:`VectorFile` by rank.

    Args:
        file: What to read.
    """

    def __init__(self, file: VectorFile) -> None:
        self._order: np.ndarray | None = None
        if file.count:
            self._order = np.load(file.folder / ORDER, mmap_mode="r")
            with open(file.folder / VECTORS, "rb") as raw:
                self._map = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
            flat = np.frombuffer(self._map, np.float32)
            self._rows = flat.reshape(file.count, file.dim)

    def rows(self, ranks: np.ndarray) -> np.ndarray:
        """float32 [len(ranks), dim] of length 1, a copy."""
        assert self._order is not None
        places = self._order[ranks]
        near = np.argsort(places)  # the file is read forwards
        rows = np.empty((len(places), self._rows.shape[1]), np.float32)
        rows[near] = self._rows[places[near]]
        return rows

    def release(self) -> None:
        """Give back the memory of what was read; it stays in the system's cache while it can."""
        if self._order is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def write_vectors(views: Views, folder: Path, *, among: pa.Array | None = None) -> VectorFile:
    """Stream the current vectors of a dataset into a folder.

    Args:
        views: The dataset.
        folder: Where to; empty.
        among: Only of these clips.

    Raises:
        CatalogError: The dataset has no embeddings, or those of a clip occur twice.
    """
    dim = vector_length(views)
    ids: list[pa.Array] = []
    # Nulls are left out here: Lance does not take such a filter on a column of vectors.
    stream = views.reader("SELECT clip_id, embedding FROM embeddings", BATCH_ROWS)
    with open(folder / VECTORS, "wb") as out:
        for batch in stream:
            batch = batch.filter(batch.column("embedding").is_valid())
            if among is not None:
                batch = batch.filter(is_among(batch.column("clip_id"), among))
            rows = unit_rows(batch.column("embedding"), dim)
            usable = np.isfinite(rows).all(axis=1)  # a vector of zeros points nowhere
            ids.append(batch.column("clip_id").filter(pa.array(usable)))
            out.write(np.ascontiguousarray(rows[usable]).data)
    found = pa.chunked_array(ids, pa.string())
    order = sorted_order(found)
    ranked = found.take(pa.array(order)).combine_chunks()
    if len(ranked.unique()) != len(ranked):
        raise CatalogError("a clip has two vectors", where="embeddings")
    np.save(folder / ORDER, order)
    table = pa.table({"clip_id": ranked})
    with pa.OSFile(str(folder / IDS), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return VectorFile(folder, len(ranked), dim)


def vector_length(views: Views) -> int:
    """Components of the current embeddings.

    Raises:
        CatalogError: The dataset has none.
    """
    try:
        kind = views.reader("SELECT embedding FROM embeddings LIMIT 0").schema.field(0).type
    except Exception as exc:
        raise no_embeddings() from exc
    return int(kind.list_size)


def no_embeddings() -> CatalogError:
    """There is nothing to compare by meaning."""
    return CatalogError(
        "the dataset has no embeddings",
        where="dedup.semantic",
        mend="put the stage embed in the plan and run curate, or leave the level out",
    )


def unit_rows(vectors: pa.Array, dim: int) -> np.ndarray:
    """float32 [n, dim] of length 1 of a column of vectors; not finite where it has no direction."""
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    rows = flat.astype(np.float32, copy=False).reshape(-1, dim)
    with np.errstate(divide="ignore", invalid="ignore"):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
