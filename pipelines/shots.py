"""Shots of one video, without a catalog: probe, signals and split in a row."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import pyarrow as pa

from curation.errors import ClipmillError, ConfigError, MediaError
from curation.signals.shots import DetectorName, Transition, shots_between
from curation.stages.probe import Probe
from curation.stages.signals import Signals
from curation.stages.split import Split
from curation.storage import fetch


def find_shots(video: str, detector: str = "adaptive") -> dict[str, Any]:
    """Find the shots of a video.

    Args:
        video: Local path or URL.
        detector: ``adaptive``, ``content`` or ``threshold``.

    Returns:
        ``{"video", "shots": [{start_frame, end_frame, start_s, end_s}], "transitions":
        [{start_frame, end_frame, kind, confidence}]}``. Frames are numbered as decoded from 0,
        ends are exclusive, seconds count from the first frame. A cut spans the last old and the
        first new frame; the frames of a gradual transition are in no shot.

    Raises:
        ClipmillError: It is no video, or there is no such detector.
    """
    names = get_args(DetectorName)
    if detector not in names:
        raise ConfigError(f"no detector {detector!r}", mend=f"one of: {', '.join(names)}")
    split = Split.model_validate({"detector": detector})
    try:
        with tempfile.TemporaryDirectory(prefix="clipmill-shots-") as folder:
            suffix = PurePosixPath(video).suffix[:8]
            path = fetch(video, Path(folder), lambda _: None, suffix=suffix)
            row = _signals_row(path)
    except MediaError as exc:
        raise ClipmillError(exc.message, where=video) from exc
    tables = dict(_pairs(split, row))
    transitions = [
        {k: t[k] for k in ("start_frame", "end_frame", "kind", "confidence")}
        for t in tables["transitions"].to_pylist()
    ]
    times = [*row.column("frame_time_s")[0].as_py(), _end_s(row)]
    shots = shots_between([Transition(**t) for t in transitions], len(times) - 1)
    return {
        "video": video,
        "shots": [
            {
                "start_frame": s.start_frame,
                "end_frame": s.end_frame,
                "start_s": round(times[s.start_frame], 6),
                "end_s": round(times[s.end_frame], 6),
            }
            for s in shots
        ],
        "transitions": transitions,
    }


def _signals_row(path: str) -> pa.Table:
    """All that split reads of a video, as one row."""
    given: dict[str, Any] = {
        "local_path": path,
        "size_bytes": Path(path).stat().st_size,
        "video_id": "",
    }
    (facts,) = dict(_pairs(Probe(), pa.Table.from_pylist([given])))["videos"].to_pylist()  # pyright: ignore[reportCallIssue]
    segments: list[pa.Table] = []
    totals: dict[str, Any] = {}
    for name, rows in _pairs(Signals(), pa.Table.from_pylist([given | facts])):  # pyright: ignore[reportCallIssue]
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
    wanted = pa.schema([*Split.reads, pa.field("video_id", pa.string())])
    return pa.Table.from_pylist([given | facts | totals | lists], schema=wanted)


def _pairs(stage: Probe | Signals | Split, row: pa.Table) -> list[tuple[str, pa.Table]]:
    return [output for output in stage.process(row) if isinstance(output, tuple)]


def _end_s(row: pa.Table) -> float:
    """End of the last frame, seconds from the first."""
    from fractions import Fraction

    unit_s = float(Fraction(row.column("time_base")[0].as_py()))
    first = row.column("frame_pts")[0].values[0].as_py()
    return (row.column("video_end_pts")[0].as_py() - first) * unit_s
