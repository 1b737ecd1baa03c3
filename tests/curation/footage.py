"""The same footage at other sizes and frame rates."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np

from tests.media import Camera, Recording, write_video

Picture = Callable[[int, int, float], np.ndarray]
"""Draws footage at a size (width, height) and a time."""


def real(path: Path, start_s: float = 0.0) -> Picture:
    """A real file as a function of size and time: the nearest frame, resized."""
    times_s, frames = _frames(path, start_s)

    def picture(width_px: int, height_px: int, time_s: float) -> np.ndarray:
        frame = frames[int(np.abs(times_s - time_s).argmin())]
        shrink = width_px < frame.shape[1]
        method = cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
        return cv2.resize(frame, (width_px, height_px), interpolation=method)

    return picture


@lru_cache(maxsize=1)
def _frames(path: Path, start_s: float) -> tuple[np.ndarray, list[np.ndarray]]:
    times, frames = [], []
    with av.open(str(path)) as source:
        for frame in source.decode(video=0):
            if frame.time is None or frame.time < start_s:
                continue
            if frame.time > start_s + 3.1:
                break
            times.append(frame.time - start_s)
            frames.append(frame.to_ndarray(format="rgb24"))
    return np.array(times), frames


def generated(camera: Camera) -> Picture:
    """A camera over a texture."""
    return camera.picture


def record(
    path: Path, picture: Picture, *, size_px: tuple[int, int], fps: float, seconds: float
) -> Path:
    """Write footage at a size and a frame rate, at a quality that adds no noise."""
    times_s = np.arange(round(seconds * fps)) / fps
    pictures = (picture(*size_px, float(t)) for t in times_s)
    return write_video(path, pictures, Recording(fps=fps, crf=14))
