"""FastestDet, a detector of the 80 kinds of things of COCO, in 1 MB (dog-qiuqiu/FastestDet, 2022).

One head on a grid of 22x22 cells; each cell tells at most one thing. It finds a quarter of what
COCO asks for (mAP50 0.25), so what it does not report says nothing; what it reports with a score
near 1 is nearly always there. Small things get lost. Cost: 6 ms a picture on one core.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from curation.models.onnx import Network
from curation.models.weights import FASTEST_DET

SIDE_PX = 352
"""The whole picture is squeezed into a square of this side, as in training."""
SCORE_POWERS = (0.6, 0.4)
"""Of the objectness and of the class, in the score: those of the project's own evaluation."""
NMS_OVERLAP = 0.45
"""Boxes of one class that overlap more are one thing; the project's value."""
OUTPUT = "758"
KINDS: tuple[str, ...] = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse"),
    *("remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier"),
    "toothbrush",
)
"""COCO's 80 classes in the order of the network's output (Lin et al. 2014, arXiv 1405.0312)."""
assert len(KINDS) == 80


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A thing found in a picture.

    Attributes:
        kind: One of ``KINDS``.
        score: 0-1.
        x: Left edge, share of the picture's width.
        y: Top edge, share of its height.
        width: Share of its width.
        height: Share of its height.
    """

    kind: str
    score: float
    x: float
    y: float
    width: float
    height: float


class ThingFinder:
    """Finds things in single pictures; what came before has no influence."""

    def __init__(self, min_score: float) -> None:
        """Load the network.

        Args:
            min_score: 0-1; things below are left out.

        Raises:
            ConfigError: Its weights are not here.
        """
        self._network = Network(FASTEST_DET)
        self._min_score = min_score

    def __call__(self, picture: np.ndarray) -> list[Thing]:
        """Things in a uint8 BGR picture [h, w, 3], the surest first."""
        method = cv2.INTER_AREA if min(picture.shape[:2]) > SIDE_PX else cv2.INTER_LINEAR
        square = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=method)
        blob = np.ascontiguousarray(square.transpose(2, 0, 1)[None], dtype=np.float32) / 255
        (maps,) = self._network([OUTPUT], **{"input.1": blob})
        boxes, scores, kinds = self._candidates(maps[0].astype(np.float64))
        kept = cv2.dnn.NMSBoxesBatched(
            boxes.tolist(), scores.tolist(), kinds.tolist(), self._min_score, NMS_OVERLAP
        )
        return [_thing(boxes[i], float(scores[i]), int(kinds[i])) for i in np.ravel(kept)]

    def _candidates(self, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes [n, 4] (x, y, width, height as shares), scores [n], classes [n] above the score.

        Args:
            maps: float [85, rows, columns]: objectness, shift and size of the box, classes.
        """
        num_rows, num_columns = maps.shape[1:]
        there, sure = np.clip(maps[0], 0, 1), np.clip(maps[5:], 0, 1)
        kinds = sure.argmax(0)
        score = there ** SCORE_POWERS[0] * sure.max(0) ** SCORE_POWERS[1]
        row, column = np.nonzero(score >= self._min_score)
        shift_x, shift_y = np.tanh(maps[1:3, row, column])
        width, height = 1 / (1 + np.exp(-maps[3:5, row, column]))
        x, y = (column + shift_x) / num_columns, (row + shift_y) / num_rows
        boxes = np.stack([x - width / 2, y - height / 2, width, height], axis=1)
        return boxes, score[row, column], kinds[row, column]


def _thing(box: np.ndarray, score: float, kind: int) -> Thing:
    """The part of a box that lies in the picture."""
    left, top, width, height = (float(v) for v in box)
    x0, y0 = max(0.0, left), max(0.0, top)
    x1, y1 = min(1.0, left + width), min(1.0, top + height)
    return Thing(
        kind=KINDS[kind], score=score, x=x0, y=y0, width=max(0.0, x1 - x0), height=max(0.0, y1 - y0)
    )
