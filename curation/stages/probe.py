"""Probe: container and stream facts of each video, one row per video.

Source: FFmpeg through PyAV. Cost: a few milliseconds (the header and four frames).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import ClassVar

import pyarrow as pa

from curation.media.facts import read_facts
from curation.schema import BOOL, FLOAT64, INT32, INT64, STRING, schema
from curation.stage import Grain, Output, Stage


class Probe(Stage):
    """Reads a video's facts; a file that is no video fails here with a named code."""

    name: ClassVar[str] = "probe"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "video"
    reads: ClassVar[pa.Schema] = schema(local_path=STRING, size_bytes=INT64)
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "videos": schema(
            video_bytes=INT64,
            container=STRING,
            codec=STRING,
            width_px=INT32,
            height_px=INT32,
            sample_aspect_ratio=FLOAT64,
            rotation_deg=INT32,
            pix_fmt=STRING,
            bit_depth=INT32,
            has_alpha=BOOL,
            avg_fps=FLOAT64,
            base_fps=FLOAT64,
            declared_duration_s=FLOAT64,
            time_base=STRING,
            interlaced=BOOL,
            transfer=STRING,
            is_hdr=BOOL,
            full_range=BOOL,
            num_audio_streams=INT32,
            bit_rate_bps=INT64,
        )
    }

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Probe one video."""
        row = batch.to_pylist()[0]
        facts = asdict(read_facts(row["local_path"])) | {"video_bytes": row["size_bytes"]}
        yield "videos", pa.Table.from_pylist([facts], schema=self.adds["videos"])
