"""The tables of a dataset root: one Arrow schema each, and the rules they share.

Column names are unique over all tables that describe a video or a clip, so a stage can ask for a
column by its name alone and the ``clips`` view can join everything without prefixes. Spans are
half-open ``[start, end)``. Times end in ``_s`` (seconds), sizes in ``_px`` or ``_bytes``.

Tables written by stages also carry ``video_id`` and ``fingerprint`` (see ``plan.py``); those of
clip grain carry ``clip_id``.
"""

from __future__ import annotations

import pyarrow as pa

STRING, INT32, INT64 = pa.string(), pa.int32(), pa.int64()
FLOAT32, FLOAT64, BOOL = pa.float32(), pa.float64(), pa.bool_()
UINT64 = pa.uint64()
FLOATS = pa.list_(FLOAT32)
DOUBLES = pa.list_(FLOAT64)
LONGS = pa.list_(INT64)
BOOLS = pa.list_(BOOL)


def schema(**columns: pa.DataType) -> pa.Schema:
    """An Arrow schema from keyword arguments, all columns nullable."""
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


# One row per given URI; written by the driver when inputs are registered.
SOURCES = schema(
    source_id=STRING,
    uri=STRING,
    size_bytes=INT64,
    etag=STRING,  # modification time or store's tag: a changed file is hashed again
    title=STRING,
    license=STRING,
    source=STRING,
    caption=STRING,
    metadata=STRING,  # every other manifest column, as JSON
    caption_origin=STRING,  # manifest | sidecar
    license_origin=STRING,  # manifest | default (of the settings)
    source_origin=STRING,
)

# Which bytes a source held when it was read.
IDENTITIES = schema(source_id=STRING, etag=STRING, video_id=STRING, size_bytes=INT64)

# What a unit of work finished: the commit record, appended last.
DONE = schema(
    video_id=STRING,
    source_id=STRING,
    stage=STRING,
    fingerprint=STRING,
    once=BOOL,  # a video-grain stage: its rows for a video may come in only once
    num_rows=INT64,
    busy_s=FLOAT64,
    run_id=STRING,
)

ERRORS = schema(
    source_id=STRING,
    video_id=STRING,
    clip_id=STRING,
    stage=STRING,
    fingerprint=STRING,
    code=STRING,
    message=STRING,
    retryable=BOOL,
    run_id=STRING,
)

VERDICTS = schema(
    clip_id=STRING,
    video_id=STRING,
    verdict=STRING,  # kept | rejected | failed (a score is missing)
    reasons=pa.list_(STRING),  # all of them, see judging/rules.py
    margins=DOUBLES,  # one per reason: value - threshold in the column's unit; null: no number
    split=STRING,  # train | val | ... of a kept clip; null: the dataset is not divided
    fingerprint=STRING,
)

# The numbers that quantile rules came to in the latest judgement.
THRESHOLDS = schema(
    column=STRING,
    bound=STRING,  # min | max
    quantile=FLOAT64,
    value=FLOAT64,  # null: no clip has a value
    where=STRING,  # JSON of the override it belongs to; null: the general rule
    fingerprint=STRING,
)

# Pairs of clips that show the same, as far as the floor of each level's settings.
EDGES = schema(
    clip_a=STRING,  # of this dataset; the smaller id of the two
    clip_b=STRING,
    level=STRING,  # exact | perceptual | semantic
    similarity=FLOAT64,  # 0 to 1
    offset_s=FLOAT64,  # time in b minus time in a of the same moment; null where not known
    speed=FLOAT64,  # seconds of b for one second of a
    mirrored=BOOL,
    overlap_s=FLOAT64,  # of a's time that is seen in both
    reference=STRING,  # the root that clip_b lies in; null: this one
    fingerprint=STRING,
)

# Groups of clips that show the same: the one that stays, and why each other one is in it.
DUPLICATES = schema(
    clip_id=STRING,
    video_id=STRING,
    group_id=STRING,  # clip id of the representative, here or in the reference
    representative=BOOL,
    level=STRING,  # of the edge to the representative; null for itself
    similarity=FLOAT64,
    offset_s=FLOAT64,
    speed=FLOAT64,
    mirrored=BOOL,
    overlap_s=FLOAT64,
    reference=STRING,  # the root the representative lies in; null: this one
    fingerprint=STRING,  # of the verdicts it went into
)

# What was taken out on request, and must not come back.
TOMBSTONES = schema(
    kind=STRING,  # video | clip
    video_id=STRING,
    clip_id=STRING,  # null for a whole video
    start_pts=INT64,  # the span of a clip, in time_base
    end_pts=INT64,
    time_base=STRING,
    start_s=FLOAT64,
    end_s=FLOAT64,
    reason=STRING,
    removed_at=pa.timestamp("us", tz="UTC"),
    run_id=STRING,
)

RUNS = schema(
    run_id=STRING,
    event=STRING,  # started | finished
    recorded_at=pa.timestamp("us", tz="UTC"),
    command=STRING,
    config=STRING,  # JSON
    fingerprints=STRING,  # JSON Plan.record(): which rows the views show
    versions=STRING,  # JSON {library: version}, recorded, never keyed
    report=STRING,  # JSON, when finished
)

FIXED_TABLES: dict[str, pa.Schema] = {
    "sources": SOURCES,
    "identities": IDENTITIES,
    "errors": ERRORS,
    "verdicts": VERDICTS,
    "thresholds": THRESHOLDS,
    "edges": EDGES,
    "duplicates": DUPLICATES,
    "tombstones": TOMBSTONES,
    "runs": RUNS,
    "done": DONE,
}
"""Tables that exist in every root, whatever the plan. ``done`` is appended last in a batch."""

VIRTUAL: dict[str, pa.Schema] = {
    "source": schema(local_path=STRING, uri=STRING, size_bytes=INT64),
    "given": schema(title=STRING, license=STRING, source=STRING),
    "sample": schema(sample_pts_s=DOUBLES, sample_jpegs=pa.list_(pa.binary())),
}
"""Columns the engine provides without a table of their own: where the bytes lie on this machine,
what was given with the source, and the sampled frames inside a clip or video."""


def with_keys(columns: pa.Schema) -> pa.Schema:
    """A stage table's stored schema: its columns plus the keys every row carries."""
    fields = list(columns)
    names = set(columns.names)
    for key in ("video_id", "fingerprint"):
        if key not in names:
            fields.append(pa.field(key, STRING))
    return pa.schema(fields)


# One row per sample of the shards, those of a shard together and in its order. The trainer's loader
# reads the numbers alone; of words only the few that repeat: shard, bucket, split, source.
SHARD_INDEX = schema(
    clip_id=STRING,
    key_hash=UINT64,  # of the clip_id: see ids.hash64
    mp4_hash=UINT64,  # of the mp4: the first 8 bytes of its sha256
    text_hash=UINT64,  # of .json and .txt, the same way
    shard=STRING,  # relative to the dataset root
    generation=INT32,  # 0: the first packing; each later one adds shards
    bucket=STRING,
    split=STRING,  # null: the dataset is not divided
    source=STRING,  # as given with the video; null: not given
    frames=INT32,
    height_px=INT32,
    width_px=INT32,
    fps=FLOAT64,
    duration_s=FLOAT64,
    has_caption=BOOL,  # the .txt is not empty
    num_captions=INT32,  # texts in the .json
    mp4_offset=INT64,  # of the member's first byte in the shard
    mp4_bytes=INT64,
    mp4_sha256=STRING,
    json_offset=INT64,
    json_bytes=INT64,
    txt_offset=INT64,
    txt_bytes=INT64,
    m4a_offset=INT64,  # null: the sample has no sound of its own
    m4a_bytes=INT64,
    shard_bytes=INT64,
    shard_sha256=STRING,
)
SHARD_INDEX_NAME = "shards/index.parquet"

# One row per sample of a set of sibling tars (latents, text embeddings): the same keys in the same
# order as SHARD_INDEX. A row whose hashes differ from the shard's is stale.
SIBLING_INDEX = schema(
    clip_id=STRING,
    key_hash=UINT64,
    mp4_hash=UINT64,  # of the sample that was encoded
    text_hash=UINT64,
    shard=STRING,  # of the clip
    sibling=STRING,  # the tar beside it, relative to the dataset root
    data_offset=INT64,  # of the one member, <clip_id>.safetensors
    data_bytes=INT64,
    sibling_bytes=INT64,
    sibling_sha256=STRING,
)
SIBLINGS_FOLDER = "latents"
"""``latents/<fingerprint of the encoder>/``: set.json, index.parquet and the tars."""
SIBLING_READS = {"mp4": "mp4_hash", "text": "text_hash"}
"""What an encoder may read of a sample, and the column that tells one state of it from another."""
SIBLINGS_MEND = "run the program that wrote {folder} again"
"""What mends a set of siblings, whatever is wrong with it."""
ENCODE = "clipmill encode"
"""What stands in ``made_by`` of the description of a set that this command made;"""
ENCODE_MEND = (
    "`clipmill encode OUT` with the encoders, buckets and settings that {folder}/set.json names"
)
"""and what mends it."""
SIBLING_FILES = "files.json"
"""In the folder of a set: names and sha256 of files that lie there beside the tars."""


def siblings_mend(folder: str, about: object) -> str:
    """What mends a set of siblings, by the program that its ``set.json`` names.

    Args:
        folder: Of the set.
        about: The parsed ``set.json``; None when there is none.
    """
    description = about.get("description") if isinstance(about, dict) else None
    ours = isinstance(description, dict) and description.get("made_by") == ENCODE
    return (ENCODE_MEND if ours else SIBLINGS_MEND).format(folder=folder)


def sibling_reads(about: object) -> tuple[str, ...] | None:
    """What the encoder of a set reads, as its ``set.json`` says; None when that is damaged.

    Args:
        about: The parsed file; None when there is none.
    """
    if not isinstance(about, dict) or "description" not in about:
        return None
    reads = about.get("reads")
    if not isinstance(reads, list) or not reads:
        return None
    if not all(isinstance(kind, str) and kind in SIBLING_READS for kind in reads):
        return None
    return tuple(kind for kind in SIBLING_READS if kind in reads)
