"""FiftyOne's own description of a dataset: one document, and one for each field of its samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

VERSION = "1.0.0"
"""Of FiftyOne, whose form of documents this is; later versions bring it up to date."""
FIELDS = "fiftyone.core.fields."
LABELS = "fiftyone.core.labels."
EMBEDDED, LIST = "EmbeddedDocumentField", "ListField"


def field(
    name: str,
    kind: str,
    *,
    subfield: str | None = None,
    document: str | None = None,
    fields: Sequence[dict[str, Any]] = (),
    stored: str | None = None,
    read_only: bool = False,
) -> dict[str, Any]:
    """One field.

    Args:
        name: As people see it.
        kind: FiftyOne's class.
        subfield: Class of a list's elements.
        document: Full name of the class of embedded documents.
        fields: Fields of these.
        stored: Its key in the documents, where that is not the name.
        read_only: Nobody may set it.
    """
    return {
        "name": name,
        "ftype": FIELDS + kind,
        "embedded_doc_type": document,
        "subfield": None if subfield is None else FIELDS + subfield,
        "fields": list(fields),
        "db_field": stored or name,
        "description": None,
        "info": None,
        "read_only": read_only,
        "created_at": None,
    }


def metadata_field() -> dict[str, Any]:
    """The field ``metadata`` of videos."""
    inner = {
        "size_bytes": "IntField",
        "mime_type": "StringField",
        "frame_width": "IntField",
        "frame_height": "IntField",
        "frame_rate": "FloatField",
        "total_frame_count": "IntField",
        "duration": "FloatField",
        "encoding_str": "StringField",
    }
    fields = [field(name, kind) for name, kind in inner.items()]
    document = "fiftyone.core.metadata.VideoMetadata"
    return field("metadata", EMBEDDED, document=document, fields=fields)


def label_field(name: str, kind: str, items: str, item: str) -> dict[str, Any]:
    """A field of several labels: ``Classifications`` or ``TemporalDetections``."""
    inner = [
        field("id", "ObjectIdField", stored="_id"),
        field("tags", LIST, subfield="StringField"),
        field("label", "StringField"),
        field("confidence", "FloatField"),
    ]
    if item == "TemporalDetection":
        inner.append(field("support", "FrameSupportField", subfield="IntField"))
    else:
        inner += [field("logits", "VectorField"), field("margin", "FloatField")]
    listed = field(items, LIST, subfield=EMBEDDED, document=LABELS + item, fields=inner)
    return field(name, EMBEDDED, document=LABELS + kind, fields=[listed])


def dataset_document(name: str, fields: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The dataset: its kind and the fields of its samples."""
    own = [
        field("id", "ObjectIdField", stored="_id"),
        field("filepath", "StringField"),
        field("tags", LIST, subfield="StringField"),
        field("_media_type", "StringField"),
        field("_rand", "FloatField"),
        field("_dataset_id", "ObjectIdField"),
        field("created_at", "DateTimeField", read_only=True),
        field("last_modified_at", "DateTimeField", read_only=True),
    ]
    frames = [
        field("id", "ObjectIdField", stored="_id"),
        field("frame_number", "FrameNumberField"),
        field("_sample_id", "ObjectIdField"),
        field("_dataset_id", "ObjectIdField"),
        field("created_at", "DateTimeField", read_only=True),
        field("last_modified_at", "DateTimeField", read_only=True),
    ]
    empty: dict[str, Any] = {
        key: {}
        for key in (
            *("group_media_types", "info", "classes", "mask_targets", "default_mask_targets"),
            *("skeletons", "app_config", "annotation_runs", "brain_methods", "evaluations", "runs"),
        )
    }
    lists: dict[str, Any] = {
        key: [] for key in ("tags", "default_classes", "saved_views", "workspaces")
    }
    return {
        "name": name,
        "version": VERSION,
        "media_type": "video",
        **empty,
        **lists,
        "sample_fields": [*own, *fields],
        "frame_fields": frames,
    }
