"""The index of the shards: its names, and reading and writing it shard by shard.

One row per sample, in the order of split, bucket, generation, number of the shard and place in it.
What is known of all rows at once stands in the schema's metadata.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.errors import DamagedError
from curation.ids import hash64
from curation.schema import (
    SHARD_INDEX,
    SHARD_INDEX_NAME,
    SIBLING_INDEX,
    SIBLINGS_FOLDER,
    SIBLINGS_MEND,
)
from curation.storage import CHUNK_BYTES, Storage

FOLDER = "shards"
INDEX = SHARD_INDEX_NAME
MEND = "run `clipmill shard OUT`"
FORMAT_VERSION = 4

PLAN = b"clipmill.plan"  # what the shards hold: see plans.plan_digest
FORMAT = b"clipmill.shard_format"
LAYOUT = b"clipmill.layout"  # settings that say where a clip lies
VERDICTS = b"clipmill.verdicts"  # of which kept clips: see Verdicts

BATCH_ROWS = 16_384
GROUP_ROWS = 65_536
SHARD_NAME = re.compile(
    rf"{FOLDER}/(?:(?P<split>[^/]+)/)?(?P<bucket>\d+(?:-\d+)?x\d+x\d+)/"
    r"(?P<generation>\d{3,})-(?P<number>\d{6,})\.tar"
)
Key = tuple[str, str, int, int]
"""Where a shard stands: split, bucket, generation, number."""


@dataclass(frozen=True)
class ShardName:
    """The parts of a shard's name."""

    split: str
    bucket: str
    generation: int
    number: int

    @classmethod
    def parse(cls, name: str) -> ShardName | None:
        """The parts of a name; None when it is none of a shard."""
        found = SHARD_NAME.fullmatch(name)
        if found is None or found["split"] in (".", ".."):
            return None
        generation, number = int(found["generation"]), int(found["number"])
        parsed = cls(found["split"] or "", found["bucket"], generation, number)
        return parsed if str(parsed) == name else None

    @property
    def folder(self) -> str:
        """The bucket, inside of the split's folder if there are splits."""
        return f"{self.split}/{self.bucket}" if self.split else self.bucket

    @property
    def key(self) -> Key:
        """Its place in the order of the index."""
        return self.split, self.bucket, self.generation, self.number

    def __str__(self) -> str:
        return shard_name(self.folder, self.generation, self.number)


def shard_name(folder: str, generation: int, number: int) -> str:
    """The name of a shard, relative to the dataset root."""
    return f"{FOLDER}/{folder}/{generation:03d}-{number:06d}.tar"


def key_of(name: str) -> Key:
    """Where a shard stands in the order; what is no name of a shard comes first."""
    parsed = ShardName.parse(name)
    return ("", name, -1, -1) if parsed is None else parsed.key


class Verdicts:
    """A digest of which clips are kept, in which split, whatever their order.

    Number, sum and exclusive or of the 64-bit hashes of ``<clip id> <split>``.
    """

    def __init__(self) -> None:
        self._count = self._sum = self._xor = 0

    def add(self, clip_id: str, split: str | None) -> None:
        """Count a kept clip in."""
        value = hash64(f"{clip_id} {split or ''}")
        self._count, self._sum, self._xor = self._count + 1, self._sum + value, self._xor ^ value

    @property
    def text(self) -> str:
        """The digest."""
        return f"{self._count}-{self._sum % 2**64:016x}-{self._xor:016x}"

    @classmethod
    def of_table(cls, batches: Iterable[pa.RecordBatch]) -> Verdicts:
        """Of rows with ``clip_id`` and ``split``."""
        verdicts = cls()
        for batch in batches:
            ids, splits = (batch.column(c).to_pylist() for c in ("clip_id", "split"))
            for clip_id, split in zip(ids, splits, strict=True):
                verdicts.add(str(clip_id), split)
        return verdicts


def read_index(storage: Storage, columns: list[str] | None = None) -> pa.Table | None:
    """The whole index, or None when nothing was sharded yet; for small ones and few columns.

    Raises:
        DamagedError: It is damaged.
    """
    if not storage.exists(INDEX):
        return None
    with open_index(storage, INDEX, columns) as file:
        return file.read(columns=columns)


@contextmanager
def open_index(
    storage: Storage, name: str, columns: list[str] | None = None
) -> Iterator[pq.ParquetFile]:
    """Open an index of shards or of siblings; the block does nothing but read it.

    Args:
        storage: The dataset root.
        name: Of the index.
        columns: Those that are to be read; they are looked for. None: all, whatever they are.

    Raises:
        DamagedError: It is damaged or lacks one of the columns; what the store raises passes.
    """
    with storage.open_table(name, mend=mend_of(name)) as file:
        there = file.schema_arrow
        for column in columns or ["shard"]:
            wanted = (SHARD_INDEX if column in SHARD_INDEX.names else SIBLING_INDEX).field(column)
            if there.get_field_index(column) < 0 or there.field(column).type != wanted.type:
                raise pa.ArrowInvalid(f"it has no column {column} of {wanted.type}")
        yield file


def mend_of(name: str) -> str:
    """What makes a damaged index anew."""
    folder, _, rest = name.partition("/")
    if folder != SIBLINGS_FOLDER:
        return MEND
    return SIBLINGS_MEND.format(folder=f"{folder}/{rest.partition('/')[0]}")


def check_whole(storage: Storage, name: str, schema: pa.Schema) -> None:
    """Read all of an index.

    Raises:
        DamagedError: Anything in it is damaged, or it has other columns.
    """
    with open_index(storage, name, schema.names) as file:
        if not file.schema_arrow.remove_metadata().equals(schema):
            raise pa.ArrowInvalid("it has not the columns of such an index")
        for _ in _batches_of(file, None):
            pass


def schema_of(storage: Storage, name: str = INDEX) -> pa.Schema | None:
    """Columns and metadata of an index; None when it is missing or damaged."""
    if not storage.exists(name):
        return None
    try:
        with open_index(storage, name) as file:
            return file.schema_arrow
    except DamagedError:
        return None


def metadata_of(storage: Storage, name: str = INDEX) -> dict[bytes, bytes] | None:
    """What an index says of all its rows; None when it is missing or damaged."""
    schema = schema_of(storage, name)
    return None if schema is None else dict(schema.metadata or {})


def batches(
    storage: Storage, name: str = INDEX, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of an index, some at a time.

    Raises:
        DamagedError: It is damaged, or lacks a column.
    """
    with open_index(storage, name, columns) as file:
        yield from _batches_of(file, columns)


def _batches_of(file: pq.ParquetFile, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    """All rows of a file; Arrow ends without a word where one of the columns does."""
    rows = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=columns):
        rows += batch.num_rows
        yield batch
    if rows != file.metadata.num_rows:
        raise pa.ArrowInvalid(f"it ends after {rows} of {file.metadata.num_rows} rows")


def by_shard(
    storage: Storage, name: str = INDEX, columns: list[str] | None = None
) -> Iterator[tuple[str, pa.Table]]:
    """The rows of an index, shard by shard in its order: those of a shard stand together.

    Args:
        storage: The dataset root.
        name: Of the index; it has a column ``shard``.
        columns: Those that are wanted, ``shard`` among them; None: all.

    Raises:
        DamagedError: It is damaged, or lacks a column.
    """
    shard, held = "", []
    for batch in batches(storage, name, columns):
        runs = pc.call_function("run_end_encode", [batch.column("shard")])
        start = 0
        for end, value in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
            if held and value != shard:
                yield shard, pa.Table.from_batches(held)
                held = []
            shard = str(value)
            held.append(batch.slice(start, end - start))
            start = end
    if held:
        yield shard, pa.Table.from_batches(held)


def rows_of_shard(storage: Storage, shard: str, columns: list[str]) -> pa.Table:
    """The rows of one shard, in their order.

    Raises:
        DamagedError: The index is damaged, or lacks a column.
    """
    found = []
    with open_index(storage, INDEX, [*columns, "shard"]) as file:
        column = file.schema_arrow.get_field_index("shard")
        for group in range(file.metadata.num_row_groups):
            known = file.metadata.row_group(group).column(column).statistics
            if known is not None and known.has_min_max and not known.min <= shard <= known.max:
                continue
            rows = file.read_row_group(group, columns=[*columns, "shard"])
            found.append(rows.filter(pc.call_function("equal", [rows.column("shard"), shard])))
    if not found:
        return SHARD_INDEX.empty_table().select(columns)
    return pa.concat_tables(found).select(columns)


def shard_names(storage: Storage, name: str = INDEX) -> list[str]:
    """The shards of an index, each once, in its order."""
    return [shard for shard, _ in by_shard(storage, name, ["shard"])]


@contextmanager
def write_index(
    storage: Storage, name: str, schema: pa.Schema
) -> Iterator[Callable[[pa.Table], None]]:
    """Write an index; it gets its name when the block ends well.

    Gives a function that takes the rows, in order. How they are handed over leaves no trace in the
    bytes: groups of rows have a size of their own.
    """
    held: list[pa.Table] = []

    def flush(writer: pq.ParquetWriter, *, end: bool) -> None:
        rows = pa.concat_tables(held) if held else schema.empty_table()
        at = 0
        while rows.num_rows - at >= GROUP_ROWS or (end and at < rows.num_rows):
            writer.write_table(rows.slice(at, GROUP_ROWS).combine_chunks())
            at += GROUP_ROWS
        held[:] = [rows.slice(at)] if at < rows.num_rows else []

    with (
        storage.open_write(name) as out,
        pq.ParquetWriter(out, schema, compression="zstd", write_page_checksum=True) as writer,
    ):

        def take(rows: pa.Table) -> None:
            held.append(rows.select(schema.names).cast(schema))
            if sum(table.num_rows for table in held) >= GROUP_ROWS:
                flush(writer, end=False)

        yield take
        flush(writer, end=True)


def hash_file(storage: Storage, name: str) -> tuple[str, int]:
    """sha256 and size of a file of the root, read in chunks."""
    sha, size = hashlib.sha256(), 0
    with storage.open_read(name) as source:
        while chunk := source.read(CHUNK_BYTES):
            sha.update(chunk)
            size += len(chunk)
    return sha.hexdigest(), size
