"""From the catalog's kept clips to samples: what stands in a shard's ``.json`` and ``.txt``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.redact import public_name, without_places
from curation.shards.captions import (
    OWN_COLUMNS,
    caption_query,
    captions_of,
    checks_of,
    default_of,
)
from curation.shards.settings import ShardSettings
from curation.shards.tar import Sample

FACTS = (
    "start_s",
    "end_s",
    "duration_s",
    "start_frame",
    "end_frame",
    "shot_index",
    "codec",
    "width_px",
    "height_px",
    "transfer",
    "is_vfr",
    "median_fps",
)
"""Columns of a clip and its video that travel beside the scores."""
GIVEN = ("title", "license", "source")
IDENTITY = ("clip_id", "video_id", "uri")
KEYS = frozenset({"clip_id", "video_id", "fingerprint"})
BATCH_ROWS = 1024
MEDIA = (
    "media_path",
    "media_bytes",
    "media_sha256",
    "media_num_frames",
    "media_height_px",
    "media_width_px",
    "media_fps",
    "media_duration_s",
)


def kept_samples(catalog: Catalog, settings: ShardSettings | int = 0) -> Iterator[Sample]:
    """All kept clips with media, one sample each, in shard order (see ``writer.order_key``).

    Args:
        catalog: The dataset.
        settings: Order and captions; a number is a seed with the default captions.
    """
    if isinstance(settings, int):
        settings = ShardSettings(seed=settings)  # pyright: ignore[reportCallIssue]
    views = Views(catalog)
    scores = _score_columns(catalog)
    said = caption_query(catalog, views)
    columns = dict.fromkeys(
        [*IDENTITY, *FACTS, *scores, *GIVEN, "caption", "metadata", *MEDIA, "split", *said.columns]
    )
    names = ", ".join([*(f'"{c}"' for c in columns), *said.more])
    rows = views.reader(
        f"""SELECT {names} FROM clips {said.joins}
        WHERE verdict = 'kept' AND media_path IS NOT NULL
        ORDER BY coalesce(split, ''),
            concat({_frames_sql(settings.bucket_frames)}, 'x', media_height_px, 'x',
                media_width_px),
            sha256(concat({int(settings.seed)}, ':', clip_id))""",
        batch_rows=BATCH_ROWS,
    )
    for batch in rows:
        for row in batch.to_pylist():
            yield _sample(row, scores, settings)


def _frames_sql(band: int) -> str:
    """The first part of a bucket's name, as ``Sample.bucket`` has it."""
    if band == 1:
        return "media_num_frames"
    first = f"(media_num_frames // {int(band)}) * {int(band)}"
    return f"{first}, '-', {first} + {int(band) - 1}"


def _score_columns(catalog: Catalog) -> list[str]:
    """What is known of a clip before it is cut: numbers, texts and flags, the user's own too.

    Lists and pictures (embeddings, boxes, masks) stay in the catalog; captions have a place of
    their own.
    """
    plan = catalog.current()
    tables = plan.score_tables
    if tables is None:
        tables = [t for s, t in plan.clip_stages.items() if s not in plan.gated_stages]
    return sorted(
        column.name
        for table in tables
        for column in catalog.dataset(table).schema
        if column.name not in KEYS | OWN_COLUMNS and _is_scalar(column.type)
    )


def _is_scalar(kind: pa.DataType) -> bool:
    return (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
    )


def _sample(row: dict[str, Any], scores: list[str], settings: ShardSettings) -> Sample:
    captions = captions_of(row, settings.caption_weights)
    default = default_of(captions, settings.caption_default)
    checks = checks_of(row)
    extra = without_places(json.loads(row["metadata"])) if row["metadata"] else {}
    record = {
        "clip_id": row["clip_id"],
        "video_id": row["video_id"],
        "file": public_name(row["uri"]),
        "num_frames": row["media_num_frames"],
        "height_px": row["media_height_px"],
        "width_px": row["media_width_px"],
        "fps": row["media_fps"],
        "clip": {name: _number(row[name]) for name in FACTS},
        "scores": {name: _number(row[name]) for name in scores},
        "metadata": {k: row[k] for k in GIVEN if row[k] is not None} | extra,
        "captions": captions,
        "caption": default.get("text", ""),
        "caption_kind": default.get("kind"),
        "caption_source": default.get("source"),
    }
    if row["split"]:
        record["split"] = row["split"]
    if checks is not None:
        record["caption_checks"] = checks
    return Sample(
        clip_id=row["clip_id"],
        media_path=row["media_path"],
        media_bytes=row["media_bytes"],
        media_sha256=row["media_sha256"],
        frames=row["media_num_frames"],
        height_px=row["media_height_px"],
        width_px=row["media_width_px"],
        fps=row["media_fps"],
        duration_s=row["media_duration_s"],
        caption=default.get("text", ""),
        record=record,
        split=row["split"] or "",
        source=row["source"],
        bucket_frames=settings.bucket_frames,
    )


def _number(value: Any) -> Any:  # noqa: ANN401 - whatever a user's score column holds
    """Scores are stored as float32: give the shortest decimal that means the same, NaN as null."""
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else None
