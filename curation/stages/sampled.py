"""What stages that look at stored sampled frames share: which frames, and their pixels."""

from __future__ import annotations

import cv2
import numpy as np


def spread(count: int, wanted: int) -> list[int]:
    """Indices of at most ``wanted`` of ``count`` frames, evenly spread, the ends left free.

    ``count = 10, wanted = 3: . x . . . x . . x .``
    """
    if count <= wanted:
        return list(range(count))
    return [int((i + 0.5) * count / wanted) for i in range(wanted)]


def picture(jpeg: bytes) -> np.ndarray:
    """The uint8 BGR picture [h, w, 3] of a stored sample."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, "a stored sample is no picture"
    return image
