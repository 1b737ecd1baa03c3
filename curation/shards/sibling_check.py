"""Sibling sets looked at from outside: are they current and whole, and clips taken out of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import DamagedError
from curation.schema import SIBLING_INDEX, SIBLINGS_FOLDER
from curation.shards.index import INDEX, ShardName, batches, by_shard, check_whole, hash_file
from curation.shards.sibling_rows import (
    FINGERPRINT,
    READS,
    SetRows,
    in_step,
    same_samples,
    sets_of,
)
from curation.shards.siblings import OF_SHARDS, OF_TARS, SUFFIX, fold, read_about
from curation.shards.tar import new_tar
from curation.storage import Storage

WORDS = {
    "missing": "have none",
    "mp4": "were made of another mp4",
    "text": "were made of other texts",
    "order": "stand in another order",
    "gone": "are of no sample of the shards",
}


def check_siblings(storage: Storage) -> list[str]:
    """What is wrong with the sibling sets of a dataset root, in words with the mend."""
    found: list[str] = []
    for name in sets_of(storage):
        if FINGERPRINT.fullmatch(name) is None:
            found.append(f"{SIBLINGS_FOLDER}/{name}: is no set of siblings")
            continue
        rows = SetRows(storage, name)
        try:
            found += _check(storage, rows)
        except DamagedError as exc:
            mend = exc.mend if exc.where == INDEX else rows.mend
            found.append(f"{exc.where}: {exc.what}: {mend}")
    return found


def _check(storage: Storage, rows: SetRows) -> Iterator[str]:
    about = read_about(storage, rows)
    if about is None:
        yield f"{rows.about}: missing or damaged: remove {rows.folder} and {rows.mend}"
        return
    if not rows.finished:
        yield f"{rows.folder}: was begun and not finished: {rows.mend}"
        return
    check_whole(storage, rows.index, SIBLING_INDEX)
    if storage.walk(rows.work):
        yield f"{rows.folder}: more was begun and not finished: {rows.mend}"
    if text := _staleness(storage, rows, tuple(about["reads"])):
        yield text
    named = set[str]()
    for shard, table in by_shard(storage, rows.index, [*OF_TARS, "sibling_sha256"]):
        tar = rows.tar_of(shard)
        named.add(tar)
        known = table.slice(0, 1).to_pylist()[0]
        if ShardName.parse(shard) is None or known["sibling"] != tar:
            yield f"{rows.index}: {known['sibling']!r} is no tar beside {shard!r}: {rows.mend}"
        elif not storage.exists(tar):
            yield f"{tar}: missing: {rows.mend}"
        elif hash_file(storage, tar) != (known["sibling_sha256"], known["sibling_bytes"]):
            yield f"{tar}: bytes differ from the index: {rows.mend}"
    for name, sha in rows.more_files().items():
        named.add(name)
        if not storage.exists(name):
            yield f"{name}: missing: {rows.mend}"
        elif rows.sha256_of(name) != sha:
            yield f"{name}: bytes differ from {rows.beside}: {rows.mend}"
    for name in rows.files():
        if name not in named:
            yield f"{name}: not in the index of its set"


def _staleness(storage: Storage, rows: SetRows, reads: tuple[str, ...]) -> str:
    """How many siblings are not those of the samples, and why; empty when all are current."""
    counts: Counter[str] = Counter()
    total = 0
    wanted = by_shard(storage, INDEX, ["shard", *OF_SHARDS])
    mine = by_shard(storage, rows.index, ["shard", *OF_SHARDS])
    for _, samples, siblings in in_step(wanted, mine):
        total += 0 if samples is None else samples.num_rows
        counts += _differences(samples, siblings, reads)
    if not counts.total():
        return ""
    told = ", ".join(f"{counts[kind]} {text}" for kind, text in WORDS.items() if counts[kind])
    return f"{rows.folder}: stale: of the siblings of {total} samples {told}: {rows.mend}"


def _differences(
    samples: pa.Table | None, siblings: pa.Table | None, reads: tuple[str, ...]
) -> Counter[str]:
    """Siblings of one shard by what is wrong with them."""
    none = SIBLING_INDEX.empty_table()
    both = (none if samples is None else samples, none if siblings is None else siblings)
    if same_samples(*both, reads):
        return Counter()
    keys, mine = (t.column("key_hash").to_numpy() for t in both)
    common, here, there = np.intersect1d(keys, mine, return_indices=True)
    found = Counter(missing=keys.size - common.size, gone=mine.size - common.size)
    stale = np.zeros(common.size, bool)
    for kind in reads:
        now, then = (t.column(READS[kind]).to_numpy() for t in both)
        differ = (now[here] != then[there]) & ~stale
        found[kind] = int(differ.sum())
        stale |= differ
    if not found.total():
        found["order"] = int((keys != mine).sum())
    return found


def siblings_of(storage: Storage, clips: Collection[str]) -> list[str]:
    """The sibling tars that hold any of some clips, sorted."""
    return sorted(tar for rows in _sets(storage) for tar, _ in _concerned(rows, clips))


def remove_from_siblings(storage: Storage, clips: Collection[str]) -> list[str]:
    """Take clips out of every sibling set; may be called again after a crash.

    Only the tars that hold one of them are written anew. One that is not what its rows say is
    removed whole: the encoder makes it again. Nothing stays of a tar that a killed encoder left
    without rows.

    Returns:
        Names of the tars that were written anew or went.
    """
    changed: list[str] = []
    for rows in _sets(storage):
        if clips:
            changed += _remove(storage, rows, frozenset(clips))
    return sorted(changed)


def _remove(storage: Storage, rows: SetRows, clips: frozenset[str]) -> Iterator[str]:
    finished = rows.finished
    known = {rows.tar_of(shard) for shard, _ in rows.by_shard(["shard"])}
    for name in rows.files():
        if name.endswith(".tar") and name not in known:
            storage.remove(name)
            yield name
    if not any(_names(storage, table, clips) for table in rows.tables()):
        return
    for tar, table in list(_concerned(rows, clips)):
        shard = table.column("shard")[0].as_py()
        rows.open_up()
        rest = [row for row in table.to_pylist() if row["clip_id"] not in clips]
        if rest and _is_whole(storage, tar, rest[0]):
            # Killed between the two, the tar is none of its rows and goes when this is called anew.
            rows.put_part(shard, _copy(storage, tar, rest))
        else:
            rows.put_part(shard, [])
            storage.remove(tar)
        yield tar
    # The rows of what went stand in the old index too: all are written into one again.
    if finished or _is_current(storage, rows):
        fold(rows, rows.index)
        storage.remove_tree(rows.work)
    else:
        aside = f"{rows.work}/index.parquet"
        fold(rows, aside)
        for name in rows.tables():
            if name != aside:
                storage.remove(name)


def _is_whole(storage: Storage, tar: str, row: dict[str, Any]) -> bool:
    known = row["sibling_sha256"], row["sibling_bytes"]
    return storage.exists(tar) and hash_file(storage, tar) == known


def _copy(storage: Storage, name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write a tar anew with some of its members; returns their rows as they are now."""
    places = []
    with storage.open_read(name) as source, new_tar(storage, name) as tar:
        for row in rows:
            source.seek(row["data_offset"])
            data = source.read(row["data_bytes"])
            places.append({"data_offset": tar.add(f"{row['clip_id']}.{SUFFIX}", data)})
    whole = {"sibling_bytes": tar.size, "sibling_sha256": tar.sha256.hexdigest()}
    return [row | place | whole for row, place in zip(rows, places, strict=True)]


def _is_current(storage: Storage, rows: SetRows) -> bool:
    """True when every shard has its sibling, so that an index was only away for the removal."""
    about = read_about(storage, rows)
    if about is None or not storage.exists(INDEX):
        return False
    wanted = by_shard(storage, INDEX, ["shard", *OF_SHARDS])
    return all(
        one is not None and other is not None and same_samples(one, other, tuple(about["reads"]))
        for _, one, other in in_step(wanted, rows.by_shard(["shard", *OF_SHARDS]))
    )


def _sets(storage: Storage) -> Iterator[SetRows]:
    for name in sets_of(storage):
        if FINGERPRINT.fullmatch(name):
            yield SetRows(storage, name)


def _concerned(rows: SetRows, clips: Collection[str]) -> Iterator[tuple[str, pa.Table]]:
    """The tars that hold any of some clips, and their rows."""
    options = pc.SetLookupOptions(value_set=pa.array(sorted(clips), pa.string()))
    for shard, table in rows.by_shard():
        found = pc.call_function("is_in", [table.column("clip_id")], options)
        if pc.call_function("any", [found]).as_py():
            yield rows.tar_of(shard), table


def _names(storage: Storage, table: str, clips: frozenset[str]) -> bool:
    """True when a table has a row of any of some clips."""
    return any(
        not clips.isdisjoint(batch.column(0).to_pylist())
        for batch in batches(storage, table, ["clip_id"])
    )
