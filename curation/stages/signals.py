"""Signals: one streaming decode per video; numbers of every frame, and small sampled frames.

Rows go out segment by segment, so memory does not grow with the video. Everything downstream
(shots, clips, classical scores) is a function of these rows; nothing decodes the video again to
score it. Cost: about half a bare decode on top of it at 720p (see tests/bench/signals.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, PrivateAttr

from curation.errors import ErrorCode, MediaError
from curation.media.decode import (
    Decoded,
    last_frame_pts_step,
    open_video,
    time_base,
    walk_frames,
)
from curation.media.prefetch import prefetched
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
from curation.signals.analysis import Sampler, Shrinker, SmallFrame
from curation.signals.appearance import Appearance, measure
from curation.signals.flow import FlowMeter, Motion
from curation.stage import Grain, Output, Stage, StageContext

APPEARANCE = [f"frame_{name}" for name in Appearance._fields]
MOTION = [
    "frame_motion_per_s",
    "frame_camera_per_s",
    "frame_object_per_s",
    "frame_pan_per_s",
    "frame_tilt_per_s",
    "frame_zoom_per_s",
    "frame_roll_per_s",
]
PREFETCH_FRAMES = 8
"""Decoded frames that may wait for analysis; bounds memory."""
DIGITS = 5
"""Decimal places kept of every signal: below what any threshold can tell, above float noise."""
BEAT_FRAMES = 32
"""Frames between signs of life: far below any time limit, even of 8K frames."""
VFR_TOLERANCE = 0.1
"""A video whose frame steps differ by more than this share of the median is VFR ..."""
VFR_MIN_SHARE = 0.02
"""... when at least this share of its steps do."""


class Signals(Stage):
    """Computes the per-frame signals and stores small JPEG samples."""

    name: ClassVar[str] = "signals"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "video"
    reads: ClassVar[pa.Schema] = schema(
        local_path=STRING,
        rotation_deg=INT32,
        sample_aspect_ratio=FLOAT64,
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
        ),
    }
    details: ClassVar[frozenset[str]] = frozenset({"frames"})
    operational: ClassVar[frozenset[str]] = Stage.operational | {"threads", "segment_frames"}

    sample_interval_s: float = Field(1.0, gt=0, description="seconds between stored frames")
    sample_long_side_px: int = Field(512, ge=32, description="long side of stored frames")
    sample_quality: int = Field(90, ge=1, le=100, description="JPEG quality of stored frames")
    segment_frames: int = Field(2048, ge=64, description="frames per stored row: bounds memory")
    threads: int = Field(1, ge=1, description="decoder threads per worker")

    _context: StageContext | None = PrivateAttr(default=None)

    def setup(self, context: StageContext) -> None:
        """Keep the heartbeat."""
        self._context = context

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Decode one video and yield its segments, sampled frames and totals."""
        row = batch.to_pylist()[0]
        sampler = Sampler(
            self.sample_long_side_px,
            self.sample_quality,
            row["rotation_deg"],
            row["sample_aspect_ratio"],
        )
        with open_video(row["local_path"], threads=self.threads) as (container, stream):
            scan = _Scan(self, sampler, float(time_base(stream)))
            # Closed before the container is: a failure here must not leave a thread decoding.
            with closing(prefetched(walk_frames(container, stream), PREFETCH_FRAMES)) as frames:
                for decoded in frames:
                    if scan.push(decoded):
                        yield from scan.flush()
                    if self._context is not None and scan.count % BEAT_FRAMES == 0:
                        self._context.beat()
        if scan.count == 0:
            raise MediaError(ErrorCode.NO_FRAMES, "no frame decodes")
        yield from scan.flush()
        yield "decodes", scan.totals(row["declared_duration_s"])


class _Scan:
    """State of one pass over a video: buffers of the open segment, and running totals."""

    def __init__(self, stage: Signals, sampler: Sampler, seconds_per_pts: float) -> None:
        self._stage, self._sampler, self._unit_s = stage, sampler, seconds_per_pts
        self._shrink, self._flow = Shrinker(), FlowMeter()
        self._before: SmallFrame | None = None
        self._lists: dict[str, list[Any]] = {}
        self._samples: list[dict[str, Any]] = []
        self._next_sample = 0
        self._first_pts = self._last_pts = 0
        self._tail_pts: list[int] = []
        self._steps: dict[int, int] = {}  # how often each pts step occurs
        self._damaged = 0
        self.count = 0
        self._clear()

    def push(self, decoded: Decoded) -> bool:
        """Measure one frame; True when the segment is full."""
        pts = decoded.pts
        if self.count == 0:
            self._first_pts = self._last_pts = pts
        elif (step := pts - self._last_pts) in self._steps or len(self._steps) < 4096:
            self._steps[step] = self._steps.get(step, 0) + 1
        time_s = (pts - self._first_pts) * self._unit_s
        small = self._shrink(decoded.frame)
        if self._before is not None and small.luma.shape != self._before.luma.shape:
            self._before, self._flow = None, FlowMeter()  # the stream changed its size
        values: dict[str, Any] = {
            "frame_pts": pts,
            "frame_time_s": round(time_s, 6),
            "frame_damaged": decoded.damaged,
        }
        looks = measure(small, self._before)
        values |= zip(APPEARANCE, (round(v, DIGITS) for v in looks), strict=True)
        pair = self._flow.push(small.luma, time_s, (pts - self._last_pts) * self._unit_s)
        values |= _motion_values(pair)
        for name, value in values.items():
            self._lists[name].append(value)
        self._sample(decoded, time_s)
        self._before, self._last_pts = small, pts
        self._tail_pts = [*self._tail_pts[-25:], pts]
        self._damaged += decoded.damaged
        self.count += 1
        return len(self._lists["frame_pts"]) >= self._stage.segment_frames

    def flush(self) -> Iterator[Output]:
        """The open segment and its samples as tables; starts the next one."""
        size = len(self._lists["frame_pts"])
        if size:
            row = {"segment_start_frame": self.count - size, **self._lists}
            yield "segments", pa.Table.from_pylist([row], schema=self._stage.adds["segments"])
        if self._samples:
            yield "frames", pa.Table.from_pylist(self._samples, schema=self._stage.adds["frames"])
        self._clear()

    def totals(self, declared_s: float | None) -> pa.Table:
        """The one row of ``decodes``."""
        end_pts = self._last_pts + last_frame_pts_step(self._tail_pts)
        duration_s = (end_pts - self._first_pts) * self._unit_s
        missing_s = 0.0
        if declared_s and declared_s - duration_s > max(0.5, 0.02 * declared_s):
            missing_s = declared_s - duration_s
        median = _median_step(self._steps)
        row = {
            "video_first_pts": self._first_pts,
            "video_end_pts": end_pts,
            "video_num_frames": self.count,
            "video_duration_s": round(duration_s, 6),
            "missing_s": round(missing_s, 6),
            "num_damaged_frames": self._damaged,
            "is_vfr": _is_vfr(self._steps, median),
            "median_fps": _median_fps(self._steps, median, self._unit_s),
        }
        return pa.Table.from_pylist([row], schema=self._stage.adds["decodes"])

    def _sample(self, decoded: Decoded, time_s: float) -> None:
        """Store a JPEG for the first frame of each sampling interval."""
        if time_s + 1e-6 < self._next_sample * self._stage.sample_interval_s:
            return
        while self._next_sample * self._stage.sample_interval_s <= time_s + 1e-6:
            self._next_sample += 1
        jpeg, width, height = self._sampler(decoded.frame)
        self._samples.append(
            {
                "sample_frame_index": self.count,
                "sample_pts": decoded.pts,
                "sample_time_s": round(time_s, 6),
                "sample_width_px": width,
                "sample_height_px": height,
                "jpeg": jpeg,
            }
        )

    def _clear(self) -> None:
        names = self._stage.adds["segments"].names
        self._lists = {name: [] for name in names if name.startswith("frame_")}
        self._samples = []


def _motion_values(pair: tuple[Motion, float] | None) -> dict[str, float | None]:
    if pair is None:
        return {"frame_pair_start_s": None, **dict.fromkeys(MOTION)}
    motion, start_s = pair
    values = (
        motion.total_per_s,
        motion.camera_per_s,
        motion.object_per_s,
        motion.pan_per_s,
        motion.tilt_per_s,
        motion.zoom_per_s,
        motion.roll_per_s,
    )
    rounded = (round(v, DIGITS) for v in values)
    return {"frame_pair_start_s": round(start_s, 6), **dict(zip(MOTION, rounded, strict=True))}


def _median_step(steps: dict[int, int]) -> int | None:
    """The median pts step from a histogram of steps."""
    total, seen = sum(steps.values()), 0
    for step in sorted(steps):
        seen += steps[step]
        if 2 * seen >= total:
            return step
    return None


def _is_vfr(steps: dict[int, int], median: int | None) -> bool:
    if not median:
        return False
    regular = sum(_near(steps, median).values())
    return sum(steps.values()) - regular > VFR_MIN_SHARE * sum(steps.values())


def _median_fps(steps: dict[int, int], median: int | None, unit_s: float) -> float | None:
    """The frame rate of the steps near the median, which evens out coarse time bases."""
    if not median:
        return None
    near = _near(steps, median)
    mean = sum(step * n for step, n in near.items()) / sum(near.values())
    return round(1 / (mean * unit_s), 6)


def _near(steps: dict[int, int], median: int) -> dict[int, int]:
    """Steps that count as regular. Milliseconds round 33.3 to 33 and 34: one unit is no change."""
    tolerance = max(1, VFR_TOLERANCE * median)
    return {step: n for step, n in steps.items() if abs(step - median) <= tolerance}
