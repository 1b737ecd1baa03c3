"""Verify: do the shards hold what the index says, does every sample decode, is it current?

And: is anything still here, in tables, files, shards or releases, that was removed on request?
The index is read shard by shard, so memory does not grow with it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import av.error

from curation.catalog.catalog import Catalog
from curation.errors import DamagedError
from curation.ids import hash64, sha_prefix64
from curation.removal.leftovers import leftovers
from curation.schema import SHARD_INDEX
from curation.shards.current import staleness
from curation.shards.index import (
    FOLDER,
    FORMAT,
    FORMAT_VERSION,
    INDEX,
    MEND,
    ShardName,
    by_shard,
    check_whole,
    hash_file,
    key_of,
    metadata_of,
)
from curation.shards.sibling_check import check_siblings
from curation.shards.tar import SOUND, text_hash
from curation.storage import Storage


@dataclass
class Verification:
    """Outcome of a verification.

    Attributes:
        num_shards: Shards looked at.
        num_samples: Samples looked at.
        problems: What is wrong, in words; empty when all is well.
        generation: The highest one of the shards.
    """

    num_shards: int = 0
    num_samples: int = 0
    problems: list[str] = field(default_factory=list)
    generation: int = 0


def verify_shards(
    catalog: Catalog, *, decode: bool = True, on_sample: Callable[[int], None] = lambda _: None
) -> Verification:
    """Check every shard and sample of a dataset root, and the siblings of its shards.

    Args:
        catalog: The dataset.
        decode: Decode every frame of every sample.
        on_sample: Called with the bytes of each sample looked at.
    """
    storage, found = catalog.storage, Verification()
    found.problems += [f"removed: {text}" for text in leftovers(catalog)]
    if not storage.exists(INDEX):
        found.problems.append(f"no shard index: {MEND}")
        return found
    metadata = metadata_of(storage)
    if metadata is not None and metadata.get(FORMAT, b"").decode() != str(FORMAT_VERSION):
        found.problems.append(f"{INDEX}: was written by another version: {MEND}")
        return found
    try:
        check_whole(storage, INDEX, SHARD_INDEX)
        named = _check_shards(storage, decode, found, on_sample)
        strays = [s for s in storage.walk(FOLDER) if s != INDEX and s not in named]
        found.problems += [f"{s}: not in the index" for s in strays]
        found.problems += staleness(catalog)
    except DamagedError as exc:
        found.problems.append(f"{exc.where}: {exc.what}: {exc.mend}")
        return found
    found.problems += check_siblings(storage)
    return found


def _check_shards(
    storage: Storage, decode: bool, found: Verification, on_sample: Callable[[int], None]
) -> set[str]:
    """Look into the shards in the order of the index; returns their names."""
    named, last = set[str](), None
    for shard, rows in by_shard(storage):
        found.num_shards += 1
        parsed = ShardName.parse(shard)
        if parsed is None:
            found.problems.append(f"{INDEX}: {shard!r} is no name of a shard")
            continue
        if shard in named:
            found.problems.append(f"{INDEX}: the rows of {shard} do not stand together")
        elif last is not None and key_of(shard) < key_of(last):
            found.problems.append(f"{INDEX}: {shard} stands after {last}")
        named.add(shard)
        last = shard
        found.generation = max(found.generation, parsed.generation)
        known = rows.to_pylist()
        found.problems += _check_rows(parsed, known)
        found.problems += _check_shard(storage, shard, known, decode, found, on_sample)
    return named


def _check_rows(name: ShardName, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Does the index agree with itself?"""
    for row in rows:
        wanted = {
            "generation": name.generation,
            "bucket": name.bucket,
            "split": name.split or None,
            "key_hash": hash64(row["clip_id"]),
            "mp4_hash": sha_prefix64(row["mp4_sha256"]),
        }
        for column, value in wanted.items():
            if row[column] != value:
                what = f"{column} is {row[column]}, not {value}"
                yield f"{INDEX}: {row['clip_id']} in {name}: {what}"


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

        def member(row: dict[str, Any], suffix: str) -> bytes:
            source.seek(row[f"{suffix}_offset"])
            return source.read(row[f"{suffix}_bytes"])

        for row in rows:
            found.num_samples += 1
            on_sample(row["mp4_bytes"])
            yield from _check_texts(shard, row, member(row, "json"), member(row, "txt"))
            data = member(row, "mp4")
            if hashlib.sha256(data).hexdigest() != row["mp4_sha256"]:
                yield f"{shard}: {row['clip_id']}: .mp4 differs from its checksum"
            if decode:
                yield from _decode(shard, row, data)
                if row["m4a_offset"] is not None:
                    yield from _decode_sound(shard, row, member(row, SOUND))


def _check_texts(shard: str, row: dict[str, Any], record: bytes, text: bytes) -> Iterator[str]:
    where = f"{shard}: {row['clip_id']}"
    try:
        clip_id = parse_record(record)["clip_id"]
    except ValueError:
        yield f"{where}: .json is damaged"
        return
    if clip_id != row["clip_id"]:
        yield f"{where}: .json belongs to another clip"
    elif text_hash(record, text) != row["text_hash"]:
        yield f"{where}: .json or .txt differ from the index"


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


def _decode_sound(shard: str, row: dict[str, Any], data: bytes) -> Iterator[str]:
    where = f"{shard}: {row['clip_id']}"
    try:
        with av.open(io.BytesIO(data), "r") as container:
            count = sum(frame.samples for frame in container.decode(audio=0))
    except (av.error.FFmpegError, IndexError) as exc:
        yield f"{where}: .m4a does not decode: {exc}"
        return
    if not count:
        yield f"{where}: .m4a has no sound"


def parse_record(data: bytes) -> dict[str, Any]:
    """The content of a ``.json`` member.

    Raises:
        ValueError: It is no JSON object with a ``clip_id``.
    """
    record = json.loads(data)
    if not isinstance(record, dict) or "clip_id" not in record:
        raise ValueError("not a record of a clip")
    return record
