"""``clipmill captions sheet``: frames of clips beside their captions, faults and measurements.

What to look at before a captioner is trusted, as a picture or as a page that stands alone. Only
stored frames are read; every text is escaped.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.captions.frames import spread_ends
from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import ConfigError
from pipelines.captions_rows import clip_texts, writer_label
from pipelines.files import write_bytes
from pipelines.report.page import page_environment, root_name
from pipelines.report.words import shorten, timecode
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
    text_width,
)

NUM_FRAMES = 5
BOX_PX = (208, 130)
"""Widest and tallest frame of the picture."""
PAGE_HEIGHT_PX = 150
QUALITY = 82
TEXT_PX = 760
MARGIN_PX, GAP_PX, LINE_PX, KIND_PX = 18, 4, 17, 92
MAX_LINES = 6
"""Of one text in the picture; the page shows texts whole."""
FAULT, DEFAULT = rgb("#b3364b"), rgb("#1a7f37")
SUFFIXES = (".png", ".html")


@dataclass(frozen=True)
class Sampled:
    """A stored frame: when it is shown in the video, and its BGR pixels, uint8 [h, w, 3]."""

    time_s: float
    image: np.ndarray


Line = tuple[str, str, Color]
"""What stands before a text, a line of the text, and its colour."""


def make_captions_sheet(
    out: str, target: Path, *, limit: int = 24, flagged: bool = False
) -> list[dict[str, Any]]:
    """Draw clips beside their captions.

    Args:
        out: The dataset root.
        target: A ``.png`` or ``.html`` file to write.
        limit: Most clips.
        flagged: Only clips whose caption is flagged or contradicted.

    Returns:
        The clips shown, see :func:`pipelines.captions_rows.clip_texts`.

    Raises:
        ConfigError: The file has another ending or cannot be written.
        CatalogError: There are no captions.
    """
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(
            "is neither picture nor page", where=str(target), mend="NAME.png or .html"
        )
    catalog = Catalog.open(out)
    views = Views(catalog)
    clips = clip_texts(catalog, views, limit=limit, flagged=flagged, sample=True)
    name = root_name(catalog.storage.url)
    if suffix == ".png":
        write_bytes(str(target), _draw(name, clips, views, flagged))
    else:
        write_bytes(str(target), _page(name, clips, views, flagged))
    return clips


def faults_of(clip: dict[str, Any]) -> list[str]:
    """Flags and contradictions of a clip's caption, in words."""
    checks = clip["checks"] or {}
    return [f"flag: {f}" for f in checks.get("flags", ())] + list(checks.get("contradictions", ()))


def sampled_frames(views: Views, clip: dict[str, Any], count: int = NUM_FRAMES) -> list[Sampled]:
    """Stored frames spread over a clip, its first and last among them; the nearest if none is."""
    video = clip["video_id"].replace("'", "''")
    start, end = float(clip["start_s"]), float(clip["end_s"])
    times = views.query(
        f"""SELECT sample_frame_index AS i FROM frames WHERE video_id = '{video}'
        AND sample_time_s >= {start!r} AND sample_time_s < {end!r} ORDER BY sample_time_s"""
    ).column("i")
    if not len(times):
        times = views.query(
            f"""SELECT sample_frame_index AS i FROM frames WHERE video_id = '{video}'
            ORDER BY abs(sample_time_s - {(start + end) / 2!r}) LIMIT 1"""
        ).column("i")
    chosen = [int(times[i].as_py()) for i in spread_ends(len(times), count)]
    if not chosen:
        return []
    stored = views.query(
        f"""SELECT sample_time_s, jpeg FROM frames WHERE video_id = '{video}'
        AND sample_frame_index IN ({", ".join(map(str, chosen))}) ORDER BY sample_time_s"""
    )
    pairs = ((r["sample_time_s"], _decoded(r["jpeg"])) for r in stored.to_pylist())
    return [Sampled(time_s, image) for time_s, image in pairs if image is not None]


def wrapped(text: str, width_px: float) -> list[str]:
    """A text in lines that fit a width, broken at spaces, or inside a word that is too long."""
    lines, line = [], ""
    for word in text.split():
        grown = f"{line} {word}" if line else word
        if text_width(grown, NORMAL) <= width_px:
            line = grown
            continue
        if line:
            lines.append(line)
        while text_width(word, NORMAL) > width_px:
            fits = max(n for n in range(1, len(word) + 1) if n == 1 or _fits(word[:n], width_px))
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line else lines


def _fits(text: str, width_px: float) -> bool:
    return text_width(text, NORMAL) <= width_px


def _draw(name: str, clips: list[dict[str, Any]], views: Views, flagged: bool) -> bytes:
    """The picture: a row per clip, frames left, texts right."""
    left_px = NUM_FRAMES * (BOX_PX[0] + GAP_PX)
    rows = [_lines(clip) for clip in clips]
    heights = [max(BOX_PX[1] + 22, len(lines) * LINE_PX) + 26 for lines in rows]
    canvas = Canvas(left_px + TEXT_PX + 3 * MARGIN_PX, sum(heights) + 70)
    title = f"Captions of {name}: {len(clips)} clips" + (" with faults" if flagged else "")
    canvas.text(MARGIN_PX, 24, shortened(title, 1200, NORMAL, 2), INK, NORMAL, 2)
    canvas.text(MARGIN_PX, 44, "in green the text of the shard's .txt, in red faults", SOFT)
    y = 62
    for clip, lines, height in zip(clips, rows, heights, strict=True):
        canvas.box(MARGIN_PX, y, canvas.pixels.shape[1] - MARGIN_PX, y + 1, LINE)
        frames = sampled_frames(views, clip)
        for i in range(NUM_FRAMES):
            x = MARGIN_PX + i * (BOX_PX[0] + GAP_PX)
            _cell(canvas, x, y + 10, frames[i] if i < len(frames) else None)
        where = f"{clip['file']}  {timecode(clip['start_s'])} to {timecode(clip['end_s'])}"
        label = f"{where}   {clip['verdict']}   {clip['clip_id'][:12]}"
        canvas.text(MARGIN_PX, y + BOX_PX[1] + 22, shortened(label, left_px - 10), SOFT)
        x = 2 * MARGIN_PX + left_px
        for i, (kind, text, color) in enumerate(lines):
            at = y + 18 + i * LINE_PX
            canvas.text(x, at, shortened(kind, KIND_PX - 6), FAINT)
            canvas.text(x + KIND_PX, at, text, color, NORMAL)
        y += height
    return canvas.png()


def _lines(clip: dict[str, Any]) -> list[Line]:
    """The lines of text beside a clip."""
    texts = [
        (c["kind"], c["text"], DEFAULT if c["kind"] == clip["default"] else INK)
        for c in clip["captions"]
    ]
    texts += [("fault", text, FAULT) for text in faults_of(clip)]
    if (clip["checks"] or {}).get("alignment") is not None:
        texts.append(("alignment", f"{clip['checks']['alignment']:.3f}", SOFT))
    texts.append(("measured", " ".join(clip["told"]), SOFT))
    texts.append(("by", writer_label(clip["writer"]), SOFT))
    lines: list[Line] = []
    for kind, text, color in texts:
        parts = wrapped(shorten(text, 4000), TEXT_PX - KIND_PX)
        if len(parts) > MAX_LINES:
            parts = [*parts[: MAX_LINES - 1], f"{parts[MAX_LINES - 1][:-3]}..."]
        lines += [("" if i else kind, part, color) for i, part in enumerate(parts)]
    return lines


def _cell(canvas: Canvas, x: int, y: int, frame: Sampled | None) -> None:
    """One frame, fitted into its box."""
    width, height = BOX_PX
    canvas.box(x, y, x + width, y + height, TRACK)
    if frame is None:
        return
    small = _fitted(frame.image, width, height)
    top, left = y + (height - small.shape[0]) // 2, x + (width - small.shape[1]) // 2
    canvas.picture(left, top, small)


def _page(name: str, clips: list[dict[str, Any]], views: Views, flagged: bool) -> bytes:
    """The page: one article per clip."""
    shown = [
        clip
        | {
            "writer_label": writer_label(clip["writer"]),
            "faults": faults_of(clip),
            "pictures": [_embedded(f) for f in sampled_frames(views, clip)],
        }
        for clip in clips
    ]
    template = page_environment().get_template("captions.html")
    return template.render(name=name, clips=shown, flagged=flagged).encode("utf-8", "replace")


def _embedded(frame: Sampled) -> dict[str, Any]:
    small = _fitted(frame.image, 4 * PAGE_HEIGHT_PX, PAGE_HEIGHT_PX)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return {
        "data_uri": f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}",
        "width_px": small.shape[1],
        "height_px": small.shape[0],
        "time": timecode(frame.time_s),
    }


def _fitted(image: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    scale = min(width_px / image.shape[1], height_px / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _decoded(jpeg: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
