"""Shards of a real run: what stands in them, and what ``verify`` finds."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import av
import lance
import pyarrow.parquet as pq
import pytest

from curation.redact import public_name
from curation.shards.index import INDEX, read_index
from curation.shards.samples import kept_samples
from curation.shards.verify import Verification, verify_shards
from curation.shards.writer import order_key
from curation.storage import Storage, host_name
from pipelines.redo import rejudge
from tests.faults.helpers import catalog_of, make_videos, query, run, settings
from tests.shards.caption_stages import without_captioning

CAPTION = "a caption of «v0»"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, one with caption and metadata, sharded."""
    folder = tmp_path_factory.mktemp("dataset")
    one, two = make_videos(folder / "in", 2)
    given = {"uri": str(one), "title": "T", "license": "CC0", "caption": CAPTION, "mood": [1, "x"]}
    manifest = folder / "list.jsonl"
    manifest.write_text(
        json.dumps(given) + "\n" + json.dumps({"uri": two.name and str(two)}) + "\n"
    )
    assert run(manifest, folder / "out", **without_captioning()).balanced
    return folder


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "out", tmp_path / "out"))


def rows(root: Path) -> list[dict[str, Any]]:
    table = read_index(Storage(root))
    assert table is not None
    return table.to_pylist()


def member(root: Path, row: dict[str, Any], suffix: str) -> bytes:
    with open(root / row["shard"], "rb") as shard:
        shard.seek(row[f"{suffix}_offset"])
        return shard.read(row[f"{suffix}_bytes"])


def check(root: Path, *, decode: bool = True) -> Verification:
    return verify_shards(catalog_of(root), decode=decode)


def test_the_text_is_the_caption_and_the_json_the_rest(finished: Path) -> None:
    root = finished / "out"
    clips = {c["clip_id"]: c for c in query(root, "SELECT * FROM clips WHERE verdict = 'kept'")}
    assert len(rows(root)) == len(clips) == 11
    for row in rows(root):
        clip, record = clips[row["clip_id"]], json.loads(member(root, row, "json"))
        captioned = clip["uri"].endswith("v0.mp4")
        assert member(root, row, "txt").decode() == (CAPTION if captioned else "")
        assert record["caption"] == (CAPTION if captioned else "")
        assert record["caption_source"] == ("manifest" if captioned else None)
        assert record["caption_kind"] == ("given" if captioned else None)
        texts = [c["text"] for c in record["captions"] if c["kind"] == "given"]
        assert texts == ([CAPTION] if captioned else [])
        wanted = {"title": "T", "license": "CC0", "mood": [1, "x"]} if captioned else {}
        assert record["metadata"] == wanted
        assert record["clip"]["start_s"] == clip["start_s"]
        assert record["scores"]["luma_mean"] == pytest.approx(clip["luma_mean"], abs=1e-6)
        assert record["num_frames"] == clip["media_num_frames"] == row["frames"]


def test_a_record_holds_no_path_host_run_or_time(finished: Path) -> None:
    root = finished / "out"
    runs = [r["run_id"] for r in query(root, "SELECT run_id FROM runs")]
    for row in rows(root):
        text = member(root, row, "json").decode()
        assert str(finished) not in text and "/tmp" not in text and str(Path.home()) not in text
        assert host_name() not in text and not any(r in text for r in runs)
        assert not re.search(r"\b20\d\d-?\d\d-?\d\d", text), "a date"
        assert not re.search(r'"/[^"]*"', text), "an absolute path"
        assert json.loads(text)["file"] in ("v0.mp4", "v1.mp4")


def test_numbers_that_are_none_become_null(root: Path) -> None:
    scores = catalog_of(root).dataset("scores")
    scores.update({"sharpness": "cast('NaN' as float)", "luma_mean": "NULL"})
    for sample in kept_samples(catalog_of(root)):
        assert sample.record["scores"]["sharpness"] is None
        json.loads(json.dumps(sample.record, allow_nan=False))


def test_samples_come_in_the_order_of_the_writer(root: Path) -> None:
    for seed in (0, 5):
        samples = list(kept_samples(catalog_of(root), seed))
        keys = [order_key(s.split, s.bucket, seed, s.clip_id) for s in samples]
        assert keys == sorted(keys) and len(keys) == 11


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/data/in/v 1.mp4", "v 1.mp4"),
        ("v.mp4", "v.mp4"),
        ("s3://b/k/v.mp4", "s3://b/k/v.mp4"),
        ("https://me:pw@host/v.mp4?id=3&X-Amz-Signature=ab", "https://host/v.mp4?id=3"),
    ],
)
def test_a_source_is_named_without_its_folder_and_secrets(uri: str, name: str) -> None:
    assert public_name(uri) == name


def test_a_sound_dataset_verifies(finished: Path) -> None:
    found = check(finished / "out")
    assert found.problems == [] and found.num_samples == 11 and found.num_shards > 0


@pytest.mark.parametrize("where", ["mp4", "json", "header", "padding"])
def test_a_flipped_byte_is_found(root: Path, where: str) -> None:
    row = rows(root)[3]
    at = {
        "mp4": row["mp4_offset"] + row["mp4_bytes"] // 2,
        "json": row["json_offset"],
        "header": row["mp4_offset"] - 500,
        "padding": row["shard_bytes"] - 1,
    }[where]
    data = bytearray((root / row["shard"]).read_bytes())
    data[at] ^= 0x20
    (root / row["shard"]).write_bytes(data)
    problems = check(root, decode=False).problems
    assert f"{row['shard']}: bytes differ from the index" in problems
    about = [p for p in problems if row["clip_id"] in p]
    assert len(about) == (1 if where in ("mp4", "json") else 0), about


def test_a_missing_shard_is_found(root: Path) -> None:
    shard = rows(root)[0]["shard"]
    (root / shard).unlink()
    assert f"{shard}: missing" in check(root).problems


def test_a_clip_cut_short_is_found_even_when_the_index_agrees(root: Path) -> None:
    """As a faulty disk or encoder would leave it: all checksums fit, the frames do not."""
    from curation.shards.writer import ShardSettings, write_shards

    storage, catalog = Storage(root), catalog_of(root)
    victim = query(root, "SELECT * FROM clips WHERE verdict = 'kept' LIMIT 1")[0]
    short = _first_frames(storage.read_bytes(victim["media_path"]), 3)
    storage.write_bytes(victim["media_path"], short)
    import hashlib

    values = {"media_sha256": f"'{hashlib.sha256(short).hexdigest()}'"}
    values["media_bytes"] = str(len(short))
    catalog.dataset("media").update(values, where=f"clip_id = '{victim['clip_id']}'")
    write_shards(storage, lambda: kept_samples(catalog), ShardSettings())  # pyright: ignore[reportCallIssue]
    (problem,) = check(root).problems
    assert victim["clip_id"] in problem and "decodes to 3 frames" in problem
    assert check(root, decode=False).problems == []


def _first_frames(data: bytes, count: int) -> bytes:
    out = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(out, "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [p for p in source.demux(video=0) if p.dts is not None]
        for packet in sorted(packets, key=lambda p: p.dts or 0)[:count]:
            packet.stream = stream
            target.mux(packet)
    return out.getvalue()


def test_bytes_that_do_not_decode_are_found(root: Path) -> None:
    row = rows(root)[0]
    data = bytearray((root / row["shard"]).read_bytes())
    data[row["mp4_offset"] : row["mp4_offset"] + row["mp4_bytes"]] = bytes(row["mp4_bytes"])
    (root / row["shard"]).write_bytes(data)
    assert any("does not decode" in p and row["clip_id"] in p for p in check(root).problems)


def test_a_shard_cut_off_is_found(root: Path) -> None:
    row = rows(root)[-1]
    path = root / row["shard"]
    path.write_bytes(path.read_bytes()[: row["mp4_offset"] + 10])
    problems = check(root).problems
    assert f"{row['shard']}: bytes differ from the index" in problems
    assert any(".json is damaged" in p for p in problems)
    assert any("does not decode" in p for p in problems)


def test_a_stray_file_is_found(root: Path) -> None:
    (root / "shards" / "notes.txt").write_text("x")
    assert check(root).problems == ["shards/notes.txt: not in the index"]


@pytest.mark.parametrize("content", [None, b"PAR1 no index at all PAR1"])
def test_a_missing_or_damaged_index_is_told(root: Path, content: bytes | None) -> None:
    (root / INDEX).unlink()
    if content is not None:
        (root / INDEX).write_bytes(content)
    (problem,) = check(root).problems
    assert ("no shard index" if content is None else "damaged") in problem


def test_shards_of_another_version_are_told(root: Path) -> None:
    table = read_index(Storage(root))
    assert table is not None
    about = dict(table.schema.metadata) | {b"clipmill.shard_format": b"3"}
    pq.write_table(table.replace_schema_metadata(about), root / INDEX)
    assert check(root).problems == [
        f"{INDEX}: was written by another version: run `clipmill shard OUT`"
    ]


def test_a_text_that_differs_is_found(root: Path) -> None:
    row = next(r for r in rows(root) if r["txt_bytes"])
    data = bytearray((root / row["shard"]).read_bytes())
    data[row["txt_offset"]] ^= 1
    (root / row["shard"]).write_bytes(data)
    problems = check(root, decode=False).problems
    assert f"{row['shard']}: {row['clip_id']}: .json or .txt differ from the index" in problems


def test_stale_verdicts_are_found(root: Path) -> None:
    middle = query(root, "SELECT median(luma_mean) m FROM clips")[0]["m"]
    rejudge(str(root), settings(judge={"rules": {"luma_mean": {"min": middle}}}))
    (problem,) = check(root, decode=False).problems
    told = r"the shards are older than the verdicts: \d+ sharded clips are no longer kept: "
    assert re.fullmatch(told + "run `clipmill shard OUT`", problem)


def test_kept_clips_without_a_shard_are_found(root: Path) -> None:
    catalog = catalog_of(root)
    rest = read_index(Storage(root))
    assert rest is not None
    pq.write_table(rest.slice(1), root / INDEX)
    (problem,) = [p for p in check(root).problems if "older than the verdicts" in p]
    assert problem.endswith(": 1 kept clip is in no shard: run `clipmill shard OUT`")
    assert catalog.has("media")


def test_clips_that_were_cut_anew_are_found(root: Path) -> None:
    media = catalog_of(root).dataset("media")
    assert isinstance(media, lance.LanceDataset)
    media.update({"media_sha256": "'0'"})
    (problem,) = check(root, decode=False).problems
    assert problem == "11 sharded clips were cut anew: run `clipmill shard OUT`"
