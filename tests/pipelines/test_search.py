"""``clipmill search``: the clips that look alike, of the sources that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from curation.catalog.catalog import Catalog
from curation.catalog.views import open_views
from pipelines.config import CurateConfig
from pipelines.curate import curate
from pipelines.search import search
from tests.curation.embed_parts import footage, put_head, resized, tiny_clip
from tests.faults.helpers import settings
from tests.media import Recording, write_video
from tests.pipelines.conftest import clipmill

BUNNY, PHONE = "bigbuckbunny.mp4", "carphone_pristine.mp4"
DISTORTED = "carphone_distorted.mp4"
FPS = 5
JOINED = "SELECT embedding_frames, a.* FROM embeddings JOIN aesthetics a USING (clip_id)"


def embedding(model: str = "efficientnet-lite0", *more: dict[str, Any]) -> CurateConfig:
    """A configuration of long clips that are embedded; nothing is kept, so nothing is cut."""
    return settings(
        signals={"transnet": "off", "sample_interval_s": 0.5},
        split={"detector": "adaptive", "min_s": 1, "max_s": 3},
        stages=[{"use": "curation.stages.embed:Embed", "model": model, "cascade": False}, *more],
        judge={"rules": {"luma_mean": {"max": 0.0}}},
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real footage, made small."""
    folder = tmp_path_factory.mktemp("videos")
    for name in (BUNNY, PHONE, DISTORTED):
        pictures = resized(footage(name, every_s=1 / FPS)[1], 144)
        write_video(folder / name, pictures, Recording(fps=FPS))
    return folder


@pytest.fixture(scope="module")
def root(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("searched") / "out"
    assert curate([str(videos / n) for n in (BUNNY, PHONE)], str(out), embedding()).balanced
    return out


def stored_frame(root: Path, file: str, folder: Path) -> Path:
    """A stored sample from the middle of a video, as a picture file of another size."""
    rows = open_views(str(root)).query(
        f"SELECT jpeg, video_id, sample_time_s FROM frames JOIN sources USING (video_id) "
        f"WHERE uri LIKE '%{file}' ORDER BY sample_time_s"
    )
    jpeg = rows.column("jpeg")[rows.num_rows // 2].as_py()
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    path = folder / "asked.png"
    cv2.imwrite(str(path), cv2.resize(picture, None, fx=1.5, fy=1.5))
    return path


def files(report: dict[str, Any]) -> list[str]:
    return [r["file"] for r in report["results"]]


def test_a_picture_finds_its_clip_and_the_rest_of_its_video(root: Path, tmp_path: Path) -> None:
    for name in (BUNNY, PHONE):
        found = search(str(root), str(stored_frame(root, name, tmp_path)))
        results = found["results"]
        assert found["kind"] == "picture"
        assert results[0]["file"] == name and results[0]["cosine"] > 0.8
        same = files(found).count(name)
        assert same >= 2 and files(found)[:same] == [name] * same
        assert [r["rank"] for r in results] == list(range(1, len(results) + 1))
        assert {r["verdict"] for r in results} == {"rejected"}
        assert results[0]["reasons"] == ["high_luma_mean"]


def test_a_video_finds_its_like(root: Path, videos: Path) -> None:
    found = search(str(root), str(videos / DISTORTED), limit=2)
    assert found["kind"] == "video" and files(found) == [PHONE, PHONE]


def test_the_command_prints_draws_and_gives_json(root: Path, videos: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "found.png"
    asked = str(videos / BUNNY)
    done = clipmill("search", str(root), asked, "--json", "--limit", "3", "--sheet", str(sheet))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["results"]) == 3 and report["model"] == "efficientnet-lite0@579344248a93"
    drawn = cv2.imread(str(sheet))
    assert drawn is not None and drawn.std() > 20
    shown = clipmill("search", str(root), asked, "--limit", "1")
    assert shown.returncode == 0 and BUNNY[:6] in shown.stdout


def test_a_text_needs_a_model_that_reads(root: Path) -> None:
    done = clipmill("search", str(root), "a rabbit")
    assert done.returncode == 2
    assert "efficientnet-lite0" in done.stderr and "clip-vit-l-14" in done.stderr


@pytest.mark.parametrize("asked", ["gone.png", "no/such/film.mp4", "."])
def test_a_file_that_is_not_there_is_no_text(root: Path, asked: str) -> None:
    done = clipmill("search", str(root), asked)
    assert done.returncode == 2 and ("no such file" in done.stderr or "folder" in done.stderr)


def test_a_file_that_is_no_picture_is_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("text")
    assert clipmill("search", str(root), str(tmp_path / "x.png")).returncode == 2


def test_clips_of_a_source_that_changed_are_not_found(root: Path, videos: Path) -> None:
    catalog = Catalog.open(str(root))
    sources = catalog.dataset("sources").to_table()
    before = catalog.dataset("sources").version
    changed = [
        row | {"etag": "another"} for row in sources.to_pylist() if row["uri"].endswith(PHONE)
    ]
    try:
        catalog.upsert("sources", "source_id", sources.from_pylist(changed, sources.schema))
        found = search(str(root), str(videos / PHONE), limit=2)
        assert files(found) == [BUNNY, BUNNY]
    finally:
        catalog.dataset("sources").checkout_version(before).restore()


def test_a_dataset_without_embeddings_says_what_to_do(dataset: Any) -> None:  # noqa: ANN401
    done = clipmill("search", str(dataset.root), "a bike")
    told = " ".join(done.stderr.split())
    assert done.returncode == 2 and "no embeddings" in told and "add the stage embed" in told


def test_vectors_do_not_widen_the_view_of_clips(root: Path) -> None:
    views = open_views(str(root))
    assert "embedding_spread" in views.columns("clips")
    assert not {"embedding", "embedding_frames"} & set(views.columns("clips"))
    assert {"embedding", "embedding_frames"} <= set(views.columns("embeddings"))


def test_another_model_goes_beside_the_first_reads_texts_and_is_rated(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tiny_clip(tmp_path / "models", monkeypatch, "clip-vit-b-32")
    head = torch.randn(1, 512, generator=torch.Generator().manual_seed(0))
    state = {"weight": head, "bias": torch.tensor([5.0])}
    put_head(tmp_path / "models", monkeypatch, "aesthetic-linear-b-32", state)
    rated = {"use": "curation.stages.aesthetics:Aesthetics", "head": "aesthetic-linear-b-32"}
    config = embedding("clip-vit-b-32", rated | {"cascade": False})
    assert curate([], str(root), config).balanced
    for row in open_views(str(root)).query(JOINED).to_pylist():
        scores = np.array(row["embedding_frames"]) @ head[0].numpy() + 5
        assert row["aesthetic_mean"] == pytest.approx(scores.mean(), abs=1e-3)
        assert row["aesthetic_min"] == pytest.approx(scores.min(), abs=1e-3)
    found = search(str(root), "a man in a car", limit=3)
    assert found["kind"] == "text" and found["model"].startswith("clip-vit-b-32@")
    assert len(found["results"]) == 3
    # Other weights under the same name are not taken for those that made the vectors.
    other = tiny_clip(tmp_path / "others", monkeypatch, "clip-vit-b-32", seed=1)
    assert other.read_bytes() != weights.read_bytes()
    done = clipmill("search", str(root), "a man in a car")
    assert done.returncode == 2 and "the vectors were made by clip-vit-b-32@" in done.stderr
    # The vectors of the first are still there, for when it is asked for again.
    old = open_views(str(root)).query("SELECT count(*) AS n FROM raw_embeddings_efficientnet_lite0")
    assert old.column("n")[0].as_py() >= 4
