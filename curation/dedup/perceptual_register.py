"""Laying one clip over another: crop, offset and speed, refined together, and how well it fits.

Registration by Gauss-Newton steps on the pictures themselves (Lucas and Kanade, IJCAI 1981; in the
form of Baker and Matthews, IJCV 2004), in space and time at once: width, height and place of the
picture, offset and speed. Places that fit badly in the mean over time (a label, a subtitle) lose
their say (Geman and McClure weights); what is wrong all the time is left out of the verdict.

A crop takes away from the sides of a picture: one of the two pictures lies inside the other. A fit
that needs them to lie side by side is no copy but a camera that moves on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curation.dedup.perceptual_path import CENTRES, SIDE_PX, Film, Guess, between, covered, sampling

STEPS = 8
MAX_STEP = np.array([0.08, 0.08, 0.08, 0.08, 0.15, 0.03])
STIFF = np.array([120.0, 120.0, 40.0, 40.0, 8.0, 240.0])
"""What a parameter's step costs per print, in squared luma: flat pictures do not run away."""
SCALES = (0.8, 1.25)
"""Crops of up to a fifth of a side."""
ASIDE = 0.04
"""How far (in half sides) a picture may reach over the side of the other: bars are rounded."""
GAINS = (0.3, 3.0)
NOISE = 0.7
"""Luma levels: rounding and coding noise of a print."""
MIN_VALID = 0.6
"""Share of the first picture that has to lie on the second."""
MAX_COVERED = 0.15
"""Share of the picture that a label may cover."""
COVERED, COVERED_STEADY = 4.0, 1.5
"""A label is wrong all the time: the mean error is above so many luma levels, and above so many
times its deviation. What passes by is wrong for a while, and is not to be overlooked."""
ROUNDING = 1 / 24
"""Half the power of rounding to whole luma levels (all of it would merge more than it finds). It
agrees with nothing, and hides the change of a scene in which hardly anything moves: it is taken off
before that is compared."""
HOPELESS_AFTER, HOPELESS = 3, 0.4
"""Pictures that correlate less than this after so many steps are given up."""
DETAIL = 4.0
"""Luma levels of deviation below which a picture is too flat to agree with anything."""


@dataclass(frozen=True)
class Fit:
    """How two clips fit where they fit best.

    Attributes:
        picture: Correlation of the pictures, mean over time, -1 to 1.
        change: Correlation of what changes (each picture less the clip's mean picture) over the
            whole time, -1 to 1; without what rounding takes from it.
        activity: How much changes in the clip that changes more, over its whole time: root mean
            square, luma levels of 255.
        evidence: Power of the change where both are seen over that of the whole clip.
        offset_s: Time in the second clip of the first one's start.
        speed: Seconds of the second clip for one of the first.
        mirrored: The second clip is flipped left to right.
        overlap_s: Time of the first clip that is seen in both.
        overlap_share: Of the shorter clip.
        num_prints: Prints compared.
        window: Width, height, x and y of the first picture on the second (-1 to 1); of both the
            part that was compared, which may lie between dark sides.
    """

    picture: float
    change: float
    activity: float
    evidence: float
    offset_s: float
    speed: float
    mirrored: bool
    overlap_s: float
    overlap_share: float
    num_prints: int
    window: tuple[float, float, float, float]


@dataclass
class _Laid:
    """Both clips where a set of parameters lays them over each other.

    Attributes:
        shown: float32 [n, h, w], the first clip less its mean over the valid places; 0 elsewhere.
        other: Same of the second.
        valid: float32 [h, w], 1 where the first picture lies on the second.
        gain: Of the second's contrast to the first's.
        error: shown - gain * other.
        wrong: float32 [h, w], root mean square error over time.
    """

    shown: np.ndarray
    other: np.ndarray
    valid: np.ndarray
    gain: float
    error: np.ndarray
    wrong: np.ndarray


class Register:
    """Lays a clip over another, beginning with a guess.

    Args:
        a: First clip.
        b: Second clip.
        max_speed: Highest speed, and one over the lowest.
    """

    def __init__(self, a: Film, b: Film, max_speed: float) -> None:
        self._a, self._b = a, b
        self._speeds = (1 / max_speed, max_speed)

    def fit(self, guess: Guess) -> Fit | None:
        """Refine a guess; None when it leaves the other clip."""
        at = np.array(
            [guess.window, guess.window, 0.0, 0.0, guess.offset_s, guess.speed], np.float64
        )
        source = self._source(guess)
        for num in range(STEPS):
            found = self._step(source, at)
            if found is None:
                return None
            step, alike = found
            if num == HOPELESS_AFTER and alike < HOPELESS:
                return None
            at = self._allowed(at + step)
            if (np.abs(step) < 1e-3).all():
                break
        return self._verdict(source, at, guess.mirrored)

    def unrefined(self, guess: Guess) -> Fit | None:
        """How well a guess fits as it is."""
        at = np.array([guess.window, guess.window, 0, 0, guess.offset_s, guess.speed], np.float64)
        return self._verdict(self._source(guess), at, guess.mirrored)

    def _source(self, guess: Guess) -> np.ndarray:
        if not guess.mirrored:
            return self._b.pictures
        return np.ascontiguousarray(self._b.pictures[:, :, ::-1])

    def _allowed(self, at: np.ndarray) -> np.ndarray:
        """The nearest parameters that a copy can have."""
        at[:2] = np.clip(at[:2], *SCALES)
        reach = np.abs(1 - at[:2]) + ASIDE
        at[2:4] = np.clip(at[2:4], -reach, reach)
        at[5] = np.clip(at[5], *self._speeds)
        return at

    def _times(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Prints of the first clip that lie in the second, and when."""
        wanted = at[4] + at[5] * self._a.time_s
        inside = covered(self._b, wanted)
        return inside, wanted[inside]

    def _lay(self, shown: np.ndarray, other: np.ndarray, valid: np.ndarray) -> _Laid:
        count = max(1.0, float(valid.sum()))
        shown = (shown - (shown * valid).sum((1, 2), keepdims=True) / count) * valid
        other = (other - (other * valid).sum((1, 2), keepdims=True) / count) * valid
        gain = float((shown * other).sum() / ((other**2).sum() + 1e-3))
        gain = float(np.clip(gain, *GAINS))
        error = shown - gain * other
        return _Laid(shown, other, valid, gain, error, np.sqrt((error**2).mean(axis=0)))

    def _step(self, source: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, float] | None:
        """One Gauss-Newton step, and the correlation of the pictures before it."""
        inside, wanted = self._times(at)
        if len(wanted) < 2:
            return None
        before, after, share = between(self._b.time_s, wanted)
        gap_s = self._b.time_s[after] - self._b.time_s[before]
        first, change = source[before], source[after] - source[before]
        rows, row_valid = sampling(at[1] * CENTRES + at[3])
        columns, column_valid = sampling(at[0] * CENTRES + at[2])
        if row_valid.mean() * column_valid.mean() < MIN_VALID:
            return None
        # Only where the first picture lies on the second.
        rows, columns = rows[row_valid], columns[column_valid]
        lines = rows @ (first + share[:, None, None] * change)
        shown = self._a.pictures[inside][:, row_valid][:, :, column_valid]
        laid = self._lay(shown, lines @ columns.T, np.ones(shown.shape[1:], np.float32))
        scale = float(np.median(laid.wrong)) * 3 + 2 * NOISE
        root = 1 / (1 + (laid.wrong / scale) ** 2)  # of the weight
        per_s = 1 / np.where(gap_s > 0, gap_s, np.inf).astype(np.float32)[:, None, None]
        slopes = np.empty((6, *shown.shape), np.float32)
        slopes[2] = lines @ (columns @ SLOPE).T
        slopes[3] = (rows @ SLOPE) @ (first + share[:, None, None] * change) @ columns.T
        slopes[4] = rows @ change @ columns.T * per_s
        slopes[0] = slopes[2] * CENTRES[column_valid].astype(np.float32)
        slopes[1] = slopes[3] * CENTRES[row_valid].astype(np.float32)[:, None]
        slopes[5] = slopes[4] * self._a.time_s[inside].astype(np.float32)[:, None, None]
        slopes -= slopes.mean((2, 3), keepdims=True)
        slopes *= root * laid.gain
        flat = slopes.reshape(6, -1)
        normal = (flat @ flat.T).astype(np.float64) + np.diag(STIFF * len(wanted))
        pull = (flat @ (laid.error * root).ravel()).astype(np.float64)
        wanted_step = np.linalg.solve(normal, pull)
        power = float((laid.shown**2).sum()) * float((laid.other**2).sum())
        alike = float((laid.shown * laid.other).sum()) / np.sqrt(power + 1e-6)
        return np.clip(wanted_step, -MAX_STEP, MAX_STEP), float(alike)

    def _verdict(self, source: np.ndarray, at: np.ndarray, mirrored: bool) -> Fit | None:
        inside, wanted = self._times(at)
        if len(wanted) < 2:
            return None
        before, after, share = between(self._b.time_s, wanted)
        mix = share[:, None, None]
        moment = (1 - mix) * source[before] + mix * source[after]
        rows, row_valid = sampling(at[1] * CENTRES + at[3])
        columns, column_valid = sampling(at[0] * CENTRES + at[2])
        valid = np.outer(row_valid, column_valid).astype(np.float32)
        if valid.mean() < MIN_VALID:
            return None
        other = rows @ moment @ columns.T
        laid = self._lay(self._a.pictures[inside], other, valid)
        kept = valid * ~_covered_up(laid)
        laid = self._lay(self._a.pictures[inside], other, kept)
        picture = _correlations(laid.shown, laid.other, kept.sum())
        shown, other = laid.shown - laid.shown.mean(axis=0), laid.other - laid.other.mean(axis=0)
        left, right = float((shown**2).sum()), float((other**2).sum())
        count = float(kept.sum()) * len(wanted)
        # The second clip's pictures are interpolated, which halves its rounding.
        agreeing = float((shown * other).sum())
        true = [
            max(power - noise * count, power * 2 / 3)
            for power, noise in ((left, ROUNDING), (right, ROUNDING / 2))
        ]
        overlap_s = self._overlap_s(at)
        whole = max(_power(self._a), _power(self._b) * laid.gain**2)
        shares = (overlap_s / self._a.length_s, overlap_s * at[5] / self._b.length_s)
        return Fit(
            picture=float(picture.mean()),
            change=min(1.0, agreeing / float(np.sqrt(true[0] * true[1] + 1e-6))),
            activity=float(np.sqrt(whole)),
            evidence=float(max(left, right * laid.gain**2) / count / max(whole, 1e-6)),
            offset_s=float(at[4]),
            speed=float(at[5]),
            mirrored=mirrored,
            overlap_s=overlap_s,
            overlap_share=max(shares),
            num_prints=len(wanted),
            window=(float(at[0]), float(at[1]), float(at[2]), float(at[3])),
        )

    def _overlap_s(self, at: np.ndarray) -> float:
        first_s = max(0.0, -at[4] / at[5])
        last_s = min(self._a.length_s, (self._b.length_s - at[4]) / at[5])
        return float(max(0.0, last_s - first_s))


def _power(film: Film) -> float:
    """Mean square of what changes in a clip: of the deviations from its mean picture."""
    change = film.pictures - film.pictures.mean(axis=0)
    return float((change - change.mean(axis=(1, 2), keepdims=True)).var())


def _covered_up(laid: _Laid) -> np.ndarray:
    """True where a label seems to cover one of the two pictures: bool [h, w]."""
    mean, deviation = np.abs(laid.error.mean(axis=0)), laid.error.std(axis=0)
    found = (mean > COVERED + COVERED_STEADY * deviation) & (laid.valid > 0)
    most = int(MAX_COVERED * laid.valid.sum())
    if found.sum() > most:
        found &= mean > np.sort(mean[found])[-most - 1]
    return found


def _correlations(shown: np.ndarray, other: np.ndarray, count: float) -> np.ndarray:
    """Correlation of each pair of pictures; flat ones agree with nothing."""
    deviation = [np.sqrt((p**2).sum((1, 2)) / count) for p in (shown, other)]
    both = (shown * other).sum((1, 2)) / count
    return both / np.maximum(deviation[0] * deviation[1], DETAIL**2)


def _slope() -> np.ndarray:
    """Turns pixels along a side into their slope per unit of position (-1 to 1)."""
    slope = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    for i in range(SIDE_PX):
        low, high = max(0, i - 1), min(SIDE_PX - 1, i + 1)
        slope[i, high] = SIDE_PX / 2 / (high - low)
        slope[i, low] = -SIDE_PX / 2 / (high - low)
    return slope


SLOPE = _slope()
