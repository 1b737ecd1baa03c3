"""The picture of ``clipmill inspect``: per sample a strip of frames beside what is known of it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.captions_sheet import wrapped
from pipelines.loader.frames import NUM_FRAMES, spread
from pipelines.loader.look import Looked
from pipelines.report.words import shorten
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

BOX_PX = (176, 132)
"""Widest and tallest frame of the picture."""
TEXT_PX, KIND_PX = 640, 84
MARGIN_PX, GAP_PX, LINE_PX = 18, 4, 17
MOST_LINES = 4
"""Of one text."""
MOST_TEXTS = 5
FAULT, GIVEN = rgb("#b3364b"), rgb("#1a7f37")
Line = tuple[str, str, Color]
"""What stands before a text, a line of the text, and its colour."""


def draw_sheet(title: str, told: str, looked: Sequence[Looked]) -> bytes:
    """Draw samples.

    Args:
        title: The first line.
        told: The second.
        looked: Samples, one row each.

    Returns:
        A PNG.
    """
    left_px = NUM_FRAMES * (BOX_PX[0] + GAP_PX)
    texts = [_lines(one) for one in looked]
    heights = [max(BOX_PX[1] + 34, (len(lines) + 1) * LINE_PX) + 18 for lines in texts]
    canvas = Canvas(left_px + TEXT_PX + 3 * MARGIN_PX, sum(heights) + 70)
    canvas.text(MARGIN_PX, 24, shortened(title, 1500, NORMAL, 2), INK, NORMAL, 2)
    canvas.text(MARGIN_PX, 44, shortened(told, 1500), SOFT)
    y = 62
    for one, lines, height in zip(looked, texts, heights, strict=True):
        canvas.box(MARGIN_PX, y, canvas.pixels.shape[1] - MARGIN_PX, y + 1, LINE)
        _strip(canvas, y + 10, one)
        x = 2 * MARGIN_PX + left_px
        for number, (kind, text, color) in enumerate(lines):
            at = y + 18 + number * LINE_PX
            canvas.text(x, at, shortened(kind, KIND_PX - 6), FAINT)
            canvas.text(x + KIND_PX, at, text, color, NORMAL)
        y += height
    return canvas.png()


def _strip(canvas: Canvas, y: int, one: Looked) -> None:
    """Frames in the order of time, with their times below."""
    width, height = BOX_PX
    if one.frames is None:
        canvas.box(MARGIN_PX, y, MARGIN_PX + width, y + height, TRACK)
        error = shortened(one.error or "", NUM_FRAMES * width, NORMAL)
        canvas.text(MARGIN_PX + 8, y + height / 2, error, FAULT, NORMAL)
        return
    places = spread(len(one.frames), NUM_FRAMES)
    for number, place in enumerate(places):
        x = MARGIN_PX + number * (width + GAP_PX)
        canvas.box(x, y, x + width, y + height, TRACK)
        small = _fitted(one.frames[place])
        top, left = y + (height - small.shape[0]) // 2, x + (width - small.shape[1]) // 2
        canvas.picture(left, top, small)
        canvas.text(x, y + height + 10, f"{one.times_s[place]:.2f} s", SOFT)
    if one.notes:
        room = NUM_FRAMES * (width + GAP_PX) - 10
        canvas.text(MARGIN_PX, y + height + 26, shortened(one.notes, room), SOFT)


def _fitted(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame in BGR that fits its box; a small one is enlarged without smoothing its pixels."""
    scale = min(BOX_PX[0] / frame.shape[1], BOX_PX[1] / frame.shape[0])
    size = max(1, int(frame.shape[1] * scale)), max(1, int(frame.shape[0] * scale))
    how = cv2.INTER_AREA if scale <= 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(frame, size, interpolation=how)[:, :, ::-1], np.uint8)


def _lines(one: Looked) -> list[Line]:
    """The lines of text beside a sample."""
    place = f"{one.split}, {one.shard}" if one.split else one.shard
    texts: list[Line] = [
        ("key", one.key, INK),
        ("stored", f"{one.stored}, {one.duration_s:.2f} s", INK),
        ("shard", place, SOFT),
    ]
    if one.bucket is not None:
        texts.insert(2, ("bucket", one.bucket, INK))
    if one.reason is not None:
        texts.insert(2, ("dropped", one.reason, FAULT))
    default = one.record.get("caption_kind")
    for kind, text, weight in one.captions[:MOST_TEXTS]:
        color = GIVEN if kind == default else INK if weight else SOFT
        texts.append((kind, text, color))
    if not one.captions:
        texts.append(("captions", "none", SOFT))
    if len(one.captions) > MOST_TEXTS:
        texts.append(("", f"and {len(one.captions) - MOST_TEXTS} more", SOFT))
    scores = ", ".join(f"{name} {_short(value)}" for name, value in one.scores.items())
    texts.append(("scores", scores or "none", SOFT))
    origin = {k: v for k, v in one.origin.items() if v}
    said = ", ".join(str(v) if k == "file" else f"{k} {v}" for k, v in origin.items())
    texts.append(("origin", said + ("" if "license" in origin else ", no license given"), SOFT))
    lines: list[Line] = []
    for kind, text, color in texts:
        parts = wrapped(shorten(text, 2000), TEXT_PX - KIND_PX)
        if len(parts) > MOST_LINES:
            parts = [*parts[: MOST_LINES - 1], f"{parts[MOST_LINES - 1][:-3]}..."]
        lines += [("" if number else kind, part, color) for number, part in enumerate(parts)]
    return lines


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
