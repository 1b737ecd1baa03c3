"""The shard index as the loader keeps it: arrays of numbers, a few bytes a sample.

Of words only those that repeat are read (shard, bucket, split, source), as numbers into a short
list. Clip ids, captions and scores stay on disk; :meth:`ShardIndex.clip_ids` fetches a few ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.errors import CatalogError, DamagedError
from curation.ids import hash64
from curation.schema import SHARD_INDEX, SHARD_INDEX_NAME
from curation.storage import Storage

FORMAT = b"4"
FORMAT_KEY = b"clipmill.shard_format"
WORDS = ("shard", "split", "source")
NUMBERS: dict[str, Any] = {
    "key_hash": np.uint64,
    "mp4_hash": np.uint64,
    "text_hash": np.uint64,
    "generation": np.int16,
    "frames": np.int32,
    "height_px": np.int32,
    "width_px": np.int32,
    "fps": np.float32,
    "mp4_offset": np.int64,
    "mp4_bytes": np.int64,
    "json_offset": np.int64,
    "json_bytes": np.int32,
}
IDENTITY = ("key_hash", "mp4_hash", "text_hash", "frames", "height_px", "width_px", "fps")
"""What the fingerprint covers, beside shard, split and source: who the samples are, what is in
them, and how they are grouped. Not where they lie in a file."""


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """All samples of one dataset root, one number per sample and column.

    Attributes:
        root: Path or URL of the dataset.
        columns: Arrays of equal length N by name: those of ``NUMBERS``, and int32 codes for
            ``shard``, ``split`` and ``source`` (-1: none).
        words: What the codes mean, by column.
        rows: int64, row of each sample in the index file.
    """

    root: str
    columns: dict[str, NDArray[Any]]
    words: dict[str, tuple[str, ...]]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits; equal for equal samples with equal content in equal shards."""
        return _fingerprint(self.columns, self.words)

    @property
    def generation(self) -> int:
        """The newest generation that is in; -1 when there are no samples."""
        return int(self["generation"].max(initial=-1))

    def durations_s(self) -> NDArray[np.float64]:
        """Length of each sample, seconds."""
        return self["frames"] / self["fps"].astype(np.float64)

    def where(self, *, split: str | None = None, source: str | None = None) -> ShardIndex:
        """Only the samples of one split and one given source; None takes all.

        Raises:
            CatalogError: There is no such split or source.
        """
        keep = np.ones(len(self), bool)
        for name, value in (("split", split), ("source", source)):
            if value is None:
                continue
            if value not in self.words[name]:
                known = ", ".join(self.words[name]) or f"this dataset has no {name}s"
                raise CatalogError(
                    f"no sample has the {name} {value!r}", where=self.root, mend=f"known: {known}"
                )
            keep &= self[name] == self.words[name].index(value)
        return self if keep.all() else self.take(np.flatnonzero(keep))

    def take(self, positions: NDArray[np.int64]) -> ShardIndex:
        """The samples at some positions, in that order."""
        columns = {name: values[positions] for name, values in self.columns.items()}
        return replace(self, columns=columns, rows=self.rows[positions])

    def clip_ids(self, positions: Sequence[int] | NDArray[Any]) -> list[str]:
        """Keys of a few samples, read from the index file.

        The file may have grown or been written anew since this was read: then a key is looked for
        by its hash, and one that is there no more is told by it.

        Args:
            positions: Into this index, in any order, repeats allowed.
        """
        places = np.asarray(positions, np.int64)
        rows, keys = self.rows[places].tolist(), self["key_hash"][places].tolist()
        try:
            at = _ids_at(self.root, np.unique(self.rows[places]))
        except (OSError, DamagedError):
            at = {}
        found = {key: at[row] for row, key in zip(rows, keys, strict=True) if row in at}
        found = {key: name for key, name in found.items() if hash64(name) == key}
        if missing := set(keys) - found.keys():
            found |= _ids_of(self.root, missing)
        return [found.get(key, f"of hash {key:016x}") for key in keys]


def _ids_at(root: str, rows: NDArray[np.int64]) -> dict[int, str]:
    """Keys at some rows of an index file, rising; those that it has."""
    found: dict[int, str] = {}
    start = 0
    with Storage(root).open_table(SHARD_INDEX_NAME) as file:
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            here = rows[(rows >= start) & (rows < start + count)]
            if len(here):
                ids = file.read_row_group(group, columns=["clip_id"]).column(0)
                taken = ids.take(pa.array(here - start)).to_pylist()
                found |= dict(zip(here.tolist(), taken, strict=True))
            start += count
    return found


def _ids_of(root: str, keys: set[int]) -> dict[int, str]:
    """Keys of some hashes, as far as an index file has them and can be read."""
    found: dict[int, str] = {}
    wanted = np.array(sorted(keys), np.uint64)
    try:
        with Storage(root).open_table(SHARD_INDEX_NAME) as file:
            for batch in file.iter_batches(columns=["key_hash", "clip_id"]):
                here = np.isin(np.asarray(batch.column("key_hash")), wanted)
                hit = batch.filter(pa.array(here))
                hashes, names = (column.to_pylist() for column in hit.columns)
                found |= dict(zip(hashes, names, strict=True))
    except (OSError, DamagedError):
        return found
    return found


def load_index(root: str, *, generation: int | None = None) -> ShardIndex:
    """Read the index of a dataset root.

    Args:
        root: Path or URL.
        generation: Leave out shards that are newer than this; None takes all.

    Raises:
        CatalogError: There are no shards, they are of an older format, or the index is damaged.
    """
    storage = Storage(root)
    if not storage.exists(SHARD_INDEX_NAME):
        raise CatalogError(
            "no shard index here",
            where=storage.path(SHARD_INDEX_NAME),
            mend=f"clipmill shard {root}",
        )
    mend = f"clipmill shard {root} packs them anew"
    words = list(WORDS)
    with storage.open_table(SHARD_INDEX_NAME, mend=mend, read_dictionary=words) as file:
        if (file.schema_arrow.metadata or {}).get(FORMAT_KEY) != FORMAT:
            raise CatalogError(
                "these shards were written by an older version",
                where=storage.path(SHARD_INDEX_NAME),
                mend=mend,
            )
        return ShardIndex(str(root), *_read(file, generation))


def _read(
    file: pq.ParquetFile, generation: int | None
) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[str, ...]], NDArray[np.int64]]:
    """Columns, words and rows of the samples up to a generation.

    Column by column: what Arrow needs beside the arrays that stay is one column.
    """
    columns: dict[str, NDArray[Any]] = {}
    words: dict[str, tuple[str, ...]] = {}
    generations = _numbers(file, "generation")
    rows = np.arange(len(generations), dtype=np.int64)
    if generation is not None:
        rows = np.flatnonzero(generations <= generation)
    whole = len(rows) == len(generations)
    for name in NUMBERS:
        values = _numbers(file, name)
        columns[name] = values if whole else values[rows]
    for name in WORDS:
        codes, own = _codes(file, name)
        columns[name], words[name] = (codes, own) if whole else _used(codes[rows], own)
    return columns, words, rows


def _numbers(file: pq.ParquetFile, name: str) -> NDArray[Any]:
    """A column of numbers.

    Raises:
        pa.ArrowInvalid: One is missing.
    """
    column = _column(file, name)
    if column.null_count:
        raise pa.ArrowInvalid(f"the column {name} lacks numbers")
    return _joined([np.from_dlpack(chunk) for chunk in column.chunks], NUMBERS[name])


def _codes(file: pq.ParquetFile, name: str) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """A column of few words as numbers into them; -1 for null."""
    column = _column(file, name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    numbers: dict[str, int] = {}
    parts = []
    for chunk in column.chunks:
        known = [numbers.setdefault(word, len(numbers)) for word in chunk.dictionary.to_pylist()]
        parts.append(np.array([*known, -1], np.int32)[_indices(chunk)])
    return _used(_joined(parts, np.int32), tuple(numbers))


def _column(file: pq.ParquetFile, name: str) -> pa.ChunkedArray:
    """A column of the index, as long as the file says and of its type.

    Raises:
        pa.ArrowInvalid: It is not.
    """
    found, wanted = file.read(columns=[name]), SHARD_INDEX.field(name).type
    if found.num_columns != 1 or found.num_rows != file.metadata.num_rows:
        raise pa.ArrowInvalid(f"the column {name} is not whole")
    kind = found.column(0).type
    if wanted != (kind.value_type if pa.types.is_dictionary(kind) else kind):
        raise pa.ArrowInvalid(f"the column {name} is not of {wanted}")
    return found.column(0)


def _indices(chunk: pa.DictionaryArray) -> NDArray[np.int32]:
    """Places in the chunk's dictionary; -1 for null.

    From the buffers: ``to_numpy`` and ``fill_null`` import pandas where it is installed, for 0.4 s.
    """
    indices = chunk.indices.cast(pa.int32())
    part = slice(indices.offset, indices.offset + len(indices))
    valid, values = indices.buffers()
    places: NDArray[np.int32] = np.frombuffer(values, np.int32)[part]
    if not indices.null_count:
        return places
    bits = np.unpackbits(np.frombuffer(valid, np.uint8), count=part.stop, bitorder="little")
    return np.where(bits[part] > 0, places, np.int32(-1))


def _joined(parts: list[NDArray[Any]], kind: Any) -> NDArray[Any]:  # noqa: ANN401 - a numpy dtype
    """One array of its own memory."""
    if not parts:
        return np.zeros(0, kind)
    return np.concatenate(parts, dtype=kind, casting="unsafe")


def _used(
    codes: NDArray[np.int32], words: tuple[str, ...]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The same without the words that nobody has."""
    used = np.flatnonzero(np.bincount(codes[codes >= 0], minlength=len(words)))
    if len(used) == len(words):
        return codes, words
    known = np.full(len(words) + 1, -1, np.int32)  # the last one is that of no word
    known[used] = np.arange(len(used))
    return known[codes], tuple(words[code] for code in used)


def _fingerprint(columns: dict[str, NDArray[Any]], words: dict[str, tuple[str, ...]]) -> str:
    """Of the samples, whatever the order of words in the file, and whatever words nobody has."""
    found = hashlib.blake2b(str(len(columns["key_hash"])).encode(), digest_size=16)
    for name in IDENTITY:
        values = columns[name]
        found.update(values.astype(values.dtype.newbyteorder("<"), copy=False).data)
    for name in WORDS:
        codes, own = _used(columns[name], words[name])
        turn = sorted(range(len(own)), key=own.__getitem__)
        place = np.full(len(own) + 1, -1, "<i4")
        place[turn] = np.arange(len(own))
        found.update(json.dumps(sorted(own)).encode())
        found.update(place[codes].data)
    return found.hexdigest()
