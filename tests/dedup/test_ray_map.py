"""Pieces of work on a real, small Ray cluster: the pairs that this process finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.catalog.views import Views
from curation.dedup import semantic
from curation.dedup.semantic import Semantic
from curation.engine.ray_data import RayCluster
from curation.engine.ray_map import RayMap
from tests.dedup.catalogs import write_dataset
from tests.dedup.test_semantic import found_pairs, planted


@pytest.fixture(scope="module")
def ray_map() -> Iterator[RayMap]:
    cluster = RayCluster(num_cpus=2)
    cluster.start()
    try:
        yield RayMap(cluster)
    finally:
        cluster.stop()


def _square(number: int) -> int:
    if number < 0:
        raise ValueError("a negative number")
    return number * number


def test_results_come_in_order_and_errors_come_through(ray_map: RayMap) -> None:
    assert list(ray_map(_square, [])) == []
    assert list(ray_map(_square, range(20))) == [n * n for n in range(20)]
    with pytest.raises(ValueError, match="negative"):
        list(ray_map(_square, [1, -1]))


def test_other_processes_find_the_same_pairs(
    ray_map: RayMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantic, "ROWS_PER_PIECE", 50)
    views = Views(write_dataset(tmp_path / "root", planted(400)))
    settings = Semantic(floor=0.8, num_clusters=12)
    here = found_pairs(views, settings)
    there = found_pairs(views, settings, mapper=ray_map, scratch=tmp_path)
    assert there == here and len(here) > 60
