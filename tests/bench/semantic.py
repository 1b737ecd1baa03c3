"""The semantic level on a synthetic dataset: time, memory, and how many planted pairs it finds.

    python -m tests.bench.semantic [--rows 1000000] [--dim 256] [--slate 0] [--workers 0]

Vectors lie in clusters of about a hundred, as clips of the same videos do. One in twenty nearly
repeats another, at a cosine between 0.9 and 1. ``--slate`` clips more show one picture with a
little noise: too many pairs to write down. ``--workers`` compares on so many cores of a local Ray.
The catalog is made by another process, so that the memory is that of the work alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.dedup.duplicates import find_duplicates
from curation.dedup.edges import bring_edges
from curation.dedup.semantic import Mapper
from curation.dedup.settings import Dedup
from curation.ids import digest
from tests.dedup.catalogs import add_clips, new_catalog, unit

BATCH_ROWS = 50_000
REPEATS = 20
LOWEST_COSINE = 0.9
SLATE_NOISE = 0.05
"""Length of the noise: two clips of the slate have a cosine of about 0.995."""


def make(root: Path, rows: int, dim: int, slate: int, truth: Path) -> None:
    """Write the catalog, and the planted pairs beside it: row numbers and cosines."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, rows // 100), dim)).astype(np.float32)
    directions = rng.standard_normal((24, dim)).astype(np.float32) / np.float32(24**0.5)
    picture = unit(rng.standard_normal((1, dim)))
    catalog = new_catalog(root, dim)
    planted: list[np.ndarray] = []
    for first in range(0, rows, BATCH_ROWS):
        count = min(BATCH_ROWS, rows - first)
        vectors = centres[rng.integers(0, len(centres), count)]
        vectors += 0.6 * rng.standard_normal((count, 24)).astype(np.float32) @ directions
        vectors = unit(vectors + 0.3 * rng.standard_normal((count, dim), np.float32))
        order = rng.permutation(count)
        copies, of = order[: count // REPEATS], order[-(count // REPEATS) :]
        cosine = rng.uniform(LOWEST_COSINE, 1, len(copies))[:, None]
        away = unit(rng.standard_normal((len(copies), dim)))
        vectors[copies] = unit(cosine * vectors[of] + np.sqrt(1 - cosine**2) * away)
        exact = (vectors[copies] * vectors[of]).sum(axis=1)
        planted.append(np.stack([copies + first, of + first, exact], axis=1))
        add_clips(catalog, [clip_id(first + i) for i in range(count)], vectors)
    for first in range(0, slate, BATCH_ROWS):
        count = min(BATCH_ROWS, slate - first)
        noise = SLATE_NOISE * unit(rng.standard_normal((count, dim)))
        add_clips(catalog, [clip_id(rows + first + i) for i in range(count)], unit(picture + noise))
    np.save(truth, np.concatenate(planted))


def clip_id(row: int) -> str:
    """An id as hashes are: spread over the whole range."""
    return digest("bench", row)


def recall(catalog: Catalog, truth: np.ndarray, floor: float, below: float) -> float:
    """Share of the planted pairs with a cosine in ``[floor, below)`` that are edges."""
    some = truth[(truth[:, 2] >= floor) & (truth[:, 2] < below)]
    wanted = {_key(int(a), int(b)) for a, b, _ in some}
    edges = catalog.dataset("edges").to_table(columns=["clip_a", "clip_b"])
    pairs = zip(*(edges.column(c).to_pylist() for c in edges.column_names), strict=True)
    return sum(pair in wanted for pair in pairs) / len(wanted)


def _key(a: int, b: int) -> tuple[str, str]:
    first, second = sorted((clip_id(a), clip_id(b)))
    return first, second


def measure(root: Path, truth: Path, mapper: Mapper) -> None:
    """Find, find again, choose; print what it took."""
    catalog = Catalog.open(str(root))
    views = Views(catalog)
    settings = Dedup.model_validate({"semantic": {}})
    assert settings.semantic is not None
    for what in ("found", "nothing changed"):
        began, busy = time.perf_counter(), time.process_time()
        report = bring_edges(catalog, views, settings, mapper=mapper)
        took, busy = time.perf_counter() - began, time.process_time() - busy
        (edges,) = report.sets
        print(f"{what}: {took:.1f} s, CPU {busy:.1f} s", flush=True)
    print(f"{edges.num_edges} edges, {edges.num_crowded} crowded clips; peak {_peak_gb():.2f} GB")
    passed = catalog.dataset("clips").to_table(columns=["clip_id"]).column("clip_id")
    for min_cosine in (0.95, 0.98):
        mine = Dedup.model_validate({"semantic": {"min_cosine": min_cosine}})
        began = time.perf_counter()
        choice = find_duplicates(catalog, views, mine, report, passed)
        print(
            f"choice at {min_cosine}: {choice.dropped.num_rows} of {len(passed)} dropped in "
            f"{time.perf_counter() - began:.1f} s; peak {_peak_gb():.2f} GB",
            flush=True,
        )
    for floor, below in ((0.9, 0.95), (0.95, 1.1)):
        share = recall(catalog, np.load(truth), floor, below)
        print(f"planted pairs from {floor} to {min(below, 1)} found: {share:.5f}")


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Make a catalog and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--slate", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, truth = Path(folder) / "root", Path(folder) / "truth.npy"
        maker = multiprocessing.get_context("spawn").Process(
            target=make, args=(root, given.rows, given.dim, given.slate, truth)
        )
        maker.start()
        maker.join()
        print(f"{given.rows} + {given.slate} vectors of {given.dim}; {pa.cpu_count()} cores")
        if not given.workers:
            measure(root, truth, map)
            return
        from curation.engine.ray_data import RayCluster
        from curation.engine.ray_map import RayMap

        cluster = RayCluster(num_cpus=given.workers)
        cluster.start()
        try:
            measure(root, truth, RayMap(cluster))
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
