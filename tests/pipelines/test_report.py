"""The run's page: what it says, that it escapes what it shows, and that it stands alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.storage import Storage
from pipelines.config import load_config
from pipelines.report import pictures
from pipelines.report.page import write_page
from tests.pipelines.page_parts import (
    EVIL,
    EVIL_FILE,
    Page,
    empty_catalog,
    real_clip,
    run,
    write_video,
)

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, dict[str, Any]]:
    """A dataset with kept and rejected clips and a failed source, all with hostile names."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copy(real_clip("carphone_pristine.mp4"), folder / EVIL_FILE)
    write_video(folder / "black.mp4", num_frames=30, bright=0)
    (folder / "broken.mp4").write_text("no video")
    rows = [
        {"uri": EVIL_FILE, "title": EVIL, "caption": f'"{EVIL}', "license": EVIL, "other": EVIL},
        {"uri": "black.mp4"},
        {"uri": "broken.mp4", "title": EVIL},
    ]
    return run(folder, rows)


@pytest.fixture(scope="module")
def page(mixed: tuple[Catalog, dict[str, Any]]) -> Page:
    catalog, report = mixed
    return Page(Path(write_page(catalog, report)).read_text())


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A video with one stored frame, and at its end a clip that is too short to have motion."""
    folder = tmp_path_factory.mktemp("sparse")
    write_video(folder / "long.mp4", num_frames=41, bright=255)  # 2 s, 2 s, one frame
    rows = [{"uri": "long.mp4"}]
    rules = (
        "{motion_per_s: {min: 0}, peak_motion_per_s: {max: 99, if_null: keep},"
        " residual_cut: {max: 1}}"
    )
    return run(
        folder,
        rows,
        "signals.sample_interval_s=100",
        "split.min_s=0.05",
        "split.max_s=2",
        f"judge.rules={rules}",
    )[0]


def test_the_page_is_written_below_the_root(mixed: tuple[Catalog, dict[str, Any]]) -> None:
    catalog, report = mixed
    path = write_page(catalog, report)
    assert path == catalog.storage.uri("report/index.html")
    assert [p.name for p in Path(path).parent.iterdir()] == ["index.html"]  # nothing half-written


def test_the_page_has_all_sections_and_figures(page: Page) -> None:
    assert [a["id"] for a in page.named("section")] == [
        *("funnel", "scores", "clips", "captions", "failures", "stages")
    ]
    assert page.named("title") and "dataset" in page.text
    for words_ in (
        *("balanced: yes", "engine: inline", "video s per second", "Wall time"),
        *("Sources", "Timeline", "In clips", "Kept", "In shards", "3 sources", "2 videos"),
        *("Library versions", "Configuration", "edge_trim_s: 0.2"),
        *("probe", "signals", "split", "score", "cut", "retest"),
    ):
        assert words_ in page.text
    assert re.search(r"Kept \d of \d", page.text)


def test_a_rejected_clip_tells_its_reasons_with_value_and_bound(page: Page) -> None:
    assert "luma_mean 0 is below 0.05" in page.text
    assert "static_fraction 1 is above 0.8" in page.text
    reasons = [a.get("title") for a in page.named("li")]
    assert {"low_luma_mean", "high_static_fraction", "low_sharpness"} <= set(reasons)
    assert "Low sharpness" in page.text  # in the funnel


def test_every_judged_column_has_a_chart_with_its_bounds(
    page: Page, mixed: tuple[Catalog, dict[str, Any]]
) -> None:
    run_ = mixed[0].last_run()
    assert run_ is not None
    rules = run_["config"]["judge"]["rules"]
    labels = [a.get("aria-label") for a in page.named("svg")]
    assert {f"Histogram of {c}" for c in rules} == {x for x in labels if x and "Hist" in x}
    assert "1 below 0.05, 0 above 0.95." in page.text
    for rule in rules.values():
        for kind in ("min", "max"):
            if rule[kind] is not None:
                assert f"{kind} {rule[kind]:g}" in page.text


def test_failed_sources_are_listed_by_code(page: Page) -> None:
    assert "not_a_video" in page.text and "broken.mp4" in page.text
    assert "FFmpeg finds no media container" in page.text


def test_names_and_metadata_are_escaped(page: Page) -> None:
    assert page.named("script") == []
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert {a["src"][:23] for a in page.named("img") if a["src"]} == {"data:image/jpeg;base64,"}
    assert EVIL_FILE in page.text and EVIL in page.text  # shown, as text
    assert EVIL not in page.html and EVIL_FILE not in page.html


def test_the_page_stands_alone_and_keeps_local_paths_to_itself(
    page: Page, mixed: tuple[Catalog, dict[str, Any]]
) -> None:
    assert "http://" not in page.html and "https://" not in page.html
    assert "@import" not in page.html and "url(" not in page.html
    outside = {"src", "href", "srcset", "action", "data", "poster"}
    for _, attrs in page.tags:
        for key in outside & set(attrs):
            assert (attrs[key] or "").startswith("data:image/jpeg")
    assert str(Path(mixed[0].storage.root).parent) not in page.html


def test_the_same_seed_gives_the_same_page_and_another_a_different_sample(
    page: Page, mixed: tuple[Catalog, dict[str, Any]]
) -> None:
    catalog, report = mixed
    assert Path(write_page(catalog, report)).read_text() == page.html
    views = Views(catalog)
    ids = views.query("SELECT clip_id FROM clips WHERE verdict = 'kept'").column(0).to_pylist()
    assert sorted(pictures.sample_kept(views, 99, 0)) == sorted(ids)
    orders = {tuple(pictures.sample_kept(views, 99, seed)) for seed in range(20)}
    assert len(orders) > 1 or len(ids) < 2


def test_pictures_are_few_and_the_page_is_bounded(
    mixed: tuple[Catalog, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, report = mixed
    few = Path(write_page(catalog, report, max_pictures=1))
    assert len(Page(few.read_text()).named("article")) == 1
    assert few.stat().st_size < 20e6 - pictures.MAX_PAGE_PICTURE_BYTES
    monkeypatch.setattr(pictures, "MAX_PAGE_PICTURE_BYTES", 1)
    tight = Page(Path(write_page(catalog, report)).read_text())
    assert len(tight.named("article")) == 1  # the clip that used up the room is the last


def test_a_thumbnail_fits_its_box() -> None:
    import cv2

    noise = np.random.default_rng(0).integers(0, 255, (900, 300, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
    thumb = pictures.shrink(jpeg, 61.25)
    assert thumb is not None
    assert (thumb.width_px, thumb.height_px) == (67, 200)
    assert thumb.time == "1:01.2"
    assert pictures.shrink(b"no jpeg", 0.0) is None


@pytest.fixture(scope="module")
def sparse_page(sparse: Catalog) -> Page:
    return Page(Path(write_page(sparse)).read_text())


def test_a_clip_without_a_stored_frame_shows_the_nearest_and_says_so(sparse_page: Page) -> None:
    assert (
        "no sampled frame inside this clip; the nearest lies 2 s before its start"
        in sparse_page.text
    )


def test_missing_scores_and_failed_clips_are_told(sparse_page: Page) -> None:
    page = sparse_page
    assert "null_motion_per_s" in page.text
    assert "1 without a value (failed)" in page.text
    assert "1 without a value (kept)" in page.text
    assert "No rejected clip to show." in page.text


def test_an_unbalanced_account_is_shouted(sparse: Catalog) -> None:
    account = {
        "videos": {"total": 2, "done": 1, "failed": 0, "pending": 1, "duplicates": 0},
        "clips": {},
        "seconds": {},
        "balanced": False,
        "imbalances": [f"1 sources are neither done nor failed {EVIL}"],
    }
    page = Page(Path(write_page(sparse, {"account": account})).read_text())
    assert "balanced: NO" in page.text and "neither done nor failed" in page.text
    assert page.named("script") == []


def test_a_dataset_in_which_everything_failed(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    catalog, report = run(tmp_path, [{"uri": "broken.mp4"}, {"uri": "gone.mp4"}])
    page = Page(Path(write_page(catalog, report)).read_text())
    assert "not_found" in page.text and "not_a_video" in page.text
    assert "2 of unknown length" in page.text
    assert str(tmp_path) not in page.html  # the message of a missing file names its folder


def test_an_empty_dataset(tmp_path: Path) -> None:
    page = Page(Path(write_page(empty_catalog(tmp_path / "empty"))).read_text())
    assert "0 sources" in page.text and "Nothing failed." in page.text


def test_a_planned_dataset_without_sources(tmp_path: Path) -> None:
    plan = load_config().plan()
    catalog = Catalog(Storage(tmp_path / "planned"))
    catalog.create(plan.table_schemas())
    catalog.start_run("run", "curate", load_config().model_dump(mode="json"), plan)
    page = Page(Path(write_page(catalog)).read_text())
    assert "0 clips" in page.text and "No clip has a value." in page.text


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs a browser at /usr/bin/chromium")
def test_a_browser_shows_the_page_without_complaint(
    mixed: tuple[Catalog, dict[str, Any]], tmp_path: Path
) -> None:
    path = write_page(mixed[0], mixed[1])
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    shown = subprocess.run(
        [
            str(CHROMIUM),
            *flags.split(),
            *("--disable-background-networking", "--disable-component-update"),
            *(f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--dump-dom"),
            Path(path).as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "CONSOLE" not in shown.stderr
    assert "balanced: yes" in shown.stdout
