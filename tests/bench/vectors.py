"""Search in synthetic embeddings: how much the index finds of what a full comparison finds.

    python -m tests.bench.vectors [--rows 50000] [--dim 768]

Vectors lie in clusters of about a hundred, as clips of the same videos do; queries are vectors of
the table with noise.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa

from curation.catalog.vectors import COLUMN, Neighbour, nearest, refresh_index

FINGERPRINT = "f" * 32
RESULTS = 10


def synthetic_vectors(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """float32 [rows, dim] of length 1, in clusters that stretch in 24 common directions."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, rows // 100), dim)).astype(np.float32)
    directions = rng.standard_normal((24, dim)).astype(np.float32) / np.float32(24**0.5)
    vectors = centres[rng.integers(0, len(centres), rows)]
    vectors += 0.6 * rng.standard_normal((rows, 24)).astype(np.float32) @ directions
    vectors += 0.3 * rng.standard_normal((rows, dim), np.float32)
    return _unit(vectors)


def queries(vectors: np.ndarray, count: int, seed: int = 1) -> np.ndarray:
    """Vectors near some of the table's."""
    rng = np.random.default_rng(seed)
    near = vectors[rng.choice(len(vectors), count)]
    return _unit(near + 0.6 * _unit(rng.standard_normal(near.shape, np.float32)))


def write_table(path: Path, vectors: np.ndarray) -> lance.LanceDataset:
    """A table of embeddings whose clip ids are row numbers."""
    flat = pa.array(vectors.ravel())
    table = pa.table(
        {
            "clip_id": [f"{i:032d}" for i in range(len(vectors))],
            "fingerprint": [FINGERPRINT] * len(vectors),
            COLUMN: pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
    )
    return lance.write_dataset(table, str(path))


def recall(dataset: lance.LanceDataset, vectors: np.ndarray, asked: np.ndarray) -> float:
    """Share of the ten truly nearest rows that the index finds, over all queries."""
    truth = np.argsort(-(asked @ vectors.T), axis=1)[:, :RESULTS]
    found = [_ids(nearest(dataset, q, FINGERPRINT, RESULTS)) for q in asked]
    hits = sum(len(set(t) & f) for t, f in zip(truth.tolist(), found, strict=True))
    return hits / truth.size


def _ids(rows: list[Neighbour]) -> set[int]:
    return {int(n.clip_id) for n in rows}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _ms(dataset: lance.LanceDataset, asked: np.ndarray, *, exact: bool) -> float:
    started = time.perf_counter()
    for query in asked:
        nearest(dataset, query, FINGERPRINT, RESULTS, exact=exact)
    return (time.perf_counter() - started) / len(asked) * 1000


def main() -> None:
    """Print build time, recall and time per query."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=768)
    given = parser.parse_args()
    vectors = synthetic_vectors(given.rows, given.dim)
    asked = queries(vectors, 100)
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_table(Path(folder) / "x.lance", vectors)
        scan_ms = _ms(dataset, asked[:10], exact=True)
        started = time.perf_counter()
        refresh_index(dataset)
        build_s = time.perf_counter() - started
        found = recall(dataset, vectors, asked)
        index_ms = _ms(dataset, asked, exact=False)
    print(f"{given.rows} vectors of {given.dim}: index built in {build_s:.1f} s")
    print(f"recall@{RESULTS} {found:.4f}; {index_ms:.1f} ms a query, full scan {scan_ms:.1f} ms")


if __name__ == "__main__":
    main()
