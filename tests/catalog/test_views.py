"""SQL over the catalog: locked in, helpful about names, one row per clip and video."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from curation.catalog import views as views_module
from curation.catalog.catalog import Catalog
from curation.catalog.views import Views, open_views
from curation.errors import CatalogError
from tests.faults.helpers import catalog_of, make_video, run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    make_video(folder / "in" / "v.mp4", [(3.0, 1)])
    run(folder / "in", folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def views(root: Path) -> Views:
    return Views(catalog_of(root))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM parquet_scan('{file}')",
        "SELECT * FROM sniff_csv('{file}')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "EXPORT DATABASE '{folder}/db'",
        "ATTACH '{folder}/other.db' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "RESET enable_external_access",
        "SET threads = 1",
        "PRAGMA enable_profiling",
        "SELECT * FROM 'https://example.org/x.csv'",
    ],
)
def test_a_query_reads_the_catalog_and_nothing_else(views: Views, tmp_path: Path, sql: str) -> None:
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CatalogError) as caught:
        views.query(sql.format(file=tmp_path / "secret.csv", folder=tmp_path))
    assert caught.value.where == "sql"
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"]


def test_a_query_sees_no_variable_of_the_program(
    views: Views, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views_module, "secrets", pa.table({"secret": [1]}), raising=False)
    with pytest.raises(CatalogError):
        views.query("SELECT * FROM secrets")
    unlocked = Views(catalog_of(root), lock=False)
    assert unlocked.query("SELECT * FROM secrets").num_rows == 1, "it would be seen"


def test_what_is_no_query_is_refused_in_words(views: Views) -> None:
    with pytest.raises(CatalogError, match="no query"):
        views.query("")


def test_a_query_changes_nothing_for_the_next_session(root: Path) -> None:
    Views(catalog_of(root)).query("DROP VIEW clips")
    assert Views(catalog_of(root)).query("SELECT * FROM clips").num_rows == 3


@pytest.mark.parametrize(
    ("wrong", "right"), [("clip", "clips"), ("sorces", "sources"), ("score", "scores")]
)
def test_an_unknown_table_is_answered_with_the_nearest(
    views: Views, wrong: str, right: str
) -> None:
    with pytest.raises(CatalogError, match=f"did you mean '{right}'"):
        views.query(f"SELECT * FROM {wrong}")


def test_a_far_off_table_is_answered_with_the_list(views: Views) -> None:
    with pytest.raises(CatalogError, match=r"tables: .*clips.*sources"):
        views.query("SELECT * FROM qqqqqqqqq")


def test_an_error_in_the_middle_of_a_query_is_told(views: Views) -> None:
    with pytest.raises(CatalogError):
        views.query("SELECT CAST(uri AS INTEGER) FROM sources")


@pytest.mark.parametrize(
    "view",
    [
        *("sources", "videos", "clips", "spans", "transitions", "segments", "frames", "errors"),
        *("done", "runs", "scores", "media", "decodes", "raw_clips", "raw_errors"),
    ],
)
def test_every_view_of_the_manual_exists(views: Views, view: str) -> None:
    names = views.query(f"SELECT * FROM {view}").column_names
    assert len(names) == len(set(names)) > 0
    assert views.columns(view) == names


def test_the_clips_view_knows_everything_of_a_clip(views: Views) -> None:
    columns = set(views.columns("clips"))
    assert {"clip_id", "uri", "title", "license", "caption", "metadata", "verdict"} <= columns
    assert {"reasons", "luma_mean", "media_path", "width_px", "video_duration_s"} <= columns
    assert not {"fingerprint", "run_id"} & columns


def test_every_view_is_there_before_the_first_row(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.mp4").write_text("no video")
    run(tmp_path / "in", tmp_path / "out")
    views = open_views(str(tmp_path / "out"))
    assert views.query("SELECT * FROM clips").num_rows == 0
    assert views.query("SELECT code FROM errors").to_pylist() == [{"code": "not_a_video"}]


def test_a_folder_that_is_no_dataset_is_told(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no clipmill dataset"):
        Catalog.open(str(tmp_path))
