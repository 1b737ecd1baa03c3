"""The index as the loader keeps it: the numbers of the file, pinned by a fingerprint of content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curation.errors import CatalogError
from curation.ids import hash64
from tests.training.synthetic import Row, index_of, some_rows, write_index
from training.data.index import NUMBERS, WORDS, load_index

ROWS = [
    Row(clip="a", split="train", source="stock", fps=23.976, frames=100, mp4_bytes=7),
    Row(clip="b", split=None, source=None, shard="shards/b/g0000-000001.tar"),
    Row(clip="c", split="val", source="stock", shard="shards/b/g0000-000001.tar", text="A dog."),
]
NEW = [Row(clip="d", shard="shards/a/g0001-000000.tar", generation=1, split="test", source="new")]


def test_numbers_and_words_are_those_of_the_file(tmp_path: Path) -> None:
    index = load_index(write_index(tmp_path, ROWS))
    assert len(index) == 3 and index.generation == 0
    for name, kind in NUMBERS.items():
        assert index[name].dtype == kind, name
        expected = [row.values()[name] for row in ROWS]
        assert index[name].tolist() == pytest.approx(expected, rel=1e-7), name
    for name in WORDS:
        words = [*index.words[name], None]
        assert [words[code] for code in index[name]] == [row.values()[name] for row in ROWS]
    assert index["key_hash"].tolist() == [hash64(c) for c in "abc"]
    assert index.durations_s()[0] == pytest.approx(100 / 23.976)


def test_an_empty_index_is_read(tmp_path: Path) -> None:
    index = load_index(write_index(tmp_path, []))
    assert len(index) == 0 and index.generation == -1
    assert index.fingerprint != load_index(write_index(tmp_path / "one", ROWS[:1])).fingerprint
    assert index.clip_ids([]) == []


def test_only_one_split_or_source(tmp_path: Path) -> None:
    index = load_index(write_index(tmp_path, ROWS))
    assert index.where().rows.tolist() == [0, 1, 2]
    assert index.where(source="stock").rows.tolist() == [0, 2]
    part = index.where(split="val", source="stock")
    assert part.rows.tolist() == [2] and part.clip_ids([0]) == ["c"]
    assert part.fingerprint not in (index.fingerprint, index.where(source="stock").fingerprint)
    with pytest.raises(CatalogError, match="no sample has the split 'dev'") as error:
        index.where(split="dev")
    assert "train" in error.value.mend and "val" in error.value.mend
    bare = load_index(write_index(tmp_path / "bare", [replace(ROWS[0], split=None)]))
    with pytest.raises(CatalogError, match="no splits"):
        bare.where(split="train")


def test_later_generations_can_be_left_out(tmp_path: Path) -> None:
    before = load_index(write_index(tmp_path / "before", ROWS))
    root = write_index(tmp_path / "after", [NEW[0], *ROWS, replace(NEW[0], clip="e")])
    pinned, everything = load_index(root, generation=0), load_index(root)
    assert pinned.fingerprint == before.fingerprint != everything.fingerprint
    assert len(pinned) == 3 and len(everything) == 5 and everything.generation == 1
    assert pinned.clip_ids([2, 0]) == ["c", "a"]  # rows of the file, not of what was kept
    assert load_index(root, generation=1).fingerprint == everything.fingerprint
    # What only later shards have is unknown to the pinned index.
    assert "test" not in pinned.words["split"] and "new" not in pinned.words["source"]
    assert pinned.words["shard"] == before.words["shard"]


def test_the_fingerprint_does_not_see_how_the_file_is_written(tmp_path: Path) -> None:
    rows = some_rows(5, 7, split="train") + some_rows(2, 3, generation=1, source="x")
    ways = [
        load_index(write_index(tmp_path / f"{n}", rows, rows_per_group=n, dictionary=d))
        for n, d in ((1000, True), (4, True), (1, True), (1000, False), (9, False))
    ]
    assert len({index.fingerprint for index in ways}) == 1
    # Words in another order of their first appearance.
    moved = load_index(write_index(tmp_path / "moved", [NEW[0], *rows]))
    assert moved.take(np.arange(1, len(moved))).fingerprint == ways[0].fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"clip": "z"},
        {"text": "other"},
        {"shard": "shards/z/g0000-000000.tar"},
        {"split": "z"},
        {"split": None},
        {"source": "z"},
        {"frames": 99},
        {"fps": 24.0},
        {"height_px": 1},
        {"width_px": 1},
    ],
)
def test_the_fingerprint_sees_every_change(tmp_path: Path, change: dict[str, object]) -> None:
    before = load_index(write_index(tmp_path / "a", ROWS))
    changed = [replace(ROWS[0], **change), *ROWS[1:]]  # pyright: ignore[reportArgumentType]
    assert load_index(write_index(tmp_path / "b", changed)).fingerprint != before.fingerprint


def test_the_fingerprint_sees_order_number_and_a_new_encode(tmp_path: Path) -> None:
    before = load_index(write_index(tmp_path / "a", ROWS))
    others = [ROWS[::-1], ROWS[:2], [*ROWS, ROWS[0]]]
    prints = {load_index(write_index(tmp_path / "b", rows)).fingerprint for rows in others}
    assert len(prints | {before.fingerprint}) == 4
    columns = {**before.columns, "mp4_hash": before["mp4_hash"] ^ np.uint64(1)}
    encoded = replace(before, columns=columns).take(np.arange(3))
    assert encoded.fingerprint != before.fingerprint == before.take(np.arange(3)).fingerprint


def test_clip_ids_come_in_any_order_with_repeats(tmp_path: Path) -> None:
    rows = some_rows(4, 25)
    index = load_index(write_index(tmp_path, rows, rows_per_group=9))
    wanted = [99, 0, 50, 50, 8, 9, 99, 17]
    assert index.clip_ids(wanted) == [rows[n].clip for n in wanted]
    part = index.take(np.array([70, 3, 44]))
    assert part.clip_ids(np.array([2, 0, 0])) == [rows[n].clip for n in (44, 70, 70)]


def test_no_shards_and_older_shards_are_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no shard index") as missing:
        load_index(str(tmp_path))
    assert "clipmill shard" in missing.value.mend
    with pytest.raises(CatalogError, match="older version") as old:
        load_index(write_index(tmp_path, ROWS, version="3"))
    assert "clipmill shard" in old.value.mend
    path = tmp_path / "shards" / "index.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CatalogError, match="damaged") as damaged:
        load_index(str(tmp_path))
    assert "clipmill shard" in damaged.value.mend


def test_the_index_in_memory_is_that_of_the_file(tmp_path: Path) -> None:
    """Tests of the order use the former."""
    rows = some_rows(3, 5, split="train")
    written, made = load_index(write_index(tmp_path, rows)), index_of(rows)
    assert written.words == made.words
    for name in (*NUMBERS, *WORDS):
        assert written[name].dtype == made[name].dtype
        assert np.array_equal(written[name], made[name])


def test_keys_are_found_after_the_file_changed(tmp_path: Path) -> None:
    rows = some_rows(2, 10, source="stock")
    root = write_index(tmp_path, rows)
    index = load_index(root)
    names = index.clip_ids(range(len(index)))
    write_index(tmp_path, [Row(clip="new"), Row(clip="newer"), *rows[1:]])
    told = index.clip_ids(range(len(index)))
    assert told[1:] == names[1:]
    assert told[0] == f"of hash {int(index['key_hash'][0]):016x}"
    (tmp_path / "shards" / "index.parquet").unlink()
    assert all(name.startswith("of hash ") for name in index.clip_ids(range(len(index))))
