"""A dataset that grows, from videos to shards, and everything that reads it afterwards."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save
from typer.testing import CliRunner

from curation.shards.current import verdicts_changed
from curation.shards.index import INDEX, read_index, shard_names
from curation.shards.siblings import SiblingSet
from curation.shards.verify import verify_shards
from curation.storage import Storage
from pipelines.cli import app
from pipelines.curate import curate
from pipelines.redo import rejudge, reshard, stored_config
from tests.faults.helpers import catalog_of, make_videos, query, run, settings, shard_bytes
from tests.shards.caption_stages import without_captioning
from tests.shards.test_generations import state

SHARD: dict[str, Any] = {"target_bytes": 100_000}


def grow(inputs: list[Path], out: Path) -> Any:  # noqa: ANN401 - a RunReport
    return run(inputs, out, **without_captioning(), shard=SHARD)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, then a third."""
    folder = tmp_path_factory.mktemp("growing")
    videos = make_videos(folder / "in", 3)
    first = grow(videos[:2], folder / "out")
    assert first.balanced and first.shards.generation == 0
    before = state(Storage(folder / "out"))
    second = grow(videos, folder / "out")
    assert second.balanced and second.shards.generation == 1
    after = state(Storage(folder / "out"))
    assert {n: after[n] for n in before} == before, "not touched, to the inode and its time"
    assert second.shards.num_written == len(after) - len(before) > 0
    return folder


@pytest.fixture
def root(grown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown / "out", tmp_path / "out"))


def test_it_verifies_and_a_run_over_it_writes_nothing(grown: Path, root: Path) -> None:
    found = verify_shards(catalog_of(root))
    assert found.problems == [] and found.generation == 1 and found.num_samples > 10
    before = state(Storage(root))
    again = grow(sorted((grown / "in").glob("*.mp4")), root)
    assert again.shards.reused and again.shards.num_written == 0
    assert state(Storage(root)) == before


def test_packed_anew_it_is_what_one_run_makes(grown: Path, root: Path, tmp_path: Path) -> None:
    once = tmp_path / "once"
    assert grow(sorted((grown / "in").glob("*.mp4")), once).balanced
    assert shard_bytes(root) != shard_bytes(once)
    result = CliRunner().invoke(app, ["shard", str(root), "--repack", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.output.splitlines()[-1])
    assert not told["reused"] and told["num_written"] == told["num_shards"]
    assert told["generation"] == 0
    assert shard_bytes(root) == shard_bytes(once)
    result = CliRunner().invoke(app, ["shard", str(root)])
    assert result.exit_code == 0 and "(unchanged)" in result.output


def test_the_command_says_what_it_wrote(root: Path) -> None:
    middle = query(root, "SELECT quantile_cont(luma_mean, 0.2) AS m FROM clips")[0]["m"]
    rejudge(str(root), settings(judge={"rules": {"luma_mean": {"min": middle}}}))
    result = CliRunner().invoke(app, ["shard", str(root)])
    text = " ".join(result.output.split())
    assert result.exit_code == 0 and "generations 0 to 1" in text
    assert " written, " in text and " left as they were)" in text


def test_judged_there_and_back_the_same_samples(root: Path) -> None:
    """They are in another generation, and packed anew in the old bytes."""
    catalog = catalog_of(root)
    reshard(str(root), settings_of(root), repack=True)
    before, ids = shard_bytes(root), keys(root)
    assert verdicts_changed(catalog) is False
    middle = query(root, "SELECT median(luma_mean) AS m FROM clips")[0]["m"]
    config = settings(judge={"rules": {"luma_mean": {"min": middle}}})
    rejudge(str(root), config)
    assert verdicts_changed(catalog) is True
    (problem,) = verify_shards(catalog, decode=False).problems
    assert "the shards are older than the verdicts" in problem and "no longer kept" in problem
    told = CliRunner().invoke(app, ["status", str(root)]).output
    assert "the shards are older than the verdicts" in " ".join(told.split())
    reshard(str(root), settings_of(root))
    told = CliRunner().invoke(app, ["status", str(root), "--json"]).output
    assert json.loads(told.splitlines()[-1])["shards_are_stale"] is False
    assert verdicts_changed(catalog) is False and keys(root) < ids
    assert verify_shards(catalog, decode=False).problems == []
    rejudge(str(root), settings(judge={"rules": {"luma_mean": {"min": 0.02}}}))
    (problem,) = verify_shards(catalog, decode=False).problems
    assert f"{len(ids - keys(root))} kept clips are in no shard" in problem
    assert reshard(str(root), settings_of(root)).generation == 1
    assert keys(root) == ids and shard_bytes(root) != before
    assert verify_shards(catalog, decode=False).problems == []
    reshard(str(root), settings_of(root), repack=True)
    assert shard_bytes(root) == before


def settings_of(root: Path) -> Any:  # noqa: ANN401 - a CurateConfig
    return type(settings()).model_validate(stored_config(catalog_of(root)))


def keys(root: Path) -> set[str]:
    table = read_index(Storage(root), ["clip_id"])
    assert table is not None
    return set(table.column(0).to_pylist())


def test_verify_tells_of_stale_siblings(root: Path) -> None:
    storage = Storage(root)
    one = SiblingSet(storage, "0123456789abcdef", {"encoder": "a test"}, ["mp4"])
    for shard in shard_names(storage):
        rows = [r for r in index(root) if r["shard"] == shard]
        blob = save({"latent": np.zeros(3, np.float32)})
        one.write_shard(shard, ((r["clip_id"], blob) for r in rows))
    one.commit()
    assert verify_shards(catalog_of(root), decode=False).problems == []
    reshard(str(root), settings_of(root), repack=True)
    (problem,) = verify_shards(catalog_of(root), decode=False).problems
    assert "stale" in problem and problem.endswith(
        ": run the program that wrote latents/0123456789abcdef again"
    )
    result = CliRunner().invoke(app, ["verify", str(root), "--no-decode"])
    assert result.exit_code == 1 and "stale" in result.output


def test_verify_tells_of_an_index_that_disagrees_with_itself(root: Path) -> None:
    table = pq.read_table(root / INDEX)
    number = table.schema.get_field_index("generation")
    wrong = pa.array([7, *table.column("generation").to_pylist()[1:]], pa.int32())
    pq.write_table(table.set_column(number, "generation", wrong), root / INDEX)
    (problem,) = verify_shards(catalog_of(root), decode=False).problems
    assert "generation is 7, not 0" in problem
    pq.write_table(table.take([1, 0, *range(2, table.num_rows)]), root / INDEX)
    assert verify_shards(catalog_of(root), decode=False).problems == []
    last_first = [table.num_rows - 1, *range(table.num_rows - 1)]
    pq.write_table(table.take(last_first), root / INDEX)
    problems = verify_shards(catalog_of(root), decode=False).problems
    assert any("stands after" in p for p in problems)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), root / INDEX)
    problems = verify_shards(catalog_of(root), decode=False).problems
    assert any("do not stand together" in p for p in problems)
    assert any("1 sharded clip is in it more than once" in p for p in problems)


@pytest.mark.parametrize("name", ["shards/../../x.tar", "/etc/passwd", "shards/x.tar"])
def test_verify_opens_nothing_that_is_no_shard(root: Path, name: str) -> None:
    table = pq.read_table(root / INDEX)
    names = pa.array([name, *table.column("shard").to_pylist()[1:]], pa.string())
    number = table.schema.get_field_index("shard")
    pq.write_table(table.set_column(number, "shard", names), root / INDEX)
    problems = verify_shards(catalog_of(root), decode=False).problems
    assert f"{INDEX}: {name!r} is no name of a shard" in problems


def index(root: Path) -> list[dict[str, Any]]:
    return pq.read_table(root / INDEX).to_pylist()


def test_webdataset_reads_all_generations(root: Path) -> None:
    from webdataset.compat import WebDataset

    rows = {r["clip_id"]: r for r in index(root)}
    files = sorted(str(p) for p in (root / "shards").rglob("*.tar"))
    found: list[Any] = list(WebDataset(files, shardshuffle=False))
    assert {f["__key__"] for f in found} == set(rows) and len(found) == len(rows)
    for sample in found:
        sha = hashlib.sha256(sample["mp4"]).hexdigest()
        assert sha == rows[sample["__key__"]]["mp4_sha256"]


def test_datasets_reads_the_tars_and_the_index(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    rows = {r["clip_id"]: r for r in index(root)}
    files = sorted(str(p) for p in (root / "shards").rglob("*.tar"))
    kind: Any = {"split": "train", "streaming": True, "cache_dir": str(tmp_path / "cache")}
    found = datasets.load_dataset("webdataset", data_files=files, **kind)
    found = found.cast_column("mp4", datasets.Video(decode=False))
    assert {row["__key__"]: row["json"]["clip_id"] for row in found} == {k: k for k in rows}
    table = datasets.load_dataset("parquet", data_files=str(root / INDEX), **kind)
    assert {r["clip_id"]: r["key_hash"] for r in table} == {
        k: r["key_hash"] for k, r in rows.items()
    }


def test_pyarrow_and_duckdb_read_the_index(root: Path) -> None:
    numbers = pq.read_table(root / INDEX, columns=["key_hash", "text_hash", "generation"])
    hashes = numbers.column("key_hash").to_numpy()
    assert hashes.dtype == np.uint64 and hashes.max() > 2**63 and len(set(hashes)) == hashes.size
    con = duckdb.connect()
    found = con.execute(
        f"SELECT generation, count(*) AS n, max(key_hash) AS h FROM '{root / INDEX}' "
        "GROUP BY generation ORDER BY generation"
    ).fetchall()
    assert [f[0] for f in found] == [0, 1] and max(f[2] for f in found) == int(hashes.max())
    shard, at, size, sha = con.execute(
        f"SELECT shard, mp4_offset, mp4_bytes, mp4_sha256 FROM '{root / INDEX}' "
        "ORDER BY generation DESC, clip_id LIMIT 1"
    ).fetchall()[0]
    data = (root / shard).read_bytes()[at : at + size]
    assert hashlib.sha256(data).hexdigest() == sha


def test_curate_is_the_same_function_in_python(grown: Path) -> None:
    """The settings that a user may give are those of the section ``shard``."""
    report = curate([], str(grown / "out"), settings_of(grown / "out"))
    assert report.shards is not None and report.shards.reused
    assert report.as_dict()["shards"]["generation"] == 1
