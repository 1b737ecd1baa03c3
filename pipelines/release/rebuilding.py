"""Taking clips and videos out of what was released: a release made anew, or withdrawn.

A release never changes under its revision: one without some clips is its next revision, whose
manifest and card say how many went, when and why (not which). Tars that hold none of them are
linked, not copied. Both functions may be called again after a crash, and do nothing when nothing is
left to do. The caller holds the lease.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.shards.index import INDEX
from curation.shards.rewrite import rewrite_shards
from curation.shards.settings import ShardSettings
from curation.storage import Storage
from pipelines.release.copying import copy_shards
from pipelines.release.describe import describe, write_manifest
from pipelines.release.places import (
    FOLDER,
    MANIFEST,
    REBUILT,
    clear_withdrawn,
    read_manifest,
    recover,
    release_folder,
    take_place,
)
from pipelines.release.tables import BATCH_ROWS, TABLES, data_file, write_parquet

OF_THE_EDGE = ("level", "similarity", "offset_s", "speed", "mirrored", "overlap_s")
"""Columns of a duplicate that compare it with a representative."""


def rebuild_release(
    out: str, tag: str, clip_ids: Collection[str], video_ids: Collection[str], reason: str
) -> dict[str, Any]:
    """Make a release anew without some clips; without a single one left it is withdrawn.

    Args:
        out: The dataset root.
        tag: Of the release.
        clip_ids: Clips that go.
        video_ids: Videos that go, with all their clips.
        reason: Why; stands in manifest and card.

    Returns:
        The manifest; unchanged when the release holds none of them.

    Raises:
        CatalogError: There is no such release, or a tar of it is damaged.
    """
    storage = Storage(out)
    recover(storage)
    manifest, folder = read_manifest(storage, tag), release_folder(tag)
    if manifest["state"] == "withdrawn":
        return manifest
    videos = frozenset(video_ids)
    clips = frozenset(clip_ids) | _clips_of(storage, folder, videos)
    counted = _count(storage, folder, clips, videos)
    if not any(counted.values()):
        return manifest
    if counted["clips"] == manifest["counts"]["clips"]:
        return withdraw_release(out, tag, reason)
    staged = f"{FOLDER}/{REBUILT}{tag}"
    copy_shards(storage, folder, staged)
    inner = Catalog(Storage(storage.uri(staged)))  # the release's own shards; it has no tables
    settings = ShardSettings()  # pyright: ignore[reportCallIssue]
    rewritten = rewrite_shards(inner, clips, settings, current=False)
    for table in TABLES:
        batches = _without(storage, f"{folder}/{data_file(table)}", clips, videos)
        if table == "duplicates":
            batches = _regrouped(storage, f"{folder}/{data_file(table)}", clips, videos)
        write_parquet(storage, f"{staged}/{data_file(table)}", batches)
    known = {
        name: about
        for name, about in manifest["files"].items()
        if name.endswith(".tar") and name not in rewritten
    }
    num_videos = _videos_here(storage, folder, videos)
    told = _next_revision(manifest, reason, counted["clips"], num_videos) | {
        "catalog_versions": {},  # those versions still hold what goes; they go as well
        "catalog_tag": None,
        "shard_digest": None,
    }
    described = describe(storage, staged, told, known=known)
    take_place(storage, staged, folder)
    return described


def withdraw_release(out: str, tag: str, reason: str) -> dict[str, Any]:
    """Delete the data of a release; its manifest stays and says that it was withdrawn.

    Args:
        out: The dataset root.
        tag: Of the release.
        reason: Why.

    Returns:
        The manifest.

    Raises:
        CatalogError: There is no such release.
    """
    storage = Storage(out)
    recover(storage)
    manifest = read_manifest(storage, tag)
    if manifest["state"] == "withdrawn":
        return manifest
    counts = manifest["counts"]
    told = _next_revision(manifest, reason, counts["clips"], counts["videos"])
    kept = ("format", "format_version", "tag", "note", "created_at", "revision", "removals")
    withdrawn = {k: told[k] for k in kept} | {
        "state": "withdrawn",
        "withdrawn_at": told["rebuilt_at"],
        "counts": dict.fromkeys(counts, 0),
        "files": {},
    }
    # From here on nobody takes the folder for a release; a crash leaves files for `recover`.
    write_manifest(storage, f"{release_folder(tag)}/{MANIFEST}", withdrawn)
    clear_withdrawn(storage, tag)
    return withdrawn


def _next_revision(
    manifest: Mapping[str, Any], reason: str, num_clips: int, num_videos: int
) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    revision = manifest["revision"] + 1
    one = {"revision": revision, "removed_at": now, "reason": reason}
    removal = one | {"num_clips": num_clips, "num_videos": num_videos}
    told = {k: v for k, v in manifest.items() if k not in ("files", "counts", "croissant")}
    return told | {
        "revision": revision,
        "rebuilt_at": now,
        "removals": [*manifest["removals"], removal],
    }


def _clips_of(storage: Storage, folder: str, videos: frozenset[str]) -> set[str]:
    """Clips of some videos, kept or not."""
    if not videos:
        return set()
    name, wanted = f"{folder}/{data_file('verdicts')}", pa.array(sorted(videos), pa.string())
    found: set[str] = set()
    for batch in _batches(storage, name, ["clip_id", "video_id"]):
        found |= set(batch.filter(_among(batch, "video_id", wanted)).column("clip_id").to_pylist())
    return found


def _videos_here(storage: Storage, folder: str, videos: frozenset[str]) -> int:
    """How many of some videos a release tells of; a video may have several sources."""
    found: set[str | None] = set()
    for batch in _batches(storage, f"{folder}/{data_file('sources')}", ["video_id"]):
        found |= set(batch.column("video_id").to_pylist())
    return len(found & videos)


def _count(
    storage: Storage, folder: str, clips: frozenset[str], videos: frozenset[str]
) -> dict[str, int]:
    """Rows of each table that name any of what goes."""
    counted = {}
    for table in TABLES:
        name = f"{folder}/{data_file(table)}"
        columns = ["group_id"] if table == "duplicates" else []
        counted[table] = sum(
            int(_goes(batch, clips, videos, columns).sum())
            for batch in _batches(storage, name, None)
        )
    counted["index"] = sum(
        int(_goes(batch, clips, videos).sum())
        for batch in _batches(storage, f"{folder}/{INDEX}", ["clip_id"])
    )
    return counted


def _goes(
    batch: pa.RecordBatch,
    clips: frozenset[str],
    videos: frozenset[str],
    more: Collection[str] = (),
) -> np.ndarray:
    """Which rows name any of what goes; ``more`` are further columns of clip ids."""
    mask = np.zeros(batch.num_rows, bool)
    wanted = {"clip_id": clips, "video_id": videos, **dict.fromkeys(more, clips)}
    for column, ids in wanted.items():
        if ids and column in batch.schema.names:
            mask |= np.asarray(_among(batch, column, pa.array(sorted(ids), pa.string())))
    return mask


def _among(batch: pa.RecordBatch, column: str, values: pa.Array) -> pa.BooleanArray:
    """Which rows have one of some values in a column; null is none of them."""
    options = pc.SetLookupOptions(value_set=values)
    return pc.call_function("is_in", [batch.column(column)], options)


def _without(
    storage: Storage, name: str, clips: frozenset[str], videos: frozenset[str]
) -> Iterator[pa.RecordBatch]:
    """The rows that stay, in their order; an empty batch first, for the schema of no rows."""
    with storage.open_read(name) as source:
        yield pa.RecordBatch.from_pylist([], schema=pq.read_schema(source))
    for batch in _batches(storage, name, None):
        yield batch.filter(pa.array(~_goes(batch, clips, videos)))


def _regrouped(
    storage: Storage, name: str, clips: frozenset[str], videos: frozenset[str]
) -> Iterator[pa.RecordBatch]:
    """Duplicates that stay; a group whose representative goes is named after its first member.

    What compared its members with the representative is not known any more, and null.
    """
    first: dict[str, str] = {}
    for batch in _without(storage, name, clips, videos):
        orphans = batch.filter(pa.array(_goes(batch, clips, frozenset(), ["group_id"])))
        for row in orphans.select(["group_id", "clip_id"]).to_pylist():
            old, clip = str(row["group_id"]), str(row["clip_id"])
            first[old] = min(first.get(old, clip), clip)
    for batch in _without(storage, name, clips, videos):
        if not first or not batch.num_rows:
            yield batch
            continue
        rows = batch.to_pylist()
        for row in rows:
            if (new := first.get(row["group_id"])) is not None:
                row |= {"group_id": new, **dict.fromkeys(OF_THE_EDGE)}
        yield pa.RecordBatch.from_pylist(rows, schema=batch.schema)


def _batches(storage: Storage, name: str, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    with storage.open_read(name) as source:
        yield from pq.ParquetFile(source).iter_batches(BATCH_ROWS, columns=columns)
