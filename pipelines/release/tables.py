"""The tables of a release: what an outside reader needs of the catalog, as Parquet files.

``clips``       kept clips: where in which file, all scores, what the MP4 is, split
``captions``    every usable text of a kept clip, one row each, with who wrote it
``verdicts``    every clip, kept or not, with all reasons and by how much
``sources``     every given file with its licence and what became of it
``duplicates``  which clips show the same as another

Local paths and signed URLs stay at home; files have their names only. Rows are streamed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.redact import public_name, without_places
from curation.schema import BOOL, DUPLICATES, FLOAT64, STRING, schema
from curation.shards.captions import caption_query, captions_of, default_of
from curation.shards.settings import ShardSettings
from curation.storage import Storage

BATCH_ROWS = 8192
TABLES = ("clips", "captions", "verdicts", "sources", "duplicates")
CAPTIONS = schema(
    clip_id=STRING,
    video_id=STRING,
    kind=STRING,  # given | short | medium | long | temporal | speech | style:NAME
    text=STRING,
    weight=FLOAT64,  # of a trainer's draw, relative
    is_default=BOOL,  # stands in the sample's .txt
    source=STRING,  # manifest | sidecar | input | captioner | stream | transcript | rewriter
    model=STRING,
    prompt=STRING,
    language=STRING,
    scope=STRING,  # clip | video: what the text describes
)
FIRST = ("clip_id", "video_id", "uri", "title", "license", "source", "split")
LEFT_OUT = frozenset(
    {
        *("media_path", "metadata", "verdict", "reasons", "margins", "fingerprint"),
        *("caption", "caption_short", "caption_medium", "caption_long", "caption_temporal"),
        *("subtitle_text", "caption_attempts", "caption_input_tokens", "caption_output_tokens"),
        *("rewrite_input_tokens", "rewrite_output_tokens"),
    }
)
"""Texts have a table of their own; verdicts too; costs concern nobody outside."""
OF_A_VIDEO = (
    *("container", "codec", "width_px", "height_px", "avg_fps", "video_num_frames", "is_vfr"),
    *("video_duration_s", "declared_duration_s", "num_audio_streams", "transfer", "is_hdr"),
)


def data_file(table: str) -> str:
    """Name of a table's file inside a release."""
    return f"data/{table}.parquet"


def write_tables(
    catalog: Catalog, folder: str, settings: ShardSettings, on_rows: Callable[[int], None]
) -> dict[str, int]:
    """Write all tables below a folder.

    Args:
        catalog: The dataset.
        folder: Of the release, relative to the dataset root.
        settings: Weights and order of captions.
        on_rows: Called with the number of rows of each batch.

    Returns:
        Rows of each table.
    """
    views = Views(catalog)
    makers: dict[str, Callable[[], Iterable[pa.RecordBatch]]] = {
        "clips": lambda: _clips(views),
        "captions": lambda: _captions(catalog, views, settings),
        "verdicts": lambda: _verdicts(views),
        "sources": lambda: _sources(views),
        "duplicates": lambda: _duplicates(catalog, views),
    }
    counts = {}
    for table, make in makers.items():
        name = f"{folder}/{data_file(table)}"
        counts[table] = write_parquet(catalog.storage, name, make(), on_rows)
    return counts


def write_parquet(
    storage: Storage,
    name: str,
    batches: Iterable[pa.RecordBatch],
    on_rows: Callable[[int], None] = lambda _: None,
) -> int:
    """Stream batches into a Parquet file; the first one, maybe empty, gives the schema.

    Returns:
        Number of rows.
    """
    count = 0
    with storage.open_write(name) as out:
        writer = None
        for batch in batches:
            writer = writer or pq.ParquetWriter(out, batch.schema, compression="zstd")
            if batch.num_rows:
                writer.write_batch(batch)
            count += batch.num_rows
            on_rows(batch.num_rows)
        assert writer is not None, f"{name}: not even a schema"
        writer.close()
    return count


def _with_schema(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches of a query; an empty one first, for the schema of no rows."""
    yield from reader.schema.empty_table().to_batches() or [
        pa.RecordBatch.from_pylist([], schema=reader.schema)
    ]
    yield from reader


def _public(reader: pa.RecordBatchReader, change: dict[str, Callable[[str], str]]) -> Any:  # noqa: ANN401
    """Batches whose text columns went through functions; ``uri`` is called ``file`` then."""
    for batch in _with_schema(reader):
        columns = {}
        for field in batch.schema:
            values = batch.column(field.name)
            if (make := change.get(field.name)) is not None:
                texts = [None if v is None else make(v) for v in values.to_pylist()]
                values = pa.array(texts, pa.string())
            columns["file" if field.name == "uri" else field.name] = values
        yield pa.record_batch(columns)


def _clips(views: Views) -> Iterator[pa.RecordBatch]:
    described = views.query("DESCRIBE clips").to_pylist()
    types = {r["column_name"]: str(r["column_type"]) for r in described}
    known = [c for c in types if c not in FIRST and c not in LEFT_OUT and _plain(types[c])]
    names = [*(c for c in FIRST if c in types), *(c for c in known if not c.endswith("_busy_s"))]
    wanted = ", ".join(f'"{n}"' for n in names)
    reader = views.reader(
        f"SELECT {wanted} FROM clips WHERE verdict = 'kept' AND media_path IS NOT NULL "
        "ORDER BY video_id, start_s, clip_id",
        BATCH_ROWS,
    )
    yield from _public(reader, {"uri": public_name})


def _plain(kind: str) -> bool:
    """Numbers, texts, flags and lists of texts; vectors and nested values stay in the catalog."""
    return kind == "VARCHAR[]" or not kind.endswith(("]", ")", "BLOB"))


def _captions(catalog: Catalog, views: Views, settings: ShardSettings) -> Iterator[pa.RecordBatch]:
    said = caption_query(catalog, views)
    names = ", ".join([*(f'"{c}"' for c in said.columns), *said.more])
    reader = views.reader(
        f"SELECT clip_id, clips.video_id, caption{', ' if names else ''}{names} "
        f"FROM clips {said.joins} WHERE verdict = 'kept' AND media_path IS NOT NULL "
        "ORDER BY clips.video_id, clips.start_s, clip_id",
        1024,
    )
    yield pa.RecordBatch.from_pylist([], schema=CAPTIONS)
    for batch in reader:
        rows = []
        for row in batch.to_pylist():
            texts = captions_of(row, settings.caption_weights)
            default = default_of(texts, settings.caption_default)
            rows += [
                {**t, "clip_id": row["clip_id"], "video_id": row["video_id"]}
                | {"is_default": t is default}
                for t in texts
            ]
        yield pa.RecordBatch.from_pylist(rows, schema=CAPTIONS)


def _verdicts(views: Views) -> Iterator[pa.RecordBatch]:
    reader = views.reader(
        "SELECT clip_id, video_id, uri, start_s, end_s, duration_s, verdict, split, reasons, "
        "margins FROM clips ORDER BY video_id, start_s, clip_id",
        BATCH_ROWS,
    )
    yield from _public(reader, {"uri": public_name})


def _sources(views: Views) -> Iterator[pa.RecordBatch]:
    given = [c for c in ("license_origin", "source_origin") if c in views.columns("raw_sources")]
    video = [c for c in OF_A_VIDEO if c in views.columns("videos")]
    origins = "".join(f", r.{c}" for c in given)
    facts = "".join(f", v.{c}" for c in video)
    reader = views.reader(
        "SELECT s.source_id, s.video_id, s.uri, s.size_bytes, s.status, s.code, s.failed_stage, "
        "s.duplicate_of IS NOT NULL AS is_duplicate, s.title, s.license, s.source, s.caption, "
        f"s.metadata{origins}{facts} FROM sources s JOIN raw_sources r USING (source_id) "
        "LEFT JOIN videos v ON v.video_id = s.video_id ORDER BY s.video_id, s.uri",
        BATCH_ROWS,
    )
    yield from _public(reader, {"uri": public_name, "metadata": _public_json})


def _public_json(text: str) -> str:
    return json.dumps(without_places(json.loads(text)), sort_keys=True, ensure_ascii=False)


def _duplicates(catalog: Catalog, views: Views) -> Iterator[pa.RecordBatch]:
    columns = [f for f in DUPLICATES if f.name != "fingerprint"]
    yield pa.RecordBatch.from_pylist([], schema=pa.schema(columns))
    if not catalog.has("duplicates"):
        return
    current = catalog.current().tables.get("verdicts", "")
    names = ", ".join(f'"{f.name}"' for f in columns)
    reader = views.reader(
        f"SELECT {names} FROM raw_duplicates WHERE fingerprint = '{current}' "
        "ORDER BY group_id, clip_id",
        BATCH_ROWS,
    )
    for batch in _public(reader, {"reference": public_name}):
        yield batch.cast(pa.schema(columns))
