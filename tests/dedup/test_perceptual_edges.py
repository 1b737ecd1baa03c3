"""The whole level on a catalog: candidates, edges, groups; the same whatever the order."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.catalog.views import Views
from curation.dedup import perceptual, perceptual_groups, perceptual_search
from curation.dedup.perceptual import Perceptual, perceptual_edges
from curation.dedup.perceptual_groups import missing_pairs
from curation.dedup.perceptual_path import Film
from curation.dedup.perceptual_search import descriptors, mirrored
from curation.errors import CatalogError
from curation.schema import EDGES
from tests.dedup.catalogs import ids_of, new_catalog
from tests.dedup.films import Scene
from tests.dedup.print_catalogs import new_print_catalog

COPIES: tuple[dict[str, Any], ...] = (
    {"noise": 1.5},
    {"mirrored": True, "gain": 0.9},
    {"crop": (0.05, 0.05, 0.05, 0.05)},
)


@pytest.fixture(scope="module")
def films() -> dict[str, Film]:
    """Twelve clips of as many scenes, three copies of the first two, and a moment later of one."""
    scenes = [
        Scene(seed=n, pan=0.05 * (n % 3), things=((0.2 + 0.05 * n, 0.1 * (n % 7), 0.0),))
        for n in range(12)
    ]
    made = [s.film(0.0, 3.0) for s in scenes]
    made += [scenes[i].film(0.0, 3.0, **how) for i in (0, 1) for how in COPIES]
    made.append(Scene(seed=0, things=((0.3, 0.7, 0.0),)).film(0.0, 3.0))
    return dict(zip(sorted(ids_of(len(made))), made, strict=True))


def dataset(root: Path, films: dict[str, Film], order: list[str] | None = None) -> Views:
    catalog = new_print_catalog(root)
    catalog.add_films({c: films[c] for c in order or list(films)})
    return Views(catalog.catalog)


def edges(views: Views, settings: Perceptual | None = None, **how: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    batches = list(perceptual_edges(views, settings or Perceptual(), **how))
    assert all(b.schema.equals(EDGES) for b in batches)
    rows = pa.Table.from_batches(batches, EDGES).to_pylist()
    assert len({(r["clip_a"], r["clip_b"]) for r in rows}) == len(rows), "a pair occurs twice"
    return sorted(rows, key=lambda r: (r["clip_a"], r["clip_b"]))


def expected(films: dict[str, Film]) -> set[tuple[str, str]]:
    """Every two of a group of copies."""
    ids = list(films)
    groups = [[ids[0], *ids[12:15]], [ids[1], *ids[15:18]]]
    return {pair for group in groups for pair in combinations(sorted(group), 2)}


def test_every_two_copies_are_linked_and_nothing_else(
    tmp_path: Path, films: dict[str, Film]
) -> None:
    told: list[tuple[int, int]] = []
    rows = edges(dataset(tmp_path, films), on_progress=lambda a, b: told.append((a, b)))
    least = Perceptual().min_similarity
    found = {(r["clip_a"], r["clip_b"]) for r in rows if r["similarity"] >= least}
    assert found == expected(films)
    ids = list(films)
    flipped = next(r for r in rows if {r["clip_a"], r["clip_b"]} == {ids[0], ids[13]})
    assert flipped["mirrored"] and flipped["level"] == "perceptual"
    assert flipped["speed"] == pytest.approx(1, abs=0.03)
    assert flipped["overlap_s"] == pytest.approx(3, abs=0.1)
    assert flipped["fingerprint"] is None and flipped["reference"] is None
    assert told[-1] == (len(films), len(films)) and told == sorted(told)


def test_order_blocks_and_pieces_change_nothing(
    tmp_path: Path, films: dict[str, Film], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = dict(list(films.items())[10:16])
    whole = edges(dataset(tmp_path / "a", some))
    assert whole
    monkeypatch.setattr(perceptual, "PAIRS_PER_PIECE", 2)
    monkeypatch.setattr(perceptual_search, "BLOCK_PRINTS", 10)
    assert edges(dataset(tmp_path / "b", some, order=list(some)[::-1])) == whole


def test_inverted_lists_find_the_copies_too(
    tmp_path: Path, films: dict[str, Film], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perceptual_search, "FLAT_PRINTS", 10)
    monkeypatch.setattr(perceptual_search, "PRINTS_PER_LIST", 40)
    rows = edges(dataset(tmp_path, films), Perceptual(floor=0.78))
    assert {(r["clip_a"], r["clip_b"]) for r in rows} == expected(films)


def test_clips_of_another_dataset(tmp_path: Path, films: dict[str, Film]) -> None:
    ids = list(films)
    here = dataset(tmp_path / "here", {c: films[c] for c in ids[:4]})
    there = dataset(tmp_path / "there", {c: films[c] for c in ids[12:]})
    rows = edges(here, Perceptual(floor=0.78), reference=there)
    pairs = {(r["clip_a"], r["clip_b"]) for r in rows}
    assert pairs == {(ids[i], ids[12 + 3 * i + k]) for i in (0, 1) for k in range(3)}


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="floor"):
        Perceptual(floor=0.9, min_similarity=0.8)
    with pytest.raises(ValueError):
        Perceptual.model_validate({"max_speed": 0.9})
    assert "min_similarity" not in Perceptual().stored()
    assert Perceptual(min_similarity=0.9).threshold == 0.9


def test_a_dataset_without_prints_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no prints") as caught:
        edges(Views(new_catalog(tmp_path, 4)))
    assert caught.value.where == "dedup.perceptual"


def test_a_dataset_of_no_clips_or_one(tmp_path: Path, films: dict[str, Film]) -> None:
    assert edges(dataset(tmp_path / "none", {})) == []
    one = next(iter(films))
    assert edges(dataset(tmp_path / "one", {one: films[one]})) == []


def test_descriptors_of_a_flipped_picture(films: dict[str, Film]) -> None:
    film = next(iter(films.values()))
    flipped = Film(film.pictures[:, :, ::-1], film.time_s, film.length_s)
    rows, shows = descriptors(film)
    assert shows.all() and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.allclose(mirrored(rows), descriptors(flipped)[0], atol=1e-5)
    black = Film(np.zeros_like(film.pictures), film.time_s, film.length_s)
    assert not descriptors(black)[1].any()


def test_pairs_that_a_group_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    linked = np.array([[0, 3], [3, 5], [1, 2], [7, 9]], np.int32)
    seen = np.array([[0, 3], [1, 2], [3, 5], [4, 8], [7, 9]], np.int32)
    assert missing_pairs(linked, seen).tolist() == [[0, 5]]
    assert missing_pairs(linked[:0], seen).tolist() == []
    monkeypatch.setattr(perceptual_groups, "WHOLE", 4)
    monkeypatch.setattr(perceptual_groups, "HUBS", 1)
    chain = np.array([[0, 1], [0, 2], [0, 3], [3, 4], [4, 5]], np.int32)
    assert missing_pairs(chain, chain).tolist() == [[0, 4], [0, 5]]
