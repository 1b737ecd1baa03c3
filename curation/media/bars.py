"""Black bars: letterbox and pillarbox, found over all frames of a clip.

A line belongs to a bar when it is black in *every* frame, so a crop never takes away anything that
was ever seen. Black alone is no proof, since a night scene has black edges too: the picture has to
begin sharply beside the bar in at least one frame, and bars come in pairs of about one size.
In doubt nothing is cropped. Cost: about 2 ms a frame at 1080p, beside decoding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

BLACK_MAX = 20
"""Brightest black of a bar, of 255 (full range): coding noise stays below."""
SPECKS = 0.002
"""Share of a line that may be brighter than black: ringing, no subtitle."""
PICTURE_MIN = 40
"""What counts as picture beside a bar, of 255."""
PICTURE_SHARE = 0.3
"""Share of a line beside the bar that has to be picture in one frame."""
EDGE_PX = 6
"""The picture has to begin within so many lines of the bar."""
UNEVEN = 0.02
"""Two bars of a pair may differ by this share of the side (at least ``EDGE_PX``)."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A part of a picture, in pixels; all four numbers are even."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int

    def turned(self, width_px: int, height_px: int, turn_deg: int) -> Box:
        """The same part after the whole picture (of a stored size) is turned clockwise."""
        right = width_px - self.x_px - self.width_px
        below = height_px - self.y_px - self.height_px
        if turn_deg in (90, 270):
            x, y = (below, self.x_px) if turn_deg == 90 else (self.y_px, right)
            return Box(x_px=x, y_px=y, width_px=self.height_px, height_px=self.width_px)
        x, y = (right, below) if turn_deg == 180 else (self.x_px, self.y_px)
        return Box(x_px=x, y_px=y, width_px=self.width_px, height_px=self.height_px)


def find_bars(frames: Iterable[VideoFrame], *, min_bar: float) -> Box | None:
    """The part inside black bars that last the whole clip; None when there are none.

    Args:
        frames: All frames of the clip, as stored.
        min_bar: Smallest bar worth cropping, as a share of the side.
    """
    gray = VideoReformatter()
    lines: _Lines | None = None
    for frame in frames:
        picture = gray.reformat(frame, format="gray", dst_color_range="JPEG", threads=1)
        luma = picture.to_ndarray()
        if lines is None:
            lines = _Lines(*luma.shape)
        elif lines.shape != luma.shape:
            return None  # the size changes inside the clip: no box fits both
        lines.add(luma)
    if lines is None:
        return None
    top, bottom = _pair(lines.row_bright, lines.row_picture, min_bar)
    left, right = _pair(lines.column_bright, lines.column_picture, min_bar)
    if top + bottom + left + right == 0:
        return None
    height, width = lines.shape
    return Box(
        x_px=left,
        y_px=top,
        width_px=(width - left - right) // 2 * 2,
        height_px=(height - top - bottom) // 2 * 2,
    )


class _Lines:
    """For every row and column, the most that any frame showed there (shares of the line)."""

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width)
        self.row_bright, self.row_picture = np.zeros((2, height), np.float32)
        self.column_bright, self.column_picture = np.zeros((2, width), np.float32)

    def add(self, luma: np.ndarray) -> None:
        """Take in one frame, uint8 [h, w], full range."""
        for limit, rows, columns in (
            (BLACK_MAX, self.row_bright, self.column_bright),
            (PICTURE_MIN, self.row_picture, self.column_picture),
        ):
            above = cv2.threshold(luma, limit, 1, cv2.THRESH_BINARY)[1]
            for most, axis in ((rows, 1), (columns, 0)):
                share = cv2.reduce(above, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
                np.maximum(most, share, out=most)


def _pair(bright: np.ndarray, picture: np.ndarray, min_bar: float) -> tuple[int, int]:
    """Sizes of the bars at both ends of a side, rounded up to even; (0, 0) when in doubt."""
    side = len(bright)
    lit = np.flatnonzero(bright > SPECKS)
    if not len(lit):
        return 0, 0  # black all over
    first, last = int(lit[0]), side - 1 - int(lit[-1])
    if min(first, last) < max(2.0, min_bar * side):
        return 0, 0
    if abs(first - last) > max(EDGE_PX, UNEVEN * side):
        return 0, 0
    begins = picture[first : first + EDGE_PX].max()
    ends = picture[side - last - EDGE_PX : side - last].max()
    if min(begins, ends) < PICTURE_SHARE:
        return 0, 0
    return (first + 1) // 2 * 2, (last + 1) // 2 * 2
