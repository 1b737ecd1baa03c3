"""Per-frame numbers of light, sharpness and change, on the analysis picture.

Cost: about 0.25 ms a frame. The content deltas (mean absolute HSV difference to the previous frame)
and the histogram difference are PySceneDetect's, so that its detectors can run on them later.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from curation.signals.analysis import SmallFrame

DARK, BRIGHT = 16, 239
"""Luma below and above which a pixel counts as crushed or clipped (of 0-255)."""
CONTRAST_FLOOR = 4.0
"""Luma levels added to the contrast before dividing, so that noise on a flat wall is not sharp."""


class Appearance(NamedTuple):
    """Numbers of one frame; deltas are 0 on the first.

    Attributes:
        delta_hue: Mean absolute hue difference to the previous frame, 0-179.
        delta_sat: Same of saturation, 0-255.
        delta_val: Same of value (brightness), 0-255.
        delta_hist: One minus the correlation of the luma histograms (128 bins) with the previous
            frame's, 0-2.
        rgb_mean: Mean of all colour values, 0-255.
        luma_mean: Mean luma, 0-1.
        luma_std: Standard deviation of luma, 0-0.5.
        dark_fraction: Share of pixels at or below crushed black, 0-1.
        bright_fraction: Share of pixels at or above clipped white, 0-1.
        sharpness: Mean absolute Laplacian over contrast; about 0.1 (blurred) to 1 (crisp).
    """

    delta_hue: float
    delta_sat: float
    delta_val: float
    delta_hist: float
    rgb_mean: float
    luma_mean: float
    luma_std: float
    dark_fraction: float
    bright_fraction: float
    sharpness: float


class AppearanceMeter:
    """Measures frames against the one before; keeps its picture and histogram."""

    def __init__(self) -> None:
        self._before: tuple[SmallFrame, np.ndarray] | None = None

    def push(self, now: SmallFrame) -> Appearance:
        """Measure the next frame."""
        histogram = cv2.calcHist([now.luma], [0], None, [256], [0, 256]).ravel()
        before, self._before = self._before, (now, histogram)
        deltas = (0.0, 0.0, 0.0, 0.0)
        # A stream that changes its size starts anew.
        if before is not None and before[0].luma.shape == now.luma.shape:
            hue, sat, val, _ = cv2.mean(cv2.absdiff(now.hsv, before[0].hsv))
            alike = cv2.compareHist(_halved(before[1]), _halved(histogram), cv2.HISTCMP_CORREL)
            deltas = (hue, sat, val, 1.0 - alike)
        mean, std = (float(x[0, 0]) for x in cv2.meanStdDev(now.luma))
        pixels = now.luma.size
        laplacian = cv2.Laplacian(now.luma, cv2.CV_16S)
        edge = cv2.norm(laplacian, cv2.NORM_L1) / pixels
        return Appearance(
            *deltas,
            rgb_mean=sum(cv2.mean(now.bgr)[:3]) / 3,
            luma_mean=mean / 255,
            luma_std=std / 255,
            dark_fraction=float(histogram[: DARK + 1].sum()) / pixels,
            bright_fraction=float(histogram[BRIGHT:].sum()) / pixels,
            sharpness=edge / (std + CONTRAST_FLOOR),
        )


def _halved(histogram: np.ndarray) -> np.ndarray:
    """128 bins from 256, as PySceneDetect's histogram detector has by default."""
    return histogram.reshape(-1, 2).sum(1)
