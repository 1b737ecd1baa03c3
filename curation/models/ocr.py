"""Text in pictures: PP-OCR's detector and reader on onnxruntime.

The networks are PaddleOCR's (Du et al., PP-OCR, arXiv 2009.09941; the detector is DBNet, Liao et
al., arXiv 1911.08947). The way from the detector's map to boxes, and from the reader's classes to
characters, is that of the package ``rapidocr``, with its defaults; its own sessions are not used,
because they may download and take every core.

One picture at a time: on a CPU a batch saves nothing (within 10 % for 1, 4 and 8 pictures), and so
no result can depend on what else is in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

STRIDE_PX = 32
"""The detector's sides have to be multiples of this."""
READER_HEIGHT_PX = 48
READER_MIN_WIDTH_PX = 320
READER_MAX_WIDTH_PX = 1280
# The detector takes a flower, a figure or a door for a huge letter. On footage without text nearly
# all its boxes are higher than 0.3 of the picture's shorter side, less than 1.9 times as long as
# high, and score 0.50-0.85; lines of letters up to 0.12 of the height are lower than 0.2. Big
# titles in two lines, which look the same, score 0.89 and more.
BLOCK_HEIGHT, BLOCK_LENGTH, MIN_BLOCK_SCORE = 0.25, 2.0, 0.87
SQUARE, MIN_SQUARE_SCORE = 1.4, 0.7
"""Boxes shorter than this many heights, and what they have to score: bolts, lamps and windows."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A line of text in one picture.

    Attributes:
        quad_px: float32 [4, 2], corners x, y clockwise from the top left, in picture pixels.
        score: Mean probability of text inside, 0-1.
    """

    quad_px: np.ndarray
    score: float


class TextDetector:
    """Finds lines of text.

    Args:
        path: The detector's ONNX file.
        threads: CPU threads.
        input_px: Longer side that pictures are brought to.
        min_score: Mean probability below which a box is dropped; rapidocr's default is 0.5.
    """

    def __init__(
        self, path: Path, *, threads: int = 1, input_px: int = 416, min_score: float = 0.5
    ) -> None:
        from rapidocr.ch_ppocr_det.utils import DBPostProcess

        self._session = _session(path, threads)
        self._input_px = input_px
        self._boxes = DBPostProcess(
            thresh=0.3,
            box_thresh=min_score,
            max_candidates=1000,
            unclip_ratio=1.6,
            score_mode="fast",
            use_dilation=True,
        )

    def find(self, picture: np.ndarray) -> list[Found]:
        """Lines of text, from the top left.

        Args:
            picture: uint8 BGR [h, w, 3].
        """
        tensor, scale = _fitted(picture, self._input_px)
        (probability,) = self._session.run(None, {"x": tensor})
        quads, scores = self._boxes(np.asarray(probability), tensor.shape[2:])
        limit = np.array([picture.shape[1], picture.shape[0]], np.float32)
        found = [
            Found(quad_px=np.clip(quad / scale, 0, limit), score=float(score))
            for quad, score in zip(quads, scores, strict=True)
        ]
        short_px = min(picture.shape[:2])
        inside = [f for f in found if _is_line(f, short_px)]
        return sorted(inside, key=lambda f: (f.quad_px[:, 1].min(), f.quad_px[:, 0].min()))


class TextReader:
    """Reads lines of text.

    Args:
        path: The reader's ONNX file; it carries its own alphabet.
        threads: CPU threads.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode

        self._session = _session(path, threads)
        alphabet = self._session.get_modelmeta().custom_metadata_map["character"]
        self._decode = CTCLabelDecode(character=alphabet.splitlines())

    def read(self, picture: np.ndarray, quad_px: np.ndarray) -> tuple[str, float]:
        """The text of one line and its mean probability.

        Args:
            picture: uint8 BGR [h, w, 3].
            quad_px: The line's corners.
        """
        from rapidocr.utils.process_img import get_rotate_crop_image

        line = get_rotate_crop_image(picture, quad_px.astype(np.float32))
        if min(line.shape[:2]) == 0:
            return "", 0.0
        wanted_px = int(np.ceil(READER_HEIGHT_PX * line.shape[1] / line.shape[0]))
        width_px = min(wanted_px, READER_MAX_WIDTH_PX)
        line = cv2.resize(line, (width_px, READER_HEIGHT_PX), interpolation=cv2.INTER_LINEAR)
        # Few widths, so that the session plans its memory a few times only.
        padded_px = max(READER_MIN_WIDTH_PX, -(-width_px // 160) * 160)
        tensor = np.zeros((1, 3, READER_HEIGHT_PX, padded_px), np.float32)
        tensor[0, :, :, :width_px] = _normal(line)
        (classes,) = self._session.run(None, {"x": tensor})
        lines, _ = self._decode(np.asarray(classes))
        return lines[0]


def _is_line(found: Found, short_px: int) -> bool:
    """Not a thing that looks like a letter, and not in the padding."""
    quad = found.quad_px
    sides = [float(np.linalg.norm(quad[1] - quad[0])), float(np.linalg.norm(quad[3] - quad[0]))]
    if min(sides) < 1:
        return False
    if max(sides) < SQUARE * min(sides) and found.score < MIN_SQUARE_SCORE:
        return False
    block = min(sides) > BLOCK_HEIGHT * short_px and max(sides) < BLOCK_LENGTH * min(sides)
    return not block or found.score >= MIN_BLOCK_SCORE


def _session(path: Path, threads: int) -> InferenceSession:
    """A CPU session with a pinned number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()  # pyright: ignore[reportAttributeAccessIssue]
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _fitted(picture: np.ndarray, input_px: int) -> tuple[np.ndarray, float]:
    """A picture as the detector takes it, float32 [1, 3, h, w], and how much larger it is.

    Its shape is kept and what lacks to whole strides is filled with the border's pixels: bars of
    another colour would be edges that are not in the picture.
    """
    height, width = picture.shape[:2]
    scale = input_px / max(height, width)
    if scale != 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        picture = cv2.resize(picture, size, interpolation=method)
    below, right = (-side % STRIDE_PX for side in picture.shape[:2])
    picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return _normal(picture)[None], scale


def _normal(picture: np.ndarray) -> np.ndarray:
    """uint8 BGR [h, w, 3] as float32 [3, h, w] in -1..1."""
    return (picture.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)
