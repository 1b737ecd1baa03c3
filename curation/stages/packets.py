"""Packets: a digest of the coded pictures of each clip, to know exact copies by.

The same coded pictures in another container, at another time of the file or cut out without
re-encoding have the same digest, as long as the clip is the same stretch of them. Nothing is
decoded. Cost: one reading of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import pyarrow as pa
from pydantic import Field, PrivateAttr

from curation.media.packets import read_trail
from curation.schema import INT64, STRING, schema
from curation.stage import Grain, Output, Stage, StageContext


class Packets(Stage):
    """Digests the packets of clips."""

    name: ClassVar[str] = "packets"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "clip"
    reads: ClassVar[pa.Schema] = schema(
        local_path=STRING, clip_id=STRING, start_pts=INT64, end_pts=INT64
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "packets": schema(
            clip_id=STRING,
            packets_digest=STRING,  # null: no packet times, or the file breaks off before the end
        )
    }

    batch_size: int = Field(1024, ge=1, description="clips per reading of the file")

    _context: StageContext | None = PrivateAttr(default=None)

    def setup(self, context: StageContext) -> None:
        """Keep the heartbeat."""
        self._context = context

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Digest a batch of clips: one reading from the first one's start to the last one's end."""
        rows = batch.to_pylist()
        beat = self._context.beat if self._context is not None else lambda: None
        first, last = min(r["start_pts"] for r in rows), max(r["end_pts"] for r in rows)
        trail = read_trail(rows[0]["local_path"], first, last, beat)
        found = [
            {
                "clip_id": r["clip_id"],
                "packets_digest": trail.span_digest(r["start_pts"], r["end_pts"]),
            }
            for r in rows
        ]
        yield "packets", pa.Table.from_pylist(found, schema=self.adds["packets"])
