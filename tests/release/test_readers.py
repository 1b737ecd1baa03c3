"""What others read releases with: Croissant, DuckDB, pandas, PyArrow, datasets, webdataset."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.release.test_release import manifest_of, rows

mlcroissant = pytest.importorskip("mlcroissant")
datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def folder(frozen_root: Path) -> Path:
    return frozen_root / "releases/v1"


@pytest.fixture
def croissant(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    """The description, read; what it unpacks goes to a folder of its own."""
    from etils import epath
    from mlcroissant._src.operation_graph.operations import extract

    monkeypatch.setattr(extract, "EXTRACT_PATH", epath.Path(tmp_path / "unpacked"))
    return mlcroissant.Dataset(folder / "croissant.json")


def plain(value: Any) -> Any:  # noqa: ANN401
    """A value of Croissant's as Parquet has it."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.parametrize("table", ["clips", "captions", "verdicts", "sources"])
def test_croissant_gives_the_rows_of_the_parquet_files(
    croissant: Any,  # noqa: ANN401
    frozen_root: Path,
    table: str,
) -> None:
    assert not croissant.metadata.issues.errors and not croissant.metadata.issues.warnings
    found = [
        {k.split("/")[1]: plain(v) for k, v in record.items()}
        for record in croissant.records(table)
    ]
    wanted = rows(frozen_root, table)
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            same = value if not isinstance(value, float) else pytest.approx(value, rel=1e-6)
            assert one[name] == same or (not one[name] and not value), name


def test_croissant_gives_the_rows_of_the_shard_index(croissant: Any, folder: Path) -> None:  # noqa: ANN401
    """With 64-bit numbers without a sign, and places of members that are not there."""
    found = {
        plain(r["shard_index/clip_id"]): {k.split("/")[1]: plain(v) for k, v in r.items()}
        for r in croissant.records("shard_index")
    }
    wanted = {r["clip_id"]: r for r in pq.read_table(folder / "shards/index.parquet").to_pylist()}
    assert found.keys() == wanted.keys() and len(found) > 0
    for clip, row in wanted.items():
        for name in ("key_hash", "mp4_hash", "text_hash", "generation", "mp4_offset", "shard"):
            assert found[clip][name] == row[name], name
        assert row["m4a_offset"] is None and found[clip]["m4a_offset"] in (None, 0, "")


def test_croissant_gives_the_samples_of_the_tars(
    croissant: Any,  # noqa: ANN401
    frozen_root: Path,
) -> None:
    sums = {c["clip_id"]: c["media_sha256"] for c in rows(frozen_root, "clips")}
    found = {
        plain(r["samples_mp4/clip_id"]): hashlib.sha256(r["samples_mp4/mp4"]).hexdigest()
        for r in croissant.records("samples_mp4")
    }
    assert found == sums
    records = list(croissant.records("samples_json"))
    assert {plain(r["samples_json/clip_id"]) for r in records} == set(sums)


def test_croissant_says_licences_and_checksums(folder: Path, frozen_root: Path) -> None:
    text = json.loads((folder / "croissant.json").read_text())
    assert "https://creativecommons.org/publicdomain/zero/1.0/" in text["license"]
    files = {f["@id"]: f for f in text["distribution"] if f["@type"] == "cr:FileObject"}
    manifest = manifest_of(frozen_root)["files"]
    assert all(files[n]["sha256"] == manifest[n]["sha256"] for n in files)
    assert {n for n in manifest if n.endswith((".tar", ".parquet"))} == set(files)


def test_duckdb_pandas_and_pyarrow(folder: Path, frozen_root: Path) -> None:
    clips, index = folder / "data/clips.parquet", folder / "shards/index.parquet"
    con = duckdb.connect()
    found = con.execute(
        "SELECT c.clip_id, i.shard, i.mp4_offset, i.mp4_bytes, c.media_sha256 "
        "FROM read_parquet(?) c JOIN read_parquet(?) i USING (clip_id) ORDER BY 1",
        [str(clips), str(index)],
    ).fetchall()
    assert len(found) == manifest_of(frozen_root)["counts"]["clips"]
    for _, shard, offset, size, sha256 in found:
        data = (folder / shard).read_bytes()[offset : offset + size]
        assert hashlib.sha256(data).hexdigest() == sha256
    frame = pd.read_parquet(clips)
    assert sorted(frame["clip_id"]) == [f[0] for f in found]
    assert frame["sharpness"].notna().all() and frame["luma_mean"].dtype == "float32"
    table = pq.read_table(index)
    assert table.num_rows == len(found)
    hashes = pd.read_parquet(index)["key_hash"]
    assert hashes.dtype == "uint64" and list(hashes) == table.column("key_hash").to_pylist()
    largest = con.execute("SELECT max(key_hash) FROM read_parquet(?)", [str(index)]).fetchall()
    assert largest == [(max(hashes),)]


def test_webdataset(folder: Path, frozen_root: Path) -> None:
    from webdataset.compat import WebDataset

    shards = sorted(str(p) for p in folder.glob("shards/**/*.tar"))
    samples = {s["__key__"]: s for s in WebDataset(shards, shardshuffle=False)}
    sums = {c["clip_id"]: c["media_sha256"] for c in rows(frozen_root, "clips")}
    assert {k: hashlib.sha256(s["mp4"]).hexdigest() for k, s in samples.items()} == sums
    assert all(json.loads(s["json"])["clip_id"] == k for k, s in samples.items())


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cache of the test's own, and no network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True, raising=False)
    yield str(tmp_path / "cache")


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets_reads_the_tars(
    folder: Path, frozen_root: Path, offline: str, streaming: bool
) -> None:
    files = sorted(str(p) for p in folder.glob("shards/**/*.tar"))
    found = datasets.load_dataset(
        "webdataset", data_files=files, split="train", streaming=streaming, cache_dir=offline
    )
    if "mp4" in (found.features or {}):
        found = found.cast_column("mp4", datasets.Video(decode=False))
    sums = {c["clip_id"]: c["media_sha256"] for c in rows(frozen_root, "clips")}
    made = {}
    for row in found:
        made[row["__key__"]] = hashlib.sha256(bytes_of(row["mp4"])).hexdigest()
        assert row["json"]["clip_id"] == row["__key__"]
        assert row["txt"] == row["json"]["caption"]
    assert made == sums


def bytes_of(video: dict[str, Any]) -> bytes:
    return video["bytes"] if video["bytes"] is not None else Path(video["path"]).read_bytes()


def test_datasets_reads_the_tables(folder: Path, offline: str) -> None:
    found = datasets.load_dataset(
        "parquet",
        data_files=str(folder / "data/captions.parquet"),
        split="train",
        cache_dir=offline,
    )
    assert found.num_rows == pq.read_metadata(folder / "data/captions.parquet").num_rows


def test_the_code_in_the_card_runs(
    folder: Path,
    tmp_path: Path,
    offline: str,
    croissant: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", offline)
    card = (folder / "dataset_card.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        names: dict[str, Any] = {}
        exec(compile(block, "dataset_card.md", "exec"), names)  # the card is our own
        if "wds" in names:
            assert names["mp4"][4:8] == b"ftyp" and isinstance(names["text"], bytes)
        if "samples" in names:
            (first, *_) = names["samples"]
            assert first["mp4"]["bytes"][4:8] == b"ftyp"
        if "mlcroissant" in names:
            assert "clips/clip_id" in names["clip"]
