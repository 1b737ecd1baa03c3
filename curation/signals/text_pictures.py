"""Sampled pictures compared with each other, at the same place or moved, outside their text."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SAME_BLOCK = 0.8
"""Correlation from which a block of two pictures shows the same scene."""
BLOCK_STD = 4.0
"""Grey levels of contrast below which a block has nothing to compare."""
GRID = (6, 8)
"""Blocks down and across."""
MIN_BLOCKS = 10
"""So many have to have contrast; else the picture is plain, as a card behind credits."""
MAX_TEXT = 0.2
"""Share of a block that text may cover; else it is left out."""
RING_PX = 6
"""Compression leaves rings as far around letters."""
PLAY_PX = 8
"""How far the letters of a line are looked for where they were."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of text in one picture.

    Attributes:
        at: Index of the picture.
        box: float64 [4]: left, top, right, bottom, fractions of the picture.
        score: Mean probability of text inside, 0-1.
        slot: Index among the lines of its picture.
    """

    at: int
    box: np.ndarray
    score: float
    slot: int = 0

    @property
    def height(self) -> float:
        """Share of the picture's height."""
        return float(self.box[3] - self.box[1])

    @property
    def width(self) -> float:
        """Share of the picture's width."""
        return float(self.box[2] - self.box[0])

    @property
    def centre(self) -> np.ndarray:
        """x, y as fractions."""
        return (self.box[:2] + self.box[2:]) / 2


class Pictures:
    """The grey pictures of a clip.

    Args:
        grey: uint8 [h, w], all of one size.
        lines: The lines of each.
    """

    def __init__(self, grey: list[np.ndarray], lines: list[list[Line]]) -> None:
        self.grey = grey
        self.size_px = np.array([grey[0].shape[1], grey[0].shape[0]]) if grey else np.ones(2)
        self._wide = [_widened(g, PLAY_PX) for g in grey]
        # Blocks are compared at half size: that is enough for them and four times cheaper.
        self._half = [
            cv2.resize(g, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for g in grey
        ]
        self._half_wide = [_widened(h, 1) for h in self._half]
        self._text = [self._text_mask(at, found) for at, found in enumerate(lines)]
        self._still: dict[tuple[int, int], float | None] = {}

    def still_share(self, a: int, b: int) -> float | None:
        """Share of the blocks with contrast that show the same in both; None: too few of them."""
        if (a, b) not in self._still:
            self._still[a, b] = self._same_share(a, b, np.zeros(2))
        return self._still[a, b]

    def moves_by(self, a: int, b: int, move_px: np.ndarray) -> bool:
        """Many blocks of ``a`` are found again in ``b``, moved, and fewer where they were."""
        moved, stayed = self._same_share(a, b, move_px), self.still_share(a, b)
        return moved is not None and moved > 0.4 and moved > (stayed or 0.0)

    def crop(self, line: Line) -> np.ndarray:
        """A line's pixels, grey."""
        left, top, right, bottom = self._pixels(line.box)
        return self.grey[line.at][top:bottom, left:right]

    def around(self, at: int, box: np.ndarray) -> np.ndarray:
        """The pixels of a box and of a margin of ``PLAY_PX``."""
        left, top, right, bottom = self._pixels(box)
        return self._wide[at][top : bottom + 2 * PLAY_PX, left : right + 2 * PLAY_PX]

    def _pixels(self, box: np.ndarray) -> tuple[int, int, int, int]:
        width, height = (int(v) for v in self.size_px)
        left, top = int(box[0] * width), int(box[1] * height)
        right, bottom = int(np.ceil(box[2] * width)), int(np.ceil(box[3] * height))
        left, top = min(left, width - 2), min(top, height - 2)
        return left, top, max(right, left + 2), max(bottom, top + 2)

    def _same_share(self, a: int, b: int, move_px: np.ndarray) -> float | None:
        text, (height, width) = self._text[a] | self._text[b], self._half[a].shape
        x, y = (round(float(v) / 2) for v in move_px)
        same, compared = 0, 0
        for i in range(GRID[0]):
            top, bottom = i * height // GRID[0], (i + 1) * height // GRID[0]
            for j in range(GRID[1]):
                left, right = j * width // GRID[1], (j + 1) * width // GRID[1]
                block = self._half[a][top:bottom, left:right]
                if text[top:bottom, left:right].mean() > MAX_TEXT or block.std() < BLOCK_STD:
                    continue
                if left + x < 0 or top + y < 0 or right + x > width or bottom + y > height:
                    continue
                # A pixel of play: compression, and a hand that holds as still as it can.
                there = self._half_wide[b][top + y : bottom + y + 2, left + x : right + x + 2]
                likeness = cv2.matchTemplate(there, block, cv2.TM_CCOEFF_NORMED)
                compared += 1
                same += float(likeness.max()) >= SAME_BLOCK
        return same / compared if compared >= MIN_BLOCKS else None

    def _text_mask(self, at: int, lines: list[Line]) -> np.ndarray:
        """Where text is, in the half picture."""
        mask = np.zeros(self._half[at].shape, bool)
        for line in lines:
            left, top, right, bottom = self._pixels(line.box)
            rows = slice(max(0, top - RING_PX) // 2, (bottom + RING_PX + 1) // 2)
            mask[rows, max(0, left - RING_PX) // 2 : (right + RING_PX + 1) // 2] = True
        return mask


def _widened(picture: np.ndarray, margin_px: int) -> np.ndarray:
    """A picture whose border is repeated outwards."""
    return cv2.copyMakeBorder(picture, *[margin_px] * 4, borderType=cv2.BORDER_REPLICATE)
