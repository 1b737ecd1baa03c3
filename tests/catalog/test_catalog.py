"""The catalog's tables: creation after a kill, new columns, compaction, indices, tags."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from curation.catalog import catalog as catalog_module
from curation.catalog.catalog import Catalog
from curation.catalog.commit import Committer
from curation.errors import CatalogError
from curation.plan import Plan
from curation.storage import Storage
from tests.catalog.parts import default_plan, new_catalog, register, write_part


@pytest.fixture
def plan() -> Plan:
    return default_plan()


@pytest.fixture
def catalog(tmp_path: Path, plan: Plan) -> Catalog:
    return new_catalog(tmp_path / "root", plan)


def test_a_creation_killed_half_way_is_finished_by_the_next_run(
    catalog: Catalog, plan: Plan
) -> None:
    for table in ("clips", "runs"):
        folder = Path(catalog.uri(table))
        shutil.rmtree(folder)
        (folder / "_versions").mkdir(parents=True)
        (folder / "data").mkdir()
    assert not catalog.has("clips") and "clips" not in catalog.tables()
    catalog.create(plan.table_schemas())
    assert catalog.dataset("clips").count_rows() == 0
    assert set(catalog.tables()) == set(plan.table_schemas())


def test_a_new_column_is_added_and_old_rows_read_null(catalog: Catalog, plan: Plan) -> None:
    committer = Committer(catalog)
    committer.add(write_part(catalog, plan, "a", source="s", video="v"))
    committer.flush()
    schema = plan.table_schemas()["scores"].append(pa.field("novel", pa.float32()))
    catalog.create({"scores": schema})
    catalog.create({"scores": schema})  # and once is enough
    assert catalog.dataset("scores").to_table(["novel"]).to_pylist() == [{"novel": None}] * 2


def test_a_column_of_another_type_is_refused_with_a_way_out(catalog: Catalog) -> None:
    with pytest.raises(CatalogError, match=r"luma_mean.*float.*string") as caught:
        catalog.create({"scores": pa.schema([("luma_mean", pa.string())])})
    assert "another name" in str(caught.value)


def test_upsert_replaces_rows_of_equal_key(catalog: Catalog) -> None:
    register(catalog, "a", "b")
    register(catalog, "b", "c")
    ids = catalog.dataset("sources").to_table(["source_id"]).column(0).to_pylist()
    assert sorted(ids) == ["a", "b", "c"]


def test_the_newest_started_run_is_current(catalog: Catalog, plan: Plan) -> None:
    catalog.start_run("second", "test", {"a": 1}, Plan(stages=plan.stages[:2]))
    catalog.finish_run("second", {})
    last = catalog.last_run()
    assert last is not None and last["config"] == {"a": 1}
    assert set(catalog.current().stages) == {"probe", "signals"}
    assert Catalog(Storage(catalog.storage.root + "-none")).tables() == []


def test_compaction_keeps_every_row_and_indexes_large_tables(
    catalog: Catalog, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "INDEX_FROM_ROWS", 20)
    for i in range(12):
        committer = Committer(catalog)
        committer.add(write_part(catalog, plan, f"p{i}", source=f"s{i}", video=f"v{i}"))
        committer.flush()
    before = sorted(catalog.dataset("clips").to_table(["clip_id"]).column(0).to_pylist())
    assert len(catalog.dataset("clips").get_fragments()) == 12
    catalog.compact()
    catalog.compact()  # an index that exists is refreshed, not made again
    clips = catalog.dataset("clips")
    assert sorted(clips.to_table(["clip_id"]).column(0).to_pylist()) == before
    assert len(clips.get_fragments()) < 12
    assert [i.field_names for i in clips.describe_indices()] == [["video_id"]]
    assert not catalog.dataset("sources").describe_indices()
    prints = plan.table_fingerprints()["clips"]
    assert sum(b.num_rows for b in catalog.rows_of("clips", "v3", prints)) == 2


def test_commits_go_on_after_compaction(catalog: Catalog, plan: Plan) -> None:
    for i in range(3):
        catalog.compact()
        committer = Committer(catalog)
        committer.add(write_part(catalog, plan, f"p{i}", source=f"s{i}", video=f"v{i}"))
        committer.flush()
    assert catalog.dataset("clips").count_rows() == 6


def test_old_versions_go_but_a_tagged_one_stays(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's tag must not make every later run fail."""
    register(catalog, "a")
    catalog.dataset("sources").tags.create("release", catalog.dataset("sources").version)
    register(catalog, "b")
    register(catalog, "c")
    versions = len(catalog.dataset("sources").versions())
    real = lance.LanceDataset.cleanup_old_versions

    def at_once(self: lance.LanceDataset, **kwargs: object) -> object:
        assert kwargs.pop("older_than") == timedelta(hours=1)
        return real(self, older_than=timedelta(0), **kwargs)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(lance.LanceDataset, "cleanup_old_versions", at_once)
    catalog.compact()
    assert len(catalog.dataset("sources").versions()) < versions
    tagged = lance.dataset(catalog.uri("sources"), version="release")
    assert tagged.count_rows() == 1


def test_runs_are_told_apart_by_their_time(catalog: Catalog) -> None:
    run = catalog.last_run()
    assert run is not None and abs(run["recorded_at"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert run["versions"]["pylance"]
