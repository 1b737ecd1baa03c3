"""A folder that ``datasets.load_dataset`` reads, here or on a hub: Parquet files with the videos.

    TO/README.md                     which files are which split
    TO/data/train-00000.parquet      one row per clip: video, text, facts, scores

``video`` is ``{bytes, path}``, which is how ``datasets`` stores videos: its type travels in the
schema's metadata. Files have their names only. For training at scale take the shards, not this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from curation.redact import public_name
from curation.shards.captions import caption_query, captions_of, default_of
from curation.shards.settings import ShardSettings
from pipelines.export.choice import Choice
from pipelines.export.media import MEDIA, read_media

BYTES_PER_GROUP = 32 * 2**20
BYTES_PER_FILE = 400 * 2**20
VIDEO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
WHOLE = "train"
"""Split of clips in a dataset that is not divided."""
LEFT_OUT = frozenset({"uri", "media_path", "metadata"})
TYPES = {"string": "string", "double": "float64", "float": "float32", "bool": "bool"}


def write_hub(
    catalog: Catalog,
    choice: Choice,
    settings: ShardSettings,
    folder: Path,
    on_clips: Callable[[int], None] = lambda _: None,
    *,
    bytes_per_group: int = BYTES_PER_GROUP,
    bytes_per_file: int = BYTES_PER_FILE,
) -> int:
    """Write the folder; memory holds one row group.

    Args:
        catalog: The dataset.
        choice: Its clips; those without media are left out.
        settings: Which text of a clip comes first.
        folder: To be made.
        on_clips: Called with the number of clips written so far.
        bytes_per_group: Of videos that are held in memory and written together.
        bytes_per_file: Of videos after which the next file begins.

    Returns:
        Number of clips.

    Raises:
        CatalogError: No clip has media, or a file is missing or damaged.
    """
    (folder / "data").mkdir(parents=True)
    out = _Files(folder / "data", bytes_per_group, bytes_per_file)
    for row, schema in _rows(catalog, choice, settings):
        out.add(row, schema)
        on_clips(out.count)
    out.close()
    if not out.count:
        raise CatalogError("none of these clips was cut: there is no media", where=choice.where)
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in sorted(out.splits)]
    head = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": files}]})
    text = f"---\n{head}---\n\n{out.count} video clips, exported with Clipmill.\n"
    (folder / "README.md").write_text(text)
    return out.count


class _Files:
    """Row groups and files of bounded size, one split after the other."""

    def __init__(self, folder: Path, bytes_per_group: int, bytes_per_file: int) -> None:
        self._folder, self._group, self._file = folder, bytes_per_group, bytes_per_file
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._held = self._written = self._number = 0
        self.splits: dict[str, int] = {}
        self.count = 0

    def add(self, row: dict[str, Any], schema: pa.Schema) -> None:
        split = re.sub(r"\W", "_", row["split"] or WHOLE)
        if split not in self.splits:
            self.close()
            self.splits[split] = 0
        self._schema, self._split = schema, split
        self._rows.append(row)
        self._held += len(row["video"]["bytes"])
        self.count += 1
        if self._held >= self._group:
            self._flush()

    def close(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is not None and self._written >= self._file:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            number = self.splits[self._split]
            self.splits[self._split] += 1
            path = self._folder / f"{self._split}-{number:05d}.parquet"
            self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
            self._written = 0
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._written += self._held
        self._rows, self._held = [], 0


def _rows(
    catalog: Catalog, choice: Choice, settings: ShardSettings
) -> Iterator[tuple[dict[str, Any], pa.Schema]]:
    """Rows with their video and text, and the schema of them all."""
    said = caption_query(catalog, choice.views)
    needed = ("clip_id", "uri", "split", "caption", *MEDIA, *said.columns)
    more = [*(f'"{c}"' for c in needed), *said.more]
    batches = choice.batches(more, said.joins, order="coalesce(split, ''), ", batch_rows=64)
    schema = None
    for batch in batches:
        schema = schema or _schema(batch.schema, choice.columns)
        for row in batch.to_pylist():
            if row["media_path"] is None:
                continue
            text = default_of(captions_of(row, settings.caption_weights), settings.caption_default)
            path = f"{row['clip_id']}.mp4"
            made = {"video": {"bytes": read_media(catalog.storage, row), "path": path}}
            made |= {"text": text.get("text", ""), "file": public_name(row["uri"])}
            yield made | {n: row[n] for n in schema.names if n not in made}, schema


def _schema(found: pa.Schema, columns: tuple[str, ...]) -> pa.Schema:
    """Columns of an exported row, with what ``datasets`` has to know of their types."""
    first = [("video", VIDEO), ("text", pa.string()), ("file", pa.string())]
    fields = [pa.field(name, kind) for name, kind in first]
    names = ["clip_id", *(c for c in columns if c != "clip_id"), "split"]
    taken = {*LEFT_OUT, *(f.name for f in fields)}
    for name in dict.fromkeys(names):
        kind = found.field(name).type
        if name not in taken and _feature(kind) is not None:
            fields.append(pa.field(name, kind))
    features = {f.name: _feature(f.type) for f in fields} | {"video": {"_type": "Video"}}
    told = json.dumps({"info": {"features": features}})
    return pa.schema(fields, metadata={"huggingface": told})


def _feature(kind: pa.DataType) -> dict[str, Any] | None:
    """A type as ``datasets`` names it; None for those that are not exported."""
    if pa.types.is_list(kind):
        inner = _feature(kind.value_type)
        return None if inner is None else {"feature": inner, "_type": "Sequence"}
    if pa.types.is_integer(kind):
        return {"dtype": str(kind), "_type": "Value"}
    name = TYPES.get(str(kind))
    return None if name is None else {"dtype": name, "_type": "Value"}
