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

from curation.errors import CatalogError
from curation.schema import SHARD_INDEX_NAME
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

        Args:
            positions: Into this index, in any order, repeats allowed.
        """
        wanted = self.rows[np.asarray(positions, np.int64)]
        storage, found = Storage(self.root), {}
        with storage.open_read(SHARD_INDEX_NAME) as source:
            file, start = pq.ParquetFile(source), 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                here = np.unique(wanted[(wanted >= start) & (wanted < start + count)])
                if len(here):
                    ids = file.read_row_group(group, columns=["clip_id"]).column(0)
                    taken = ids.take(pa.array(here - start)).to_pylist()
                    found |= dict(zip(here.tolist(), taken, strict=True))
                start += count
        return [found[row] for row in wanted.tolist()]


def load_index(root: str, *, generation: int | None = None) -> ShardIndex:
    """Read the index of a dataset root.

    Args:
        root: Path or URL.
        generation: Leave out shards that are newer than this; None takes all.

    Raises:
        CatalogError: There are no shards, or they are of an older format.
    """
    storage = Storage(root)
    if not storage.exists(SHARD_INDEX_NAME):
        raise CatalogError(
            "no shard index here",
            where=storage.path(SHARD_INDEX_NAME),
            mend=f"clipmill shard {root}",
        )
    with storage.open_read(SHARD_INDEX_NAME) as source:
        try:
            file = pq.ParquetFile(source, read_dictionary=list(WORDS))
        except pa.ArrowException as exc:
            raise CatalogError(
                f"damaged: {exc}", where=SHARD_INDEX_NAME, mend=f"clipmill shard {root} --repack"
            ) from exc
        if (file.schema_arrow.metadata or {}).get(FORMAT_KEY) != FORMAT:
            raise CatalogError(
                "these shards were written by an older version",
                where=storage.path(SHARD_INDEX_NAME),
                mend=f"clipmill shard {root} packs them anew",
            )
        columns, words, rows = _read(file, generation)
    return ShardIndex(str(root), columns, words, rows)


def _read(
    file: pq.ParquetFile, generation: int | None
) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[str, ...]], NDArray[np.int64]]:
    """Columns, words and rows of the samples up to a generation.

    Column by column: what Arrow needs beside the arrays that stay is one column.
    """
    columns: dict[str, NDArray[Any]] = {}
    words: dict[str, tuple[str, ...]] = {}
    rows = np.arange(file.metadata.num_rows, dtype=np.int64)
    generations = _numbers(file, "generation")
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
        CatalogError: One is missing.
    """
    column = file.read(columns=[name]).column(0)
    if column.null_count:
        raise CatalogError(f"the column {name} lacks numbers", where=SHARD_INDEX_NAME)
    return _joined([np.from_dlpack(chunk) for chunk in column.chunks], NUMBERS[name])


def _codes(file: pq.ParquetFile, name: str) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """A column of few words as numbers into them; -1 for null."""
    column = file.read(columns=[name]).column(0)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    numbers: dict[str, int] = {}
    parts = []
    for chunk in column.chunks:
        known = [numbers.setdefault(word, len(numbers)) for word in chunk.dictionary.to_pylist()]
        parts.append(np.array([*known, -1], np.int32)[_indices(chunk)])
    return _used(_joined(parts, np.int32), tuple(numbers))


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
