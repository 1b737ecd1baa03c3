"""Where one clip may lie in another: a first look at all offsets and speeds, from prints alone.

For a guess of the crop, the products of all prints of one clip with all of the other say for every
straight path through time how alike the pictures along it are, and how alike their changes; no
print is resampled more than once. What is found is refined by ``perceptual_register.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curation.signals.prints import STEP_S

SIDE_PX = 24
"""Side of the prints that are compared."""
WINDOWS = (1.0, 0.88, 1 / 0.88)
"""Guesses of the crop: none, the first clip is cut out of the second, and the other way round. The
refinement reaches 15 % from the nearest of them."""
OFFSET_STEP_S = 0.125
ACTIVE = 2.0
"""Change in luma levels (of 255, root mean square) at which what changes counts half."""
FLOOR = 1e-3


@dataclass(frozen=True)
class Film:
    """The prints of a clip.

    Attributes:
        pictures: float32 [n, SIDE_PX, SIDE_PX], luma 0-255 inside the bars, as displayed.
        time_s: float64 [n], middle of each print from the clip's start.
        length_s: Length of the clip.
    """

    pictures: np.ndarray
    time_s: np.ndarray
    length_s: float


@dataclass(frozen=True, order=True)
class Guess:
    """A path through time, and a crop.

    Attributes:
        score: How well the clips agree on it, -1 to 1.
        offset_s: Time in the second clip of the first one's start.
        speed: Seconds of the second clip for one of the first.
        mirrored: The second clip is flipped left to right.
        window: Size of the first clip's picture over that of the second.
    """

    score: float
    offset_s: float
    speed: float
    mirrored: bool
    window: float


def sampling(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation along one side of a print.

    Args:
        positions: float [m], from -1 (first edge) to 1 (last edge).

    Returns:
        Weights float32 [m, SIDE_PX], and bool [m]: the position lies on the print.
    """
    at = np.minimum(np.maximum((positions + 1) * SIDE_PX / 2 - 0.5, 0), SIDE_PX - 1)
    weights = np.maximum(1 - np.abs(at[:, None] - np.arange(SIDE_PX)), 0)
    return weights.astype(np.float32), np.abs(positions) <= 1 + 1e-6


HALF = np.kron(np.eye(SIDE_PX // 2), [0.5, 0.5]).astype(np.float32)
"""Halves a side: coarse pictures forgive a crop that is not in the middle."""
CENTRES = (np.arange(SIDE_PX) + 0.5) * 2 / SIDE_PX - 1


def between(time_s: np.ndarray, wanted_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The prints before and after some times, and how far each time is from one to the other.

    Args:
        time_s: Of the prints, [n].
        wanted_s: Any shape.
    """
    before = np.clip(np.searchsorted(time_s, wanted_s, side="right") - 1, 0, len(time_s) - 1)
    after = np.minimum(before + 1, len(time_s) - 1)
    step_s = time_s[after] - time_s[before]
    share = np.clip((wanted_s - time_s[before]) / np.where(step_s > 0, step_s, 1), 0, 1)
    return before, after, share.astype(np.float32)


def covered(film: Film, at_s: np.ndarray) -> np.ndarray:
    """True for times that prints of a clip tell of."""
    half_s = STEP_S / 2 + 1e-6
    return (at_s >= film.time_s[0] - half_s) & (at_s <= film.time_s[-1] + half_s)


class Paths:
    """Straight paths from one clip to another, to be scored under several crops.

    Args:
        a: First clip.
        b: Second clip.
        speeds: Seconds of the second for one of the first.
        min_overlap: Share of the shorter clip that a path has to cover.
        max_offset_s: Longest offset either way; None: any.
    """

    def __init__(
        self,
        a: Film,
        b: Film,
        speeds: tuple[float, ...],
        min_overlap: float,
        max_offset_s: float | None = None,
    ) -> None:
        self._a = a
        offsets, rates = [], []
        for speed in speeds:
            need_s = min_overlap * min(a.length_s * speed, b.length_s)
            found = np.arange(
                need_s - speed * a.length_s, b.length_s - need_s + 1e-6, OFFSET_STEP_S
            )
            offsets.append(found)
            rates.append(np.full(len(found), speed))
        self.offset_s, self.speed = np.concatenate(offsets), np.concatenate(rates)
        at_s = self.offset_s[:, None] + self.speed[:, None] * a.time_s
        inside = covered(b, at_s).astype(np.float32)
        first, second, share = between(b.time_s, at_s)
        before, after = (1 - share) * inside, share * inside
        self._inside, self._num_inside = inside, inside.sum(axis=1)
        self._before, self._after = before, after
        num = len(b.time_s)
        rows = np.arange(len(a.time_s)) * num
        self._at_first, self._at_second = rows + first, rows + second
        # How often each print of the second clip counts on a path, alone and with the next one.
        paths = num * np.arange(len(at_s))[:, None]

        def tally(place: np.ndarray, weight: np.ndarray) -> np.ndarray:
            found = np.bincount((paths + place).ravel(), weight.ravel(), num * len(at_s))
            return found.reshape(len(at_s), num).astype(np.float32)

        self._alone = tally(first, before * (1 - share)) + tally(second, after * share)
        self._beside = tally(first, 2 * before * share)

    def score(self, pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Agreement along each path, -1 to 1.

        Args:
            pictures: float32 [n, k], pixels of the first clip.
            others: float32 [m, k], the same places in the second.
        """
        shown = pictures - pictures.mean(axis=1, keepdims=True)
        other = others - others.mean(axis=1, keepdims=True)
        picture, _ = self._along(shown, other)
        change, power = self._along(shown - shown.mean(axis=0), other - other.mean(axis=0))
        weight = power / (power + ACTIVE**2 * pictures.shape[1])
        score = picture * (1 - weight / 2) + change * weight / 2
        return np.where(self._num_inside >= 2, score, -1.0)

    def _along(self, shown: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Correlation along the paths, and power per print."""
        cross = (shown @ other.T).ravel()
        following = np.concatenate([other[1:], other[-1:]])
        dot = np.einsum("pi,pi->p", self._before, cross[self._at_first])
        dot += np.einsum("pi,pi->p", self._after, cross[self._at_second])
        left = self._inside @ (shown**2).sum(axis=1)
        right = self._alone @ (other**2).sum(axis=1)
        right += self._beside @ (other * following).sum(axis=1)
        both = np.sqrt((left + FLOOR) * (np.maximum(right, 0) + FLOOR))
        return dot / both, both / np.maximum(self._num_inside, 1)


def guesses(
    a: Film,
    b: Film,
    *,
    speeds: tuple[float, ...],
    min_overlap: float,
    flips: tuple[bool, ...],
    count: int,
    max_offset_s: float | None = None,
) -> list[Guess]:
    """The best guesses of where a clip lies in another, different enough to be worth a try each.

    Args:
        a: First clip.
        b: Second clip.
        speeds: To be tried.
        min_overlap: Share of the shorter clip.
        flips: Whether to try the second clip as it is (False), mirrored (True), or both.
        count: Guesses wanted.
        max_offset_s: Longest offset either way; None: any.
    """
    paths = Paths(a, b, speeds, min_overlap, max_offset_s)
    if not len(paths.offset_s):
        return []
    found: list[Guess] = []
    for window in WINDOWS:
        weights, valid = sampling(window * CENTRES)
        weights, valid = HALF @ weights, HALF @ valid > 1 - 1e-6
        inside = np.outer(valid, valid).ravel()
        pictures = (HALF @ a.pictures @ HALF.T).reshape(len(a.pictures), -1)[:, inside]
        for mirrored in flips:
            source = b.pictures[:, :, ::-1] if mirrored else b.pictures
            others = (weights @ source @ weights.T).reshape(len(source), -1)[:, inside]
            score = paths.score(pictures, others)
            for best in np.argsort(-score, kind="stable")[:2].tolist():
                offset_s, speed = float(paths.offset_s[best]), float(paths.speed[best])
                found.append(Guess(float(score[best]), offset_s, speed, mirrored, window))
    found.sort(key=lambda g: (-g.score, g.mirrored, abs(g.window - 1)))
    kept: list[Guess] = []
    for guess in found:
        if len(kept) == count:
            break
        if all(
            (guess.mirrored, guess.window) != (k.mirrored, k.window)
            or abs(guess.offset_s - k.offset_s) >= 2 * STEP_S
            for k in kept
        ):
            kept.append(guess)
    return kept
