"""The bytes of tables: which columns hold texts or pictures, and their buffers, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import lance
import pyarrow as pa

from curation.removal.tombstones import is_bytes

PICTURE_ROWS, TEXT_ROWS = 256, 8192
"""Rows in memory at a time, of tables with pictures and without."""


def byte_columns(columns: pa.Schema) -> list[str]:
    """Columns that hold texts or bytes, in lists or structs too."""
    return [f.name for f in columns if _holds_bytes(f.type)]


def batch_rows(columns: pa.Schema) -> int:
    """How many rows of a table to read at a time."""
    kinds = [f.type.value_type if pa.types.is_list(f.type) else f.type for f in columns]
    return PICTURE_ROWS if any(is_bytes(kind) for kind in kinds) else TEXT_ROWS


def values_of(column: pa.Array) -> Iterator[str | bytes]:
    """All texts and bytes of a column, those in lists one by one."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from values_of(column.flatten())
    elif pa.types.is_struct(kind):
        for part in column.flatten():
            if _holds_bytes(part.type):
                yield from values_of(part)
    elif _holds_bytes(kind):
        yield from (v for v in column.to_pylist() if v)


def scan_buffers(
    dataset: lance.LanceDataset,
    names: Sequence[str],
    where: str | None = None,
    *,
    deleted: bool = False,
) -> Iterator[memoryview]:
    """The bytes of some columns of a table; with ``deleted`` of rows only marked so too."""
    if not names:
        return
    scanner = dataset.scanner(
        columns=list(names),
        filter=where,
        batch_size=batch_rows(dataset.schema),
        late_materialization=False,
        with_row_id=deleted,
        include_deleted_rows=deleted,
    )
    for batch in scanner.to_batches():
        yield from buffers_of(batch, names)


def buffers_of(batch: pa.RecordBatch, names: Sequence[str]) -> Iterator[memoryview]:
    """The bytes of some columns of a batch."""
    for name in names:
        for buffer in batch.column(name).buffers():
            if buffer is not None and buffer.size:
                yield memoryview(buffer).cast("B")  # signed as it comes: unequal to any bytes


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or is_bytes(kind):
        return True
    return any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
