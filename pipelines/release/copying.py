"""The shards of one folder in another one as well: linked where that can be, else copied."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from curation.shards.index import INDEX
from curation.storage import Storage


def copy_shards(storage: Storage, source: str, target: str) -> dict[str, dict[str, Any]]:
    """Link or copy the shards of an index, and the index, into an empty folder.

    Args:
        storage: The dataset root.
        source: Folder that holds ``shards/``; empty: the root itself.
        target: Folder that is to hold them.

    Returns:
        ``{name: {"sha256", "bytes"}}`` of the linked shards, as the index has them: a copy has to
        be read again to know that it is one.
    """
    inside = f"{source}/" if source else ""
    storage.remove_tree(target)
    _copy(storage, f"{inside}{INDEX}", f"{target}/{INDEX}")
    known = {}
    for shard, about in shards_of(storage, f"{inside}{INDEX}"):
        if _copy(storage, f"{inside}{shard}", f"{target}/{shard}"):
            known[shard] = about
    return known


def shards_of(storage: Storage, index: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each shard of an index once, with ``sha256`` and ``bytes``; rows are streamed."""
    last = None
    with storage.open_read(index) as source:
        file = pq.ParquetFile(source)
        for batch in file.iter_batches(columns=["shard", "shard_sha256", "shard_bytes"]):
            columns = [batch.column(i).to_pylist() for i in range(3)]
            for shard, sha256, size in zip(*columns, strict=True):
                if shard != last:  # the samples of a shard follow each other
                    yield shard, {"sha256": sha256, "bytes": size}
                last = shard


def _copy(storage: Storage, name: str, target: str) -> bool:
    """Give a file a second name, or copy it; True when it is the same file."""
    source, second = storage.path(name), storage.path(target)
    storage.fs.makedirs(second.rpartition("/")[0], exist_ok=True)
    if storage.local:
        with contextlib.suppress(OSError):  # another disk, or a file system without links
            os.link(source, second)
            return True
    storage.fs.copy(source, second)
    return False
