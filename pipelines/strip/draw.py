"""Draw a video's shots: signals over time, what was found in them, and the frames to judge it by.

One row of the picture is a stretch of the timeline: numbered flags of the transitions, the shots,
the clips and why the other time is none, then a lane for each signal. Below it are the frames: a
cut's last old and first new one, a gradual transition's before, middle and after, and some from
within each shot. Colours are Okabe and Ito's, which the colour-blind can tell apart.

Cost: one decode up to the last frame shown, and about 50 ms a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from curation.errors import ConfigError
from curation.media.facts import VideoFacts, read_facts
from curation.signals.clips import Span
from curation.signals.transitions import Shot
from curation.storage import Storage
from pipelines.strip.canvas import INK, LARGE, SOFT, Canvas, shortened, text_width
from pipelines.strip.cards import CardSheet
from pipelines.strip.colors import CLIP_COLOR, kind_color, reason_color
from pipelines.strip.lanes import Lane
from pipelines.strip.plan import Mark, Row, plan_strip
from pipelines.strip.rows import Found, RowSheet
from pipelines.strip.thumbs import grab_thumbs

WIDTH_PX = 1600
MARGIN_PX = 16
MAX_PAGE_PX = 3600
"""A page ends before this height, unless one row alone is higher."""
ROW_GAP_PX = 26


def draw_strip(
    video_path: str,
    out_path: Path,
    *,
    time_s: np.ndarray,
    lanes: Sequence[Lane],
    transitions: Sequence[Mark],
    shots: Sequence[Shot],
    spans: Sequence[Span],
    title: str = "",
) -> list[Path]:
    """Draw what was found in a video as PNG.

    Args:
        video_path: Local path.
        out_path: ``FILE.png``; where one page does not hold it all, ``FILE-2.png`` and so on
            are written beside it.
        time_s: float [n + 1], start of each of the n frames, and the end of the last.
        lanes: Signals, from top to bottom.
        transitions: In order.
        shots: In order.
        spans: Clips (those without a reason) and dropped time, in order, as
            :func:`curation.signals.clips.clip_spans` gives them; clips may overlap.
        title: Heading; the file's name when empty.

    Returns:
        The files written, in order.

    Raises:
        ConfigError: ``out_path`` is no PNG, or its folder is missing.
        MediaError: The video cannot be read.
    """
    if out_path.suffix.lower() != ".png" or not out_path.parent.is_dir():
        raise ConfigError(f"cannot draw to {out_path}", mend="a .png file in a folder that exists")
    facts = read_facts(video_path)
    found = Found(time_s=time_s, lanes=lanes, transitions=transitions, shots=shots, spans=spans)
    sheet = CardSheet(facts, time_s, WIDTH_PX, MARGIN_PX)
    plan = plan_strip(time_s, transitions, shots, sheet.max_frames)
    frames = {f for row in plan.rows for card in row.cards for f in card.frames}
    sheet.thumbs = grab_thumbs(video_path, facts, frames, sheet.box_px)
    rows = RowSheet(found, WIDTH_PX, MARGIN_PX)
    heading = _Heading(title or Path(video_path).name, _facts_line(facts, found), plan.notes, found)
    heights_px = [rows.height_px + sheet.height_px(r.cards) + ROW_GAP_PX for r in plan.rows]
    pages = _pages(plan.rows, heights_px, MAX_PAGE_PX - heading.height_px)
    written: list[Path] = []
    for number, page in enumerate(pages, start=1):
        canvas = Canvas(WIDTH_PX, heading.height_px + sum(height for _, height in page))
        heading.draw(canvas, f"page {number} of {len(pages)}" if len(pages) > 1 else "")
        y = heading.height_px
        for row, height in page:
            rows.draw(canvas, y, row)
            sheet.draw(canvas, y + rows.height_px, row.cards)
            y += height
        written.append(_write(canvas, out_path, number))
    return written


def _pages(rows: list[Row], heights_px: list[int], room_px: int) -> list[list[tuple[Row, int]]]:
    """Rows that go together on a page, with their heights."""
    pages: list[list[tuple[Row, int]]] = []
    for row, height in zip(rows, heights_px, strict=True):
        if not pages or sum(h for _, h in pages[-1]) + height > room_px:
            pages.append([])
        pages[-1].append((row, height))
    return pages


def _write(canvas: Canvas, out_path: Path, number: int) -> Path:
    """Write a page under a temporary name, then rename it."""
    name = out_path.name if number == 1 else f"{out_path.stem}-{number}{out_path.suffix}"
    done, data = cv2.imencode(".png", canvas.pixels)
    assert done, "OpenCV always writes PNG"
    Storage(out_path.parent).write_bytes(name, data.tobytes())
    return out_path.with_name(name)


def _facts_line(facts: VideoFacts, found: Found) -> str:
    time_s = found.time_s
    num, seconds = len(time_s) - 1, float(time_s[-1] - time_s[0])
    clips = [s for s in found.spans if s.reason is None]
    in_clip = np.zeros(num, bool)
    for clip in clips:
        in_clip[clip.start : clip.end] = True
    kept_s = float(np.diff(time_s)[in_clip].sum())
    share = 100 * kept_s / seconds if seconds else 0
    return (
        f"{seconds:.2f} s    {num} frames    {num / max(seconds, 1e-6):.2f} fps    "
        f"{facts.width_px} x {facts.height_px}    {_count(found.transitions, 'transition')}    "
        f"{_count(found.shots, 'shot')}    {_count(clips, 'clip')}, {kept_s:.2f} s ({share:.0f} %)"
    )


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things)} {word}" + ("" if len(things) == 1 else "s")


@dataclass
class _Heading:
    """Title, facts, legend and notes: the top of every page."""

    title: str
    facts: str
    notes: list[str]
    found: Found

    @property
    def height_px(self) -> int:
        return 102 + 18 * len(self.notes)

    def draw(self, canvas: Canvas, page: str) -> None:
        room = WIDTH_PX - 2 * MARGIN_PX - text_width(page) - 20
        canvas.text(MARGIN_PX, 24, shortened(self.title, room, LARGE, 2), INK, LARGE, 2)
        canvas.text_right(WIDTH_PX - MARGIN_PX, 24, page, SOFT)
        canvas.text(MARGIN_PX, 48, self.facts, SOFT)
        x = MARGIN_PX
        for color, text in self._legend():
            canvas.box(x, 64, x + 14, 78, color)
            canvas.text(x + 20, 71, text)
            x += 20 + text_width(text) + 22
        for line, note in enumerate(self.notes):
            canvas.text(MARGIN_PX, 95 + 18 * line, note, INK)

    def _legend(self) -> list[tuple[tuple[int, int, int], str]]:
        """Kinds of transition and uses of time that occur, with their numbers and seconds."""
        kinds = [t.kind for t in self.found.transitions]
        entries = [(kind_color(k), f"{k} ({kinds.count(k)})") for k in dict.fromkeys(kinds)]
        seconds: dict[str, float] = {}
        for span in self.found.spans:
            if span.reason is not None and span.end > span.start:
                length_s = self.found.time_s[span.end] - self.found.time_s[span.start]
                seconds[span.reason] = seconds.get(span.reason, 0.0) + float(length_s)
        entries.append((CLIP_COLOR, "clip"))
        entries += [
            (reason_color(r), f"{r.replace('_', ' ')} ({s:.2f} s)") for r, s in seconds.items()
        ]
        return entries
