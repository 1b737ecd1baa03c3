"""Clips as Parquet files of bounded size, and as lines of JSON. Rows are streamed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.export.choice import Choice

ROWS_PER_FILE = 250_000
BYTES_PER_FILE = 256 * 2**20
Advance = Callable[[int], None]


def write_parquet(
    choice: Choice,
    folder: Path,
    on_clips: Advance = lambda _: None,
    *,
    rows_per_file: int = ROWS_PER_FILE,
    bytes_per_file: int = BYTES_PER_FILE,
) -> int:
    """Write ``part-00000.parquet ...``; a file is closed when it has enough rows or bytes.

    Returns:
        Number of clips.
    """
    folder.mkdir()
    writer, count, in_file, number = None, 0, 0, 0
    for batch in _cut(choice.batches(), rows_per_file):
        full = in_file + batch.num_rows > rows_per_file
        if writer is not None and (full or _size(folder, number - 1) > bytes_per_file):
            writer.close()
            writer = None
        if writer is None:
            path = folder / f"part-{number:05d}.parquet"
            writer = pq.ParquetWriter(path, batch.schema, compression="zstd")
            number, in_file = number + 1, 0
        writer.write_batch(batch)
        in_file, count = in_file + batch.num_rows, count + batch.num_rows
        on_clips(count)
    if writer is not None:
        writer.close()
    return count


def write_jsonl(choice: Choice, path: Path, on_clips: Advance = lambda _: None) -> int:
    """Write one JSON object per line; numbers that are none become null.

    Returns:
        Number of clips.
    """
    count = 0
    with path.open("w", encoding="utf-8") as out:
        for batch in choice.batches(batch_rows=1024):
            for row in batch.to_pylist():
                line = {k: plain(v) for k, v in row.items()}
                out.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
            count += batch.num_rows
            on_clips(count)
    return count


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    """A value as JSON knows it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value


def _cut(batches: Iterator[pa.RecordBatch], most: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, most):
            yield batch.slice(start, most)


def _size(folder: Path, number: int) -> int:
    return (folder / f"part-{number:05d}.parquet").stat().st_size
