"""Training sequences: shots of the bank joined by transitions, with disturbances that are none.

Everything is drawn from one generator, so a seed gives a sequence. Labels are per frame: a cut is
on the first new frame, a gradual transition on every blended frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from curation.signals.shotnet import HEIGHT_PX, WIDTH_PX
from infra.shotnet.blend import blend, random_style
from infra.shotnet.disturb import disturb, finish

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
        return finish(rng, part), marks

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
        return disturb(rng, np.ascontiguousarray(shot), self._texture)

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

    def _texture(self) -> np.ndarray:
        """A picture of anything, to cut things out of."""
        source = self._source()
        frame = source.frames[self._rng.integers(len(source.frames))]
        small = cv2.resize(frame, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
        return self._colour()[small, np.arange(3)]


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
