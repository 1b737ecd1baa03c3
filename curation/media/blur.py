"""Making faces unrecognisable: found in every frame of a clip, and averaged to a few blots.

A detector misses faces now and then, and one readable frame gives a person away. So a face that is
not found is covered where it was last seen, and where it is next seen, for some frames both ways:

    found            . . x x x . . . . x x . . .
    covered, hold 2  x x x x x x x x x x x x x .

What is covered becomes 2x2 mean colours, blended. Finer mosaics can still be told apart by a
network (McPherson, Shokri and Shmatikov 2016, arXiv 1609.00408).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

if TYPE_CHECKING:
    from curation.models.yunet import FaceFinder

CELLS = 2
"""Mean colours across and down a covered face."""
MARGIN = 0.3
"""Added at each edge, share of the box: the detector's boxes leave out hair, ears and chin."""
GROWTH = 0.04
"""Added at each edge for each frame that a box is held: the face may have moved."""
SAME_FACE = 0.2
"""Boxes of two frames whose intersection over union is larger are one face."""
TIMED = tuple[int, VideoFrame]


@dataclass(frozen=True)
class _Seen:
    """A frame and its faces: float64 [n, 4], left, top, right, bottom as shares of the sides."""

    pts: int
    frame: VideoFrame
    boxes: np.ndarray


class FaceBlur:
    """Covers the faces of one clip.

    Attributes:
        num_frames: Frames that were changed so far.
    """

    def __init__(self, finder: FaceFinder, *, hold_frames: int, detect_px: int) -> None:
        """Prepare.

        Args:
            finder: The detector.
            hold_frames: Frames that a face is covered before it is found first and after it is
                lost. As many pictures wait in memory.
            detect_px: Longer side of the picture that faces are looked for in; frames are shrunk
                to it and never enlarged.
        """
        self.num_frames = 0
        self._finder, self._hold, self._detect_px = finder, hold_frames, detect_px
        self._scaler = VideoReformatter()
        self._latest: _Seen | None = None

    def __call__(self, frames: Iterable[TIMED]) -> Iterator[TIMED]:
        """Cover faces in upright 4:2:0 frames of 8 or 10 bits; as many come out as go in."""
        before: deque[np.ndarray] = deque(maxlen=self._hold)
        ahead: deque[_Seen] = deque()
        for pts, frame in frames:
            ahead.append(self._see(pts, frame))
            if len(ahead) > self._hold:
                yield self._next(before, ahead)
        while ahead:
            yield self._next(before, ahead)

    def _next(self, before: deque[np.ndarray], ahead: deque[_Seen]) -> TIMED:
        seen = ahead.popleft()
        boxes = np.concatenate(
            [
                widened(seen.boxes, MARGIN),
                held(seen.boxes, list(reversed(before))),
                held(seen.boxes, [later.boxes for later in ahead]),
            ]
        )
        before.append(seen.boxes)
        if not len(boxes):
            return seen.pts, seen.frame
        self.num_frames += 1
        return seen.pts, covered(seen.frame, boxes)

    def _see(self, pts: int, frame: VideoFrame) -> _Seen:
        if self._latest is not None and frame is self._latest.frame:  # shown again
            boxes = self._latest.boxes
        else:
            faces = self._finder(self._small(frame))
            corners = [(f.x, f.y, f.x + f.width, f.y + f.height) for f in faces]
            boxes = np.array(corners, np.float64).reshape(-1, 4)
        self._latest = _Seen(pts, frame, boxes)
        return self._latest

    def _small(self, frame: VideoFrame) -> np.ndarray:
        """The uint8 BGR picture that faces are looked for in."""
        scale = min(1.0, self._detect_px / max(frame.width, frame.height))
        small = self._scaler.reformat(
            frame,
            width=max(16, 2 * round(frame.width * scale / 2)),
            height=max(16, 2 * round(frame.height * scale / 2)),
            format="bgr24",
            interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
            threads=1,
        )
        return small.to_ndarray()


def held(own: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """Boxes of neighbouring frames that no frame in between takes up.

    Args:
        own: Boxes [n, 4] of the frame itself.
        others: Boxes of the frames before it, or after it, the nearest first.

    Returns:
        Widened boxes [m, 4], the more so the farther away they were found.
    """
    between, found = own, [np.zeros((0, 4))]
    for distance, boxes in enumerate(others, start=1):
        lost = boxes[~(_overlap(boxes, between) > SAME_FACE).any(axis=1)]
        found.append(widened(lost, MARGIN + GROWTH * distance))
        between = np.concatenate([between, boxes])
    return np.concatenate(found)


def widened(boxes: np.ndarray, margin: float) -> np.ndarray:
    """Boxes [n, 4] with a share of their width and height added at each edge."""
    add = margin * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - add, boxes[:, 2:] + add], axis=1)


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [n, 4] and [m, 4]: [n, m]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)


def covered(frame: VideoFrame, boxes: np.ndarray) -> VideoFrame:
    """A copy of a 4:2:0 frame with boxes [n, 4] (shares of its sides) averaged away.

    The frame itself may be the decoder's, which predicts others from it: it is left as it is.
    """
    height, width = frame.height, frame.width
    flat = frame.to_ndarray()
    luma = flat[:height]
    chroma = flat[height:].reshape(2, height // 2, width // 2)
    sides = np.array([width, height]) / 2  # even edges: chroma covers just the same
    low = 2 * np.floor(np.clip(boxes[:, :2], 0, 1) * sides).astype(int)
    high = 2 * np.ceil(np.clip(boxes[:, 2:], 0, 1) * sides).astype(int)
    for (x0, y0), (x1, y1) in zip(low, high, strict=True):
        if x1 <= x0 or y1 <= y0:
            continue
        _average(luma[y0:y1, x0:x1])
        for plane in chroma:
            _average(plane[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2])
    made = VideoFrame.from_ndarray(flat, format=frame.format.name)
    made.colorspace, made.color_range = frame.colorspace, frame.color_range
    return made


def _average(part: np.ndarray) -> None:
    """Replace a part of a plane by a few mean values, blended, in place."""
    height, width = part.shape
    cells = min(CELLS, width), min(CELLS, height)
    means = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
    part[:] = cv2.resize(means, (width, height), interpolation=cv2.INTER_LINEAR)
