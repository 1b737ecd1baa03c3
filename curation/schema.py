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
    reasons=pa.list_(STRING),
    fingerprint=STRING,
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
    "runs": RUNS,
    "done": DONE,
}
"""Tables that exist in every root, whatever the plan. ``done`` is appended last in a batch."""

VIRTUAL: dict[str, pa.Schema] = {
    "source": schema(local_path=STRING, uri=STRING, size_bytes=INT64),
    "sample": schema(sample_pts_s=DOUBLES, sample_jpegs=pa.list_(pa.binary())),
}
"""Columns the engine provides without a table of their own: where the bytes lie on this machine,
and the sampled frames inside a clip or video."""


def with_keys(columns: pa.Schema) -> pa.Schema:
    """A stage table's stored schema: its columns plus the keys every row carries."""
    fields = list(columns)
    names = set(columns.names)
    for key in ("video_id", "fingerprint"):
        if key not in names:
            fields.append(pa.field(key, STRING))
    return pa.schema(fields)
