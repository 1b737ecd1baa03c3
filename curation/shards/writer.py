"""Kept clips to WebDataset tars: deterministic to the byte, indexed, committed by the index.

Key = clip id, members ``.mp4 .json .txt``, with ``.m4a`` after the first where it is asked for.
Clips of one stored shape (or band of lengths) share a bucket folder, below that of their split
where the dataset is divided; inside it they are ordered by a seeded hash and packed to a target
size. More clips come as a new generation and leave the shards that stand untouched: see
``plans.py``. Which bytes come out depends on the kept clips, the settings and the shards that
stand; packed anew, on the first two alone. A killed run is mended by the next: see ``swap.py``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from pathlib import Path

import pyarrow as pa

from curation.ids import shuffle_key
from curation.schema import SHARD_INDEX
from curation.shards.index import (
    INDEX,
    ShardName,
    by_shard,
    key_of,
    write_index,
)
from curation.shards.packing import Packer, Rows
from curation.shards.plans import (
    NEW,
    Change,
    Kept,
    find_change,
    packed_at_once,
    standing_shards,
)
from curation.shards.settings import ShardReport, ShardSettings
from curation.shards.swap import STAGED_INDEX, STAGING, finish, recover
from curation.shards.tar import Sample
from curation.storage import Storage

OPEN_TARS = 64
"""Generations that are written at a time: each may have one tar open."""


def write_shards(
    storage: Storage,
    samples: Callable[[], Iterable[Sample]],
    settings: ShardSettings,
    on_sample: Callable[[int], None] = lambda _: None,
    *,
    repack: bool = False,
) -> ShardReport:
    """Bring ``shards/`` to exactly the given samples; of media, memory holds one sample at a time.

    Args:
        storage: The dataset root.
        samples: Gives all kept clips in the order of :func:`order_key`; called once to see
            what changed, and again to write.
        settings: Packing.
        on_sample: Called with the bytes of each packed sample.
        repack: Pack everything anew, as one run over everything would.

    Raises:
        CatalogError: The media of a kept clip are not what the catalog says.
    """
    recover(storage)
    kept = Kept.of(samples(), settings)
    standing = standing_shards(storage, settings)
    if standing is not None and standing.holds(kept):
        reused = not repack or packed_at_once(storage, standing, kept, settings)
        if reused:
            return _summary(storage, num_written=0, reused=True)
    change = find_change(kept, None if repack else standing, settings)
    storage.remove_tree(STAGING)
    with tempfile.TemporaryDirectory(prefix="clipmill-rows-") as folder:
        rows = Rows(Path(folder) / "rows.arrow")
        for generations in _generations(change):
            with Packer(storage, settings, change, rows, on_sample) as packer:
                packer.take(samples(), kept, generations)
        num_written = rows.finish()
        _write_staged_index(storage, change, rows)
        rows.close()
    finish(storage)
    return _summary(storage, num_written=num_written, reused=False)


def order_key(split: str, bucket: str, seed: int, clip_id: str) -> tuple[str, str, str]:
    """Where a clip stands: by split, by bucket, then by seeded hash."""
    return split, bucket, shuffle_key(seed, clip_id)


def _generations(change: Change) -> Iterator[frozenset[int]]:
    """The generations to be written, some at a time; mostly all at once."""
    found = {change.generation} if (change.targets == NEW).any() else set[int]()
    for place in change.counts:
        parsed = ShardName.parse(change.standing.names[place])
        assert parsed is not None
        found.add(parsed.generation)
    wanted = sorted(found)
    for start in range(0, len(wanted), OPEN_TARS):
        yield frozenset(wanted[start : start + OPEN_TARS])


def _write_staged_index(storage: Storage, change: Change, rows: Rows) -> None:
    """Rows of the shards that stay as they are, and of the written ones, in one order."""

    def left() -> Iterator[tuple[str, pa.Table]]:
        for place, (shard, table) in enumerate(by_shard(storage)):
            if change.left(place):
                yield shard, table

    standing = left() if change.standing.names else iter(())
    schema = SHARD_INDEX.with_metadata(change.metadata)
    with write_index(storage, STAGED_INDEX, schema) as take:
        for _, table in merge(standing, rows.in_order(), key=lambda one: key_of(one[0])):
            take(table)


def _summary(storage: Storage, *, num_written: int, reused: bool) -> ShardReport:
    shards = samples = size = generation = 0
    for _, rows in by_shard(storage, INDEX, ["shard", "generation", "shard_bytes"]):
        shards, samples = shards + 1, samples + rows.num_rows
        size += rows.column("shard_bytes")[0].as_py()
        generation = max(generation, rows.column("generation")[0].as_py())
    return ShardReport(shards, samples, size, reused, num_written, generation)
