"""Shards: deterministic to the byte, indexed to the byte, replaced as a whole."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from webdataset.compat import WebDataset

from curation.errors import CatalogError
from curation.shards.index import INDEX
from curation.shards.swap import STAGING
from curation.shards.tar import MEMBERS
from curation.storage import Storage
from tests.shards.samples import bytes_of, in_order, index_rows, make_samples, pack

COUNT = 30


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "root")


def test_the_same_samples_give_the_same_bytes(storage: Storage, tmp_path: Path) -> None:
    report = pack(storage, make_samples(storage, COUNT), 40_000)
    other = Storage(tmp_path / "elsewhere")
    samples = make_samples(other, COUNT)
    pack(other, samples, 40_000)
    assert bytes_of(storage) == bytes_of(other)
    pack(other, samples[:-1], 40_000)
    assert bytes_of(storage) != bytes_of(other)
    assert pack(other, samples, 40_000).generation == 1
    assert bytes_of(storage) != bytes_of(other)
    assert pack(other, samples, 40_000, repack=True).generation == 0
    assert bytes_of(storage) == bytes_of(other), "packed anew, the way there leaves no trace"
    assert report.num_samples == COUNT and report.num_shards == len(bytes_of(storage)) - 1
    tars = (len(data) for name, data in bytes_of(storage).items() if name != INDEX)
    assert report.num_bytes == sum(tars)


def test_the_index_points_at_the_members(storage: Storage) -> None:
    samples = {s.clip_id: s for s in make_samples(storage, COUNT)}
    pack(storage, in_order(list(samples.values())), 40_000)
    rows = index_rows(storage)
    assert {r["clip_id"] for r in rows} == set(samples) and len(rows) == COUNT
    files = bytes_of(storage)
    for row in rows:
        sample, shard = samples[row["clip_id"]], files[row["shard"]]

        starts = {e: row[f"{e}_offset"] for e in MEMBERS}
        member = {e: shard[at : at + row[f"{e}_bytes"]] for e, at in starts.items()}
        assert member["mp4"] == Path(storage.path(sample.media_path)).read_bytes()
        assert hashlib.sha256(member["mp4"]).hexdigest() == row["mp4_sha256"]
        assert json.loads(member["json"]) == sample.record
        assert member["txt"].decode() == sample.caption
        assert row["has_caption"] == bool(sample.caption)
        assert row["shard_bytes"] == len(shard)
        assert row["shard_sha256"] == hashlib.sha256(shard).hexdigest()
        assert row["bucket"] == f"{row['frames']}x{row['height_px']}x{row['width_px']}"
        assert row["shard"].startswith(f"shards/{row['bucket']}/")


def test_members_are_plain_files_of_no_time_and_no_owner(storage: Storage) -> None:
    pack(storage, make_samples(storage, 6))
    for name in bytes_of(storage):
        if name == INDEX:
            continue
        with tarfile.open(storage.path(name), "r:") as tar:  # "r:" refuses compression
            members = tar.getmembers()
        for one, two, three in zip(*[iter(members)] * 3, strict=True):
            stem = one.name.removesuffix(".mp4")
            assert [m.name for m in (one, two, three)] == [
                f"{stem}.{e}" for e in ("mp4", "json", "txt")
            ]
        for member in members:
            assert member.isreg() and member.mtime == 0 and member.mode == 0o644
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")


def test_shards_reach_for_the_target_size_and_do_not_pass_it(storage: Storage) -> None:
    target = 40_000
    pack(storage, make_samples(storage, COUNT), target)
    per_bucket: Counter[str] = Counter()
    sizes: dict[str, list[int]] = {}
    for name, data in sorted(bytes_of(storage).items()):
        if name == INDEX:
            continue
        _, bucket, base = name.split("/")
        assert base == f"000-{per_bucket[bucket]:06d}.tar"
        per_bucket[bucket] += 1
        sizes.setdefault(bucket, []).append(len(data))
    assert set(per_bucket) == {"10x64x96", "10x128x96", "9x64x96"}
    for found in sizes.values():
        assert len(found) > 1 and max(found) <= target
        assert all(size > target - 10_240 - 8_000 for size in found[:-1]), "and not half empty"


def test_a_sample_above_the_target_gets_a_shard_of_its_own(storage: Storage) -> None:
    pack(storage, make_samples(storage, 6, size_bytes=50_000), 20_000)
    shards = Counter(r["shard"] for r in index_rows(storage))
    assert len(shards) == 6 and set(shards.values()) == {1}


def test_a_bucket_is_in_the_order_of_its_seeded_hash(storage: Storage) -> None:
    samples = make_samples(storage, COUNT)
    pack(storage, samples, 40_000)
    assert [r["clip_id"] for r in index_rows(storage)] == [s.clip_id for s in samples]
    by_id = in_order(samples, seed=1)
    assert [s.clip_id for s in by_id] != [s.clip_id for s in samples]
    assert sorted(s.bucket for s in samples) == [s.bucket for s in samples]


def test_webdataset_and_tarfile_read_them(storage: Storage) -> None:
    samples = {s.clip_id: s for s in make_samples(storage, 9)}
    pack(storage, in_order(list(samples.values())), 20_000)
    urls = [storage.path(n) for n in bytes_of(storage) if n.endswith(".tar")]
    found: list[Any] = list(cast(Any, WebDataset(urls, shardshuffle=False).decode()))
    assert {f["__key__"] for f in found} == set(samples) and len(found) == 9
    for sample in found:
        assert sample["json"]["clip_id"] == sample["__key__"]
        assert sample["txt"] == samples[sample["__key__"]].caption
        digest = hashlib.sha256(sample["mp4"]).hexdigest()
        assert digest == samples[sample["__key__"]].media_sha256


def test_nothing_changed_means_nothing_is_written(storage: Storage) -> None:
    samples = make_samples(storage, 6)
    seen: list[int] = []
    first = pack(storage, samples, on_sample=seen.append)
    assert not first.reused and sorted(seen) == sorted(s.media_bytes for s in samples)
    before = {n: Path(storage.path(n)).stat().st_mtime_ns for n in storage.walk("shards")}
    second = pack(storage, samples, on_sample=seen.append)
    assert second == replace(first, reused=True, num_written=0) and len(seen) == 6
    assert {n: Path(storage.path(n)).stat().st_mtime_ns for n in storage.walk("shards")} == before


@pytest.mark.parametrize("change", ["caption", "record", "media", "target"])
def test_any_change_is_noticed(storage: Storage, change: str) -> None:
    samples = make_samples(storage, 6)
    pack(storage, samples)
    first, *rest = samples
    if change == "caption":
        first = replace(first, caption="other")
    elif change == "record":
        first = replace(first, record=first.record | {"title": "t"})
    elif change == "media":
        storage.write_bytes(first.media_path, b"other")
        sha = hashlib.sha256(b"other").hexdigest()
        first = replace(first, media_sha256=sha, media_bytes=5)
    assert not pack(storage, [first, *rest], 2**21 if change == "target" else 2**20).reused


@pytest.mark.parametrize("damage", ["missing", "short", "index"])
def test_a_damaged_dataset_is_mended_by_packing_again(storage: Storage, damage: str) -> None:
    samples = make_samples(storage, 6)
    pack(storage, samples)
    before = bytes_of(storage)
    shard = next(n for n in before if n.endswith(".tar"))
    if damage == "missing":
        storage.remove(shard)
    elif damage == "short":
        storage.write_bytes(shard, before[shard][:-512])
    else:
        storage.write_bytes(INDEX, b"PAR1 no index")
    assert not pack(storage, samples).reused
    assert bytes_of(storage) == before


@pytest.mark.parametrize("damage", ["missing", "short", "long", "flipped"])
def test_media_that_are_not_what_the_catalog_says_are_not_packed(
    storage: Storage, damage: str
) -> None:
    samples = make_samples(storage, 6)
    pack(storage, samples[:3])
    before = bytes_of(storage)
    victim = samples[4].media_path
    data = storage.read_bytes(victim)
    if damage == "missing":
        storage.remove(victim)
    else:
        flipped = bytes([data[0] ^ 1]) + data[1:]
        storage.write_bytes(
            victim, {"short": data[:-1], "long": data + b"x", "flipped": flipped}[damage]
        )
    with pytest.raises(CatalogError, match="media of a kept clip") as caught:
        pack(storage, samples)
    assert caught.value.where == victim
    assert bytes_of(storage) == before, "the old shards stand until the new ones are whole"


def test_old_shards_and_strays_go_and_no_temporary_stays(storage: Storage) -> None:
    samples = make_samples(storage, COUNT)
    pack(storage, samples, 40_000)
    storage.write_bytes("shards/9x9x9/000-000000.tar", b"stray")
    storage.write_bytes("shards/10x64x96/x.tar.tmp-1234", b"torn")
    storage.write_bytes(f"{STAGING}/left/over.tar", b"torn")
    pack(storage, samples[:4])
    assert set(storage.walk("shards")) == {r["shard"] for r in index_rows(storage)} | {INDEX}
    assert storage.walk(STAGING) == []


def test_no_samples_give_an_empty_index(storage: Storage) -> None:
    report = pack(storage, [])
    assert (report.num_shards, report.num_samples, report.num_bytes) == (0, 0, 0)
    assert pack(storage, []).reused
