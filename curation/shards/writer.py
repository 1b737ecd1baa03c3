"""Kept clips to WebDataset tars: deterministic to the byte, indexed, committed by the index.

Key = clip id, members ``.mp4 .json .txt``. Clips of one stored shape share a bucket folder, below
that of their split where the dataset is divided; inside it they are ordered by a seeded hash and
packed to a target size. Which bytes come out depends on the kept clips and the settings alone. New
tars are staged first and the index is written last, so a killed run leaves the old shards and their
index, or mended ones after a rerun.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, field_validator

from curation.ids import canonical_json, shuffle_key
from curation.schema import FLOAT64, INT32, INT64, STRING, schema
from curation.shards.captions import DEFAULT_ORDER, DEFAULT_WEIGHTS, check_kind, full_weights
from curation.shards.tar import Sample, sample_bytes, tar_bytes, write_tar
from curation.storage import CHUNK_BYTES, Storage

FOLDER = "shards"
STAGING = "shards.staging"
INDEX = f"{FOLDER}/index.parquet"
FORMAT_VERSION = 3

INDEX_SCHEMA = schema(
    clip_id=STRING,
    shard=STRING,  # relative to the dataset root
    bucket=STRING,
    split=STRING,  # null: the dataset is not divided
    frames=INT32,
    height_px=INT32,
    width_px=INT32,
    fps=FLOAT64,
    duration_s=FLOAT64,
    has_caption=pa.bool_(),  # the .txt is not empty
    num_captions=INT32,  # texts in the .json
    mp4_offset=INT64,  # of the member's first byte in the shard
    mp4_bytes=INT64,
    mp4_sha256=STRING,
    json_offset=INT64,
    json_bytes=INT64,
    txt_offset=INT64,
    txt_bytes=INT64,
    shard_bytes=INT64,
    shard_sha256=STRING,
)


class ShardSettings(BaseModel):
    """How kept clips are packed.

    Attributes:
        target_bytes: A shard is closed when the next sample would grow the file beyond this; only
            a single sample that is larger makes a larger shard.
        seed: Orders the clips inside a bucket.
        caption_weights: How often a trainer draws each kind of caption, relative to the others;
            see ``curation/shards/captions.py``. Kinds that are left out keep their defaults.
        caption_default: Which kind becomes the ``.txt``: the first that a clip has.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_bytes: int = Field(256 * 2**20, ge=4096, description="size of a shard in bytes")
    seed: int = Field(0, description="order of clips inside a bucket")
    caption_weights: dict[str, float] = Field(
        default_factory=lambda: dict(DEFAULT_WEIGHTS),
        description="kind -> relative weight of a draw; 0: stored, never drawn",
    )
    caption_default: tuple[str, ...] = Field(
        default=DEFAULT_ORDER,
        description="kinds, in the order in which they are taken for the .txt",
    )

    @field_validator("caption_weights")
    @classmethod
    def _all_kinds(cls, value: dict[str, float]) -> dict[str, float]:
        return full_weights(value)

    @field_validator("caption_default")
    @classmethod
    def _known_kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_kind(kind) for kind in value)


@dataclass(frozen=True)
class ShardReport:
    """What sharding did.

    Attributes:
        num_shards: Shards of the dataset.
        num_samples: Samples in them.
        num_bytes: Their size.
        reused: True when nothing had changed.
    """

    num_shards: int
    num_samples: int
    num_bytes: int
    reused: bool


def write_shards(
    storage: Storage,
    samples: Callable[[], Iterable[Sample]],
    settings: ShardSettings,
    on_sample: Callable[[int], None] = lambda _: None,
) -> ShardReport:
    """Bring ``shards/`` to exactly the given samples; memory holds one sample at a time.

    Args:
        storage: The dataset root.
        samples: Gives all kept clips in the order of :func:`order_key`; called once to see
            whether anything changed, and once more to write.
        settings: Packing.
        on_sample: Called with the bytes of each packed sample.
    """
    plan = plan_digest(samples(), settings)
    if _plan_of_index(storage) == plan and _all_there(storage):
        return _summary(storage, reused=True)
    storage.remove_tree(STAGING)
    metadata = {"clipmill.plan": plan, "clipmill.shard_format": str(FORMAT_VERSION)}
    index_schema = INDEX_SCHEMA.with_metadata(metadata)
    wanted: set[str] = set()
    with (
        storage.open_write(f"{STAGING}/index.parquet") as out,
        pq.ParquetWriter(out, index_schema, compression="zstd") as index,
    ):
        for name, members in _pack(samples(), settings):
            staged = name.replace(FOLDER, STAGING, 1)
            places = write_tar(storage, staged, members, on_sample)
            rows = [_index_row(name, s) | p for s, p in zip(members, places, strict=True)]
            index.write_table(pa.Table.from_pylist(rows, schema=index_schema))
            wanted.add(name)
    _swap(storage, wanted)
    return _summary(storage, reused=False)


def order_key(split: str, bucket: str, seed: int, clip_id: str) -> tuple[str, str, str]:
    """Where a clip stands: by split, by bucket, then by seeded hash."""
    return split, bucket, shuffle_key(seed, clip_id)


def plan_digest(samples: Iterable[Sample], settings: ShardSettings) -> str:
    """What the shards will hold, as hex digits: contents, order and settings."""
    sha = hashlib.sha256(canonical_json([FORMAT_VERSION, settings.model_dump()]).encode())
    for s in samples:
        text = hashlib.sha256(s.json_bytes() + b"\0" + s.text_bytes()).hexdigest()
        sha.update(f"{s.clip_id} {s.media_sha256} {text}\n".encode())
    return sha.hexdigest()


def read_index(storage: Storage, columns: list[str] | None = None) -> pa.Table | None:
    """The index, or None when nothing was sharded yet."""
    if not storage.exists(INDEX):
        return None
    with storage.open_read(INDEX) as source:
        return pq.read_table(source, columns=columns)


def _pack(samples: Iterable[Sample], settings: ShardSettings) -> Iterator[tuple[str, list[Sample]]]:
    """Divide the ordered samples into named shards of about the target size."""
    members: list[Sample] = []
    size, number, folder = 0, 0, None
    for sample in samples:
        grown = tar_bytes(size + sample_bytes(sample))
        if members and (sample.folder != folder or grown > settings.target_bytes):
            yield _shard_name(folder, number), members
            number = number + 1 if sample.folder == folder else 0
            members, size = [], 0
        folder = sample.folder
        members.append(sample)
        size += sample_bytes(sample)
    if members:
        yield _shard_name(folder, number), members


def _shard_name(folder: str | None, number: int) -> str:
    return f"{FOLDER}/{folder}/000-{number:06d}.tar"


def _index_row(name: str, sample: Sample) -> dict[str, Any]:
    return {
        "clip_id": sample.clip_id,
        "shard": name,
        "bucket": sample.bucket,
        "split": sample.split or None,
        "frames": sample.frames,
        "height_px": sample.height_px,
        "width_px": sample.width_px,
        "fps": sample.fps,
        "duration_s": sample.duration_s,
        "has_caption": bool(sample.caption),
        "num_captions": len(sample.record.get("captions", ())),
        "mp4_sha256": sample.media_sha256,
    }


def _swap(storage: Storage, wanted: set[str]) -> None:
    """Put staged shards in place, remove those that no longer belong, the index last."""
    # Without an index nobody reads half-swapped shards; the new one is the commit.
    storage.remove(INDEX)
    staged_index = f"{STAGING}/index.parquet"
    for staged in storage.walk(STAGING):
        if staged != staged_index:
            storage.rename(staged, staged.replace(STAGING, FOLDER, 1))
    for name in storage.walk(FOLDER):
        if name not in wanted:
            storage.remove(name)
    storage.rename(staged_index, INDEX)
    storage.remove_tree(STAGING)


def _plan_of_index(storage: Storage) -> str | None:
    if not storage.exists(INDEX):
        return None
    try:
        with storage.open_read(INDEX) as source:
            metadata = pq.read_schema(source).metadata or {}
    except pa.ArrowException:  # damaged: write it anew
        return None
    return metadata.get(b"clipmill.plan", b"").decode()


def _all_there(storage: Storage) -> bool:
    """True when every shard of the index exists with its size (``verify`` looks inside)."""
    return all(
        storage.exists(name) and storage.size_bytes(name) == size
        for name, size in _shard_sizes(storage).items()
    )


def _shard_sizes(storage: Storage) -> dict[str, int]:
    table = read_index(storage, ["shard", "shard_bytes"])
    assert table is not None
    names, sizes = (table.column(c).to_pylist() for c in ("shard", "shard_bytes"))
    return dict(zip(names, sizes, strict=True))


def _summary(storage: Storage, *, reused: bool) -> ShardReport:
    table, sizes = read_index(storage, ["shard"]), _shard_sizes(storage)
    assert table is not None
    return ShardReport(len(sizes), table.num_rows, sum(sizes.values()), reused)


def hash_file(storage: Storage, name: str) -> tuple[str, int]:
    """sha256 and size of a file of the root, read in chunks."""
    sha, size = hashlib.sha256(), 0
    with storage.open_read(name) as source:
        while chunk := source.read(CHUNK_BYTES):
            sha.update(chunk)
            size += len(chunk)
    return sha.hexdigest(), size


def parse_record(data: bytes) -> dict[str, Any]:
    """The content of a ``.json`` member.

    Raises:
        ValueError: It is no JSON object with a ``clip_id``.
    """
    record = json.loads(data)
    if not isinstance(record, dict) or "clip_id" not in record:
        raise ValueError("not a record of a clip")
    return record
