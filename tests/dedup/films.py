"""Prints of drawn clips, without a video: a camera over a texture, and things that move."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from curation.dedup.perceptual_path import SIDE_PX, Film
from curation.signals.prints import STEP_S
from tests.media import texture

WIDE_PX = 96
"""Side of the drawn square pictures."""


@lru_cache
def ground(seed: int) -> np.ndarray:
    """float32 [384, 384], something to film."""
    return cv2.resize(
        texture(seed).mean(axis=2).astype(np.float32), (384, 384), interpolation=cv2.INTER_AREA
    )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is filmed.

    Attributes:
        seed: Of the texture.
        pan: Speed of the camera, pictures per second.
        things: Speeds, rows and starting places of dark things that cross the picture.
    """

    seed: int
    pan: float = 0.0
    things: tuple[tuple[float, float, float], ...] = ()

    def picture(self, time_s: float) -> np.ndarray:
        """float32 [WIDE_PX, WIDE_PX]."""
        middle = (80 + self.pan * time_s * WIDE_PX, 120)
        image = cv2.getRectSubPix(ground(self.seed), (WIDE_PX, WIDE_PX), middle)
        for speed, row, start in self.things:
            left = round((start + speed * time_s) * WIDE_PX)
            top = round(row * WIDE_PX)
            image[top : top + 20, max(0, left) : max(0, left + 12)] = 30
        return image

    def film(
        self,
        start_s: float,
        end_s: float,
        *,
        speed: float = 1.0,
        crop: tuple[float, float, float, float] = (0, 0, 0, 0),
        mirrored: bool = False,
        label: bool = False,
        gain: float = 1.0,
        noise: float = 0.0,
    ) -> Film:
        """The prints of a stretch of it.

        Args:
            start_s: Begin in the scene's time.
            end_s: End in the scene's time.
            speed: How many times faster it is shown.
            crop: Left, top, right, bottom.
            mirrored: Flip it.
            label: Cover a corner.
            gain: Of the light.
            noise: Deviation of noise in luma levels.
        """
        length_s = (end_s - start_s) / speed
        rng = np.random.default_rng(round(1000 * start_s))
        prints, times = [], []
        for n in range(int(length_s / STEP_S + 1e-6)):
            middle = STEP_S * (n + 0.5)
            moments = middle + STEP_S * (np.arange(4) + 0.5 - 2) / 4
            image = np.mean([self.picture(start_s + m * speed) for m in moments], axis=0)
            left, top, right, bottom = (round(c * WIDE_PX) for c in crop)
            image = image[top : WIDE_PX - bottom, left : WIDE_PX - right]
            if label:
                image = image.copy()
                image[5:17, -25:-5] = 240
            small = cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
            small = gain * small + rng.normal(0, noise, small.shape) + 8 * (gain != 1)
            prints.append(small[:, ::-1] if mirrored else small)
            times.append(middle)
        pictures = np.clip(np.round(np.array(prints)), 0, 255).astype(np.float32)
        return Film(pictures, np.array(times), length_s)
