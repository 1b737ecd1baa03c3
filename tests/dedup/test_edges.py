"""The table of edges: found once, found again only when what it is made from has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.dedup import edges as edges_module
from curation.dedup.duplicates import find_duplicates
from curation.dedup.edges import RECORD, EdgeReport, bring_edges, crowd_file
from curation.dedup.settings import Dedup
from curation.errors import CatalogError, ConfigError
from tests.dedup.catalogs import (
    VECTORS,
    add_clips,
    ids_of,
    print_of,
    scattered,
    unit,
    write_dataset,
)

DIM = 16
Count = list[str]


def dedup(**settings: Any) -> Dedup:  # noqa: ANN401
    return Dedup.model_validate({"semantic": {}} | settings)


def pairs_near(count: int, seed: int = 0) -> np.ndarray:
    """Vectors of which each even one has its like behind it, at a cosine of about 0.97."""
    vectors = scattered(count, DIM, seed)
    noise = 0.25 * scattered(count // 2, DIM, seed + 1)
    vectors[1::2] = unit(vectors[::2] + noise)
    return vectors


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return write_dataset(tmp_path / "root", pairs_near(20))


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Count:
    """Names of the sets that were searched for; the search itself is the real one."""
    names: Count = []
    real = edges_module.semantic_edges

    def counted(*args: Any, **how: Any) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
        names.append("within" if how.get("reference") is None else "reference")
        return real(*args, **how)

    monkeypatch.setattr(edges_module, "semantic_edges", counted)
    return names


def bring(catalog: Catalog, settings: Dedup | None = None) -> EdgeReport:
    return bring_edges(catalog, Views(catalog), settings or dedup())


def rows(catalog: Catalog) -> list[dict[str, Any]]:
    return catalog.dataset("edges").to_table().to_pylist()


def test_nothing_is_found_twice(catalog: Catalog, searches: Count) -> None:
    first = bring(catalog)
    (found,) = first.sets
    assert found.computed and found.num_edges == len(rows(catalog)) == 10
    assert {r["fingerprint"] for r in rows(catalog)} == {found.fingerprint}
    version = catalog.dataset("edges").version
    (again,) = bring(catalog).sets
    assert not again.computed and again.num_edges == 10
    assert searches == ["within"] and catalog.dataset("edges").version == version


def test_another_threshold_finds_nothing_anew(catalog: Catalog, searches: Count) -> None:
    bring(catalog)
    bring(catalog, dedup(semantic={"min_cosine": 0.99}, prefer=["sharpness"]))
    assert searches == ["within"]
    bring(catalog, dedup(semantic={"floor": 0.94}))
    assert searches == ["within", "within"]


def test_empty_sets_are_remembered(tmp_path: Path, searches: Count) -> None:
    lonely = write_dataset(tmp_path, scattered(5, DIM))
    assert [bring(lonely).sets[0].num_edges for _ in range(2)] == [0, 0]
    assert searches == ["within"]


def more_clips(catalog: Catalog) -> None:
    add_clips(catalog, ids_of(2, 9), pairs_near(2, 5))


def other_run(catalog: Catalog) -> None:
    """What ``redo`` and the next run do: the same rows by name, made again."""
    catalog.dataset(VECTORS).delete("true")
    catalog.dataset("done").delete("true")
    add_clips(catalog, ids_of(20), pairs_near(20, 3), run_id="2")


@pytest.mark.parametrize("change", [more_clips, other_run])
def test_other_rows_are_compared(
    change: Callable[[Catalog], None], catalog: Catalog, searches: Count
) -> None:
    before = bring(catalog).sets[0].fingerprint
    change(catalog)
    assert bring(catalog).sets[0].fingerprint != before
    assert searches == ["within", "within"]
    assert before not in {r["fingerprint"] for r in rows(catalog)}


def test_a_new_reference_leaves_the_rest_alone(
    catalog: Catalog, tmp_path: Path, searches: Count
) -> None:
    bring(catalog)
    held = write_dataset(tmp_path / "held", pairs_near(20)[:1], seed=4)
    with_held = dedup(held_out=[str(tmp_path / "held")])
    inside, outside = bring(catalog, with_held).sets
    assert searches == ["within", "reference"]
    assert (inside.computed, outside.computed, outside.num_edges) == (False, True, 2)
    found = [r for r in rows(catalog) if r["reference"]]
    assert {r["reference"] for r in found} == {str(tmp_path / "held")} and len(found) == 2
    assert {r["clip_b"] for r in found} == set(ids_of(1, 4))
    add_clips(held, ids_of(1, 5), pairs_near(20)[2:3])  # only the reference changed
    assert [s.num_edges for s in bring(catalog, with_held).sets] == [10, 4]
    assert searches == ["within", "reference", "reference"]
    bring(catalog)  # no longer asked for
    assert len(rows(catalog)) == 10 and searches[3:] == []


def test_a_crash_before_the_record_costs_a_search(catalog: Catalog, searches: Count) -> None:
    bring(catalog)
    record = catalog.storage.read_json(RECORD)
    catalog.storage.remove(RECORD)
    assert bring(catalog).sets[0].computed and len(rows(catalog)) == 10
    # A record of rows that another settings' table replaced before it was killed.
    bring(catalog, dedup(semantic={"floor": 0.94}))
    catalog.storage.write_json(RECORD, record)
    assert bring(catalog).sets[0].computed and len(rows(catalog)) == 10
    assert len(searches) == 4


def test_a_search_that_breaks_off_leaves_the_table(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(catalog)
    before = rows(catalog)

    def broken(*_: Any, **__: Any) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(edges_module, "semantic_edges", broken)
    with pytest.raises(BaseException, match=r"KeyboardInterrupt|^$"):
        bring(catalog, dedup(semantic={"floor": 0.94}))
    assert rows(catalog) == before
    monkeypatch.undo()
    assert not bring(catalog).sets[0].computed


def slate(count: int, others: int) -> np.ndarray:
    """Many clips of one picture, a few in between, and some of something else."""
    rng = np.random.default_rng(2)
    picture = scattered(1, DIM, 8)
    same = unit(picture + 0.12 * unit(rng.standard_normal((count, DIM))))
    return np.concatenate([same, pairs_near(others, 11)])


def choice_of(catalog: Catalog, settings: Dedup, passed: list[str]) -> Any:  # noqa: ANN401
    views = Views(catalog)
    report = bring_edges(catalog, views, settings)
    return find_duplicates(catalog, views, settings, report, pa.array(passed), fingerprint="f")


@pytest.mark.parametrize("min_cosine", [0.95, 0.985, 0.99, 0.995])
@pytest.mark.parametrize("clusters", [1, 3])
def test_a_crowd_is_decided_as_by_all_edges(
    tmp_path: Path, min_cosine: float, clusters: int
) -> None:
    count = 150
    heights = np.random.default_rng(4).permutation(count + 20).tolist()
    catalog = write_dataset(tmp_path, slate(count, 20), heights_px=heights)
    passed = ids_of(count + 20)[3::2] + ids_of(count + 20)[4::6]  # others broke a rule
    few, all_ = (
        dedup(
            semantic={
                "min_cosine": min_cosine,
                "num_clusters": clusters,
                "probes": clusters,  # so that clusters hide nothing
                "max_neighbours": most,
            }
        )
        for most in (5, 10_000)
    )
    truth = choice_of(catalog, all_, passed)
    assert bring(catalog, all_).sets[0].num_crowded == 0
    found = choice_of(catalog, few, passed)
    assert bring(catalog, few).sets[0].num_crowded == count
    assert found.dropped.equals(truth.dropped) and truth.dropped.num_rows > 5
    assert found.duplicates.equals(truth.duplicates)


def test_the_file_of_a_crowd_goes_with_its_edges(tmp_path: Path) -> None:
    catalog = write_dataset(tmp_path, slate(60, 4))
    crowded = bring(catalog, dedup(semantic={"max_neighbours": 5})).sets[0]
    assert catalog.storage.exists(crowd_file(crowded.fingerprint))
    catalog.storage.remove(crowd_file(crowded.fingerprint))
    assert bring(catalog, dedup(semantic={"max_neighbours": 5})).sets[0].computed
    bring(catalog, dedup(semantic={"max_neighbours": 10_000}))
    assert not catalog.storage.list("dedup")


def test_only_the_best_stays(catalog: Catalog) -> None:
    ids = ids_of(20)
    catalog.dataset("videos").update({"height_px": "1080"}, where=f"video_id = 'v{ids[1]}'")
    choice = choice_of(catalog, dedup(), ids)
    gone = choice.dropped.column("clip_id").to_pylist()
    assert len(gone) == 10 and ids[0] in gone and ids[1] not in gone
    assert set(choice.dropped.column("reason").to_pylist()) == {"duplicate_semantic"}
    assert choice_of(catalog, dedup(), ids[::2]).dropped.num_rows == 0
    assert choice_of(catalog, dedup(semantic={"min_cosine": 0.999}), ids).dropped.num_rows == 0


def test_a_level_without_its_table_is_refused_before_any_work() -> None:
    dedup().check(["clips", VECTORS])
    with pytest.raises(ConfigError, match=r"dedup\.semantic.*embed"):
        dedup().check(["clips", "scores"])
    with pytest.raises(ConfigError, match=r"dedup\.exact.*packets"):
        Dedup.model_validate({"exact": {}}).check(["clips", VECTORS])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "names no level"),
        ({"semantic": {}, "prefer": ["sharpness", "-sharpness"]}, "twice"),
        ({"semantic": {}, "held_out": ["a", "a"]}, "twice"),
        ({"semantic": {}, "held_outs": ["a"]}, "held_outs"),
    ],
)
def test_settings_that_cannot_be_meant(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dedup.model_validate(wrong)


def test_a_dataset_without_embeddings(tmp_path: Path) -> None:
    from tests.pipelines.page_parts import empty_catalog

    empty = empty_catalog(tmp_path)
    with pytest.raises(CatalogError, match="no embeddings"):
        bring(empty)
    assert print_of(VECTORS) and not empty.storage.exists(RECORD)
