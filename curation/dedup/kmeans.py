"""Spherical k-means over unit vectors: who is to be compared with whom.

As SemDeDup does (Abbas et al. 2023, arXiv 2303.09540), with FAISS (Johnson et al. 2017, arXiv
1702.08734). Centres are learned from a sample; every vector then gets its nearest centres. With the
same vectors, settings, library version and kind of processor the clusters are the same, in
whatever order the clips were committed: the sample is drawn by rank of the clip id, and the number
of threads is fixed because sums depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from curation.dedup.vector_file import OpenVectors

THREADS = 2
"""Of FAISS, on every machine."""
ASSIGN_ROWS = 16_384
COMPARE_ALL_BELOW = 10_000
"""Up to this many vectors one cluster is the cheapest, and misses nothing."""


def default_clusters(count: int) -> int:
    """As many clusters as make finding the cluster and comparing in it cost about the same."""
    return 1 if count < COMPARE_ALL_BELOW else round(count**0.5)


def learn_centres(
    vectors: OpenVectors,
    count: int,
    num_clusters: int,
    *,
    sample_per_cluster: int,
    max_iterations: int,
    seed: int,
) -> np.ndarray:
    """Centres of clusters.

    Args:
        vectors: All of them.
        count: How many there are, at least 1.
        num_clusters: How many are wanted; no more than there are vectors.
        sample_per_cluster: Vectors to learn from, for each cluster.
        max_iterations: Rounds of k-means.
        seed: Of the sample and of the first centres.

    Returns:
        float32 [num_clusters, dim] of length 1.
    """
    import faiss

    num_clusters = min(num_clusters, count)
    sample = _sample(count, num_clusters * sample_per_cluster, seed)
    rows = vectors.rows(sample)
    if num_clusters == 1:
        mean = rows.mean(axis=0, dtype=np.float64, keepdims=True)
        return (mean / max(np.linalg.norm(mean), 1e-12)).astype(np.float32)
    with _threads(faiss):
        kmeans = faiss.Kmeans(
            rows.shape[1],
            num_clusters,
            niter=max_iterations,
            seed=seed,
            spherical=True,
            min_points_per_centroid=1,
            max_points_per_centroid=len(rows),
        )
        kmeans.train(rows)
    return np.asarray(kmeans.centroids, np.float32)


def nearest_centres(
    vectors: OpenVectors, count: int, centres: np.ndarray, probes: int
) -> Iterator[np.ndarray]:
    """The nearest centres of all vectors by rank, block by block: int32 [rows, probes]."""
    import faiss

    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(np.ascontiguousarray(centres))  # pyright: ignore[reportCallIssue]
    probes = min(probes, len(centres))
    for start in range(0, count, ASSIGN_ROWS):
        rows = vectors.rows(np.arange(start, min(start + ASSIGN_ROWS, count)))
        with _threads(faiss):
            _, found = index.search(rows, probes)  # pyright: ignore[reportCallIssue]
        vectors.release()
        yield found.astype(np.int32)


def _sample(count: int, wanted: int, seed: int) -> np.ndarray:
    """Ranks to learn from, increasing."""
    if wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, wanted, replace=False))


@contextmanager
def _threads(faiss: object) -> Iterator[None]:
    """FAISS with a fixed number of threads, which is a setting of the whole process."""
    before = faiss.omp_get_max_threads()  # type: ignore[attr-defined]
    faiss.omp_set_num_threads(THREADS)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)  # type: ignore[attr-defined]
