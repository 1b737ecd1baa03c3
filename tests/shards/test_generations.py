"""Shards grow by generations: a clip stays where it lies, and only what changed is written."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from curation.ids import hash64, sha_prefix64
from curation.schema import SHARD_INDEX
from curation.shards import index as index_room
from curation.shards.index import INDEX, ShardName, key_of, metadata_of, rows_of_shard
from curation.shards.plans import Kept, plan_digest
from curation.shards.rewrite import rewrite_shards
from curation.shards.settings import ShardSettings
from curation.shards.tar import Sample
from curation.shards.writer import write_shards
from curation.storage import Storage
from tests.shards.samples import bytes_of, in_order, index_rows, make_samples, pack

SIZE = 40_000
State = dict[str, tuple[int, int, str]]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "root")


def state(storage: Storage) -> State:
    """Inode, time and checksum of every tar."""
    found = {}
    for name in storage.walk("shards"):
        if name.endswith(".tar"):
            path = Path(storage.path(name))
            about = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = (about.st_ino, about.st_mtime_ns, digest)
    return found


def shard_of(storage: Storage) -> dict[str, str]:
    return {row["clip_id"]: row["shard"] for row in index_rows(storage)}


def changed(before: State, after: State) -> set[str]:
    return {name for name in before.keys() & after.keys() if before[name] != after[name]}


def sound(storage: Storage, samples: list[Sample]) -> None:
    """The index is in order, agrees with the tars, and names each sample once."""
    rows = index_rows(storage)
    assert sorted(r["clip_id"] for r in rows) == sorted(s.clip_id for s in samples)
    names = [r["shard"] for r in rows]
    runs = [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n]
    assert runs == sorted(set(names), key=key_of), "shards together, in order"
    by_id = {s.clip_id: s for s in samples}
    files = bytes_of(storage)
    assert set(files) == set(names) | {INDEX}
    for row in rows:
        sample, data = by_id[row["clip_id"]], files[row["shard"]]
        texts = sample.json_bytes() + b"\0" + sample.text_bytes()
        assert row["key_hash"] == hash64(sample.clip_id)
        assert row["mp4_hash"] == sha_prefix64(sample.media_sha256)
        assert row["text_hash"] == int.from_bytes(hashlib.sha256(texts).digest()[:8], "big")
        assert row["shard_sha256"] == hashlib.sha256(data).hexdigest()
        at, size = row["json_offset"], row["json_bytes"]
        assert json.loads(data[at : at + size]) == sample.record
        assert row["generation"] == ShardName.parse(row["shard"]).generation  # type: ignore[union-attr]


def with_text(sample: Sample, text: str = "another text") -> Sample:
    return replace(sample, caption=text, record=sample.record | {"caption": text})


def test_the_index_has_the_agreed_columns_and_says_what_it_was_made_of(storage: Storage) -> None:
    samples = [replace(s, source="a shop") for s in make_samples(storage, 5)]
    pack(storage, samples)
    table = index_room.read_index(storage)
    assert table is not None and table.schema.remove_metadata().equals(SHARD_INDEX)
    assert set(table.column("source").to_pylist()) == {"a shop"}
    about = metadata_of(storage)
    assert about is not None and about[b"clipmill.shard_format"] == b"4"
    settings = ShardSettings(target_bytes=2**20)  # pyright: ignore[reportCallIssue]
    assert about[b"clipmill.plan"].decode() == plan_digest(in_order(samples), settings)


def test_what_is_new_comes_beside_and_touches_no_shard(storage: Storage) -> None:
    samples = make_samples(storage, 40)
    first = pack(storage, samples[::2], SIZE)
    assert (first.generation, first.num_written) == (0, first.num_shards)
    before = state(storage)
    second = pack(storage, samples, SIZE)
    after = state(storage)
    assert changed(before, after) == set() and before.keys() < after.keys()
    assert second.generation == 1 and second.num_written == len(after) - len(before)
    new = {name for name in after if name not in before}
    assert {ShardName.parse(name).generation for name in new} == {1}  # type: ignore[union-attr]
    assert all(len(data) <= SIZE for n, data in bytes_of(storage).items() if n in new)
    sound(storage, samples)
    rows = [r for r in index_rows(storage) if r["generation"] == 1]
    assert [r["clip_id"] for r in rows] == [
        s.clip_id for s in in_order([s for s in samples if s not in samples[::2]])
    ]
    third = pack(storage, samples, SIZE)
    assert third.reused and (third.num_written, third.generation) == (0, 1)
    assert "unchanged" in third.words() and "generations 0 to 1" in third.words()
    assert state(storage) == after


def test_packed_anew_nothing_is_left_of_how_it_grew(storage: Storage, tmp_path: Path) -> None:
    samples = make_samples(storage, 40)
    once = Storage(shutil.copytree(storage.root, tmp_path / "once"))
    pack(once, samples, SIZE)
    for count in (7, 21, 15, 33, 40):
        pack(storage, samples[:count], SIZE)
    assert bytes_of(storage) != bytes_of(once)
    report = pack(storage, samples, SIZE, repack=True)
    assert not report.reused and report.num_written == report.num_shards
    assert bytes_of(storage) == bytes_of(once)
    before = state(storage)
    again = pack(storage, samples, SIZE, repack=True)
    assert again.reused and state(storage) == before, "it is packed at once already"


@pytest.mark.parametrize("gap", ["dropped", "grew"])
def test_repack_sees_that_generation_0_is_not_packed_at_once(storage: Storage, gap: str) -> None:
    """No later generation, and yet not what one run packs."""
    samples = make_samples(storage, 40)
    pack(storage, samples, SIZE)
    if gap == "dropped":
        left = [s for i, s in enumerate(samples) if i % 4]
    else:
        left = [with_text(s, "x" * 9000) if i % 4 == 0 else s for i, s in enumerate(samples)]
    assert pack(storage, left, SIZE).generation == 0
    assert pack(storage, left, SIZE).reused
    assert not pack(storage, left, SIZE, repack=True).reused
    assert pack(storage, left, SIZE, repack=True).reused
    sound(storage, left)


def test_a_dropped_clip_changes_its_shard_alone(storage: Storage) -> None:
    samples = make_samples(storage, 40)
    pack(storage, samples, SIZE)
    before, gone = state(storage), samples[3]
    where = shard_of(storage)
    report = pack(storage, [s for s in samples if s is not gone], SIZE)
    assert changed(before, state(storage)) == {where[gone.clip_id]} and report.num_written == 1
    del where[gone.clip_id]
    assert shard_of(storage) == where, "all others stay where they were"
    sound(storage, [s for s in samples if s is not gone])


def test_a_shard_of_which_all_clips_went_goes(storage: Storage) -> None:
    samples = make_samples(storage, 40)
    pack(storage, samples, SIZE)
    before, where = state(storage), shard_of(storage)
    shard = where[samples[5].clip_id]
    left = [s for s in samples if where[s.clip_id] != shard]
    report = pack(storage, left, SIZE)
    after = state(storage)
    assert report.num_written == 0 and not report.reused
    assert changed(before, after) == set() and before.keys() - after.keys() == {shard}
    sound(storage, left)


@pytest.mark.parametrize("what", ["text", "mp4"])
def test_a_clip_that_changed_is_replaced_in_its_shard(storage: Storage, what: str) -> None:
    samples = make_samples(storage, 40)
    pack(storage, samples[::2], SIZE)
    pack(storage, samples, SIZE)
    before, where = state(storage), shard_of(storage)
    one = samples[8]
    if what == "text":
        new = with_text(one)
    else:
        data = b"cut anew" * 500
        storage.write_bytes(one.media_path, data)
        sha = hashlib.sha256(data).hexdigest()
        new = replace(one, media_sha256=sha, media_bytes=len(data))
    samples = [new if s is one else s for s in samples]
    report = pack(storage, samples, SIZE)
    assert changed(before, state(storage)) == {where[one.clip_id]} and report.num_written == 1
    assert shard_of(storage) == where and report.generation == 1
    sound(storage, samples)


def test_a_clip_of_another_split_or_shape_moves(storage: Storage) -> None:
    samples = [replace(s, split="train") for s in make_samples(storage, 30)]
    pack(storage, samples, SIZE)
    before, where = state(storage), shard_of(storage)
    one, two = samples[2], samples[20]
    moved = [replace(one, split="val"), replace(two, frames=two.frames + 1)]
    left = in_order([*(s for s in samples if s not in (one, two)), *moved])
    pack(storage, left, SIZE)
    now = shard_of(storage)
    assert now[one.clip_id].startswith("shards/val/") and "/001-" in now[one.clip_id]
    assert now[two.clip_id].startswith(f"shards/train/{moved[1].bucket}/001-")
    assert changed(before, state(storage)) == {where[one.clip_id], where[two.clip_id]}
    sound(storage, left)


@pytest.mark.parametrize(
    "change", [{"target_bytes": 60_000}, {"seed": 3}, {"bucket_frames": 4}, {"audio": "m4a"}]
)
def test_another_layout_packs_all_anew(
    storage: Storage, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.shards.packing.sound_of", lambda *_: None)  # no MP4s, bytes
    samples = make_samples(storage, 30)
    pack(storage, samples[:20], SIZE)
    pack(storage, samples, SIZE)
    if "bucket_frames" in change:
        samples = in_order([replace(s, bucket_frames=4) for s in samples])
    values: dict[str, Any] = {"target_bytes": SIZE} | change
    report = pack(storage, samples, **values)
    assert report.generation == 0 and report.num_written == report.num_shards
    sound(storage, samples)


def test_when_nothing_stays_all_is_packed_anew(storage: Storage) -> None:
    samples = make_samples(storage, 30)
    pack(storage, samples[:15], SIZE)
    pack(storage, samples[:20], SIZE)
    report = pack(storage, samples[20:], SIZE)
    assert report.generation == 0
    sound(storage, samples[20:])
    assert pack(storage, [], SIZE).num_samples == 0 and set(bytes_of(storage)) == {INDEX}
    assert pack(storage, samples, SIZE).generation == 0


def test_an_index_of_another_format_is_packed_anew(storage: Storage) -> None:
    samples = make_samples(storage, 20)
    pack(storage, samples[:10], SIZE)
    table = index_room.read_index(storage)
    assert table is not None
    about = dict(table.schema.metadata) | {b"clipmill.shard_format": b"3"}
    old = table.drop_columns(["key_hash", "generation"]).replace_schema_metadata(about)
    pq.write_table(old, storage.path(INDEX))
    report = pack(storage, samples, SIZE)
    assert report.generation == 0 and report.num_written == report.num_shards
    sound(storage, samples)


def test_clips_go_from_shards_of_an_older_version(storage: Storage) -> None:
    """A release made before keeps its columns when it is made anew without some clips."""
    samples = make_samples(storage, 20)
    pack(storage, samples, SIZE)
    table = index_room.read_index(storage)
    assert table is not None
    new = ("key_hash", "mp4_hash", "text_hash", "generation", "source", "m4a_offset", "m4a_bytes")
    old = table.drop_columns(new).replace_schema_metadata({b"clipmill.shard_format": b"3"})
    pq.write_table(old, storage.path(INDEX))
    before, gone = state(storage), samples[7].clip_id
    shard = next(r["shard"] for r in index_rows(storage) if r["clip_id"] == gone)
    settings = ShardSettings(target_bytes=SIZE)  # pyright: ignore[reportCallIssue]
    assert rewrite_shards(Catalog(storage), {gone}, settings, current=False) == [shard]
    found = index_room.read_index(storage)
    assert found is not None and found.schema.equals(old.schema, check_metadata=True)
    assert set(found.column("clip_id").to_pylist()) == {s.clip_id for s in samples} - {gone}
    assert changed(before, state(storage)) | (before.keys() - state(storage).keys()) == {shard}
    pack(storage, samples[:7] + samples[8:], SIZE)
    sound(storage, samples[:7] + samples[8:])


def test_a_missing_shard_is_made_again_and_no_other(storage: Storage) -> None:
    samples = make_samples(storage, 30)
    pack(storage, samples[::2], SIZE)
    pack(storage, samples, SIZE)
    before, files = state(storage), bytes_of(storage)
    lost = sorted(before)[2]
    storage.remove(lost)
    assert pack(storage, samples, SIZE).num_written == 1
    assert bytes_of(storage) == files
    after = state(storage)
    assert {n for n in after if after[n] != before[n]} == {lost}


def test_many_generations_are_written_some_at_a_time(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_samples(storage, 40)
    for count in range(4, 41, 4):
        pack(storage, samples[:count], SIZE)
    texts = [with_text(s) for s in samples]
    one = Storage(shutil.copytree(storage.root, f"{storage.root}-copy"))
    assert pack(one, texts, SIZE).generation == 9
    monkeypatch.setattr("curation.shards.writer.OPEN_TARS", 2)
    pack(storage, texts, SIZE)
    assert bytes_of(storage) == bytes_of(one)
    sound(storage, texts)


def test_samples_that_change_while_they_are_packed_are_refused(storage: Storage) -> None:
    samples = make_samples(storage, 10)
    pack(storage, samples[:4])
    before = bytes_of(storage)
    settings = ShardSettings(target_bytes=2**20)  # pyright: ignore[reportCallIssue]
    for second in (samples[:9], [*samples[:4], *samples[5:], samples[4]]):
        answers = [samples, second]
        with pytest.raises(CatalogError, match="changed while they were packed"):
            write_shards(storage, lambda a=answers: a.pop(0), settings)
        assert bytes_of(storage) == before
    with pytest.raises(CatalogError, match="same key"):
        pack(storage, [*samples, samples[0]])


@pytest.mark.parametrize("seed", range(4))
def test_any_history_keeps_what_did_not_change(
    storage: Storage, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random steps: every shard without a changed clip is untouched, every sample is found."""
    monkeypatch.setattr("curation.shards.packing.HELD_ROWS", 2)
    rng = random.Random(seed)
    known = {s.clip_id: s for s in make_samples(storage, 40)}
    kept = set(rng.sample(sorted(known), 12))
    pack(storage, [known[c] for c in kept], SIZE)
    for _ in range(8):
        before, where, old = state(storage), shard_of(storage), dict(known)
        was = set(kept)
        for clip in rng.sample(sorted(known), 3):
            kept ^= {clip}
        for clip in rng.sample(sorted(known), 2):
            known[clip] = with_text(known[clip], f"text {rng.random()}")
        if rng.random() < 0.4:
            clip = rng.choice(sorted(known))
            known[clip] = replace(known[clip], split=rng.choice(["", "val"]))
        report = pack(storage, [known[c] for c in kept], SIZE)
        sound(storage, [known[c] for c in kept])
        differ = {c for c in was if c not in kept or known[c] != old[c]}
        after = state(storage)
        concerned = {where[c] for c in differ}
        assert {n for n in before if after.get(n) != before[n]} == concerned
        new = {shard_of(storage)[c] for c in kept} - before.keys()
        assert report.num_written == len(new | (concerned & after.keys()))
        stays = {c for c in kept & was if known[c].folder == old[c].folder}
        now = shard_of(storage)
        assert {c: now[c] for c in stays} == {c: where[c] for c in stays}
    once = Storage(tmp_path / "once")
    shutil.copytree(storage.path("media"), once.path("media"))
    pack(once, [known[c] for c in kept], SIZE)
    pack(storage, [known[c] for c in kept], SIZE, repack=True)
    assert bytes_of(storage) == bytes_of(once)


def test_memory_per_clip_is_small(storage: Storage) -> None:
    """A hundred thousand clips in three buckets, told of without a file."""
    count = 100_000
    one = make_samples(storage, 1)[0]

    def samples() -> Any:  # noqa: ANN401 - a generator
        for i in range(count):
            clip = f"{i:032x}"
            yield replace(one, clip_id=clip, record={"clip_id": clip}, frames=9 + i % 3)

    tracemalloc.start()
    kept = Kept.of(samples(), ShardSettings())  # pyright: ignore[reportCallIssue]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept.hashes.shape == (3, count) and kept.hashes.dtype == np.uint64
    assert peak < 200 * count, f"{peak / count:.0f} bytes per clip"


def test_row_groups_leave_no_trace_of_how_rows_came(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_room, "GROUP_ROWS", 100)
    schema = SHARD_INDEX.with_metadata({"a": "b"})
    rows = [
        {"clip_id": f"c{i}", "key_hash": i, "shard": f"shards/8x8x8/000-{i // 7:06d}.tar"}
        for i in range(777)
    ]
    for name, step in (("one", 777), ("seven", 7), ("many", 131)):
        with index_room.write_index(storage, name, schema) as take:
            for at in range(0, 777, step):
                take(pa.Table.from_pylist(rows[at : at + step], schema=schema))
    files = {storage.read_bytes(name) for name in ("one", "seven", "many")}
    assert len(files) == 1
    assert pq.ParquetFile(storage.path("one")).metadata.num_row_groups == 8
    storage.rename("one", INDEX)
    found = rows_of_shard(storage, "shards/8x8x8/000-000014.tar", ["clip_id", "key_hash"])
    assert found.column("key_hash").to_pylist() == list(range(98, 105))
    assert rows_of_shard(storage, "shards/8x8x8/000-999999.tar", ["clip_id"]).num_rows == 0
