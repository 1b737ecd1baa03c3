"""The contact sheet of a search: what was asked, and a frame of each clip found, best first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.catalog.views import Views
from pipelines.files import write_bytes
from pipelines.report.pictures import choose_frames
from pipelines.report.words import shorten, source_label, timecode
from pipelines.strip.canvas import (
    FAINT,
    INK,
    LINE,
    NORMAL,
    SOFT,
    TRACK,
    Canvas,
    Color,
    rgb,
    shortened,
)

COLUMNS = 4
BOX_PX = (240, 150)
"""Widest and tallest picture."""
GAP_PX, HEAD_PX, CAPTION_PX = 14, 40, 40
VERDICT_COLORS = {"kept": rgb("#1a7f37"), "rejected": rgb("#b35900"), "failed": rgb("#cf222e")}


Tile = tuple[np.ndarray | None, str, str, Color]
"""A picture, two lines below it, and the colour of the first."""


def draw_sheet(views: Views, report: dict[str, Any], shown: np.ndarray | None, path: Path) -> Path:
    """Draw what ``pipelines.search.search`` found.

    Args:
        views: The catalog.
        report: Its report.
        shown: BGR picture of the query, if it has one; drawn first.
        path: PNG file to write.

    Raises:
        ConfigError: The file cannot be written.
    """
    results = report["results"]
    frames = choose_frames(views, results)
    tiles: list[Tile] = [] if shown is None else [(shown, "query", "", INK)]
    for result in results:
        verdict = result["verdict"] or "not judged"
        span = f"{timecode(result['start_s'])} - {timecode(result['end_s'])}"
        tiles.append(
            (
                _frame(views, result["video_id"], frames.get(result["clip_id"])),
                f"{result['rank']}   {result['cosine']:.3f}   {verdict}",
                f"{result['file']}  {span}",
                VERDICT_COLORS.get(verdict, SOFT),
            )
        )
    lines = max(1, -(-len(tiles) // COLUMNS))
    cell_px = BOX_PX[0] + GAP_PX, BOX_PX[1] + CAPTION_PX + GAP_PX
    canvas = Canvas(COLUMNS * cell_px[0] + GAP_PX, HEAD_PX + lines * cell_px[1] + GAP_PX)
    query = report["query"]
    asked = shorten(query) if report["kind"] == "text" else source_label(query)
    title = f"{asked}  ({report['kind']}, {report['model']})"
    canvas.text(GAP_PX, HEAD_PX / 2, shortened(title, COLUMNS * cell_px[0], NORMAL), INK, NORMAL)
    for i, tile in enumerate(tiles):
        at = GAP_PX + i % COLUMNS * cell_px[0], HEAD_PX + i // COLUMNS * cell_px[1]
        _tile(canvas, at, *tile)
    write_bytes(str(path), canvas.png())
    return path


def _tile(
    canvas: Canvas,
    at: tuple[int, int],
    picture: np.ndarray | None,
    first: str,
    second: str,
    color: tuple[int, int, int],
) -> None:
    x, y = at
    canvas.box(x, y, x + BOX_PX[0], y + BOX_PX[1], TRACK)
    if picture is None:
        canvas.text(x + 8, y + BOX_PX[1] / 2, "no sampled frame", FAINT)
    else:
        height, width = picture.shape[:2]
        scale = min(BOX_PX[0] / width, BOX_PX[1] / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        canvas.picture(x + (BOX_PX[0] - size[0]) // 2, y + (BOX_PX[1] - size[1]) // 2, small)
    canvas.frame(x, y, x + BOX_PX[0], y + BOX_PX[1], LINE)
    canvas.text(x, y + BOX_PX[1] + 12, first, color, weight=1)
    canvas.text(x, y + BOX_PX[1] + 28, shortened(second, BOX_PX[0]), SOFT)


def _frame(views: Views, video_id: str, chosen: dict[str, Any] | None) -> np.ndarray | None:
    """The BGR picture in the middle of a clip, or the nearest to it."""
    if chosen is None:
        return None
    index = chosen["middle"] if chosen["middle"] is not None else chosen["nearest"]
    stored = views.query(
        f"SELECT jpeg FROM frames WHERE video_id = '{video_id}' AND sample_frame_index = {index}"
    ).to_pylist()
    jpeg = stored[0]["jpeg"] if stored else b""
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
