"""Training sequences: shots of the bank joined by transitions, with disturbances that are none.

Everything is drawn from one generator, so a seed gives a sequence. Labels are per frame: a cut is
on the first new frame, a gradual transition on every blended frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from infra.shotnet.blend import blend, flash, random_style, shift

WIDTH_PX, HEIGHT_PX = 48, 27
CLASSES = ("none", "cut", "dissolve", "fade", "wipe")
IGNORE = -1
ALIKE = 10.0
"""Mean difference (0-255) below which two shots are too alike to demand a decision."""


@dataclass
class Source:
    """One file of the bank.

    Attributes:
        frames: uint8 [n, h, w, 3]; a photograph is one larger frame.
        spans: int64 [k, 2], its single shots, half-open; a photograph has none.
    """

    frames: np.ndarray
    spans: np.ndarray

    @property
    def is_photo(self) -> bool:
        """A still picture, to be moved over."""
        return len(self.frames) == 1


def load_bank(folders: list[Path]) -> list[Source]:
    """Read a bank; files without a usable shot are left out."""
    sources = []
    for file in sorted(f for folder in folders for f in folder.glob("*.npz")):
        with np.load(file, allow_pickle=False) as data:
            source = Source(data["frames"], data["spans"])
        if source.is_photo or len(source.spans):
            sources.append(source)
    return sources


class Composer:
    """Draws labelled sequences from a bank."""

    def __init__(self, sources: list[Source], seed: int, photo_share: float = 0.2) -> None:
        self._rng = np.random.default_rng(seed)
        self._videos = [s for s in sources if not s.is_photo]
        self._photos = [s for s in sources if s.is_photo]
        self._photo_share = photo_share if self._photos else 0.0
        # Long files are drawn more often, but not in proportion.
        weight = np.array([np.sqrt((s.spans[:, 1] - s.spans[:, 0]).sum()) for s in self._videos])
        self._weight = weight / weight.sum()

    def sequence(self, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames uint8 [n, 27, 48, 3] and labels int64 [n]."""
        rng = self._rng
        frames: list[np.ndarray] = []
        labels: list[int] = []
        source = self._source()
        shot = self._shot(source, self._length())
        while len(frames) < num_frames:
            same = rng.random() < 0.2
            source = source if same else self._source()
            new = self._shot(source, self._length())
            kind = str(rng.choice(["cut", "dissolve", "fade", "wipe"], p=[0.4, 0.2, 0.2, 0.2]))
            joined, marks, new = self._join(kind, shot, new)
            frames += joined
            labels += marks
            shot = new
        sequence = np.stack(frames)
        first = rng.integers(0, len(sequence) - num_frames + 1)
        part, marks = (
            sequence[first : first + num_frames],
            np.array(labels)[first : first + num_frames],
        )
        return self._finish(part), marks

    def _length(self) -> int:
        rng = self._rng
        return int(rng.integers(8, 25)) if rng.random() < 0.15 else int(rng.integers(30, 120))

    def _source(self) -> Source:
        if self._rng.random() < self._photo_share:
            return self._photos[self._rng.integers(len(self._photos))]
        return self._videos[self._rng.choice(len(self._videos), p=self._weight)]

    def _join(
        self, kind: str, old: np.ndarray, new: np.ndarray
    ) -> tuple[list[np.ndarray], list[int], np.ndarray]:
        """The old shot with its transition, labels, and what is left of the new shot."""
        rng = self._rng
        label = CLASSES.index(kind)
        if kind == "cut":
            marks = [0] * len(old)
            doubt = float(np.abs(old[-1].astype(np.int16) - new[0]).mean()) < ALIKE
            # The label of the first new frame: it is emitted with the next shot's first frame.
            frames, rest = [*old, new[0]], new[1:]
            return frames, [*marks, IGNORE if doubt else label], rest
        size = int(rng.integers(4, 50) if kind != "fade" else rng.integers(6, 50))
        size = max(2, min(size, len(old) - 4, len(new) - 4))
        style = random_style(rng)
        a, b = old[len(old) - size :], new[:size]
        mixed = [blend(kind, a[i], b[i], (i + 1) / (size + 1), style) for i in range(size)]
        doubt = float(np.abs(a[0].astype(np.int16) - b[-1]).mean()) < ALIKE and kind != "fade"
        marks = [0] * (len(old) - size) + [IGNORE if doubt else label] * size
        return [*old[: len(old) - size], *mixed], marks, new[size:]

    def _shot(self, source: Source, length: int) -> np.ndarray:
        """Frames uint8 [length, 27, 48, 3] of one shot with camera, colour and disturbances."""
        rng = self._rng
        if source.is_photo:
            raw = source.frames.repeat(length, 0)
            scale0, scale1 = rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.8)
            moves = rng.random() < 0.85
            scale1 = scale1 if moves else scale0
        else:
            raw = self._footage(source, length)
            scale0 = rng.uniform(0.6, 1.0)
            scale1 = scale0 if rng.random() < 0.7 else rng.uniform(0.6, 1.0)
            moves = rng.random() < 0.3
        start = rng.uniform(0, 1, 2)
        stop = rng.uniform(0, 1, 2) if moves else start
        if moves and source.is_photo and rng.random() < 0.3:  # a long fast pan
            start = rng.integers(0, 2, 2).astype(float)
            stop = np.array([1 - start[0], rng.uniform(0, 1)])
        elif moves:
            stop = start + (stop - start) * min(1.0, length / 60)
        flip = rng.random() < 0.5
        colour = self._colour()
        shots = []
        height, width = raw.shape[1:3]
        for i, frame in enumerate(raw):
            t = i / max(1, length - 1)
            scale = scale0 + (scale1 - scale0) * t
            at = start + (stop - start) * t
            w, h = scale * width, scale * height
            x, y = at[0] * (width - w), at[1] * (height - h)
            picture = _crop(frame, x, y, w, h)
            shots.append(picture)
        shot = cv2.LUT(np.concatenate(shots), colour[:, None]).reshape(
            length, HEIGHT_PX, WIDTH_PX, 3
        )
        shot = shot[:, :, ::-1] if flip else shot
        return self._disturb(np.ascontiguousarray(shot))

    def _flatten(self, shot: np.ndarray) -> np.ndarray:
        """A plain ground: a road, a wall, the sky, before which things move."""
        ground = cv2.blur(shot[0], (15, 15)).astype(np.float32)
        ground = ground.mean((0, 1)) + self._rng.uniform(0, 0.4) * (ground - ground.mean((0, 1)))
        own = self._rng.uniform(0, 0.2)
        return np.clip(ground + own * (shot - ground), 0, 255).astype(np.uint8)

    def _footage(self, source: Source, length: int) -> np.ndarray:
        rng = self._rng
        lengths = source.spans[:, 1] - source.spans[:, 0]
        a, b = source.spans[rng.choice(len(lengths), p=lengths / lengths.sum())]
        speed = float(rng.choice([0.5, 1.0, 1.0, 1.0, 1.5, 2.0, 3.0]))
        steps = np.arange(length) * speed
        first = rng.uniform(0, max(1.0, b - a - steps[-1]))
        index = (first + steps).astype(int)
        index = index % (2 * (b - a))  # to and fro when the shot is too short
        index = np.where(index >= b - a, 2 * (b - a) - 1 - index, index)
        frames = source.frames[a + index]
        return frames[::-1] if rng.random() < 0.2 else frames

    def _colour(self) -> np.ndarray:
        """A look-up table uint8 [256, 3]: exposure, gamma, white balance."""
        rng = self._rng
        base = np.linspace(0, 1, 256)[:, None]
        gain = rng.uniform(0.7, 1.25) * rng.uniform(0.9, 1.1, 3)
        lift = rng.uniform(-0.03, 0.05)
        if rng.random() < 0.1:
            gain = gain * rng.uniform(0.1, 0.5)  # a night scene
        table = gain * base ** rng.uniform(0.7, 1.5) + lift
        return (np.clip(table, 0, 1) * 255).astype(np.uint8)

    def _disturb(self, shot: np.ndarray) -> np.ndarray:
        """Things that change the picture and are no change of shot."""
        rng = self._rng
        plain = rng.random() < 0.08
        if plain:
            shot = self._flatten(shot)
        for chance, act in (
            (0.12, self._flash),
            (0.12, self._shake),
            (0.06, self._whip),
            (0.05, self._exposure),
            (0.06, self._stutter),
            (0.05, self._caption),
            (0.8 if plain else 0.12, self._pass_by),
            (0.03, self._strobe),
        ):
            if rng.random() < chance and len(shot) >= 12:
                shot = act(shot.copy())
        return shot

    def _flash(self, shot: np.ndarray) -> np.ndarray:
        rng = self._rng
        for _ in range(rng.integers(1, 3)):
            at, size = rng.integers(2, len(shot) - 3), rng.integers(1, 6)
            strength, decay = rng.uniform(0.3, 1.0), rng.uniform(0.4, 1.0)
            for i in range(at, min(len(shot) - 2, at + size)):
                shot[i] = flash(shot[i], strength * decay ** (i - at))
        return shot

    def _shake(self, shot: np.ndarray) -> np.ndarray:
        rng = self._rng
        at, size, reach = rng.integers(0, len(shot)), rng.integers(4, 40), rng.uniform(0.02, 0.12)
        smooth = rng.uniform(0, 0.8)
        move = np.zeros(2)
        for i in range(at, min(len(shot), at + size)):
            move = smooth * move + (1 - smooth) * rng.normal(0, reach, 2)
            shot[i] = shift(shot[i], move[0], move[1])
        return shot

    def _whip(self, shot: np.ndarray) -> np.ndarray:
        """A fast pan away and back over the mirrored picture, blurred as a shutter does."""
        rng = self._rng
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

    def _exposure(self, shot: np.ndarray) -> np.ndarray:
        """The camera adapts, or a light goes on."""
        rng = self._rng
        at, size = rng.integers(1, len(shot)), rng.integers(1, 20)
        target = rng.uniform(0.4, 1.8)
        for i in range(at, len(shot)):
            gain = 1 + (target - 1) * min(1.0, (i - at + 1) / size)
            shot[i] = np.clip(shot[i] * gain, 0, 255)
        return shot

    def _stutter(self, shot: np.ndarray) -> np.ndarray:
        """Repeated frames: a freeze, or a low frame rate in a higher one."""
        rng = self._rng
        index = np.arange(len(shot))
        if rng.random() < 0.5:
            at, size = rng.integers(0, len(shot)), rng.integers(3, 20)
            index[at : at + size] = at
        else:
            every = rng.integers(2, 6)
            index = index // every * every
        return shot[index]

    def _caption(self, shot: np.ndarray) -> np.ndarray:
        """A box of text or a logo appears, stays and goes."""
        rng = self._rng
        at, size = rng.integers(0, len(shot) - 2), rng.integers(8, 60)
        h, w = rng.integers(2, 8), rng.integers(8, 36)
        y, x = rng.integers(0, HEIGHT_PX - h), rng.integers(0, WIDTH_PX - w)
        box = rng.integers(0, 256, (h, w, 3)) if rng.random() < 0.5 else rng.integers(0, 256, 3)
        strength = rng.uniform(0.5, 1.0)
        area = shot[at : at + size, y : y + h, x : x + w]
        area[:] = (area * (1 - strength) + box * strength).astype(np.uint8)
        return shot

    def _pass_by(self, shot: np.ndarray) -> np.ndarray:
        """Large things move into the picture, out of it, or through it; the scene stays."""
        rng = self._rng
        gain = np.ones(len(shot))
        for _ in range(rng.integers(1, 4)):
            texture = self._texture()
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
                covered = _paste(shot[i], texture, mask, where - size / 2)
                gain[i] -= 0.4 * covered
        if rng.random() < 0.3:  # the camera's exposure follows what fills the picture
            smooth = np.convolve(np.pad(gain, 5, mode="edge"), np.ones(11) / 11, mode="valid")
            shot = np.clip(shot * smooth[:, None, None, None], 0, 255).astype(np.uint8)
        return shot

    def _texture(self) -> np.ndarray:
        """A picture of anything, to cut things out of."""
        source = self._source()
        frame = source.frames[self._rng.integers(len(source.frames))]
        small = cv2.resize(frame, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
        return self._colour()[small, np.arange(3)]

    def _strobe(self, shot: np.ndarray) -> np.ndarray:
        rng = self._rng
        every, strength = rng.integers(2, 8), rng.uniform(0.2, 0.8)
        at, size = rng.integers(0, len(shot)), rng.integers(10, 60)
        for i in range(at, min(len(shot), at + size)):
            if i % every == 0:
                shot[i] = flash(shot[i], strength)
        return shot

    def _finish(self, frames: np.ndarray) -> np.ndarray:
        """What a whole file has: grain, bars, a bug in the corner."""
        rng = self._rng
        frames = frames.copy()
        if rng.random() < 0.5:
            grain = rng.standard_normal(frames.shape, np.float32) * np.float32(
                rng.uniform(0.5, 5.0)
            )
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


def _crop(frame: np.ndarray, x: float, y: float, w: float, h: float) -> np.ndarray:
    """A sub-pixel crop scaled to the thumbnail, area-averaged."""
    matrix = np.array(
        [[WIDTH_PX / w, 0, -x * WIDTH_PX / w], [0, HEIGHT_PX / h, -y * HEIGHT_PX / h]]
    )
    factor = w / WIDTH_PX
    if factor > 1.2:  # warpAffine samples points: blur first, as an area average would
        kernel = round(factor) | 1
        frame = cv2.blur(frame, (kernel, kernel))
    return cv2.warpAffine(
        frame,
        matrix,
        (WIDTH_PX, HEIGHT_PX),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


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
