"""A set of sibling tars, as the loader reads it: one safetensors member beside each sample.

Only numbers of its index are kept: where the member of each sample lies. A set that lacks samples,
or was made of clips or texts that have changed since, is refused before anything is trained.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors

from curation.errors import CatalogError, ConfigError, DamagedError
from curation.schema import (
    SIBLING_FILES,
    SIBLING_INDEX,
    SIBLING_READS,
    SIBLINGS_FOLDER,
    sibling_reads,
    siblings_mend,
)
from curation.storage import Storage
from training.data.buckets import Assignment, BucketSettings
from training.data.index import ShardIndex
from training.data.latents import EMPTY_PROMPT, SetDescription, description_of, misfit
from training.data.sample import Part, Parts
from training.data.settings import DataSettings


class Siblings:
    """The members of one set, by position in a shard index.

    Args:
        index: The samples; its root holds the set.
        fingerprint: Of the encoder.

    Attributes:
        reads: What of a sample the encoder reads: ``mp4``, ``text`` or both.
        described: What ``clipmill encode`` says of a set that it made; None for other programs'.

    Raises:
        CatalogError: There is no such set, it lacks samples, or it is stale.
    """

    def __init__(self, index: ShardIndex, fingerprint: str) -> None:
        self._storage = Storage(index.root)
        self._folder = f"{SIBLINGS_FOLDER}/{fingerprint}"
        about = self._storage.read_json(f"{self._folder}/set.json")
        self._mend = siblings_mend(self._storage.uri(self._folder), about)
        self.reads = self._reads(about)
        self.described = self._described(about)
        self._index = index
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

    def check_fit(
        self,
        wanted: Assignment,
        buckets: BucketSettings,
        settings: DataSettings,
        *,
        pictures: bool = False,
    ) -> None:
        """Refuse latents that are not those of the windows that a training reads.

        Of a set that another program made nothing is known, so nothing is refused.

        Args:
            wanted: The samples' buckets in the training.
            buckets: The training's.
            settings: The data.
            pictures: The samples are single frames of clips.

        Raises:
            CatalogError: They were made for other buckets or strides.
            ConfigError: Single frames are wanted, or another crop.
        """
        described = self.described
        if described is None or described.autoencoder is None:
            return
        assert described.buckets is not None
        if pictures and any(shape.frames > 1 for shape in described.buckets.shapes):
            raise ConfigError(
                "single frames of clips have no latents",
                where="order.image_ratio",
                mend="set image_ratio: 0, or train without latents",
            )
        read = settings.read
        if read.crop != described.crop:
            raise ConfigError(
                f"crop {read.crop} is wanted, the latents were made of {described.crop} crops",
                where="read.crop",
                mend=f"set crop: {described.crop}, or train without latents",
            )
        if settings.pixels and read.scaling != described.scaling:
            raise ConfigError(
                f"scaling {read.scaling} is wanted, the latents were made by {described.scaling}",
                where="read.scaling",
                mend=f"set scaling: {described.scaling}, or pixels: false",
            )
        if text := misfit(described, self._index, wanted, buckets):
            raise CatalogError(
                text,
                where=self._storage.uri(self._folder),
                mend="`clipmill encode` with this training's --buckets makes a set for them, and "
                "tells its fingerprint for data.latents",
            )

    def empty_prompt(self) -> torch.Tensor | None:
        """States of the empty prompt, float16 (L, D); None where the set has no texts.

        Raises:
            CatalogError: They are missing or damaged.
        """
        if self.described is None or self.described.text_encoder is None:
            return None
        name = f"{self._folder}/{EMPTY_PROMPT}"
        known = self._storage.read_json(f"{self._folder}/{SIBLING_FILES}")
        if not isinstance(known, dict) or not self._storage.exists(name):
            raise self._refused("it has no states of the empty prompt")
        data = self._storage.read_bytes(name)
        if known.get(EMPTY_PROMPT) != hashlib.sha256(data).hexdigest():
            raise self._refused("the states of the empty prompt are damaged")
        return load_tensors(data)["text"]

    def _described(self, about: object) -> SetDescription | None:
        try:
            return description_of(about)
        except ValueError as exc:
            raise self._refused(str(exc)) from exc

    def _reads(self, about: object) -> tuple[str, ...]:
        name = f"{self._folder}/set.json"
        reads = sibling_reads(about)
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
