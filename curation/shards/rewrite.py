"""Taking samples out of shards: only the tars concerned are written anew, all others stay.

What stays is copied from the tars themselves, so nothing but ``shards/`` is needed. The new tars
and the new index are staged first; see ``swap.py`` for what a kill leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any, BinaryIO

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from curation.shards.index import (
    INDEX,
    PLAN,
    VERDICTS,
    Verdicts,
    batches,
    by_shard,
    metadata_of,
    schema_of,
    write_index,
)
from curation.shards.plans import plan_digest
from curation.shards.samples import kept_samples
from curation.shards.settings import ShardSettings
from curation.shards.swap import STAGED_INDEX, STAGING, finish, recover, staged_name
from curation.shards.tar import ALL_MEMBERS, new_tar
from curation.storage import Storage


def shards_of(storage: Storage, clips: Collection[str]) -> list[str]:
    """The shards that hold any of some clips, sorted."""
    if not storage.exists(INDEX) or not clips:
        return []
    found: set[str] = set()
    for batch in batches(storage, INDEX, ["clip_id", "shard"]):
        ids, names = (batch.column(i).to_pylist() for i in range(2))
        found |= {n for c, n in zip(ids, names, strict=True) if c in clips}
    return sorted(found)


def shards_are_current(catalog: Catalog, settings: ShardSettings) -> bool:
    """True when the shards are packed of exactly the kept clips, by these settings."""
    written = (metadata_of(catalog.storage) or {}).get(PLAN, b"").decode()
    return bool(written) and written == plan_digest(kept_samples(catalog, settings), settings)


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
    recover(storage)
    concerned = shards_of(storage, clips)
    if not concerned:
        return []
    plan = plan_digest(kept_samples(catalog, settings), settings) if current else None
    storage.remove_tree(STAGING)
    _stage(storage, frozenset(clips), frozenset(concerned), plan)
    finish(storage)
    return concerned


def _stage(
    storage: Storage, clips: Collection[str], concerned: Collection[str], plan: str | None
) -> None:
    """Write the new tars and their index beside the old ones; the index keeps its columns."""
    schema = schema_of(storage)
    assert schema is not None
    metadata = dict(schema.metadata or {})
    if VERDICTS in metadata:
        rest = (_without(b, clips) for b in batches(storage, INDEX, ["clip_id", "split"]))
        metadata[VERDICTS] = Verdicts.of_table(rest).text.encode()
    if plan is not None:
        metadata[PLAN] = plan.encode()
    schema = schema.with_metadata(metadata)
    with write_index(storage, STAGED_INDEX, schema) as take:
        for name, table in by_shard(storage):
            if name not in concerned:
                take(table)
                continue
            rows = [r for r in table.to_pylist() if r["clip_id"] not in clips]
            if rows:
                take(pa.Table.from_pylist(_copy_tar(storage, name, rows), schema=schema))


def _without(batch: pa.RecordBatch, clips: Collection[str]) -> pa.RecordBatch:
    stays = [clip not in clips for clip in batch.column("clip_id").to_pylist()]
    return batch.filter(pa.array(stays, pa.bool_()))


def _copy_tar(storage: Storage, name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write a tar with some of the samples of another; returns their rows as they are now."""
    places: list[dict[str, Any]] = []
    with storage.open_read(name) as source, new_tar(storage, staged_name(name)) as tar:
        for row in rows:
            places.append({})
            for suffix in ALL_MEMBERS:
                if row.get(f"{suffix}_offset") is not None:
                    data = _member(source, name, row, suffix)
                    offset = tar.add(f"{row['clip_id']}.{suffix}", data)
                    places[-1][f"{suffix}_offset"] = offset
    whole = {"shard_bytes": tar.size, "shard_sha256": tar.sha256.hexdigest()}
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
