"""A folder that ``fiftyone.Dataset.from_dir`` reads as ``fiftyone.types.FiftyOneDataset``.

    TO/metadata.json    the dataset's fields
    TO/samples.json     one document per clip, as FiftyOne keeps them (MongoDB extended JSON)
    TO/data/            the videos, where they are linked

Scores are plain fields; verdict and split are tags; reasons are classifications, with the margin by
which a clip missed as ``margin``; events of a caption are temporal detections, in frames. The
format is that of FiftyOne's own exports, of version 1.0.0: later ones bring it up to date.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from pipelines.export.choice import Choice
from pipelines.export.fiftyone_fields import dataset_document, field, label_field, metadata_field
from pipelines.export.files import plain
from pipelines.export.media import MEDIA, place_media

FACTS = ("media_width_px", "media_height_px", "media_fps", "media_num_frames", "media_duration_s")
OF_THE_LABELS = ("verdict", "split", "reasons", "margins", "caption_events")
RESERVED = frozenset({"id", "filepath", "tags", "metadata", "created_at", "last_modified_at"})
"""Names that FiftyOne keeps for itself."""


def write_fiftyone(
    catalog: Catalog,
    choice: Choice,
    folder: Path,
    on_clips: Callable[[int], None] = lambda _: None,
    *,
    link: bool = False,
    name: str = "clipmill",
) -> int:
    """Write the folder, clip by clip.

    Args:
        catalog: The dataset.
        choice: Its clips; those without media are left out, for FiftyOne shows files.
        folder: To be made.
        on_clips: Called with the number of clips written so far.
        link: Link the videos into ``data/`` (or copy them); else the paths of the dataset root
            are named, which have to stay where they are. A remote root is always copied.
        name: Of the dataset.

    Returns:
        Number of clips.

    Raises:
        CatalogError: No clip has media.
    """
    storage = catalog.storage
    link = link or not storage.local
    folder.mkdir()
    if link:
        (folder / "data").mkdir()
    known = set(choice.views.columns("clips"))
    needed = [c for c in ("clip_id", *MEDIA, *FACTS, *OF_THE_LABELS) if c in known]
    count, columns = 0, None
    with (folder / "samples.json").open("w", encoding="utf-8") as out:
        out.write('{"samples": [')
        for batch in choice.batches([f'"{c}"' for c in needed], batch_rows=1024):
            columns = columns or _columns(batch.schema, choice.columns)
            for row in batch.to_pylist():
                if row["media_path"] is None:
                    continue
                path = storage.path(row["media_path"])
                if link:
                    path = f"data/{row['clip_id']}.mp4"
                    place_media(storage, row, folder / path)
                document = _sample(row, path, [c.name for c in columns])
                out.write((",\n" if count else "\n") + json.dumps(document, ensure_ascii=False))
                count += 1
            on_clips(count)
        out.write("\n]}\n")
    if not count or columns is None:
        raise CatalogError("none of these clips was cut: there is no media", where=choice.where)
    fields = [*map(_field, columns), metadata_field(), *_label_fields()]
    text = json.dumps(dataset_document(name, fields), indent=1)
    (folder / "metadata.json").write_text(text)
    return count


def _columns(found: pa.Schema, wanted: Sequence[str]) -> list[pa.Field]:
    """Columns that become plain fields: numbers, flags, texts and lists of texts."""
    names = dict.fromkeys(("clip_id", *wanted, "verdict", "split"))
    special = {*OF_THE_LABELS} - {"verdict", "split"}
    fields = (found.field(n) for n in names if n in found.names and n not in special)
    return [f for f in fields if _kind(f.type) is not None]


def _kind(kind: pa.DataType) -> str | None:
    if pa.types.is_boolean(kind):
        return "BooleanField"
    if pa.types.is_integer(kind):
        return "IntField"
    if pa.types.is_floating(kind):
        return "FloatField"
    if pa.types.is_string(kind):
        return "StringField"
    of_texts = pa.types.is_list(kind) and pa.types.is_string(kind.value_type)
    return "ListField" if of_texts else None


def _field(column: pa.Field) -> dict[str, Any]:
    kind = _kind(column.type)
    assert kind is not None
    inner = "StringField" if kind == "ListField" else None
    return field(_name(column.name), kind, subfield=inner)


def _label_fields() -> Iterator[dict[str, Any]]:
    yield label_field("reasons", "Classifications", "classifications", "Classification")
    yield label_field("events", "TemporalDetections", "detections", "TemporalDetection")


def _name(column: str) -> str:
    """A column's name as a field: FiftyOne's own names and leading underscores are not free."""
    return f"clip_{column.lstrip('_')}" if column in RESERVED or column[0] == "_" else column


def _sample(row: dict[str, Any], path: str, columns: Sequence[str]) -> dict[str, Any]:
    tags = [t for t in (row.get("verdict"), row.get("split")) if t]
    document: dict[str, Any] = {
        "_id": _oid("sample", row["clip_id"]),
        "filepath": path,
        "tags": tags,
        "_media_type": "video",
        "_rand": int(hashlib.sha256(row["clip_id"].encode()).hexdigest()[:8], 16) / 2**32,
        "metadata": {
            "_cls": "VideoMetadata",
            "size_bytes": row["media_bytes"],
            "mime_type": "video/mp4",
            "frame_width": row["media_width_px"],
            "frame_height": row["media_height_px"],
            "frame_rate": row["media_fps"],
            "total_frame_count": row["media_num_frames"],
            "duration": row["media_duration_s"],
        },
    }
    document |= {_name(c): plain(row[c]) for c in columns}
    document["reasons"] = _reasons(row)
    document["events"] = _events(row)
    return document


def _reasons(row: dict[str, Any]) -> dict[str, Any] | None:
    reasons = row.get("reasons") or []
    margins = row.get("margins") or [None] * len(reasons)
    labels = [
        _label("Classification", row["clip_id"], i, reason) | {"margin": plain(margin)}
        for i, (reason, margin) in enumerate(zip(reasons, margins, strict=False))
    ]
    return {"_cls": "Classifications", "classifications": labels} if labels else None


def _events(row: dict[str, Any]) -> dict[str, Any] | None:
    """Events of the caption; frames count from 1, and both ends are inside."""
    events = json.loads(row.get("caption_events") or "[]")
    last, fps = row["media_num_frames"], row["media_fps"]
    labels = []
    for i, event in enumerate(events):
        first = min(max(1, math.floor(event["start_s"] * fps) + 1), last)
        end = min(max(first, math.ceil(event["end_s"] * fps)), last)
        label = _label("TemporalDetection", row["clip_id"], i, event["text"])
        labels.append(label | {"support": [first, end]})
    return {"_cls": "TemporalDetections", "detections": labels} if labels else None


def _label(kind: str, clip_id: str, number: int, text: str) -> dict[str, Any]:
    return {
        "_id": _oid(kind, clip_id, number),
        "_cls": kind,
        "tags": [],
        "label": text,
    }


def _oid(*parts: object) -> dict[str, str]:
    """An object id that the same clip gets every time: 24 hex digits."""
    return {"$oid": hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:24]}
