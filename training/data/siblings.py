"""A set of sibling tars, as the loader reads it: one safetensors member beside each sample.

Only numbers of its index are kept: where the member of each sample lies. A set that lacks samples,
or was made of clips or texts that have changed since, is refused before anything is trained.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors

from curation.errors import CatalogError, DamagedError
from curation.schema import (
    SIBLING_INDEX,
    SIBLING_READS,
    SIBLINGS_FOLDER,
    SIBLINGS_MEND,
    sibling_reads,
)
from curation.storage import Storage
from training.data.index import ShardIndex
from training.data.sample import Part, Parts


class Siblings:
    """The members of one set, by position in a shard index.

    Args:
        index: The samples; its root holds the set.
        fingerprint: Of the encoder.

    Attributes:
        reads: What of a sample the encoder reads: ``mp4``, ``text`` or both.

    Raises:
        CatalogError: There is no such set, it lacks samples, or it is stale.
    """

    def __init__(self, index: ShardIndex, fingerprint: str) -> None:
        self._storage = Storage(index.root)
        self._folder = f"{SIBLINGS_FOLDER}/{fingerprint}"
        self._mend = SIBLINGS_MEND.format(folder=self._storage.uri(self._folder))
        self.reads = self._reads()
        table = self._table()
        rows = self._rows(table, index)
        self._words, codes = _coded(table.column("sibling"))
        self._files = codes[rows]
        self._offsets = table.column("data_offset").to_numpy()[rows]
        self._bytes = table.column("data_bytes").to_numpy()[rows]
        self._parts = Parts(index.root)

    def place(self, position: int) -> Part:
        """Where the member of a sample lies."""
        return Part(
            self._words[self._files[position]],
            int(self._offsets[position]),
            int(self._bytes[position]),
        )

    def read(self, position: int) -> dict[str, torch.Tensor]:
        """Tensors of a sample by name.

        Args:
            position: In the index.

        Raises:
            MediaError: The member is cut off.
        """
        return load_tensors(self._parts.read(self.place(position)))

    def _reads(self) -> tuple[str, ...]:
        name = f"{self._folder}/set.json"
        reads = sibling_reads(self._storage.read_json(name))
        if reads is not None:
            return reads
        if self._storage.exists(name):
            raise self._refused("its set.json is damaged, or says no reads of mp4 or text")
        raise self._refused("there is no such set of latents, or it was never finished")

    def _table(self) -> pa.Table:
        name = f"{self._folder}/index.parquet"
        if not self._storage.exists(name):
            raise self._refused("the set of latents was begun and not finished")
        hashes = [SIBLING_READS[kind] for kind in self.reads]
        columns = ["key_hash", *hashes, "sibling", "data_offset", "data_bytes"]
        try:
            with self._storage.open_table(name, read_dictionary=["sibling"]) as file:
                table = file.read(columns=columns)
                for column in columns:
                    values = table.column(column)
                    kind = SIBLING_INDEX.field(column).type
                    if (column != "sibling" and values.type != kind) or values.null_count:
                        raise pa.ArrowInvalid(f"the column {column} has not only {kind}")
                return table
        except DamagedError as exc:
            raise self._refused(f"its index is {exc.what}") from exc

    def _rows(self, table: pa.Table, index: ShardIndex) -> NDArray[np.int64]:
        """The row of each sample of the index."""
        keys = table.column("key_hash").to_numpy()
        turn = np.argsort(keys, kind="stable")
        at = np.searchsorted(keys[turn], index["key_hash"])
        rows = turn[np.minimum(at, max(0, len(turn) - 1))] if len(turn) else at
        there = (at < len(turn)) & (keys[rows] == index["key_hash"]) if len(turn) else at < 0
        if not there.all():
            raise self._refused(f"{int((~there).sum())} of {len(index)} samples have no latents")
        for kind in self.reads:
            column = SIBLING_READS[kind]
            stale = table.column(column).to_numpy()[rows] != index[column]
            if stale.any():
                raise self._refused(
                    f"{int(stale.sum())} of {len(index)} latents are stale: made of another {kind}"
                )
        return rows

    def _refused(self, what: str) -> CatalogError:
        return CatalogError(what, where=self._storage.uri(self._folder), mend=self._mend)


def _coded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], NDArray[Any]]:
    """The few different words of a column, and the number of each row's."""
    column = column.unify_dictionaries()
    if not column.num_chunks:
        return (), np.zeros(0, np.int32)
    codes = [chunk.indices.to_numpy() for chunk in column.chunks]
    return tuple(column.chunk(0).dictionary.to_pylist()), np.concatenate(codes)
