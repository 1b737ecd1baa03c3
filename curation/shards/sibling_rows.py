"""The rows of a set of sibling tars, finished or under way.

A finished set has ``index.parquet``, and beside the tars what ``files.json`` names. While tars are
written, ``work/`` holds one small table per tar, and the index itself once a tar that it names is
about to change: without ``index.parquet`` nobody reads a set. A table of a tar counts before the
index; one without rows says that the tar does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from heapq import merge
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import DamagedError
from curation.schema import (
    SIBLING_FILES,
    SIBLING_INDEX,
    SIBLING_READS,
    SIBLINGS_FOLDER,
    siblings_mend,
)
from curation.shards.index import FOLDER, by_shard, check_whole, hash_file, key_of, open_index
from curation.storage import Storage

FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")
READS = SIBLING_READS


class SetRows:
    """Names and rows of one set.

    Args:
        storage: The dataset root.
        fingerprint: Of the encoder; 8 to 64 hex digits.
    """

    def __init__(self, storage: Storage, fingerprint: str) -> None:
        assert FINGERPRINT.fullmatch(fingerprint), fingerprint
        self.storage = storage
        self.folder = f"{SIBLINGS_FOLDER}/{fingerprint}"
        self.index = f"{self.folder}/index.parquet"
        self.about = f"{self.folder}/set.json"
        self.work = f"{self.folder}/work"
        self.beside = f"{self.folder}/{SIBLING_FILES}"
        self._aside = f"{self.work}/index.parquet"

    @property
    def mend(self) -> str:
        """What makes the set whole and current, in words."""
        return siblings_mend(self.folder, self.storage.read_json(self.about))

    @property
    def finished(self) -> bool:
        """True when the set has its index."""
        return self.storage.exists(self.index)

    def tar_of(self, shard: str) -> str:
        """The tar beside a shard."""
        return f"{self.folder}/{shard.removeprefix(f'{FOLDER}/')}"

    def part_of(self, shard: str) -> str:
        """The table of a tar that was written since the last index."""
        return f"{self.work}/{shard.removeprefix(f'{FOLDER}/').removesuffix('.tar')}.parquet"

    def put_part(self, shard: str, rows: list[dict[str, Any]]) -> None:
        """Remember the rows of a tar; without any: the tar counts no more."""
        self._write(self.part_of(shard), pa.Table.from_pylist(rows, schema=SIBLING_INDEX))

    def open_up(self) -> None:
        """Take the index away before something that it names changes; its rows stay known."""
        if self.finished:
            self.storage.rename(self.index, self._aside)

    def tables(self) -> list[str]:
        """Every file in which rows stand."""
        parts = [name for name in self.storage.walk(self.work) if name.endswith(".parquet")]
        return [*([self.index] if self.finished else []), *parts]

    def drop_damaged(self) -> None:
        """Take damaged tables out: the tars that they name count no more."""
        for name in self.tables():
            try:
                check_whole(self.storage, name, SIBLING_INDEX)
            except DamagedError:
                if name in (self.index, self._aside):
                    self.storage.remove(name)
                else:  # without it, older rows of its tar would count
                    self._write(name, SIBLING_INDEX.empty_table())

    def by_shard(self, columns: list[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """The rows of the tars that count, in the order of their shards.

        Raises:
            DamagedError: A table is damaged.
        """
        prefix = f"{self.work}/"
        parts = {
            f"{FOLDER}/{name.removeprefix(prefix).removesuffix('.parquet')}.tar": name
            for name in self.storage.walk(self.work)
            if name.endswith(".parquet") and name != self._aside
        }
        of_index = ((s, rows) for s, rows in self._of_index(columns) if s not in parts)
        of_parts = (
            (shard, rows)
            for shard in sorted(parts, key=key_of)
            if (rows := self._part(parts[shard], columns)).num_rows
        )
        yield from merge(of_index, of_parts, key=lambda one: key_of(one[0]))

    def more_files(self) -> dict[str, str]:
        """Files that belong to the set beside its tars, and the sha256 of each."""
        known = self.storage.read_json(self.beside)
        if not isinstance(known, dict):
            return {}
        return {f"{self.folder}/{name}": str(sha) for name, sha in sorted(known.items())}

    def sha256_of(self, name: str) -> str | None:
        """Of a file; None when it is missing."""
        return hash_file(self.storage, name)[0] if self.storage.exists(name) else None

    def files(self) -> list[str]:
        """Every file of the set but those that tell of others and what lies in ``work/``."""
        own = (self.about, self.index, self.beside)
        names = self.storage.walk(self.folder)
        return [n for n in names if n not in own and not n.startswith(f"{self.work}/")]

    def _of_index(self, columns: list[str] | None) -> Iterator[tuple[str, pa.Table]]:
        name = self.index if self.finished else self._aside
        if self.storage.exists(name):
            yield from by_shard(self.storage, name, columns)

    def _write(self, name: str, table: pa.Table) -> None:
        with self.storage.open_write(name) as out:
            pq.write_table(table, out, write_page_checksum=True)

    def _part(self, name: str, columns: list[str] | None) -> pa.Table:
        with open_index(self.storage, name, columns) as file:
            return file.read(columns=columns)


def sets_of(storage: Storage) -> list[str]:
    """Names of the folders in which sets lie, sorted; some may be no fingerprints."""
    return sorted({n.split("/")[1] for n in storage.walk(SIBLINGS_FOLDER) if n.count("/") > 1})


def in_step(
    wanted: Iterator[tuple[str, pa.Table]], mine: Iterator[tuple[str, pa.Table]]
) -> Iterator[tuple[str, pa.Table | None, pa.Table | None]]:
    """Shards and the rows of their siblings side by side, either of which may lack."""
    one, other = next(wanted, None), next(mine, None)
    while one is not None or other is not None:
        if other is None or (one is not None and key_of(one[0]) < key_of(other[0])):
            assert one is not None
            yield one[0], one[1], None
            one = next(wanted, None)
        elif one is None or key_of(other[0]) < key_of(one[0]):
            yield other[0], None, other[1]
            other = next(mine, None)
        else:
            yield one[0], one[1], other[1]
            one, other = next(wanted, None), next(mine, None)


def same_samples(wanted: pa.Table, mine: pa.Table, reads: tuple[str, ...]) -> bool:
    """True for the same keys in the same order, encoded of what the samples hold now."""
    columns = ["key_hash", *(READS[kind] for kind in reads)]
    return all(
        np.array_equal(wanted.column(c).to_numpy(), mine.column(c).to_numpy()) for c in columns
    )


def is_there(storage: Storage, name: str, rows: pa.Table) -> bool:
    """True when a tar has the name and the size that its rows say."""
    known = {(r["sibling"], r["sibling_bytes"]) for r in _whole(rows)}
    return known == {(name, storage.size_bytes(name) if storage.exists(name) else -1)}


def _whole(rows: pa.Table) -> list[dict[str, Any]]:
    return rows.slice(0, 1).select(["sibling", "sibling_bytes"]).to_pylist()
