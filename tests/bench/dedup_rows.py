"""What the deduplication benchmark compares: prints of real clips and of their changed copies.

Originals go through probe, signals and split. Copies go through the part of the signals pass that
prints are made of. The prints of both are made by the stage ``prints``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.ids import digest
from curation.media.decode import last_frame_pts_step, open_video, time_base, walk_frames
from curation.media.facts import read_facts
from curation.schema import FLOAT64, STRING
from curation.signals.analysis import Shrinker
from curation.signals.prints import PrintMeter, grid_point
from curation.signals.technical_bars import SIDES, reach_of_black
from curation.signals.technical_tiles import Native
from curation.stages.prints import Prints
from curation.stages.split import Split
from tests.bench.dedup_footage import CHANGES, read_footage, write_copy
from tests.curation.chain import run_stage, scan

LABELS = ("video", "clip", "change")
ROWS = pa.schema(
    [*Prints.reads, pa.field("duration_s", FLOAT64), *(pa.field(n, STRING) for n in LABELS)]
)
"""Rows of the stage prints, with what they are: ``change`` is ``original`` or a copy's name."""
STAGE_ROWS = 64
SPLIT = {"max_s": 5.0, "min_s": 2.0, "pieces": "even"}


def make_rows(video: Path, copied: int) -> Iterator[dict[str, Any]]:
    """Rows of a video's clips, and of the copies of some of them.

    Args:
        video: A file.
        copied: Clips to make copies of, spread evenly over the video.
    """
    clips = scan(video, split=Split.model_validate(SPLIT)).clip_rows()
    for row in clips:
        yield _labelled(row, video.name, str(row["clip_index"]), "original")
    num = len(clips)
    picked = range(num)
    if num > copied:
        picked = sorted({(2 * k + 1) * num // (2 * copied) for k in range(copied)})
    with tempfile.TemporaryDirectory() as folder:
        for i in picked:
            row = clips[i]
            span = (row["start_s"], row["end_s"])
            footage = read_footage(str(video), *span, row["rotation_deg"])
            for change in CHANGES:
                path = write_copy(footage, change, Path(folder) / "copy.mp4")
                yield _labelled(read_row(path), video.name, str(row["clip_index"]), change.name)


def _labelled(row: dict[str, Any], video: str, clip: str, change: str) -> dict[str, Any]:
    named = row | {"video": video, "clip": clip, "change": change}
    named["clip_id"] = digest(video, clip, change)[:32]
    named["duration_s"] = row["end_s"] - row["start_s"]
    return {name: named[name] for name in ROWS.names}


def read_row(path: Path) -> dict[str, Any]:
    """What the stage prints reads of a whole file as one clip."""
    facts, meter, shrink, native = read_facts(str(path)), PrintMeter(), Shrinker(), Native()
    row: dict[str, Any] = {name: [] for name in ROWS.names if name.startswith("frame_")}
    pts: list[int] = []
    with open_video(str(path)) as (container, stream):
        unit_s = float(time_base(stream))
        for decoded in walk_frames(container, stream):
            pts.append(decoded.pts)
            time_s = round((decoded.pts - pts[0]) * unit_s, 6)
            small = shrink(decoded.frame)
            reach = None
            if not row["frame_time_s"] or grid_point(time_s) > grid_point(row["frame_time_s"][-1]):
                reach = reach_of_black(small.luma, native(decoded.frame))
            row["frame_time_s"].append(time_s)
            row["frame_damaged"].append(decoded.damaged)
            row["frame_print"].append(meter.push(small.luma, time_s))
            for side, value in zip(SIDES, reach or (None,) * 4, strict=True):
                row[f"frame_bar_{side}"].append(value)
    end_s = (pts[-1] + last_frame_pts_step(pts) - pts[0]) * unit_s
    return row | {
        "start_s": 0.0,
        "end_s": end_s,
        "width_px": facts.width_px,
        "height_px": facts.height_px,
        "rotation_deg": facts.rotation_deg,
    }


def prints_of(rows: pa.Table) -> pa.Table:
    """Prints of rows: the columns of both tables of the stage, the length, and ``LABELS``."""
    found: list[pa.Table] = []
    for start in range(0, rows.num_rows, STAGE_ROWS):
        some = rows.slice(start, STAGE_ROWS)
        given = [row | {"video_id": ""} for row in some.to_pylist()]
        tables, failures = run_stage(Prints(), given)  # pyright: ignore[reportCallIssue]
        assert not failures
        pictures = tables["print_pictures"].drop_columns(["clip_id"])
        parts = [tables["prints"], pictures, some.select([*LABELS, "duration_s"])]
        columns = {name: part.column(name) for part in parts for name in part.column_names}
        found.append(pa.table(columns))
    return pa.concat_tables(found)
