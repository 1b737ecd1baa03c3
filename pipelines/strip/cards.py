"""The frames of a strip: cards of a transition or a shot, set line by line like words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from curation.media.facts import VideoFacts
from pipelines.strip.canvas import (
    INK,
    LINE,
    NORMAL,
    SOFT,
    TRACK,
    Canvas,
    fitting,
    ink_on,
    text_width,
)
from pipelines.strip.colors import kind_color
from pipelines.strip.plan import Card
from pipelines.strip.thumbs import thumb_size

BOX_PX = (168, 126)
"""Widest and tallest thumbnail."""
MIN_SLOT_PX = 104
"""A caption has to fit below an upright picture."""
HEAD_PX, CAPTION_PX, GAP_PX, CARD_GAP_PX = 22, 18, 4, 14


class CardSheet:
    """Sizes and draws the cards of a video.

    Attributes:
        thumbs: uint8 [h, w, 3] by frame number; set before drawing.
        max_frames: Most frames that fit side by side.
    """

    box_px = BOX_PX

    def __init__(
        self, facts: VideoFacts, time_s: np.ndarray, width_px: int, margin_px: int
    ) -> None:
        self.thumbs: dict[int, np.ndarray] = {}
        self._time_s = time_s
        self._left, self._right = margin_px, width_px - margin_px
        self._thumb_px = thumb_size(facts, BOX_PX)
        self._slot_px = max(MIN_SLOT_PX, self._thumb_px[0])
        self.max_frames = (self._right - self._left + GAP_PX) // (self._slot_px + GAP_PX)

    def height_px(self, cards: Sequence[Card]) -> int:
        """Height of the lines that some cards take."""
        lines = 1 + max((line for line, _, _ in self._places(cards)), default=-1)
        return lines * self._line_px

    def draw(self, canvas: Canvas, top: int, cards: Sequence[Card]) -> None:
        """Draw cards below ``top``."""
        for line, x, card in self._places(cards):
            self._card(canvas, x, top + line * self._line_px, card)

    @property
    def _line_px(self) -> int:
        return HEAD_PX + self._thumb_px[1] + CAPTION_PX + CARD_GAP_PX

    def _card_px(self, card: Card) -> int:
        return len(card.frames) * (self._slot_px + GAP_PX) - GAP_PX

    def _places(self, cards: Sequence[Card]) -> Iterator[tuple[int, int, Card]]:
        """Line and left end of each card."""
        line, x = 0, self._left
        for card in cards:
            if x > self._left and x + self._card_px(card) > self._right:
                line, x = line + 1, self._left
            yield line, x, card
            x += self._card_px(card) + CARD_GAP_PX

    def _card(self, canvas: Canvas, x: int, y: int, card: Card) -> None:
        right = x + self._card_px(card)
        color = LINE if card.mark is None else kind_color(card.mark.kind)
        canvas.box(x, y, right, y + 3, color)
        if card.mark is None:
            canvas.text(x, y + 13, f"shot {card.number}", SOFT)
        else:
            self._mark_head(canvas, x, y + 3, right, card)
        for slot, frame in enumerate(card.frames):
            self._frame(canvas, x + slot * (self._slot_px + GAP_PX), y + HEAD_PX, frame)

    def _mark_head(self, canvas: Canvas, x: int, y: int, right: int, card: Card) -> None:
        """The transition's number, as on its flag, and what it is."""
        assert card.mark is not None
        color, number = kind_color(card.mark.kind), str(card.number)
        width = text_width(number) + 10
        canvas.box(x, y, x + width, y + 16, color)
        canvas.text(x + 5, y + 8, number, ink_on(color))
        start_s, end_s = self._time_s[[card.mark.start_frame, card.mark.end_frame]]
        sure = f"  confidence {card.mark.confidence:.2f}"
        when = f" {start_s:.2f}-{end_s:.2f} s" if card.mark.kind != "cut" else f" {end_s:.2f} s"
        texts = [card.mark.kind + when + sure, card.mark.kind + when, card.mark.kind]
        room = right - x - width - 8
        canvas.text(x + width + 8, y + 8, fitting(texts, room, NORMAL), INK, NORMAL)

    def _frame(self, canvas: Canvas, x: int, y: int, frame: int) -> None:
        width, height = self._thumb_px
        picture = self.thumbs.get(frame)
        canvas.box(x, y, x + width, y + height, TRACK)
        if picture is None:
            canvas.text(x + 6, y + height / 2, fitting(["not decoded", "none"], width - 8), SOFT)
        else:  # a stream may change its size: the other pictures are set in the middle
            picture = picture[:height, :width]
            inner = (width - picture.shape[1]) // 2, (height - picture.shape[0]) // 2
            canvas.picture(x + inner[0], y + inner[1], picture)
        at_s = self._time_s[frame]
        texts = [f"f {frame}   {at_s:.2f} s", f"f {frame}  {at_s:.1f} s", f"f {frame}"]
        canvas.text(x, y + height + 9, fitting(texts, self._slot_px), SOFT)
