"""Shots of one video, without a catalog: probe, signals and split in a row."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import pyarrow as pa

from curation.errors import ClipmillError, ConfigError, MediaError
from curation.schema import FLOATS
from curation.signals.clips import clip_spans
from curation.signals.transitions import DetectorName, ShotSettings
from curation.stages.probe import Probe
from curation.stages.signals import Signals
from curation.stages.split import Split, VideoSignals
from curation.storage import fetch

MOTION = "frame_motion_per_s"


def find_shots(
    video: str, detector: str = "auto", *, confidence: float = 0.5, plot: str | None = None
) -> dict[str, Any]:
    """Find the shots of a video.

    Args:
        video: Local path or URL.
        detector: ``auto``, ``transnet``, ``adaptive``, ``content``, ``histogram`` or ``threshold``.
        confidence: Lowest confidence of ``auto`` and ``transnet``.
        plot: PNG file to draw the signals, shots and boundary frames to.

    Returns:
        ``{"video", "detector", "transnet", "shots": [{start_frame, end_frame, start_s, end_s}],
        "transitions": [{start_frame, end_frame, start_s, end_s, kind, confidence}], "plots"}``.
        Frames are numbered as decoded from 0, ends are exclusive, seconds count from the first
        frame. A cut spans the last old and the first new frame; the frames of a gradual transition
        are in no shot. ``transnet`` is ``missing`` when TransNetV2 is not installed.

    Raises:
        ClipmillError: It is no video, or there is no such detector.
    """
    names = get_args(DetectorName)
    if detector not in names:
        raise ConfigError(f"no detector {detector!r}", mend=f"one of: {', '.join(names)}")
    split = Split.model_validate({"detector": detector, "confidence": confidence})
    # TransNetV2 alone has to see every frame; PySceneDetect's detectors need none of it.
    mode = {"auto": "ambiguous", "transnet": "everywhere"}.get(detector, "off")
    signals = Signals.model_validate({"transnet": mode})
    try:
        with tempfile.TemporaryDirectory(prefix="clipmill-shots-") as folder:
            suffix = PurePosixPath(video).suffix[:8]
            path = fetch(video, Path(folder), lambda _: None, suffix=suffix)
            row = signals_row(path, signals)
            report = _report(video, split, VideoSignals(row)) | {
                "transnet": row["transnet"][0].as_py()
            }
            if plot:
                report["plots"] = [str(p) for p in _draw(path, plot, split, row, video)]
    except MediaError as exc:
        raise ClipmillError(exc.message, where=video) from exc
    return report


def signals_row(path: str, signals: Signals | None = None) -> pa.Table:
    """All that split reads of a local video, as one row.

    Args:
        path: Local path.
        signals: How to scan it; None: as by default.

    Raises:
        MediaError: It cannot be decoded.
    """
    given: dict[str, Any] = {
        "local_path": path,
        "size_bytes": Path(path).stat().st_size,
        "video_id": "",
    }
    (facts,) = dict(_pairs(Probe(), pa.Table.from_pylist([given])))["videos"].to_pylist()  # pyright: ignore[reportCallIssue]
    segments: list[pa.Table] = []
    totals: dict[str, Any] = {}
    scanner = signals or Signals()  # pyright: ignore[reportCallIssue]
    for name, rows in _pairs(scanner, pa.Table.from_pylist([given | facts])):
        if name == "segments":
            segments.append(rows)
        elif name == "decodes":
            totals = rows.to_pylist()[0]
    whole = pa.concat_tables(segments)
    lists = {
        c: [x for part in whole.column(c).to_pylist() for x in part]
        for c in whole.column_names
        if c.startswith("frame_")
    }
    extra = [
        pa.field(MOTION, FLOATS),
        *(pa.field(n, pa.string()) for n in ("video_id", "transnet")),
    ]
    wanted = pa.schema([*Split.reads, *extra])
    return pa.Table.from_pylist([given | facts | totals | lists], schema=wanted)


def _report(video: str, split: Split, signals: VideoSignals) -> dict[str, Any]:
    transitions, shots = split.shots(signals)
    times = [round(float(t), 6) for t in signals.time_s]
    return {
        "video": video,
        "detector": split.detector,
        "shots": [_timed(s.start_frame, s.end_frame, times) for s in shots],
        "transitions": [
            _timed(t.start_frame, t.end_frame, times) | {"kind": t.kind, "confidence": t.confidence}
            for t in transitions
        ],
    }


def _timed(start: int, end: int, times: list[float]) -> dict[str, Any]:
    return {
        "start_frame": start,
        "end_frame": end,
        "start_s": times[start],
        "end_s": times[end],
    }


def _draw(path: str, plot: str, split: Split, row: pa.Table, video: str) -> list[Path]:
    """The strip image of a local video."""
    from pipelines.strip import draw_strip, signal_lanes

    signals = VideoSignals(row)
    transitions, shots = split.shots(signals)
    settings = ShotSettings(**{n: getattr(split, n) for n in ShotSettings.__dataclass_fields__})
    motion = row.column(MOTION)[0].values.to_numpy(zero_copy_only=False)
    return draw_strip(
        path,
        Path(plot),
        time_s=signals.time_s,
        lanes=signal_lanes(signals.signals, settings, motion),
        transitions=transitions,
        shots=shots,
        spans=clip_spans(shots, signals.damaged, signals.time_s, split.clip_policy()),
        title=PurePosixPath(video).name,
    )


def _pairs(stage: Probe | Signals | Split, row: pa.Table) -> list[tuple[str, pa.Table]]:
    return [output for output in stage.process(row) if isinstance(output, tuple)]
