"""Nearest vectors: the tables of embeddings, their index, and the search in one of them.

Below ``INDEX_FROM_ROWS`` a search compares with every row. Above, the end of a run builds a graph
(HNSW over vectors of one byte per component; Malkov and Yashunin 2016, arXiv 1603.09320), and the
best of its finds are compared again with the vectors themselves. Of the index kinds that Lance has
this one found the most in synthetic vectors (``python -m tests.bench.vectors``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import lance
import numpy as np
import pyarrow as pa

TABLES = "embeddings_"
"""Tables of embeddings begin so; the rest names the model."""
COLUMN = "embedding"
INDEX = "embedding_neighbours"
INDEX_FROM_ROWS = 10_000
ROWS_PER_PARTITION = 20_000
PROBES = 32
"""Partitions looked into: all of them up to 640,000 rows."""
CHECKED_PER_RESULT = 8
"""Finds of the index, per wanted row, that are compared again exactly."""
RETRAIN_AT = 4
"""The index is built anew when a table has grown by this factor."""
TIE_DIGITS = 6


@dataclass(frozen=True)
class Neighbour:
    """A row near a vector.

    Attributes:
        clip_id: Whose vector.
        cosine: -1 to 1.
    """

    clip_id: str
    cosine: float


def is_vector(kind: pa.DataType) -> bool:
    """True for a vector, or a list of vectors: columns to compare, not to read."""
    if pa.types.is_list(kind):
        kind = kind.value_type
    return pa.types.is_fixed_size_list(kind)


def holds_embeddings(table: str, columns: pa.Schema) -> bool:
    """True for a table of embeddings, by its name and columns."""
    return table.startswith(TABLES) and COLUMN in columns.names


def refresh_index(dataset: lance.LanceDataset) -> None:
    """Bring the index of a table of embeddings up to its rows, or build the first one."""
    rows = dataset.count_rows()
    if rows < INDEX_FROM_ROWS:
        return
    if any(i.name == INDEX for i in dataset.describe_indices()):
        stats = dataset.stats.index_stats(INDEX)
        indexed, waiting = stats["num_indexed_rows"], stats["num_unindexed_rows"]
        if not waiting:
            return
        if indexed + waiting < RETRAIN_AT * indexed:
            dataset.optimize.optimize_indices(index_names=[INDEX])
            return
    dataset.create_index(
        COLUMN,
        "IVF_HNSW_SQ",
        name=INDEX,
        metric="cosine",
        replace=True,
        num_partitions=max(1, rows // ROWS_PER_PARTITION),
    )


def nearest(
    dataset: lance.LanceDataset,
    vector: np.ndarray,
    fingerprint: str,
    count: int,
    *,
    exact: bool = False,
) -> list[Neighbour]:
    """The rows whose vectors have the highest cosine to one, best first.

    Args:
        dataset: A table of embeddings.
        vector: float32 [dim].
        fingerprint: Only rows of this stage fingerprint.
        count: Rows wanted.
        exact: Compare with every row even where there is an index.
    """
    found = dataset.to_table(
        columns=["clip_id", "_distance"],
        filter=f"fingerprint = '{fingerprint}'",
        prefilter=True,
        nearest={
            "column": COLUMN,
            "q": np.asarray(vector, np.float32),
            "k": count,
            "metric": "cosine",
            "nprobes": PROBES,
            "refine_factor": CHECKED_PER_RESULT,
            "use_index": not exact,
        },
    )
    rows = [
        Neighbour(r["clip_id"], round(1 - r["_distance"], TIE_DIGITS))
        for r in found.to_pylist()
        if r["_distance"] is not None and math.isfinite(r["_distance"])  # a clip without a vector
    ]
    return sorted(rows, key=lambda n: (-n.cosine, n.clip_id))
