"""``clipmill sheet``: clips of a dataset in the order of one score, as a picture to judge it by.

Clips are taken evenly over the whole order, lowest first, so both ends and the middle are seen. A
column of text (a class) shows its values side by side. Only stored frames are read.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.catalog.views import Views, open_views
from curation.errors import ConfigError
from pipelines.files import write_bytes
from pipelines.report.charts import quoted
from pipelines.report.pictures import choose_frames
from pipelines.report.words import source_label, timecode
from pipelines.strip.canvas import FAINT, INK, NORMAL, SOFT, TRACK, Canvas, rgb, shortened

CELL_PX = (224, 126)
GAP_PX, TEXT_PX, MARGIN_PX, HEAD_PX = 8, 34, 16, 46
COLUMNS = 8
VERDICT_COLORS = {"kept": rgb("#1a7f37"), "rejected": rgb("#bc4c00"), "failed": rgb("#a40e26")}


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What a sheet shows.

    Attributes:
        column: The score.
        num_clips: Clips that have a value.
        num_null: Clips that have none.
        rows: The clips shown, in order: ``clip_id, value, verdict, uri, start_s, ...``.
    """

    column: str
    num_clips: int
    num_null: int
    rows: list[dict[str, Any]]


def make_sheet(out: str, column: str, png: Path, *, limit: int = 48) -> Sheet:
    """Draw the sheet of a dataset.

    Args:
        out: The dataset root.
        column: A column of the view ``clips``.
        png: File to write.
        limit: Most clips shown.

    Raises:
        ConfigError: There is no such column, or the picture cannot be written there.
    """
    views = open_views(out)
    sheet = ranked(views, column, limit)
    write_bytes(str(png), _draw(sheet, views).png())
    return sheet


def ranked(views: Views, column: str, limit: int) -> Sheet:
    """Clips spread evenly over the order of a column."""
    known = views.columns("clips")
    if column not in known:
        near = difflib.get_close_matches(column, known, n=1)
        mend = f"did you mean {near[0]!r}?" if near else "see `clipmill sql OUT 'describe clips'`"
        raise ConfigError(f"clips have no column {column!r}", mend=mend)
    name = quoted(column)
    counts = views.query(
        f"SELECT count({name}) AS num, count(*) - count({name}) AS nulls FROM clips"
    ).to_pylist()[0]
    rows = views.query(
        f"""WITH placed AS (
            SELECT clip_id, video_id, uri, start_s, end_s, verdict, {name} AS value,
                row_number() OVER (ORDER BY {name}, clip_id) - 1 AS place
            FROM clips WHERE {name} IS NOT NULL
        ), bins AS (
            SELECT *, floor(place * {int(limit)} / greatest({int(limit)}, {counts["num"]})) AS bin
            FROM placed
        ) SELECT * EXCLUDE (bin) FROM bins
        QUALIFY row_number() OVER (PARTITION BY bin ORDER BY place) = 1 ORDER BY place"""
    ).to_pylist()
    return Sheet(column=column, num_clips=counts["num"], num_null=counts["nulls"], rows=rows)


def _draw(sheet: Sheet, views: Views) -> Canvas:
    """A grid of pictures with value, verdict and place."""
    frames = choose_frames(views, sheet.rows)
    lines = max(1, -(-len(sheet.rows) // COLUMNS))
    width = 2 * MARGIN_PX + COLUMNS * (CELL_PX[0] + GAP_PX) - GAP_PX
    height = MARGIN_PX + HEAD_PX + lines * (CELL_PX[1] + TEXT_PX + GAP_PX)
    canvas = Canvas(width, height)
    canvas.text(MARGIN_PX, MARGIN_PX + 10, sheet.column, INK, NORMAL, 2)
    told = f"{sheet.num_clips} clips, lowest first"
    if len(sheet.rows) < sheet.num_clips:
        told += f", {len(sheet.rows)} of them shown"
    if sheet.num_null:
        told += f"; {sheet.num_null} without a value are not"
    canvas.text(MARGIN_PX, MARGIN_PX + 30, told, SOFT)
    for i, row in enumerate(sheet.rows):
        line, at = divmod(i, COLUMNS)
        x = MARGIN_PX + at * (CELL_PX[0] + GAP_PX)
        y = MARGIN_PX + HEAD_PX + line * (CELL_PX[1] + TEXT_PX + GAP_PX)
        _cell(canvas, x, y, row, _picture(views, row, frames.get(row["clip_id"])))
    return canvas


def _cell(canvas: Canvas, x: int, y: int, row: dict[str, Any], picture: np.ndarray | None) -> None:
    """One clip: its picture, fitted, and two lines of text."""
    width, height = CELL_PX
    canvas.pixels[y : y + height, x : x + width] = TRACK
    if picture is None:
        canvas.text(x + 8, y + height / 2, "no stored frame", FAINT)
    else:
        scale = min(width / picture.shape[1], height / picture.shape[0])
        size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        top, left = y + (height - size[1]) // 2, x + (width - size[0]) // 2
        canvas.pixels[top : top + size[1], left : left + size[0]] = small
    value = row["value"]
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    color = VERDICT_COLORS.get(row["verdict"], INK)
    canvas.text(x, y + height + 11, shortened(text, width - 70, NORMAL, 2), INK, NORMAL, 2)
    canvas.text(x + width - 64, y + height + 11, row["verdict"] or "unjudged", color)
    place = f"{source_label(row['uri'] or '')}  {timecode(row['start_s'])}"
    canvas.text(x, y + height + 26, shortened(place, width), SOFT)


def _picture(views: Views, row: dict[str, Any], frames: dict[str, Any] | None) -> np.ndarray | None:
    """The stored frame in the middle of a clip, uint8 BGR; the nearest where none is inside."""
    if not frames:
        return None
    index = frames["middle"] if frames["middle"] is not None else frames["nearest"]
    video = row["video_id"].replace("'", "''")
    found = views.query(
        f"SELECT jpeg FROM frames WHERE video_id = '{video}' AND sample_frame_index = {int(index)}"
    ).to_pylist()
    if not found:
        return None
    return cv2.imdecode(np.frombuffer(found[0]["jpeg"], np.uint8), cv2.IMREAD_COLOR)
