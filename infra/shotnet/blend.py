"""Transitions and disturbances as functions of pictures, at any resolution.

The same functions make the thumbnails that the shot network learns from and the full-size
composites that the benchmark scores. Pictures are uint8 [h, w, 3]; progress runs over (0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

WIPES = ("linear", "push", "iris", "clock", "blinds")


@dataclass(frozen=True, kw_only=True)
class Style:
    """What a gradual transition looks like.

    Attributes:
        wipe: One of ``WIPES``.
        angle_rad: Direction of a linear wipe or push.
        softness: Width of a wipe's soft edge, fraction of the picture's width.
        colour: RGB 0-255 that a fade goes through.
        hold: Fraction of a fade that shows the colour alone, 0-0.8.
    """

    wipe: str = "linear"
    angle_rad: float = 0.0
    softness: float = 0.02
    colour: tuple[int, int, int] = (0, 0, 0)
    hold: float = 0.0


def random_style(rng: np.random.Generator) -> Style:
    """A style of everyday editing: mostly linear wipes and fades through black."""
    quarter = rng.integers(4) * np.pi / 2
    dark = rng.random() < 0.8
    return Style(
        wipe=str(rng.choice(WIPES, p=[0.6, 0.15, 0.1, 0.1, 0.05])),
        angle_rad=float(quarter if rng.random() < 0.75 else rng.uniform(0, 2 * np.pi)),
        softness=float(rng.choice([0.0, 0.02, 0.08, 0.2])),
        colour=(0, 0, 0) if dark else (255, 255, 255) if rng.random() < 0.7 else _colour(rng),
        hold=float(rng.choice([0.0, 0.0, 0.1, 0.3, 0.5])),
    )


def blend(kind: str, a: np.ndarray, b: np.ndarray, progress: float, style: Style) -> np.ndarray:
    """One frame of a transition from ``a`` to ``b``.

    Args:
        kind: ``dissolve``, ``fade`` or ``wipe``.
        a: Frame of the old shot.
        b: Frame of the new shot.
        progress: 0 (all old) to 1 (all new), exclusive.
        style: Shape, edge and colour.
    """
    if kind == "dissolve":
        return cv2.addWeighted(a, 1 - progress, b, progress, 0)
    if kind == "fade":
        return _fade(a, b, progress, style)
    if style.wipe == "push":
        return _push(a, b, progress, style.angle_rad)
    mask = _wipe_mask(a.shape[:2], progress, style)[..., None]
    return (a * (1 - mask) + b * mask).astype(np.uint8)


def flash(frame: np.ndarray, strength: float) -> np.ndarray:
    """A photographer's flash: gain and lift towards white; strength 0-1."""
    lit = frame.astype(np.float32) * (1 + 1.5 * strength) + 140 * strength
    return np.clip(lit, 0, 255).astype(np.uint8)


def shift(frame: np.ndarray, right: float, down: float) -> np.ndarray:
    """Move the picture by fractions of its width and height, edges repeated."""
    height, width = frame.shape[:2]
    matrix = np.array([[1, 0, right * width], [0, 1, down * height]], np.float64)
    return cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in rng.integers(0, 256, 3))
    return r, g, b


def _fade(a: np.ndarray, b: np.ndarray, progress: float, style: Style) -> np.ndarray:
    ramp = (1 - style.hold) / 2
    out, back = progress < ramp, progress > 1 - ramp
    level = 1 - progress / ramp if out else (progress - 1 + ramp) / ramp if back else 0.0
    flat = np.empty_like(a)
    flat[:] = style.colour
    return cv2.addWeighted(a if out else b, level, flat, 1 - level, 0)


def _push(a: np.ndarray, b: np.ndarray, progress: float, angle_rad: float) -> np.ndarray:
    """The new picture pushes the old one out, along the nearer axis."""
    height, width = a.shape[:2]
    x, y = np.cos(angle_rad), np.sin(angle_rad)
    if abs(x) >= abs(y):
        n = min(width - 1, max(1, round(progress * width)))
        if x > 0:
            return np.concatenate([b[:, width - n :], a[:, : width - n]], axis=1)
        return np.concatenate([a[:, n:], b[:, :n]], axis=1)
    n = min(height - 1, max(1, round(progress * height)))
    if y > 0:
        return np.concatenate([b[height - n :], a[: height - n]])
    return np.concatenate([a[n:], b[:n]])


def _wipe_mask(size: tuple[int, int], progress: float, style: Style) -> np.ndarray:
    """Share of the new picture per pixel, float32 [h, w]."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (x + 0.5) / width - 0.5, (y + 0.5) / height - 0.5
    if style.wipe == "iris":
        place = np.hypot(x, y) / np.hypot(0.5, 0.5)
    elif style.wipe == "clock":
        place = (np.arctan2(y, x) + np.pi) / (2 * np.pi)
    elif style.wipe == "blinds":
        place = ((y + 0.5) * 6) % 1.0
    else:
        along = x * np.cos(style.angle_rad) + y * np.sin(style.angle_rad)
        reach = 0.5 * (abs(np.cos(style.angle_rad)) + abs(np.sin(style.angle_rad)))
        place = (along + reach) / (2 * reach)
    soft = max(style.softness, 1e-3)
    return np.clip((progress * (1 + soft) - place) / soft, 0, 1).astype(np.float32)
