"""The semantic level: the pairs of a full comparison, whatever the order, blocks or engine."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.catalog.views import Views
from curation.dedup import compare, kmeans, semantic
from curation.dedup.clusters import cluster_of
from curation.dedup.semantic import CROWDED, Semantic, semantic_edges
from curation.errors import CatalogError, ConfigError
from curation.schema import EDGES
from tests.dedup.catalogs import (
    add_clips,
    ids_of,
    new_catalog,
    scattered,
    unit,
    write_dataset,
)

Pair = tuple[str, str]
DIM = 24


def planted(count: int, seed: int = 0) -> np.ndarray:
    """Vectors of which one in five nearly repeats another, more or less."""
    rng = np.random.default_rng(seed)
    vectors = scattered(count, DIM, seed)
    again = np.arange(4, count, 5)
    noise = rng.standard_normal((len(again), DIM)) * rng.uniform(0, 0.15, (len(again), 1))
    vectors[again] = vectors[again - 3] + noise
    return unit(vectors)


def all_pairs(vectors: np.ndarray, ids: list[str], floor: float) -> dict[Pair, float]:
    """What a full comparison in double precision finds."""
    rows = unit(vectors).astype(np.float64)
    cosines = np.round(rows @ rows.T, 6)
    i, j = np.nonzero(np.triu(cosines >= floor, 1))
    return {
        (min(ids[a], ids[b]), max(ids[a], ids[b])): cosines[a, b]
        for a, b in zip(i.tolist(), j.tolist(), strict=True)
    }


def found_pairs(views: Views, settings: Semantic, **how: object) -> dict[Pair, float]:
    batches = list(semantic_edges(views, settings, **how))  # pyright: ignore[reportArgumentType]
    assert all(b.schema.equals(EDGES) for b in batches)
    rows = pa.Table.from_batches(batches, schema=EDGES).to_pylist()
    pairs = {(r["clip_a"], r["clip_b"]): r["similarity"] for r in rows}
    assert len(pairs) == len(rows), "a pair occurs twice"
    assert {r["level"] for r in rows} <= {"semantic"}
    return pairs


def test_one_cluster_finds_every_pair_and_its_cosine(tmp_path: Path) -> None:
    vectors = planted(300)
    views = Views(write_dataset(tmp_path, vectors))
    found = found_pairs(views, Semantic(min_cosine=0.95, floor=0.8))
    truth = all_pairs(vectors, ids_of(300), 0.8)
    assert found.keys() == truth.keys() and len(found) > 40
    assert all(a < b for a, b in found)
    assert found == pytest.approx(truth, abs=1e-6)


def test_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views = Views(write_dataset(tmp_path, planted(200)))
    settings = Semantic(floor=0.8, num_clusters=5)
    whole = found_pairs(views, settings)
    for module, name, value in [
        (compare, "ROWS", 7),
        (compare, "COLUMNS", 11),
        (compare, "PAIRS_AT_A_TIME", 3),
        (kmeans, "ASSIGN_ROWS", 13),
        (semantic, "ROWS_PER_PIECE", 20),
        (semantic, "EDGES_AT_A_TIME", 4),
    ]:
        monkeypatch.setattr(module, name, value)
    assert found_pairs(views, settings) == whole and len(whole) > 20


def test_the_order_of_the_rows_changes_nothing(tmp_path: Path) -> None:
    vectors, ids = planted(200), ids_of(200)
    turned = new_catalog(tmp_path / "turned", DIM)
    add_clips(turned, ids[::-1], vectors[::-1])
    settings = Semantic(floor=0.8, num_clusters=6)
    straight = found_pairs(Views(write_dataset(tmp_path / "straight", vectors)), settings)
    assert found_pairs(Views(turned), settings) == straight and straight


def test_next_nearest_clusters_find_pairs_that_a_border_divides(tmp_path: Path) -> None:
    vectors = planted(2000)
    views = Views(write_dataset(tmp_path, vectors))
    truth = all_pairs(vectors, ids_of(2000), 0.9)
    one, three = (
        found_pairs(views, Semantic(floor=0.9, num_clusters=40, probes=probes)) for probes in (1, 3)
    )
    assert one.keys() < three.keys() <= truth.keys()
    assert len(three) >= 0.99 * len(truth) > 200


def test_a_crowd_is_named_and_every_other_pair_is_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vectors = planted(160)
    slate = scattered(1, DIM, 9)
    # The same slate again and again; some clips of it are only near a few.
    vectors[:80] = unit(slate + 0.01 * rng.standard_normal((80, DIM)))
    ids = ids_of(160)
    views = Views(write_dataset(tmp_path, vectors))
    told: list[pa.Table] = []
    settings = Semantic(floor=0.9, max_neighbours=10, num_clusters=4)
    found = found_pairs(views, settings, on_crowded=told.append)
    (crowd,) = told
    assert crowd.schema.equals(CROWDED)
    crowded = set(crowd.column("clip_id").to_pylist())
    assert crowded == set(ids[:80])
    truth = all_pairs(vectors, ids, 0.9)
    left_out = truth.keys() - found.keys()
    assert len(left_out) == 80 * 79 // 2
    assert all(a in crowded and b in crowded for a, b in left_out)
    assert found.keys() <= truth.keys() and len(found) > 5
    assert len(crowd.column("clusters")[0]) == 3


def test_clips_without_a_direction_are_left_out(tmp_path: Path) -> None:
    vectors = scattered(6, DIM)
    vectors[1], vectors[2] = vectors[0], vectors[0]
    vectors[3] = 0
    views = Views(write_dataset(tmp_path, vectors, without=[2]))
    ids = ids_of(6)
    expected = {(min(ids[:2]), max(ids[:2])): 1.0}
    assert found_pairs(views, Semantic()) == expected


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(tmp_path: Path, count: int) -> None:
    views = Views(write_dataset(tmp_path, scattered(count, DIM)))
    assert found_pairs(views, Semantic()) == {}


def test_a_reference_gives_its_nearest_clip(tmp_path: Path) -> None:
    vectors, held = scattered(30, DIM), scattered(10, DIM, 7)
    held[0], held[1] = vectors[5], unit(vectors[5:6] + 0.05)[0]
    held[2] = unit(vectors[8:9] + 0.01)[0]
    views = Views(write_dataset(tmp_path / "own", vectors))
    other = Views(write_dataset(tmp_path / "other", held, seed=1))
    found = found_pairs(views, Semantic(), reference=other)
    ids, there = ids_of(30), ids_of(10, 1)
    assert found.keys() == {(ids[5], there[0]), (ids[8], there[2])}
    assert found[ids[5], there[0]] == 1.0 > found[ids[8], there[2]] > 0.99


def test_vectors_of_another_length_cannot_be_compared(tmp_path: Path) -> None:
    views = Views(write_dataset(tmp_path / "own", scattered(3, DIM)))
    other = Views(write_dataset(tmp_path / "other", scattered(3, DIM + 1)))
    with pytest.raises(ConfigError, match="25 components"):
        list(semantic_edges(views, Semantic(), reference=other))


def test_a_dataset_without_embeddings_is_refused(tmp_path: Path) -> None:
    from curation.schema import FIXED_TABLES
    from tests.pipelines.page_parts import empty_catalog

    assert "embeddings" not in FIXED_TABLES
    with pytest.raises(CatalogError, match="no embeddings"):
        list(semantic_edges(Views(empty_catalog(tmp_path)), Semantic()))


def test_a_floor_above_the_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="above min_cosine"):
        Semantic(min_cosine=0.8, floor=0.9)


def test_clusters_hold_what_lies_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    kinds = np.repeat(np.arange(4), 30)
    vectors = unit(scattered(4, DIM)[kinds] + 0.05 * rng.standard_normal((120, DIM)))
    views = Views(write_dataset(tmp_path, vectors, without=[7]))
    table = cluster_of(views, 4, seed=2)
    assert table.equals(cluster_of(views, 4, seed=2))
    cluster = dict(zip(*(table.column(c).to_pylist() for c in table.column_names), strict=True))
    ids = ids_of(120)
    assert len(cluster) == 119 and ids[7] not in cluster
    groups = [{cluster[ids[i]] for i in range(120) if kinds[i] == k and i != 7} for k in range(4)]
    assert all(len(g) == 1 for g in groups) and len(set.union(*groups)) == 4
    assert len(set(cluster_of(views, 1000).column("cluster").to_pylist())) <= 119


def test_other_processes_find_the_same_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantic, "ROWS_PER_PIECE", 100)
    views = Views(write_dataset(tmp_path / "root", planted(400)))
    settings = Semantic(floor=0.8, num_clusters=12)
    here = found_pairs(views, settings)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = found_pairs(views, settings, mapper=pool.map, scratch=tmp_path)
    assert there == here and len(here) > 60
