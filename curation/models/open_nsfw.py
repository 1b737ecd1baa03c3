"""open_nsfw: how likely a picture is to be pornographic (Mahadeokar and Pesavento, Yahoo, 2016).

A thin ResNet-50 that answers with the probabilities of "safe" and "not safe for work". Its input is
prepared as its authors do: squeezed to 256x256 whatever the shape, stored as JPEG, the middle
224x224 cut out, BGR, the means of ImageNet taken off.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from threadpoolctl import ThreadpoolController

from curation.models.onnx import Network
from curation.models.weights import OPEN_NSFW

RESIZE_PX, CROP_PX = 256, 224
MEANS_BGR = np.array([104, 117, 123], np.float32)
JPEG_QUALITY = 75


class OpenNsfw:
    """Scores single pictures."""

    def __init__(self) -> None:
        """Load the network.

        Raises:
            ConfigError: Its weights are not here.
        """
        self._network = Network(OPEN_NSFW)
        self._blas = ThreadpoolController()

    def __call__(self, picture: np.ndarray) -> float:
        """Probability from 0 (safe) to 1 of a uint8 BGR picture [h, w, 3] of any size."""
        # One at a time: a batch saves nothing on a CPU, and no result can depend on its company.
        with self._blas.limit(limits=1, user_api="blas"):
            ready = prepare(picture)
        (answer,) = self._network(["outputs"], **{"input:0": ready[None]})
        return float(answer[0, 1])


def prepare(picture: np.ndarray) -> np.ndarray:
    """The network's input, float32 [224, 224, 3], from a uint8 BGR picture [h, w, 3]."""
    square = squeezed(picture)
    edge = (RESIZE_PX - CROP_PX) // 2
    middle = square[edge : edge + CROP_PX, edge : edge + CROP_PX]
    _, stored = cv2.imencode(".jpg", middle, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    again = cv2.imdecode(stored, cv2.IMREAD_COLOR)
    assert again is not None
    return again.astype(np.float32) - MEANS_BGR


def squeezed(picture: np.ndarray) -> np.ndarray:
    """Resize to a square as Pillow does (bilinear, widened when shrinking), first across.

    OpenCV has no such filter, and scores move by up to 0.2 with a crisper one.
    """
    height, width = picture.shape[:2]
    lines = picture.transpose(0, 2, 1).reshape(-1, width).astype(np.float32)
    across = _rounded(lines @ _triangles(width).T)
    down = _rounded(_triangles(height) @ across.reshape(height, -1))
    planes = down.reshape(RESIZE_PX, 3, RESIZE_PX).transpose(0, 2, 1)
    return np.ascontiguousarray(planes, dtype=np.uint8)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.float32)


@lru_cache(maxsize=8)
def _triangles(length: int) -> np.ndarray:
    """Weights [256, length] of a triangle around each output pixel; rows sum to 1."""
    scale = length / RESIZE_PX
    reach = max(scale, 1.0)
    centre = (np.arange(RESIZE_PX)[:, None] + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(length) + 0.5 - centre) / reach)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
