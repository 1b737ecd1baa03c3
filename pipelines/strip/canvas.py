"""Drawing with OpenCV: text that is measured before it is set, smooth lines, washes of colour.

OpenCV 5 sets these texts in a real typeface; older ones draw the strokes of its plotter font.
"""

from __future__ import annotations

import cv2
import numpy as np

Color = tuple[int, int, int]
"""Blue, green, red, 0-255."""

FONT = cv2.FONT_HERSHEY_SIMPLEX
SMALL, NORMAL, LARGE = 0.4, 0.45, 0.62
"""Text sizes: about 11, 12 and 17 px."""
SHIFT = 4
"""Coordinates of lines are in sixteenths of a pixel."""


def rgb(code: str) -> Color:
    """The colour of ``#rrggbb``."""
    return int(code[5:7], 16), int(code[3:5], 16), int(code[1:3], 16)


PAPER, INK, SOFT, FAINT, LINE, TRACK = map(
    rgb, ("#ffffff", "#1b1f24", "#57606a", "#8a929d", "#d5d9dd", "#f3f4f5")
)


def text_width(text: str, size: float = SMALL, weight: int = 1) -> int:
    """Pixels that a text takes."""
    (width, _), _ = cv2.getTextSize(text, FONT, size, weight)
    return width


def fitting(texts: list[str], width_px: float, size: float = SMALL) -> str:
    """The first of some texts, longest first, that fits a width; empty when none does."""
    return next((t for t in texts if text_width(t, size) <= width_px), "")


def shortened(text: str, width_px: float, size: float = SMALL, weight: int = 1) -> str:
    """A text cut in its middle to fit a width."""
    if text_width(text, size, weight) <= width_px:
        return text
    keep = len(text) - 1
    while keep > 2 and text_width(_middle_out(text, keep), size, weight) > width_px:
        keep -= 1
    return _middle_out(text, keep)


def _middle_out(text: str, keep: int) -> str:
    head = (keep + 1) // 2
    return f"{text[:head]}...{text[len(text) - (keep - head) :]}"


def ink_on(color: Color) -> Color:
    """Black or white, whichever reads better on a colour."""
    blue, green, red = color
    return INK if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else PAPER


class Canvas:
    """A white picture, uint8 [height, width, 3] in BGR."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self.pixels = np.full((height_px, width_px, 3), 255, np.uint8)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        color: Color = INK,
        size: float = SMALL,
        weight: int = 1,
    ) -> None:
        """Set a text with its left end at ``x`` and its middle at ``y``."""
        (_, height), _ = cv2.getTextSize("0", FONT, size, 1)
        at = (round(x), round(y + height / 2))
        cv2.putText(self.pixels, text, at, FONT, size, color, weight, cv2.LINE_AA)

    def text_right(self, x: float, y: float, text: str, color: Color = INK) -> None:
        """Set a small text with its right end at ``x`` and its middle at ``y``."""
        self.text(x - text_width(text), y, text, color)

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Color) -> None:
        """Fill a rectangle, at least one pixel wide; ends are exclusive."""
        left, top = round(x0), round(y0)
        self.pixels[top : round(y1), max(0, left) : max(left + 1, round(x1))] = color

    def wash(
        self, x0: float, y0: float, x1: float, y1: float, color: Color, strength: float
    ) -> None:
        """Tint a rectangle."""
        left, right = max(0, round(x0)), max(round(x0) + 1, round(x1))
        area = self.pixels[round(y0) : round(y1), left:right]
        area[:] = np.round(area * (1 - strength) + np.array(color) * strength).astype(np.uint8)

    def frame(self, x0: float, y0: float, x1: float, y1: float, color: Color) -> None:
        """Outline a rectangle; the line lies inside."""
        corners = (round(x0), round(y0)), (round(x1) - 1, round(y1) - 1)
        cv2.rectangle(self.pixels, *corners, color, 1)

    def curve(self, points: np.ndarray, color: Color) -> None:
        """Draw a smooth line through points, float [n, 2] as x and y; a lone one becomes a dot."""
        fixed = np.round(points * (1 << SHIFT)).astype(np.int32)
        if len(fixed) == 1:
            fixed = np.repeat(fixed, 2, axis=0) + np.array([[-8, 0], [8, 0]], np.int32)
        cv2.polylines(self.pixels, [fixed], False, color, 1, cv2.LINE_AA, SHIFT)

    def dashes(self, x0: float, x1: float, y: float, color: Color) -> None:
        """Draw a dashed horizontal line."""
        for x in range(round(x0), round(x1), 8):
            self.box(x, round(y), min(x + 4, x1), round(y) + 1, color)

    def picture(self, x: float, y: float, image: np.ndarray) -> None:
        """Paste an image, uint8 [h, w, 3]."""
        height, width = image.shape[:2]
        self.pixels[round(y) : round(y) + height, round(x) : round(x) + width] = image

    def png(self) -> bytes:
        """The picture as the bytes of a PNG file."""
        done, data = cv2.imencode(".png", self.pixels)
        assert done
        return data.tobytes()
