"""Disturbances: things that change the picture and are no change of shot.

Each is a function of a generator and a shot, uint8 [n, 27, 48, 3], that it may write to. The order
in which they draw is part of what a seed gives.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from curation.signals.shotnet import HEIGHT_PX, WIDTH_PX
from infra.shotnet.blend import flash, shift


def disturb(
    rng: np.random.Generator, shot: np.ndarray, texture: Callable[[], np.ndarray]
) -> np.ndarray:
    """Disturb a shot, now and then.

    Args:
        rng: Everything is drawn from it.
        shot: uint8 [n, 27, 48, 3].
        texture: Draws a picture of anything, uint8 [27, 48, 3], from the same generator.
    """
    plain = rng.random() < 0.08
    if plain:
        shot = _flatten(rng, shot)

    def pass_by(rng: np.random.Generator, shot: np.ndarray) -> np.ndarray:
        return _pass_by(rng, shot, texture)

    for chance, act in (
        (0.12, _flash),
        (0.12, _shake),
        (0.06, _whip),
        (0.05, _exposure),
        (0.06, _stutter),
        (0.05, _caption),
        (0.8 if plain else 0.12, pass_by),
        (0.03, _strobe),
    ):
        if rng.random() < chance and len(shot) >= 12:
            shot = act(rng, shot.copy())
    return shot


def finish(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """What a whole file has: grain, bars, a bug in the corner."""
    frames = frames.copy()
    if rng.random() < 0.5:
        grain = rng.standard_normal(frames.shape, np.float32) * np.float32(rng.uniform(0.5, 5.0))
        frames = np.clip(frames + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.12:
        bar = rng.integers(1, 5)
        frames[:, :bar], frames[:, -bar:] = 0, 0
    elif rng.random() < 0.06:
        bar = rng.integers(2, 13)
        frames[:, :, :bar], frames[:, :, -bar:] = 0, 0
    if rng.random() < 0.08:
        y, x = rng.integers(0, HEIGHT_PX - 4), rng.integers(0, WIDTH_PX - 8)
        frames[:, y : y + 3, x : x + 6] = rng.integers(0, 256, 3)
    return frames


def _flatten(rng: np.random.Generator, shot: np.ndarray) -> np.ndarray:
    """A plain ground: a road, a wall, the sky, before which things move."""
    ground = cv2.blur(shot[0], (15, 15)).astype(np.float32)
    ground = ground.mean((0, 1)) + rng.uniform(0, 0.4) * (ground - ground.mean((0, 1)))
    own = rng.uniform(0, 0.2)
    return np.clip(ground + own * (shot - ground), 0, 255).astype(np.uint8)


def _flash(rng: np.random.Generator, shot: np.ndarray) -> np.ndarray:
    for _ in range(rng.integers(1, 3)):
        at, size = rng.integers(2, len(shot) - 3), rng.integers(1, 6)
        strength, decay = rng.uniform(0.3, 1.0), rng.uniform(0.4, 1.0)
        for i in range(at, min(len(shot) - 2, at + size)):
            shot[i] = flash(shot[i], strength * decay ** (i - at))
    return shot


def _shake(rng: np.random.Generator, shot: np.ndarray) -> np.ndarray:
    at, size, reach = rng.integers(0, len(shot)), rng.integers(4, 40), rng.uniform(0.02, 0.12)
    smooth = rng.uniform(0, 0.8)
    move = np.zeros(2)
    for i in range(at, min(len(shot), at + size)):
        move = smooth * move + (1 - smooth) * rng.normal(0, reach, 2)
        shot[i] = shift(shot[i], move[0], move[1])
    return shot


def _whip(rng: np.random.Generator, shot: np.ndarray) -> np.ndarray:
    """A fast pan away and back over the mirrored picture, blurred as a shutter does."""
    size = min(int(rng.integers(6, 24)), len(shot) - 4)
    at = rng.integers(2, len(shot) - size - 1)
    reach, sideways = rng.uniform(0.2, 0.8), rng.random() < 0.7
    for i in range(size):
        x = reach * np.sin(np.pi * (i + 1) / (size + 1))
        wide = np.concatenate([shot[at + i], shot[at + i][:, ::-1]], axis=1)
        tall = np.concatenate([shot[at + i], shot[at + i][::-1]], axis=0)
        if sideways:
            n = int(x * WIDTH_PX)
            picture = cv2.blur(wide[:, n : n + WIDTH_PX], (7, 1))
        else:
            n = int(x * HEIGHT_PX)
            picture = cv2.blur(tall[n : n + HEIGHT_PX], (1, 5))
        shot[at + i] = picture
    return shot


def _exposure(rng: np.random.Generator, shot: np.ndarray) -> np.ndarray:
    """The camera adapts, or a light goes on."""
    at, size = rng.integers(1, len(shot)), rng.integers(1, 20)
    target = rng.uniform(0.4, 1.8)
    for i in range(at, len(shot)):
        gain = 1 + (target - 1) * min(1.0, (i - at + 1) / size)
        shot[i] = np.clip(shot[i] * gain, 0, 255)
    return shot


def _stutter(rng: np.random.Generator, shot: np.ndarray) -> np.ndarray:
    """Repeated frames: a freeze, or a low frame rate in a higher one."""
    index = np.arange(len(shot))
    if rng.random() < 0.5:
        at, size = rng.integers(0, len(shot)), rng.integers(3, 20)
        index[at : at + size] = at
    else:
        every = rng.integers(2, 6)
        index = index // every * every
    return shot[index]


def _caption(rng: np.random.Generator, shot: np.ndarray) -> np.ndarray:
    """A box of text or a logo appears, stays and goes."""
    at, size = rng.integers(0, len(shot) - 2), rng.integers(8, 60)
    h, w = rng.integers(2, 8), rng.integers(8, 36)
    y, x = rng.integers(0, HEIGHT_PX - h), rng.integers(0, WIDTH_PX - w)
    box = rng.integers(0, 256, (h, w, 3)) if rng.random() < 0.5 else rng.integers(0, 256, 3)
    strength = rng.uniform(0.5, 1.0)
    area = shot[at : at + size, y : y + h, x : x + w]
    area[:] = (area * (1 - strength) + box * strength).astype(np.uint8)
    return shot


def _pass_by(
    rng: np.random.Generator, shot: np.ndarray, texture: Callable[[], np.ndarray]
) -> np.ndarray:
    """Large things move into the picture, out of it, or through it; the scene stays."""
    gain = np.ones(len(shot))
    for _ in range(rng.integers(1, 4)):
        picture = texture()
        size = rng.uniform(0.2, 1.1, 2) * (WIDTH_PX, HEIGHT_PX)
        mask = _soft_shape(size, round_one=rng.random() < 0.5)
        angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else rng.integers(4) * np.pi / 2
        way = np.array([np.cos(angle), np.sin(angle)])
        middle = rng.uniform(0.2, 0.8, 2) * (WIDTH_PX, HEIGHT_PX)
        reach = 0.6 * (np.array([WIDTH_PX, HEIGHT_PX]) + size)
        frames, at = int(rng.integers(8, 100)), int(rng.integers(-20, len(shot)))
        begin, end = ((-1, 1), (-1, 0), (0, 1))[rng.choice(3, p=[0.6, 0.2, 0.2])]
        for i in range(max(0, at) if begin else 0, len(shot)):
            done = float(np.clip((i - at) / frames, 0, 1))
            if done >= 1 and end:
                break
            where = middle + way * reach * (begin + (end - begin) * done)
            covered = _paste(shot[i], picture, mask, where - size / 2)
            gain[i] -= 0.4 * covered
    if rng.random() < 0.3:  # the camera's exposure follows what fills the picture
        smooth = np.convolve(np.pad(gain, 5, mode="edge"), np.ones(11) / 11, mode="valid")
        shot = np.clip(shot * smooth[:, None, None, None], 0, 255).astype(np.uint8)
    return shot


def _strobe(rng: np.random.Generator, shot: np.ndarray) -> np.ndarray:
    every, strength = rng.integers(2, 8), rng.uniform(0.2, 0.8)
    at, size = rng.integers(0, len(shot)), rng.integers(10, 60)
    for i in range(at, min(len(shot), at + size)):
        if i % every == 0:
            shot[i] = flash(shot[i], strength)
    return shot


def _soft_shape(size: np.ndarray, *, round_one: bool) -> np.ndarray:
    """Coverage, float32 [h, w], of a box or an ellipse with soft edges."""
    width, height = np.maximum(3, size.round()).astype(int)
    shape = np.zeros((height, width), np.float32)
    centre, axes = (width // 2, height // 2), (width // 2 - 1, height // 2 - 1)
    if round_one:
        cv2.ellipse(shape, centre, axes, 0, 0, 360, 1.0, -1)
    else:
        shape[1:-1, 1:-1] = 1
    return cv2.blur(shape, (3, 3))


def _paste(frame: np.ndarray, texture: np.ndarray, mask: np.ndarray, corner: np.ndarray) -> float:
    """Lay a piece of texture over a frame in place; returns the share of it that is covered."""
    x, y = (int(v) for v in corner.round())
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = min(WIDTH_PX, x + mask.shape[1]), min(HEIGHT_PX, y + mask.shape[0])
    if x1 <= x0 or y1 <= y0:
        return 0.0
    part = mask[y0 - y : y1 - y, x0 - x : x1 - x, None]
    # The texture moves with the mask, repeated where it is too small.
    rows, columns = (np.arange(y0, y1) - y) % HEIGHT_PX, (np.arange(x0, x1) - x) % WIDTH_PX
    thing = texture[np.ix_(rows, columns)]
    area = frame[y0:y1, x0:x1]
    area[:] = (area * (1 - part) + thing * part).astype(np.uint8)
    return float(part.sum()) / (WIDTH_PX * HEIGHT_PX)
