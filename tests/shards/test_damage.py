"""Damaged indexes: packed anew, told in words, no traceback; a store that fails is no damage."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import CatalogError, DamagedError
from curation.schema import SHARD_INDEX
from curation.shards.index import INDEX, check_whole, metadata_of, read_index, shard_names
from curation.shards.sibling_check import check_siblings
from curation.shards.siblings import SiblingSet
from curation.shards.swap import STAGED_INDEX
from curation.shards.verify import verify_shards
from curation.storage import Storage
from tests.faults.helpers import catalog_of, make_videos, run
from tests.shards.caption_stages import without_captioning
from tests.shards.samples import bytes_of, index_rows, make_samples, pack
from tests.shards.test_siblings import encode, the_set
from training.data.index import load_index
from training.data.siblings import Siblings

SIZE = 20_000
CASES = 60
FOOTER_BYTES = 6000
MEND = "run `clipmill shard OUT`"


def damaged(good: bytes, cases: int = CASES) -> Iterator[bytes]:
    """The same file cut off, or with one to twenty wrong bytes, half of them at its end."""
    draw = random.Random(7)
    for case in range(cases):
        if case % 10 == 0:
            yield good[: draw.randrange(len(good))]
            continue
        data = bytearray(good)
        first = 0 if case % 2 else max(0, len(data) - FOOTER_BYTES)
        for _ in range((1, 1, 3, 20)[case % 4]):
            place = draw.randrange(first, len(data))
            data[place] ^= draw.randrange(1, 256)
        yield bytes(data)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "root")


def test_packing_mends_an_index_whatever_is_wrong_with_it(storage: Storage) -> None:
    samples = make_samples(storage, 8)
    pack(storage, samples, SIZE)
    good, rows = bytes_of(storage), index_rows(storage)
    packed = 0
    for data in damaged(good[INDEX]):
        storage.write_bytes(INDEX, data)
        packed += not pack(storage, samples, SIZE).reused
        assert {n: b for n, b in bytes_of(storage).items() if n != INDEX} == {
            n: b for n, b in good.items() if n != INDEX
        }
        assert index_rows(storage) == rows
        check_whole(storage, INDEX, SHARD_INDEX)
    assert packed > CASES / 2


def test_a_damaged_staged_index_is_thrown_away(storage: Storage) -> None:
    samples = make_samples(storage, 8)
    pack(storage, samples, SIZE)
    good = bytes_of(storage)
    for data in damaged(good[INDEX], 20):
        storage.write_bytes(STAGED_INDEX, data)
        storage.remove(INDEX)
        pack(storage, samples, SIZE)
        assert bytes_of(storage).keys() == good.keys()
        assert storage.walk("shards.staging") == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    videos = make_videos(folder / "in", 1)
    assert run(videos[0], folder / "out", **without_captioning()).balanced
    return folder / "out"


def test_verify_tells_of_damage_in_words(finished: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(finished, tmp_path / "out"))
    catalog, good = catalog_of(root), (root / INDEX).read_bytes()
    assert verify_shards(catalog, decode=False).problems == []
    told = 0
    for data in damaged(good):
        (root / INDEX).write_bytes(data)
        problems = verify_shards(catalog, decode=False).problems
        told += any(f"{INDEX}: damaged: " in p and p.endswith(f": {MEND}") for p in problems)
        if not problems:  # in what nobody reads
            (root / "good.parquet").write_bytes(good)
            assert pq.read_table(root / INDEX).equals(pq.read_table(root / "good.parquet"))
    assert told > CASES / 2


def test_the_loader_refuses_a_damaged_index(storage: Storage) -> None:
    pack(storage, make_samples(storage, 8), SIZE)
    good, known = storage.read_bytes(INDEX), load_index(storage.url)
    refused = 0
    for data in damaged(good):
        storage.write_bytes(INDEX, data)
        try:
            found = load_index(storage.url)
        except CatalogError as exc:
            refused += 1
            assert "clipmill shard" in exc.mend
        else:
            assert found.fingerprint == known.fingerprint
        assert len(known.clip_ids(range(len(known)))) == len(known)
    assert refused > CASES / 2


def test_siblings_beside_a_damaged_index_of_the_shards(storage: Storage) -> None:
    pack(storage, make_samples(storage, 8), SIZE)
    one = the_set(storage)
    encode(storage, one)
    one.commit()
    refused = told = 0
    for data in damaged(storage.read_bytes(INDEX)):
        storage.write_bytes(INDEX, data)
        told += any(p.startswith(f"{INDEX}: damaged: ") for p in check_siblings(storage))
        try:
            one.pending_shards()
        except CatalogError as exc:
            refused += 1
            assert exc.mend == MEND
    assert refused >= told > CASES / 3  # it needs fewer of the columns


def test_a_damaged_index_of_a_set_is_told_and_encoded_again(storage: Storage) -> None:
    pack(storage, make_samples(storage, 8), SIZE)
    one, index = the_set(storage), load_index(storage.url)
    encode(storage, one)
    one.commit()
    mend = f"run the program that wrote {one.rows.folder} again"
    good, told = storage.read_bytes(one.rows.index), 0
    for data in damaged(good):
        storage.write_bytes(one.rows.index, data)
        problems = check_siblings(storage)
        try:
            Siblings(index, one.fingerprint)
        except CatalogError as exc:
            assert exc.mend.endswith(f"{one.rows.folder} again") and problems
        if problems:
            told += 1
            assert all(p.endswith(mend) for p in problems)
            assert encode(storage, one) == shard_names(storage)
            one.commit()
            assert check_siblings(storage) == []
        Siblings(index, one.fingerprint)
        storage.write_bytes(one.rows.index, good)
    assert told > CASES / 2


def test_a_damaged_part_of_a_set_is_encoded_again(storage: Storage) -> None:
    pack(storage, make_samples(storage, 8), SIZE)
    one = the_set(storage)
    shards = encode(storage, one)
    part = one.rows.part_of(shards[1])
    storage.write_bytes(part, storage.read_bytes(part)[:-20])
    assert one.pending_shards() == [shards[1]]
    encode(storage, one)
    one.commit()
    assert check_siblings(storage) == []


def test_a_column_that_is_missing_or_of_another_type_is_damage(storage: Storage) -> None:
    samples = make_samples(storage, 4)
    pack(storage, samples, SIZE)
    table = read_index(storage)
    assert table is not None
    number = table.schema.get_field_index("shard_bytes")
    text = table.column("shard_bytes").cast(pa.string())
    for wrong in (table.drop_columns(["shard"]), table.set_column(number, "shard_bytes", text)):
        pq.write_table(wrong, storage.path(INDEX))
        with pytest.raises(DamagedError, match="has no column shard"):
            read_index(storage, ["shard", "shard_bytes"])
        assert not pack(storage, samples, SIZE).reused
        assert read_index(storage) == table


class _Failing:
    """A file of a store that stops answering after some readings."""

    def __init__(self, file: Any, count: int) -> None:  # noqa: ANN401
        self._file, self._count = file, count

    def read(self, size: int = -1) -> bytes:
        self._count -= 1
        if self._count < 0:
            raise ConnectionResetError(104, "the store hung up")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._file, name)

    def __enter__(self) -> _Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def test_a_store_that_fails_is_no_damage(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is packed anew because of it."""
    samples = make_samples(storage, 8)
    pack(storage, samples, SIZE)
    good, opened = bytes_of(storage), Storage.open_read
    uses: list[Callable[[], object]] = [
        lambda: pack(storage, samples, SIZE),
        lambda: load_index(storage.url),
        lambda: check_whole(storage, INDEX, SHARD_INDEX),
        lambda: metadata_of(storage),
    ]
    for count in (0, 1):

        def hang_up(self: Storage, name: str, count: int = count) -> Any:  # noqa: ANN401
            return _Failing(opened(self, name), count)

        monkeypatch.setattr(Storage, "open_read", hang_up)
        for use in uses[: 3 if count else 4]:  # the footer is read by then
            with pytest.raises(ConnectionResetError):
                use()
        monkeypatch.undo()
        assert bytes_of(storage) == good
    storage.remove(INDEX)
    with pytest.raises(FileNotFoundError):
        check_whole(storage, INDEX, SHARD_INDEX)


@pytest.mark.parametrize(
    "text", ["[]", "7", '{"reads": 5}', '{"reads": [["mp4"]]}', "{", "\udcff", '{"reads": []}']
)
def test_a_damaged_description_of_a_set(storage: Storage, text: str) -> None:
    pack(storage, make_samples(storage, 4), SIZE)
    one, index = the_set(storage), load_index(storage.url)
    encode(storage, one)
    one.commit()
    data = text.replace("{}", "").encode(errors="surrogateescape")
    storage.write_bytes(one.rows.about, data)
    with pytest.raises(CatalogError, match=r"set\.json is damaged") as refused:
        Siblings(index, one.fingerprint)
    assert refused.value.mend.startswith("run the program that wrote ")
    (problem,) = check_siblings(storage)
    assert "set.json: missing or damaged" in problem and one.rows.mend in problem
    with pytest.raises(CatalogError, match="no set of siblings"):
        SiblingSet.open(storage, one.fingerprint)
