"""Work that takes one clip after the other, and gives each one row or its failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from curation.errors import MediaError
from curation.stage import Failure, Output, StageContext


def each_clip(
    batch: pa.Table,
    work: Callable[[dict[str, Any], StageContext], dict[str, Any]],
    context: StageContext,
    adds: Mapping[str, pa.Schema],
) -> Iterator[Output]:
    """One row for each clip of a batch; a clip that fails does not stop the others.

    Args:
        batch: Input rows, with ``clip_id``.
        work: From an input row to the row of the table; a ``MediaError`` fails the clip.
        context: Handed to the work; its watchdog is told of each clip that is done.
        adds: The one table that the rows belong to, as in ``Stage.adds``.
    """
    ((table, schema),) = adds.items()
    for row in batch.to_pylist():
        try:
            made = work(row, context)
        except MediaError as exc:
            yield Failure(clip_id=row["clip_id"], code=exc.code, message=exc.message)
            continue
        context.beat()
        yield table, pa.Table.from_pylist([made], schema=schema)
