"""Taking samples out of shards: only the tars concerned are written anew, all others stay.

The new tars and the new index are staged first. Without an index nobody reads shards, so the old
one goes before the first tar is replaced, and the new one comes last. Killed before that, the
next call begins anew; killed later, it goes on where the last one ended.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from curation.shards.samples import kept_samples
from curation.shards.tar import MEMBERS
from curation.shards.writer import (
    FOLDER,
    INDEX,
    INDEX_SCHEMA,
    STAGING,
    ShardSettings,
    plan_digest,
)
from curation.storage import Storage

STAGED_INDEX = f"{STAGING}/index.parquet"
PLAN = b"clipmill.plan"
BATCH_ROWS = 16_384


def shards_of(storage: Storage, clips: Collection[str]) -> list[str]:
    """The shards that hold any of some clips, sorted."""
    if not storage.exists(INDEX) or not clips:
        return []
    found: set[str] = set()
    for batch in _batches(storage, INDEX, ["clip_id", "shard"]):
        ids, names = (batch.column(i).to_pylist() for i in range(2))
        found |= {n for c, n in zip(ids, names, strict=True) if c in clips}
    return sorted(found)


def shards_are_current(catalog: Catalog, settings: ShardSettings) -> bool:
    """True when the shards are packed of exactly the kept clips, by these settings."""
    storage = catalog.storage
    if not storage.exists(INDEX):
        return False
    with storage.open_read(INDEX) as source:
        written = (pq.read_schema(source).metadata or {}).get(PLAN, b"").decode()
    return written == plan_digest(kept_samples(catalog, settings), settings)


def rewrite_shards(
    catalog: Catalog, clips: Collection[str], settings: ShardSettings, *, current: bool
) -> list[str]:
    """Take clips out of the shards.

    Args:
        catalog: The dataset, in which the clips are kept no more.
        clips: Their ids.
        settings: How the dataset is packed.
        current: The shards were those of the kept clips before: then they are again, and the next
            run finds nothing to pack.

    Returns:
        Names of the tars that were written anew or went.

    Raises:
        CatalogError: A tar is not what the index says.
    """
    storage = catalog.storage
    if not storage.exists(INDEX) and storage.exists(STAGED_INDEX):
        _finish(storage)
    storage.remove_tree(STAGING)
    concerned = shards_of(storage, clips)
    if not concerned:
        return []
    plan = plan_digest(kept_samples(catalog, settings), settings) if current else None
    _stage(storage, frozenset(clips), frozenset(concerned), plan)
    storage.remove(INDEX)
    _finish(storage)
    return concerned


def _stage(
    storage: Storage, clips: Collection[str], concerned: Collection[str], plan: str | None
) -> None:
    """Write the new tars and their index beside the old ones."""
    with storage.open_read(INDEX) as source:
        metadata = dict(pq.read_schema(source).metadata or {})
    if plan is not None:
        metadata[PLAN] = plan.encode()
    schema = INDEX_SCHEMA.with_metadata(metadata)
    with (
        storage.open_write(STAGED_INDEX) as out,
        pq.ParquetWriter(out, schema, compression="zstd") as index,
    ):
        for name, rows in _by_shard(storage):
            if name in concerned:
                rows = [r for r in rows if r["clip_id"] not in clips]
                rows = _copy_tar(storage, name, rows) if rows else []
            if rows:
                index.write_table(pa.Table.from_pylist(rows, schema=schema))


def _by_shard(storage: Storage) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows of the index, shard by shard, in its order: those of a shard stand together."""
    name, rows = None, []
    for batch in _batches(storage, INDEX, None):
        for row in batch.to_pylist():
            if rows and row["shard"] != name:
                yield cast(str, name), rows
                rows = []
            name = row["shard"]
            rows.append(row)
    if rows:
        yield cast(str, name), rows


def _copy_tar(storage: Storage, name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write a tar with some of the samples of another; returns their rows as they are now."""
    places: list[dict[str, Any]] = []
    staged = name.replace(FOLDER, STAGING, 1)
    with storage.open_read(name) as source, storage.open_write(staged) as out:
        sink = _Sink(out)
        with tarfile.open(fileobj=cast(Any, sink), mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for row in rows:
                places.append({})
                for suffix in MEMBERS:
                    data = _member(source, name, row, suffix)
                    info = tarfile.TarInfo(f"{row['clip_id']}.{suffix}")
                    info.mtime, info.mode, info.size = 0, 0o644, len(data)
                    tar.addfile(info, io.BytesIO(data))
                    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                    places[-1][f"{suffix}_offset"] = sink.size - padded
    whole = {"shard_bytes": sink.size, "shard_sha256": sink.sha256.hexdigest()}
    return [row | place | whole for row, place in zip(rows, places, strict=True)]


def _member(source: BinaryIO, name: str, row: dict[str, Any], suffix: str) -> bytes:
    """A member's bytes, checked as far as the index knows them."""
    source.seek(row[f"{suffix}_offset"])
    data = source.read(row[f"{suffix}_bytes"])
    whole = len(data) == row[f"{suffix}_bytes"]
    if suffix == "mp4":
        whole = whole and hashlib.sha256(data).hexdigest() == row["mp4_sha256"]
    if not whole:
        raise CatalogError(
            f"the .{suffix} of {row['clip_id']} is not what the index says",
            where=name,
            mend="remove shards/ and run `clipmill shard OUT`, which packs them anew",
        )
    return data


def _finish(storage: Storage) -> None:
    """Put staged tars in their places, remove those the staged index does not name; index last."""
    wanted = {
        n for b in _batches(storage, STAGED_INDEX, ["shard"]) for n in b.column(0).to_pylist()
    }
    for staged in storage.walk(STAGING):
        if staged != STAGED_INDEX:
            storage.rename(staged, staged.replace(STAGING, FOLDER, 1))
    for name in storage.walk(FOLDER):
        if name not in wanted:
            storage.remove(name)
    storage.rename(STAGED_INDEX, INDEX)
    storage.remove_tree(STAGING)


def _batches(storage: Storage, name: str, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    with storage.open_read(name) as source:
        yield from pq.ParquetFile(source).iter_batches(BATCH_ROWS, columns=columns)


class _Sink:
    """A file that hashes and counts what passes."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self.sha256, self.size = out, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._out.write(data)

    def tell(self) -> int:
        return self.size
