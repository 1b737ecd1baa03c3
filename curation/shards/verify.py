"""Verify: do the shards hold what the index says, does every sample decode, is it current?

And: is anything still here, in tables, files, shards or releases, that was removed on request?
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import av.error
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.removal.leftovers import leftovers
from curation.shards.samples import kept_samples
from curation.shards.writer import FOLDER, INDEX, hash_file, parse_record, read_index
from curation.storage import Storage


@dataclass
class Verification:
    """Outcome of a verification.

    Attributes:
        num_shards: Shards looked at.
        num_samples: Samples looked at.
        problems: What is wrong, in words; empty when all is well.
    """

    num_shards: int = 0
    num_samples: int = 0
    problems: list[str] = field(default_factory=list)


def verify_shards(
    catalog: Catalog, *, decode: bool = True, on_sample: Callable[[int], None] = lambda _: None
) -> Verification:
    """Check every shard and sample of a dataset root.

    Args:
        catalog: The dataset.
        decode: Decode every frame of every sample.
        on_sample: Called with the bytes of each sample looked at.
    """
    storage, found = catalog.storage, Verification()
    found.problems += [f"removed: {text}" for text in leftovers(catalog)]
    try:
        index = read_index(storage)
    except pa.ArrowException as exc:
        found.problems.append(f"{INDEX}: damaged: {exc}")
        return found
    if index is None:
        found.problems.append("no shard index: run `clipmill shard OUT`")
        return found
    by_shard: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in index.to_pylist():
        by_shard[row["shard"]].append(row)
    for shard, rows in sorted(by_shard.items()):
        found.num_shards += 1
        found.problems += _check_shard(storage, shard, rows, decode, found, on_sample)
    strays = set(storage.walk(FOLDER)) - set(by_shard) - {INDEX}
    found.problems += [f"{s}: not in the index" for s in sorted(strays)]
    clips = index.select(["clip_id", "mp4_sha256"]).to_pylist()
    found.problems += _check_current(catalog, {r["clip_id"]: r["mp4_sha256"] for r in clips})
    return found


def _check_current(catalog: Catalog, indexed: dict[str, str]) -> list[str]:
    """Are the shards older than the verdicts or the cut?"""
    kept = {s.clip_id: s.media_sha256 for s in kept_samples(catalog)}
    stale = []
    if missing := len(kept.keys() - indexed.keys()):
        stale.append(f"{missing} kept clips are in no shard: run `clipmill shard OUT`")
    if extra := len(indexed.keys() - kept.keys()):
        stale.append(f"{extra} sharded clips are no longer kept: run `clipmill shard OUT`")
    if recut := sum(kept.get(clip, sha) != sha for clip, sha in indexed.items()):
        stale.append(f"{recut} sharded clips were cut anew: run `clipmill shard OUT`")
    return stale


def _check_shard(
    storage: Storage,
    shard: str,
    rows: list[dict[str, Any]],
    decode: bool,
    found: Verification,
    on_sample: Callable[[int], None],
) -> Iterator[str]:
    if not storage.exists(shard):
        yield f"{shard}: missing"
        return
    sha256, size = hash_file(storage, shard)
    if (sha256, size) != (rows[0]["shard_sha256"], rows[0]["shard_bytes"]):
        yield f"{shard}: bytes differ from the index"
    with storage.open_read(shard) as source:
        for row in rows:
            found.num_samples += 1
            on_sample(row["mp4_bytes"])
            source.seek(row["json_offset"])
            try:
                record = parse_record(source.read(row["json_bytes"]))
            except ValueError:
                yield f"{shard}: {row['clip_id']}: .json is damaged"
            else:
                if record["clip_id"] != row["clip_id"]:
                    yield f"{shard}: {row['clip_id']}: .json belongs to another clip"
            source.seek(row["mp4_offset"])
            data = source.read(row["mp4_bytes"])
            if hashlib.sha256(data).hexdigest() != row["mp4_sha256"]:
                yield f"{shard}: {row['clip_id']}: .mp4 differs from its checksum"
            if decode:
                yield from _decode(shard, row, data)


def _decode(shard: str, row: dict[str, Any], data: bytes) -> Iterator[str]:
    """Decode a sample whole and compare it with its row."""
    where = f"{shard}: {row['clip_id']}"
    try:
        with av.open(io.BytesIO(data), "r") as container:
            count, shape = 0, (0, 0)
            for frame in container.decode(video=0):
                count, shape = count + 1, (frame.height, frame.width)
    except (av.error.FFmpegError, IndexError) as exc:
        yield f"{where}: .mp4 does not decode: {exc}"
        return
    if (count, *shape) != (row["frames"], row["height_px"], row["width_px"]):
        yield f"{where}: decodes to {count} frames of {shape[0]}x{shape[1]}, not as indexed"
