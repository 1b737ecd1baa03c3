"""Putting staged shards in place, so that a kill at any moment can be mended.

New shards and the new index are staged first, whole. Shards under new names come in while the old
index stands: it does not name them. Only when a shard has to be replaced or removed the old index
goes before the first of them; without an index nobody reads shards. The new one comes last. A run
that was killed before that begins anew, and one that was killed on the way is brought to its end.
"""

from __future__ import annotations

from curation.errors import DamagedError
from curation.shards.index import FOLDER, INDEX, by_shard, shard_names
from curation.storage import Storage

STAGING = "shards.staging"
STAGED_INDEX = f"{STAGING}/index.parquet"


def staged_name(shard: str) -> str:
    """Where a shard is staged."""
    return shard.replace(FOLDER, STAGING, 1)


def recover(storage: Storage) -> None:
    """End what a killed run left, or take it back: afterwards nothing is staged."""
    if not storage.walk(STAGING):
        return
    if not storage.exists(INDEX) and storage.exists(STAGED_INDEX) and _complete(storage):
        finish(storage)
        return
    if (named := _names(storage, INDEX)) is not None:
        for name in storage.walk(FOLDER):
            if name != INDEX and name not in named:  # it came in, and its index did not
                storage.remove(name)
    storage.remove_tree(STAGING)


def finish(storage: Storage) -> None:
    """Put staged shards in their places, remove those that the staged index does not name."""
    wanted = frozenset(shard_names(storage, STAGED_INDEX))
    old = _names(storage, INDEX)
    staged = [n for n in storage.walk(STAGING) if n.replace(STAGING, FOLDER, 1) in wanted]
    replaces = [n for n in staged if old is None or n.replace(STAGING, FOLDER, 1) in old]
    for name in staged:
        if name not in replaces:
            storage.rename(name, name.replace(STAGING, FOLDER, 1))
    if replaces or old is None or old - wanted:
        storage.remove(INDEX)
    for name in replaces:
        storage.rename(name, name.replace(STAGING, FOLDER, 1))
    for name in storage.walk(FOLDER):
        if name not in wanted and name != INDEX:
            storage.remove(name)
    storage.rename(STAGED_INDEX, INDEX)
    storage.remove_tree(STAGING)


def _complete(storage: Storage) -> bool:
    """True when every shard of the staged index is staged, or in its place already."""
    try:
        for shard, rows in by_shard(storage, STAGED_INDEX, ["shard", "shard_bytes"]):
            size, places = rows.column("shard_bytes")[0].as_py(), (staged_name(shard), shard)
            if not any(storage.exists(p) and storage.size_bytes(p) == size for p in places):
                return False
    except DamagedError:
        return False
    return True


def _names(storage: Storage, index: str) -> frozenset[str] | None:
    """Shards of an index; None when it is missing or damaged."""
    if not storage.exists(index):
        return None
    try:
        return frozenset(shard_names(storage, index))
    except DamagedError:
        return None
