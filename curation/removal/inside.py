"""What stands inside the files that are made for others: tars of samples and Parquet tables."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa

from curation.removal.gone import CLIP_COLUMNS, Gone
from curation.storage import Storage

BATCH_ROWS = 16_384


def gone_in_file(storage: Storage, name: str, gone: Gone) -> Iterator[str]:
    """What of a tar or a Parquet table is gone, in words; nothing for other files.

    Raises:
        OSError: The file cannot be read.
        tarfile.TarError: A tar is damaged.
        DamagedError: A table is damaged.
    """
    if name.endswith(".tar"):
        yield from _in_tar(storage, name, gone)
    elif name.endswith(".parquet"):
        yield from _in_parquet(storage, name, gone)


def _in_tar(storage: Storage, name: str, gone: Gone) -> Iterator[str]:
    """Members that are named after what is gone, or whose ``.json`` tells its span."""
    spans = bool(gone.spans or gone.videos)
    with (
        storage.open_read(name) as source,
        tarfile.open(fileobj=cast(Any, source), mode="r:") as tar,
    ):
        for member in tar:
            if gone.names(member.name):
                yield f"member {member.name}"
            elif spans and member.name.endswith(".json"):
                data = tar.extractfile(member)
                if data is not None and _hides_record(data.read(), gone):
                    yield f"member {member.name} is of a gone span"


def _hides_record(data: bytes, gone: Gone) -> bool:
    try:
        record = json.loads(data)
        clip = record.get("clip") or {}
        return gone.hides(record.get("video_id"), clip.get("start_s"), clip.get("end_s"))
    except (ValueError, AttributeError):  # no record of a clip
        return False


def _in_parquet(storage: Storage, name: str, gone: Gone) -> Iterator[str]:
    """Rows that name what is gone, or a span of it."""
    with storage.open_table(name) as table:
        names = set(table.schema_arrow.names)
        ids = [c for c in (*CLIP_COLUMNS, "video_id") if c in names]
        times = [c for c in ("start_s", "end_s") if c in names]
        if not ids:
            return
        for batch in table.iter_batches(BATCH_ROWS, columns=[*ids, *times]):
            yield from _in_rows(batch, ids, gone)


def _in_rows(batch: pa.RecordBatch, ids: list[str], gone: Gone) -> Iterator[str]:
    for row in batch.to_pylist():
        named = [row[c] for c in ids if row[c] in gone.clips or row[c] in gone.videos]
        if named:
            yield f"a row of {named[0]}"
        elif gone.hides(row.get("video_id"), row.get("start_s"), row.get("end_s")):
            yield f"a row of a gone span of {row['video_id']}"
