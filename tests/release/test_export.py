"""Exports: the rows of the catalog, whole or not at all, in bounded pieces."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError, ClipmillError, ConfigError
from curation.shards.writer import ShardSettings
from pipelines.export.choice import choose
from pipelines.export.cli import register
from pipelines.export.fiftyone import write_fiftyone
from pipelines.export.files import write_jsonl, write_parquet
from pipelines.export.hub import write_hub
from pipelines.export.target import appearing
from pipelines.release.cli import register as register_release
from tests.faults.helpers import query
from tests.release.test_card import divide


@pytest.fixture(scope="module")
def catalog(curated: Path) -> Catalog:
    return Catalog.open(str(curated))


@pytest.fixture(scope="module")
def kept(curated: Path) -> dict[str, dict[str, Any]]:
    rows = query(curated, "SELECT * FROM clips WHERE verdict = 'kept'")
    return {r["clip_id"]: r for r in rows}


def test_parquet_comes_in_pieces(catalog: Catalog, kept: dict, tmp_path: Path) -> None:
    count = write_parquet(choose(catalog), tmp_path / "p", rows_per_file=5)
    files = sorted((tmp_path / "p").iterdir())
    assert [f.name for f in files] == [f"part-{i:05d}.parquet" for i in range(len(files))]
    assert [pq.read_metadata(f).num_rows for f in files][:-1] == [5] * (len(files) - 1)
    frame = pd.read_parquet(tmp_path / "p")
    assert set(frame["clip_id"]) == set(kept) and len(frame) == count == len(kept)
    query_ = f"SELECT clip_id, sharpness FROM '{tmp_path}/p/*.parquet'"
    found = duckdb.connect().execute(query_).fetchall()
    assert dict(found) == {k: c["sharpness"] for k, c in kept.items()}
    small = tmp_path / "q"
    write_parquet(choose(catalog), small, rows_per_file=2, bytes_per_file=1)
    assert len(list(small.iterdir())) == -(-len(kept) // 2)


def test_lines_of_json_of_some_columns(catalog: Catalog, curated: Path, tmp_path: Path) -> None:
    where, columns = "verdict = 'rejected'", ["reasons", "clip_id", "margins", "split"]
    write_jsonl(choose(catalog, where, columns), tmp_path / "x.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    wanted = query(curated, f"SELECT {', '.join(columns)} FROM clips WHERE {where}")
    assert sorted(rows, key=str) == sorted(wanted, key=str) and rows
    assert list(rows[0]) == columns


def test_numbers_that_are_none_become_null(root: Path, tmp_path: Path) -> None:
    catalog = Catalog.open(str(root))
    catalog.dataset("scores").update({"sharpness": "CAST('NaN' AS FLOAT)"})
    write_jsonl(choose(catalog, columns=["sharpness"]), tmp_path / "x.jsonl")
    assert set((tmp_path / "x.jsonl").read_text().splitlines()) == {'{"sharpness": null}'}


def test_what_cannot_be_chosen(catalog: Catalog) -> None:
    with pytest.raises(CatalogError, match="no clip meets the condition"):
        choose(catalog, "sharpness > 99")
    with pytest.raises(ConfigError, match="did you mean 'sharpness'"):
        choose(catalog, columns=["sharpnes"])
    with pytest.raises(CatalogError, match="sharpnes"):
        choose(catalog, "sharpnes > 0")
    with pytest.raises(CatalogError):
        choose(catalog, "1=1) UNION SELECT 1 FROM read_csv('/etc/passwd') --")


def test_a_target_appears_whole_or_not(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), appearing(str(tmp_path / "a/b")) as beside:
        beside.mkdir()
        (beside / "half").write_text("x")
        raise RuntimeError
    assert list((tmp_path / "a").iterdir()) == []
    with appearing(str(tmp_path / "a/b")) as beside:
        beside.write_text("x")
        assert not (tmp_path / "a/b").exists()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]
    with pytest.raises(ConfigError, match="exists already"), appearing(str(tmp_path / "a/b")):
        pass
    with pytest.raises(ConfigError, match="no path on this machine"), appearing("s3://b/x"):
        pass


def test_a_hub_dataset_is_read_with_its_types(root: Path, kept: dict, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    split = divide(root)
    catalog, to = Catalog.open(str(root)), tmp_path / "hub"
    settings = ShardSettings()  # pyright: ignore[reportCallIssue]
    count = write_hub(
        catalog, choose(catalog), settings, to, bytes_per_group=20_000, bytes_per_file=40_000
    )
    assert count == len(kept)
    assert len(list((to / "data").glob("train-*.parquet"))) > 1
    with mock.patch.object(datasets.config, "HF_HUB_OFFLINE", True, create=True):
        found = datasets.load_dataset(str(to), cache_dir=str(tmp_path / "cache"))
    assert set(found) == {"train", "val"}
    seen = set()
    for name, part in found.items():
        assert isinstance(part.features["video"], datasets.Video)
        assert part.features["reasons"].feature.dtype == "string"
        for row in part.cast_column("video", datasets.Video(decode=False)):
            clip = kept[row["clip_id"]]
            assert hashlib.sha256(row["video"]["bytes"]).hexdigest() == clip["media_sha256"]
            assert row["split"] == name == split[clip["video_id"]]
            assert row["text"] == (clip["caption"] or clip["caption_medium"])
            assert row["file"] == Path(clip["uri"]).name
            seen.add(row["clip_id"])
    assert seen == set(kept)
    data = b"".join(p.read_bytes() for p in to.rglob("*.parquet"))
    assert str(root.parent).encode() not in data


def test_damaged_media_is_not_exported(root: Path, tmp_path: Path) -> None:
    media = next((root / "media").rglob("*.mp4"))
    media.write_bytes(media.read_bytes()[:-1])
    catalog = Catalog.open(str(root))
    settings = ShardSettings()  # pyright: ignore[reportCallIssue]
    with pytest.raises(CatalogError, match="is damaged"):
        write_hub(catalog, choose(catalog), settings, tmp_path / "hub")


def test_fiftyone_documents(catalog: Catalog, kept: dict, tmp_path: Path) -> None:
    to = tmp_path / "fo"
    count = write_fiftyone(catalog, choose(catalog, "true"), to, link=True, name="x")
    samples = json.loads((to / "samples.json").read_text())["samples"]
    fields = {f["name"] for f in json.loads((to / "metadata.json").read_text())["sample_fields"]}
    assert count == len(samples) == len(kept)  # rejected clips have no media
    assert len({s["_id"]["$oid"] for s in samples}) == count
    for sample in samples:
        clip = kept[sample["clip_id"]]
        data = (to / sample["filepath"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == clip["media_sha256"]
        assert sample["tags"] == ["kept"] and sample["sharpness"] == clip["sharpness"]
        assert sample["metadata"]["frame_rate"] == clip["media_fps"]
        assert {k for k in sample if k[0] != "_"} - {"id"} <= fields
        assert "clip_metadata" in sample and sample["reasons"] is None


def test_fiftyone_labels(root: Path, tmp_path: Path) -> None:
    catalog = Catalog.open(str(root))
    events = '[{"start_s": 0.05, "end_s": 0.61, "text": "it moves"}, '
    events += '{"start_s": 0.9, "end_s": 99, "text": "it ends"}]'
    catalog.dataset("captions").update({"caption_events": f"'{events}'"})
    with pytest.raises(CatalogError, match="no media"):
        write_fiftyone(catalog, choose(catalog, "verdict='rejected'"), tmp_path / "none")
    write_fiftyone(catalog, choose(catalog), tmp_path / "fo")
    samples = json.loads((tmp_path / "fo/samples.json").read_text())["samples"]
    for sample in samples:
        first, second = sample["events"]["detections"]
        assert first["label"] == "it moves" and first["support"] == [1, 7]  # 10 frames/s
        last = sample["metadata"]["total_frame_count"]
        assert second["support"] == [min(10, last), last]
        assert Path(sample["filepath"]).is_file()


def commands() -> typer.Typer:
    app = typer.Typer()
    register(app)
    register_release(app)
    return app


def clipmill(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(commands(), list(arguments))
    if isinstance(done.exception, ClipmillError):
        return 2, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_the_commands(root: Path, kept: dict, tmp_path: Path) -> None:
    out = str(root)
    for form in ("parquet", "jsonl", "fiftyone", "hf"):
        to = str(tmp_path / form)
        code, text = clipmill("export", out, "--format", form, "--to", to, "--json")
        assert (code, json.loads(text)["clips"]) == (0, len(kept))
        assert clipmill("export", out, "--format", form, "--to", to)[0] == 2
    assert clipmill("export", out, "-f", "csv", "--to", "x")[0] == 2
    code, text = clipmill("release", out, "--tag", "v1", "--note", "n", "--json")
    assert code == 0 and json.loads(text)["counts"]["clips"] == len(kept)
    code, text = clipmill("release", out, "--list", "--json")
    assert [r["tag"] for r in json.loads(text)["releases"]] == ["v1"]
    assert clipmill("release", out, "--list")[1].count("v1") == 1
    assert clipmill("release", out, "--check", "v1")[0] == 0
    (root / "releases/v1/croissant.json").write_text("{}")
    code, text = clipmill("release", out, "--check", "v1", "--json")
    assert code == 1 and json.loads(text)["ok"] is False
    assert clipmill("release", out, "--check", "v2")[0] == 2
    assert clipmill("release", out)[0] == 2
    assert clipmill("release", out, "--tag", "v2", "--list")[0] == 2
    assert clipmill("release", out, "--delete", "v1")[0] == 1  # asked, not answered
    assert clipmill("release", out, "--delete", "v1", "--yes")[0] == 0
    assert not (root / "releases/v1").exists()


def test_memory_does_not_hold_all_clips(catalog: Catalog) -> None:
    batches = choose(catalog).batches(batch_rows=4)
    assert max(b.num_rows for b in batches) <= 4
    assert isinstance(next(choose(catalog).batches()), pa.RecordBatch)
