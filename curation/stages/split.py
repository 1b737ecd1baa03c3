"""Split: shots from the stored signals, clips from shots, and a reason for every other second.

A pure function of the signals: another detector, threshold or length policy decodes nothing.
Cost: milliseconds per minute of video.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curation.ids import clip_id
from curation.schema import (
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
from curation.signals.changes import COLUMNS
from curation.signals.clips import ClipPolicy, Pieces, Remainder, Span, clip_spans
from curation.signals.shots import find_transitions
from curation.signals.transitions import (
    DetectorName,
    FrameSignals,
    Shot,
    ShotSettings,
    Transition,
    content_scores,
    shots_between,
)
from curation.stage import Grain, Output, Stage


class Split(Stage):
    """Finds shots and divides them into clips; the rest of the timeline becomes spans."""

    name: ClassVar[str] = "split"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "video"
    reads: ClassVar[pa.Schema] = schema(
        time_base=STRING,
        video_end_pts=INT64,
        missing_s=FLOAT64,
        frame_pts=LONGS,
        frame_time_s=DOUBLES,
        frame_damaged=BOOLS,
        frame_delta_hue=FLOATS,
        frame_delta_sat=FLOATS,
        frame_delta_val=FLOATS,
        frame_delta_hist=FLOATS,
        frame_rgb_mean=FLOATS,
        **{f"frame_{name}": FLOATS for name in COLUMNS},
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "clips": schema(
            clip_id=STRING,
            clip_index=INT32,
            shot_index=INT32,
            start_frame=INT64,
            end_frame=INT64,
            start_pts=INT64,
            end_pts=INT64,
            start_s=FLOAT64,  # from the video's first frame
            end_s=FLOAT64,
            duration_s=FLOAT64,
            num_frames=INT32,
        ),
        "spans": schema(
            start_frame=INT64, end_frame=INT64, start_s=FLOAT64, end_s=FLOAT64, reason=STRING
        ),
        "transitions": schema(
            start_frame=INT64,
            end_frame=INT64,
            start_s=FLOAT64,
            end_s=FLOAT64,
            kind=STRING,
            confidence=FLOAT64,
        ),
    }
    details: ClassVar[frozenset[str]] = frozenset({"spans", "transitions"})

    detector: DetectorName = Field(
        "auto", description="auto, transnet, adaptive, content, histogram or threshold"
    )
    confidence: float = Field(0.5, ge=0, le=1, description="lowest of auto and transnet")
    adaptive_threshold: float = Field(3.0, gt=0, description="change relative to neighbours")
    min_content: float = Field(15.0, ge=0, description="lowest change of an adaptive cut, 0-255")
    content_threshold: float = Field(27.0, gt=0, description="change of a content cut, 0-255")
    histogram_threshold: float = Field(0.2, gt=0, description="lost correlation of a cut, 0-2")
    fade_threshold: float = Field(12.0, ge=0, description="mean colour of a faded frame, 0-255")
    detect_fades: bool = Field(True, description="look for fades beside the cuts")
    min_shot_s: float = Field(0.5, ge=0, description="shortest shot in seconds")
    min_s: float = Field(2.0, gt=0, description="shortest clip in seconds")
    max_s: float = Field(10.0, gt=0, description="longest clip in seconds")
    preferred_s: float | None = Field(
        None, gt=0, description="length to aim at in shots longer than max_s; null: max_s"
    )
    pieces: Pieces = Field("fixed", description="fixed, or even: equal ones that leave no rest")
    overlap_s: float = Field(0.0, ge=0, description="shared by neighbouring pieces of a long shot")
    remainder: Remainder = Field(
        "keep", description="rest after the last fixed piece: keep from min_s on, merge, or drop"
    )
    max_clips_per_shot: int | None = Field(None, ge=1, description="spread evenly; null: all")
    edge_trim_s: float = Field(0.2, ge=0, description="cut off beside real transitions")

    @model_validator(mode="after")
    def _lengths(self) -> Split:
        self.clip_policy()  # raises where they contradict each other
        return self

    def clip_policy(self) -> ClipPolicy:
        """How shots become clips."""
        return ClipPolicy(**{name: getattr(self, name) for name in ClipPolicy.__dataclass_fields__})

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Split one video."""
        row = batch.slice(0, 1)
        video = VideoSignals(row)
        transitions, shots = self.shots(video)
        spans = clip_spans(shots, video.damaged, video.time_s, self.clip_policy())
        clips = [s for s in spans if s.reason is None]
        rest = [video.span_row(s) for s in spans if s.reason is not None]
        if video.missing_s > 0:
            end_s = round(float(video.time_s[-1]), 6)
            rest.append(
                {
                    "start_frame": video.num_frames,
                    "end_frame": video.num_frames,
                    "start_s": end_s,
                    "end_s": round(end_s + video.missing_s, 6),
                    "reason": "missing",
                }
            )
        found = [video.transition_row(t) for t in transitions]
        yield (
            "clips",
            pa.Table.from_pylist(
                [video.clip_row(i, c) for i, c in enumerate(clips)], schema=self.adds["clips"]
            ),
        )
        yield "spans", pa.Table.from_pylist(rest, schema=self.adds["spans"])
        yield "transitions", pa.Table.from_pylist(found, schema=self.adds["transitions"])

    def shots(self, video: VideoSignals) -> tuple[list[Transition], list[Shot]]:
        """The transitions of a video and the shots between them."""
        settings = ShotSettings(
            **{name: getattr(self, name) for name in ShotSettings.__dataclass_fields__}
        )
        transitions = find_transitions(video.signals, settings)
        return transitions, shots_between(transitions, video.num_frames)


class VideoSignals:
    """The signals of one video as arrays; see ``Split.reads`` for units."""

    def __init__(self, row: pa.Table) -> None:
        self.video_id: str = row.column("video_id")[0].as_py()
        self.time_base: str = row.column("time_base")[0].as_py()
        self.end_pts: int = row.column("video_end_pts")[0].as_py()
        self.missing_s = float(row.column("missing_s")[0].as_py() or 0.0)

        def values(name: str) -> np.ndarray:
            return row.column(f"frame_{name}")[0].values.to_numpy(zero_copy_only=False)

        self.pts = values("pts")
        self.num_frames = len(self.pts)
        self.damaged = values("damaged").astype(bool)
        # The end of the last frame closes the timeline: n + 1 times for n frames.
        unit_s = float(Fraction(self.time_base))
        end_s = round((self.end_pts - int(self.pts[0])) * unit_s, 6)
        self.time_s = np.append(values("time_s"), end_s)
        deltas = (values(f"delta_{name}") for name in ("hue", "sat", "val"))
        changes = np.stack([values(name) for name in COLUMNS], axis=1).astype(np.float64)
        self.signals = FrameSignals(
            content=content_scores(*deltas).astype(np.float64),
            histogram=values("delta_hist").astype(np.float64),
            rgb_mean=values("rgb_mean").astype(np.float64),
            odds=changes[:, :4],
            transnet=changes[:, 4:6],
            change_share=changes[:, 6],
            time_s=self.time_s[:-1],
        )

    def _pts_at(self, frame: int) -> int:
        return int(self.pts[frame]) if frame < self.num_frames else self.end_pts

    def _times(self, start: int, end: int) -> dict[str, float]:
        return {
            "start_s": round(float(self.time_s[start]), 6),
            "end_s": round(float(self.time_s[end]), 6),
        }

    def clip_row(self, index: int, span: Span) -> dict[str, Any]:
        """A row of ``clips``."""
        start_pts, end_pts = self._pts_at(span.start), self._pts_at(span.end)
        times = self._times(span.start, span.end)
        return {
            "clip_id": clip_id(self.video_id, start_pts, end_pts, self.time_base),
            "clip_index": index,
            "shot_index": span.shot_index,
            "start_frame": span.start,
            "end_frame": span.end,
            "start_pts": start_pts,
            "end_pts": end_pts,
            **times,
            "duration_s": round(times["end_s"] - times["start_s"], 6),
            "num_frames": span.end - span.start,
        }

    def span_row(self, span: Span) -> dict[str, Any]:
        """A row of ``spans``."""
        return {
            "start_frame": span.start,
            "end_frame": span.end,
            **self._times(span.start, span.end),
            "reason": span.reason,
        }

    def transition_row(self, found: Transition) -> dict[str, Any]:
        """A row of ``transitions``."""
        return {
            "start_frame": found.start_frame,
            "end_frame": found.end_frame,
            **self._times(found.start_frame, found.end_frame),
            "kind": found.kind,
            "confidence": found.confidence,
        }
