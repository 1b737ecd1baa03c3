"""Held-out datasets: what can be compared with them, and what becomes of clips near theirs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.dedup.duplicates import find_duplicates
from curation.dedup.edges import bring_edges
from curation.dedup.held_out import embedding_models, open_reference
from curation.dedup.settings import Dedup
from curation.errors import CatalogError, ConfigError
from tests.dedup.catalogs import MODEL, VECTORS, ids_of, scattered, unit, write_dataset

DIM = 16


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return write_dataset(tmp_path / "root", scattered(10, DIM))


def opened(root: Path, catalog: Catalog, *levels: str) -> object:
    return open_reference(str(root), catalog, Views(catalog), levels or ("semantic",))


def test_clips_near_a_held_out_one_are_dropped_with_their_root(
    catalog: Catalog, tmp_path: Path
) -> None:
    held = scattered(3, DIM, 5)
    held[2] = unit(scattered(10, DIM)[4:5] + 0.02)[0]
    root = str(tmp_path / "held")
    write_dataset(Path(root), held, seed=1)
    settings = Dedup.model_validate({"semantic": {}, "held_out": [root]})
    views = Views(catalog)
    report = bring_edges(catalog, views, settings)
    choice = find_duplicates(catalog, views, settings, report, pa.array(ids_of(10)))
    (gone,) = choice.dropped.to_pylist()
    assert (gone["clip_id"], gone["reason"]) == (ids_of(10)[4], "held_out_semantic")
    assert 0 < gone["margin"] < 0.05
    (row,) = choice.duplicates.to_pylist()
    assert (row["group_id"], row["reference"]) == (ids_of(3, 1)[2], root)
    assert not row["representative"]


def test_another_model_cannot_be_compared(catalog: Catalog, tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", scattered(3, DIM), model="other@1")
    with pytest.raises(ConfigError, match=r"other@1(.|\n)*embed\.model") as failure:
        opened(tmp_path / "other", catalog)
    assert MODEL in str(failure.value) and "held_out" in failure.value.where


def test_what_a_level_needs_must_be_there(catalog: Catalog, tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", scattered(3, DIM))
    for level, maker in [("exact", "packets"), ("perceptual", "prints")]:
        with pytest.raises(ConfigError, match=rf"dedup\.{level}(.|\n)*{maker}"):
            opened(tmp_path / "other", catalog, level)


def test_the_dataset_itself_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="itself"):
        opened(tmp_path / "." / "root", catalog)


def test_no_dataset_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no clipmill dataset"):
        opened(tmp_path / "nowhere", catalog)


def test_models_are_those_of_clips_with_a_vector(tmp_path: Path) -> None:
    catalog = write_dataset(tmp_path, scattered(2, DIM), without=[0])
    assert embedding_models(Views(catalog)) == {MODEL}
    assert catalog.dataset(VECTORS).count_rows() == 2
