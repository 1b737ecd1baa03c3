"""Sibling sets: beside the shards, never in them; resumed, told stale, and free of what went."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load, save

from curation.errors import CatalogError, ConfigError
from curation.schema import SIBLING_INDEX
from curation.shards.index import by_shard, shard_names
from curation.shards.sibling_check import check_siblings, remove_from_siblings, siblings_of
from curation.shards.siblings import SiblingSet
from curation.shards.tar import Sample
from curation.storage import Storage
from tests.shards.samples import bytes_of, index_rows, make_samples, pack
from tests.shards.test_generations import with_text
from tests.shards.test_swap import Killed, kill_after

PRINT = "0123456789abcdef"
SIZE = 32_000
MEND = f"run the program that wrote latents/{PRINT} again"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "root")


@pytest.fixture
def samples(storage: Storage) -> list[Sample]:
    found = make_samples(storage, 24)
    pack(storage, found, SIZE)
    return found


def the_set(storage: Storage, *reads: str, fingerprint: str = PRINT) -> SiblingSet:
    return SiblingSet(storage, fingerprint, {"encoder": "a test"}, reads or ("mp4",))


def encoded(storage: Storage, shard: str) -> Iterator[tuple[str, bytes]]:
    """Numbers that tell which state of the sample they were made of."""
    for row in index_rows(storage):
        if row["shard"] == shard:
            data = np.array([row["mp4_hash"], row["text_hash"]], np.uint64)
            yield row["clip_id"], save({"latent": data})


def encode(storage: Storage, one: SiblingSet, most: int | None = None) -> list[str]:
    """Write what is pending."""
    shards = one.pending_shards()[:most]
    for shard in shards:
        one.write_shard(shard, encoded(storage, shard))
    return shards


def files(storage: Storage) -> dict[str, bytes]:
    return {n: storage.read_bytes(n) for n in storage.walk("latents")}


def sound(storage: Storage, fingerprint: str = PRINT) -> None:
    """The index of a set points at the members, in the order of the shards."""
    index = pq.read_table(storage.path(f"latents/{fingerprint}/index.parquet"))
    assert index.schema.remove_metadata().equals(SIBLING_INDEX)
    rows, wanted = index.to_pylist(), index_rows(storage)
    for column in ("clip_id", "key_hash", "shard"):
        assert [r[column] for r in rows] == [w[column] for w in wanted]
    for row in rows:
        tar = f"latents/{fingerprint}/{row['shard'].removeprefix('shards/')}"
        data = storage.read_bytes(row["sibling"])
        assert row["sibling"] == tar and row["sibling_bytes"] == len(data)
        assert row["sibling_sha256"] == hashlib.sha256(data).hexdigest()
        member = data[row["data_offset"] : row["data_offset"] + row["data_bytes"]]
        assert load(member)["latent"].tolist() == [row["mp4_hash"], row["text_hash"]]
    assert storage.walk(f"latents/{fingerprint}/work") == []


def test_a_set_mirrors_the_shards_and_changes_none(storage: Storage, samples: list[Sample]) -> None:
    before = bytes_of(storage)
    one = the_set(storage)
    shards = encode(storage, one)
    assert shards == shard_names(storage) and len(shards) > 6
    assert check_siblings(storage) == [f"latents/{PRINT}: was begun and not finished: {MEND}"]
    one.commit()
    sound(storage)
    assert check_siblings(storage) == [] and one.pending_shards() == []
    assert bytes_of(storage) == before
    about = json.loads(storage.read_bytes(f"latents/{PRINT}/set.json"))
    assert about == {
        "fingerprint": PRINT,
        "description": {"encoder": "a test"},
        "reads": ["mp4"],
    }
    for name in files(storage):
        if name.endswith(".tar"):
            with tarfile.open(storage.path(name), "r:") as tar:
                members = tar.getmembers()
            keys = [r["clip_id"] for r in index_rows(storage) if r["shard"].endswith(name[25:])]
            assert [m.name for m in members] == [f"{key}.safetensors" for key in keys]
            assert all(m.mtime == 0 and m.uid == 0 and m.mode == 0o644 for m in members)
    again = files(storage)
    one.commit()
    assert files(storage) == again, "there is nothing to do"


def test_the_same_samples_give_the_same_set(storage: Storage, tmp_path: Path) -> None:
    found = []
    for folder in ("one", "two"):
        root = Storage(tmp_path / folder)
        pack(root, make_samples(root, 12), SIZE)
        one = the_set(root)
        encode(root, one)
        one.commit()
        found.append(files(root))
    assert found[0] == found[1]


def test_webdataset_pyarrow_and_duckdb_read_a_set(storage: Storage, samples: list[Sample]) -> None:
    from webdataset.compat import WebDataset

    one = the_set(storage, "mp4", "text")
    encode(storage, one)
    one.commit()
    urls = [storage.path(n) for n in files(storage) if n.endswith(".tar")]
    found: list[Any] = list(WebDataset(urls, shardshuffle=False))
    assert {f["__key__"] for f in found} == {s.clip_id for s in samples}
    assert all(load(f["safetensors"])["latent"].shape == (2,) for f in found)
    index = storage.path(f"latents/{PRINT}/index.parquet")
    ((count,),) = (
        duckdb.connect()
        .execute(
            f"SELECT count(*) FROM '{index}' l JOIN '{storage.path('shards/index.parquet')}' s "
            "ON l.key_hash = s.key_hash AND l.mp4_hash = s.mp4_hash"
        )
        .fetchall()
    )
    assert count == len(samples) == pq.read_table(index).num_rows


def test_an_encoder_goes_on_where_it_was_killed(storage: Storage, samples: list[Sample]) -> None:
    shards = encode(storage, the_set(storage), 3)
    one = the_set(storage)
    rest = one.pending_shards()
    assert len(shards) == 3 and shards + rest == shard_names(storage)
    with pytest.raises(CatalogError, match="no current sibling"):
        one.commit()
    assert encode(storage, one) == rest
    one.commit()
    sound(storage)


def test_killed_at_any_call_of_an_encoder(
    storage: Storage, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First a set is made, then the shards change under it, then it is brought up to date."""
    first = the_set(storage, "mp4", "text")
    encode(storage, first)
    first.commit()
    changed = [with_text(samples[1]), *samples[3:20]]
    pack(storage, changed, SIZE)

    def work(root: Storage) -> None:
        one = the_set(root, "mp4", "text")
        encode(root, one)
        one.commit()

    whole = Storage(shutil.copytree(storage.root, tmp_path / "whole"))
    work(whole)
    sound(whole)
    moments = 0
    while True:
        root = Storage(shutil.copytree(storage.root, tmp_path / f"killed{moments}"))
        with monkeypatch.context() as patch:
            kill_after(patch, moments)
            try:
                work(root)
                break
            except Killed:
                pass
        if root.exists(f"latents/{PRINT}/index.parquet"):
            tars = {r["sibling"]: r for r in _rows(root)}
            for name, row in tars.items():  # what an index names is whole
                data = root.read_bytes(name)
                assert hashlib.sha256(data).hexdigest() == row["sibling_sha256"]
        work(root)
        assert files(root) == files(whole), moments
        assert check_siblings(root) == []
        moments += 1
    assert moments > 8


def _rows(storage: Storage) -> list[dict[str, Any]]:
    return pq.read_table(storage.path(f"latents/{PRINT}/index.parquet")).to_pylist()


def test_another_text_makes_stale_what_was_made_of_texts(
    storage: Storage, samples: list[Sample]
) -> None:
    of_video, of_text = the_set(storage), the_set(storage, "text", fingerprint="feedbeef")
    for one in (of_video, of_text):
        encode(storage, one)
        one.commit()
    pack(storage, [with_text(samples[4]), *samples[:4], *samples[5:]], SIZE)
    (shard,) = [r["shard"] for r in index_rows(storage) if r["clip_id"] == samples[4].clip_id]
    total = len(samples)
    assert check_siblings(storage) == [
        f"latents/feedbeef: stale: of the siblings of {total} samples 1 were made of other texts: "
        f"{MEND.replace(PRINT, 'feedbeef')}"
    ]
    assert SiblingSet.open(storage, PRINT).pending_shards() == []
    one = SiblingSet.open(storage, "feedbeef")
    assert encode(storage, one) == [shard]
    one.commit()
    assert check_siblings(storage) == []
    sound(storage, "feedbeef")


def test_a_clip_cut_anew_makes_its_sibling_stale(storage: Storage, samples: list[Sample]) -> None:
    one = the_set(storage, "mp4", "text")
    encode(storage, one)
    one.commit()
    data = b"cut anew" * 400
    storage.write_bytes(samples[2].media_path, data)
    sha = hashlib.sha256(data).hexdigest()
    new = replace(samples[2], media_sha256=sha, media_bytes=len(data))
    pack(storage, [*samples[:2], new, *samples[3:]], SIZE)
    (text,) = check_siblings(storage)
    assert "1 were made of another mp4" in text and "texts" not in text
    one = SiblingSet.open(storage, PRINT)
    assert len(encode(storage, one)) == 1
    one.commit()
    sound(storage)


def test_more_clips_want_siblings_and_gone_ones_lose_theirs(
    storage: Storage, tmp_path: Path
) -> None:
    samples = make_samples(storage, 24)
    pack(storage, samples[:16], SIZE)
    one = the_set(storage)
    encode(storage, one)
    one.commit()
    before = {n: Path(storage.path(n)).stat().st_mtime_ns for n in files(storage)}
    pack(storage, samples, SIZE)
    (text,) = check_siblings(storage)
    assert f"of the siblings of 24 samples 8 have none: {MEND}" in text
    one = SiblingSet.open(storage, PRINT)
    new = encode(storage, one)
    assert all("/001-" in shard for shard in new)
    assert storage.exists(one.rows.index), "nothing it names has changed"
    one.commit()
    sound(storage)
    after = {n: Path(storage.path(n)).stat().st_mtime_ns for n in files(storage)}
    tars = [n for n in before if n.endswith(".tar")]
    assert all(before[n] == after[n] for n in tars)

    gone = index_rows(storage)[0]["shard"]
    left = {r["clip_id"] for r in index_rows(storage) if r["shard"] != gone}
    pack(storage, [s for s in samples if s.clip_id in left], SIZE)
    (text,) = check_siblings(storage)
    assert re_count(text) == len(samples) - len(left)
    one = SiblingSet.open(storage, PRINT)
    assert one.pending_shards() == []
    one.commit()
    sound(storage)
    assert not storage.exists(one.rows.tar_of(gone)) and check_siblings(storage) == []


def re_count(text: str) -> int:
    assert "are of no sample of the shards" in text
    return int(text.split(" samples ")[1].split()[0])


def test_packed_anew_every_sibling_is_made_again(storage: Storage) -> None:
    samples = make_samples(storage, 24)
    pack(storage, samples[::2], SIZE)
    pack(storage, samples, SIZE)
    one = the_set(storage)
    encode(storage, one)
    one.commit()
    pack(storage, samples, SIZE, repack=True)
    (text,) = check_siblings(storage)
    assert "stale" in text and "have none" in text and "are of no sample" in text
    one = SiblingSet.open(storage, PRINT)
    encode(storage, one)
    one.commit()
    sound(storage)
    assert check_siblings(storage) == []


@pytest.mark.parametrize("wrong", ["order", "missing", "more", "other"])
def test_wrong_keys_are_refused(storage: Storage, samples: list[Sample], wrong: str) -> None:
    one = the_set(storage)
    shard = next(n for n, rows in by_shard(storage) if rows.num_rows > 1)
    good = list(encoded(storage, shard))
    bad = {
        "order": good[::-1],
        "missing": good[:-1],
        "more": [*good, ("f" * 32, b"")],
        "other": [("f" * 32, b""), *good[1:]],
    }[wrong]
    with pytest.raises(CatalogError, match="the keys of its shard in their order"):
        one.write_shard(shard, iter(bad))
    assert shard in one.pending_shards() and not storage.exists(one.rows.tar_of(shard))
    assert not [n for n in files(storage) if ".tmp-" in n]
    with pytest.raises(CatalogError, match="no such shard"):
        one.write_shard("shards/1x1x1/000-000000.tar", iter(()))
    with pytest.raises(CatalogError, match="no such shard"):
        one.write_shard("shards/../../x.tar", iter(()))


@pytest.mark.parametrize("text", ["..", "0123", "0123456G", "../../etc", "a" * 65, "ABCDEF01"])
def test_what_is_no_fingerprint_is_refused(
    storage: Storage, samples: list[Sample], text: str
) -> None:
    with pytest.raises(ConfigError, match="no fingerprint"):
        the_set(storage, fingerprint=text)
    with pytest.raises(ConfigError, match="no fingerprint"):
        SiblingSet.open(storage, text)
    assert files(storage) == {}


def test_what_a_set_cannot_be(storage: Storage) -> None:
    with pytest.raises(CatalogError, match="no shards to encode"):
        the_set(storage)
    pack(storage, make_samples(storage, 3))
    with pytest.raises(ConfigError, match="a sample has mp4 and text"):
        the_set(storage, "jpg")
    with pytest.raises(CatalogError, match="no set of siblings"):
        SiblingSet.open(storage, PRINT)
    the_set(storage, "mp4")
    with pytest.raises(CatalogError, match="reads other things"):
        the_set(storage, "text")


@pytest.mark.parametrize("damage", ["flip", "missing", "stray", "index", "set", "folder", "order"])
def test_damage_is_told(storage: Storage, samples: list[Sample], damage: str) -> None:
    one = the_set(storage)
    encode(storage, one)
    one.commit()
    tar = one.rows.tar_of(shard_names(storage)[0])
    if damage == "flip":
        data = bytearray(storage.read_bytes(tar))
        data[600] ^= 1
        storage.write_bytes(tar, bytes(data))
        expected = f"{tar}: bytes differ from the index: {MEND}"
    elif damage == "missing":
        storage.remove(tar)
        expected = f"{tar}: missing: {MEND}"
    elif damage == "stray":
        storage.write_bytes(f"latents/{PRINT}/notes.txt", b"x")
        expected = f"latents/{PRINT}/notes.txt: not in the index of its set"
    elif damage == "index":
        storage.write_bytes(one.rows.index, b"PAR1 no index PAR1")
        expected = "damaged"
    elif damage == "set":
        storage.write_bytes(one.rows.about, b'{"reads": ["all"]}')
        expected = "set.json: missing or damaged"
    elif damage == "folder":
        storage.write_bytes("latents/notes/x.txt", b"x")
        expected = "latents/notes: is no set of siblings"
    else:
        table = pq.read_table(storage.path(one.rows.index))
        with storage.open_write(one.rows.index) as out:
            pq.write_table(table.take([1, 0, *range(2, table.num_rows)]), out)
        expected = "2 stand in another order"
    (text,) = check_siblings(storage)
    assert expected in text, text
    if damage == "missing":
        assert one.pending_shards() == [shard_names(storage)[0]]


def test_clips_go_from_every_set(
    storage: Storage, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the removal of clips has it: the shards first, then the siblings; killed anywhere."""
    done = the_set(storage)
    encode(storage, done)
    done.commit()
    half = the_set(storage, "text", fingerprint="feedbeef")
    encode(storage, half, 5)
    storage.write_bytes("latents/feedbeef/9x64x96/000-000099.tar", b"of a killed encoder")
    where = {r["clip_id"]: r["shard"] for r in index_rows(storage)}
    first = shard_names(storage)[0]
    gone = {c for c, shard in where.items() if shard == first} | {samples[10].clip_id}
    left = [s for s in samples if s.clip_id not in gone]
    concerned = {where[c] for c in gone}
    tars = {s: done.rows.tar_of(s) for s in concerned}
    assert set(siblings_of(storage, gone)) >= set(tars.values())
    kept = {
        n: Path(storage.path(n)).stat().st_mtime_ns
        for n in storage.walk(f"latents/{PRINT}")
        if n.endswith(".tar") and n not in tars.values()
    }
    pack(storage, left, SIZE)

    whole = Storage(shutil.copytree(storage.root, tmp_path / "whole"))
    moved = remove_from_siblings(whole, gone)
    assert set(moved) >= set(tars.values())
    assert "latents/feedbeef/9x64x96/000-000099.tar" in moved
    for name, data in files(whole).items():
        assert not any(clip.encode() in data for clip in gone), name
        if name.endswith(".parquet"):
            ids = pq.read_table(whole.path(name)).column("clip_id").to_pylist()
            assert not gone & set(ids), name
    sound(whole)
    unfinished = f"latents/feedbeef: was begun and not finished: {MEND.replace(PRINT, 'feedbeef')}"
    assert check_siblings(whole) == [unfinished]
    assert {n: Path(whole.path(n)).stat().st_mtime_ns for n in kept} == kept
    assert remove_from_siblings(whole, gone) == []
    rest = SiblingSet.open(whole, "feedbeef")
    before = len(rest.pending_shards())
    assert 0 < before < len(shard_names(whole)), "what was encoded is not encoded again"

    moments = lost = 0
    while True:
        root = Storage(shutil.copytree(storage.root, tmp_path / f"killed{moments}"))
        with monkeypatch.context() as patch:
            kill_after(patch, moments)
            try:
                remove_from_siblings(root, gone)
                break
            except Killed:
                pass
        remove_from_siblings(root, gone)
        assert not any(c.encode() in data for data in files(root).values() for c in gone)
        names = whole.walk(f"latents/{PRINT}")
        if root.walk(f"latents/{PRINT}") == names:
            assert all(root.read_bytes(n) == whole.read_bytes(n) for n in names)
            assert check_siblings(root) == [unfinished]
        else:  # killed right between a tar and its rows: that tar alone is to be made again
            lost += 1
            todo = SiblingSet.open(root, PRINT).pending_shards()
            assert len(todo) == 1 and set(todo) <= concerned
            assert encode(root, SiblingSet.open(root, PRINT)) == todo
            SiblingSet.open(root, PRINT).commit()
            sound(root)
        assert set(rest.pending_shards()) <= set(SiblingSet.open(root, "feedbeef").pending_shards())
        moments += 1
    assert moments > 8 and lost <= 1


def test_a_shard_that_changes_while_it_is_encoded_is_refused(
    storage: Storage, samples: list[Sample]
) -> None:
    one = the_set(storage, "text")
    shard = one.pending_shards()[0]
    old = list(encoded(storage, shard))
    pack(storage, [with_text(s) if s.clip_id == old[0][0] else s for s in samples], SIZE)
    with pytest.raises(CatalogError, match="changed while it was encoded"):
        one.write_shard(shard, iter(old))
    assert shard in one.pending_shards()
    one.write_shard(shard, encoded(storage, shard))
    assert shard not in one.pending_shards()
