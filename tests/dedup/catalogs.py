"""Datasets of vectors: a real catalog with as much of it as deduplication looks at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.ids import digest
from curation.schema import (
    FIXED_TABLES,
    FLOAT32,
    FLOAT64,
    INT32,
    RUNS,
    STRING,
    schema,
    with_keys,
)
from curation.storage import Storage

MODEL = "synthetic@0"
TABLES = {
    "clips": with_keys(schema(clip_id=STRING, duration_s=FLOAT64)),
    "videos": with_keys(schema(width_px=INT32, height_px=INT32)),
    "scores": with_keys(schema(clip_id=STRING, sharpness=FLOAT32)),
}
VECTORS = "embeddings_synthetic"


def vector_schema(dim: int) -> pa.Schema:
    """As the stage ``embed`` writes it."""
    vector = pa.list_(pa.float32(), dim)
    return with_keys(schema(clip_id=STRING, embedding=vector, embedding_model=STRING))


def print_of(table: str) -> str:
    """The stage fingerprint of a table's rows."""
    return digest("stage of", table)


def new_catalog(root: Path, dim: int, *, run_id: str = "1") -> Catalog:
    """A dataset without rows."""
    catalog = Catalog(Storage(root))
    tables = {**TABLES, VECTORS: vector_schema(dim)}
    catalog.create({**FIXED_TABLES, **tables})
    record = {"tables": {t: print_of(t) for t in tables}, "stages": {"embed": print_of(VECTORS)}}
    run = {
        "run_id": run_id,
        "event": "started",
        "recorded_at": datetime.now(UTC),
        "config": "{}",
        "fingerprints": json.dumps(record),
        "versions": "{}",
    }
    catalog.append("runs", pa.Table.from_pylist([run], schema=RUNS))
    return catalog


def add_clips(
    catalog: Catalog,
    clip_ids: Sequence[str],
    vectors: np.ndarray,
    *,
    without: Iterable[int] = (),
    heights_px: Sequence[int] | None = None,
    model: str = MODEL,
    run_id: str = "1",
) -> None:
    """Clips with their vectors, each of a video of its own.

    Args:
        catalog: Where to.
        clip_ids: Their ids.
        vectors: float32 [clips, dim].
        without: Rows that have no vector.
        heights_px: Of their videos.
        model: What made the vectors.
        run_id: The run that made them.
    """
    count, dim = vectors.shape
    clips = pa.array(clip_ids, STRING)
    videos = pa.array([f"v{c}" for c in clip_ids], STRING)
    heights = np.full(count, 720) if heights_px is None else np.array(heights_px)
    none = np.zeros(count, bool)
    none[list(without)] = True
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    values = {
        "clip_id": clips,
        "video_id": videos,
        "duration_s": np.full(count, 5.0),
        "width_px": heights * 16 // 9,
        "height_px": heights,
        "sharpness": np.full(count, 0.1),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, dim, mask=pa.array(none)),
        "embedding_model": pa.array([None if n else model for n in none], STRING),
        "source_id": clips,
        "uri": pa.array([f"in/{c}.mp4" for c in clip_ids], STRING),
        "etag": pa.repeat("e", count),
        "run_id": pa.repeat(run_id, count),
        "stage": pa.repeat("embed", count),
    }
    names = ["sources", "identities", *TABLES, VECTORS, "done"]
    for table in names:
        columns = catalog.dataset(table).schema
        made_by = VECTORS if table == "done" else table
        values["fingerprint"] = pa.repeat(print_of(made_by), count)
        given = [f for f in columns if f.name in values]
        rows = pa.table([pa.array(values[f.name]).cast(f.type) for f in given], pa.schema(given))
        missing = [f for f in columns if f.name not in values]
        for column in missing:
            rows = rows.append_column(column, pa.nulls(count, column.type))
        catalog.append(table, rows.select(columns.names))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def scattered(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors in no particular direction: no two are near."""
    return unit(np.random.default_rng(seed).standard_normal((count, dim)))


def ids_of(count: int, seed: int = 0) -> list[str]:
    """Ids whose order has nothing to do with the rows'."""
    return [digest("clip", seed, i) for i in range(count)]


def write_dataset(root: Path, vectors: np.ndarray, seed: int = 0, **how: object) -> Catalog:
    """A dataset of some vectors."""
    catalog = new_catalog(root, vectors.shape[1])
    add_clips(catalog, ids_of(len(vectors), seed), vectors, **how)  # pyright: ignore[reportArgumentType]
    return catalog
