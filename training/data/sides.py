"""Sides of proposed buckets: near a format and a size, such that all microbatches cost the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.data.buckets import BucketSettings, Shape

NEAR = 8
"""Candidates per bucket whose cost all buckets are tried at."""
MISFIT = 0.3
"""Weight of a bucket that some formats it is for do not fit."""


@dataclass(frozen=True)
class Aspect:
    """Formats that share a bucket: logarithms of width / height, and the least sides in it."""

    middle: float
    low: float
    high: float
    share: float
    height_px: float
    width_px: float


@dataclass(frozen=True)
class Wanted:
    """A bucket that is wanted.

    Attributes:
        aspect: Formats that it is for.
        frames: Its length.
        cells: Tokens of a frame.
        weight: How much it matters, where not all can cost the same.
    """

    aspect: Aspect
    frames: int
    cells: int
    weight: float


@dataclass(frozen=True)
class _Candidate:
    """Sides for one aspect and length.

    Attributes:
        height_px: Height.
        width_px: Width.
        tokens: Of a sample.
        fits: No format of the aspect would lose more than ``max_crop``.
        loss: How far from what is wanted.
    """

    height_px: int
    width_px: int
    tokens: int
    fits: bool
    loss: float


def equal_cost(
    wanted: Sequence[Wanted], rate: float, settings: BucketSettings
) -> tuple[Shape, ...]:
    """Sides and samples, such that all microbatches cost about the same.

    Args:
        wanted: Buckets; one that can cost the same as the others in no size is left out.
        rate: Frames per second of all.
        settings: Budget, tolerance, strides and patch.
    """
    budget = settings.microbatch_tokens
    options = [
        sorted(_candidates(w.aspect, w.frames, w.cells, settings), key=_unlike) for w in wanted
    ]
    costs = {c.tokens * (budget // c.tokens) for own in options for c in own[:NEAR]}
    best: tuple[float, list[tuple[int, _Candidate, int]]] = (-1.0, [])
    for cost in sorted({budget, *costs}, reverse=True):
        found: list[tuple[int, _Candidate, int]] = []
        for place, own in enumerate(options):
            fitting = [c for c in own if _near(c, cost, settings)]
            if fitting:
                chosen = min(fitting, key=lambda c: _unlike(c, cost))
                found.append((place, chosen, cost // chosen.tokens))
        weight = sum(wanted[p].weight * (1 if c.fits else MISFIT) for p, c, _ in found)
        if weight > best[0] + 1e-9:
            best = weight, found
        if len(found) == len(wanted) and all(c.fits for _, c, _ in found):
            break
    shapes: dict[tuple[int, int, int], Shape] = {}
    for place, chosen, samples in best[1]:
        frames = wanted[place].frames
        key = (frames, chosen.height_px, chosen.width_px)
        full = samples == budget // chosen.tokens
        shapes[key] = Shape(
            frames=frames,
            height_px=chosen.height_px,
            width_px=chosen.width_px,
            fps=rate,
            samples=None if full else samples,
        )
    return tuple(shapes.values())


def _unlike(candidate: _Candidate, cost: int | None = None) -> tuple[bool, float]:
    """Orders candidates; a little less than what is wanted is better than idle ranks."""
    idle = 0.0 if cost is None else cost % candidate.tokens / cost
    return not candidate.fits, candidate.loss + idle / 2


def _near(candidate: _Candidate, cost: int, settings: BucketSettings) -> bool:
    """True when a microbatch of some samples costs so much, within the tolerance."""
    samples = cost // candidate.tokens
    return samples > 0 and samples * candidate.tokens >= (1 - settings.cost_tolerance) * cost


def _candidates(
    aspect: Aspect, frames: int, cells: int, settings: BucketSettings
) -> list[_Candidate]:
    """Sides near an aspect and a number of cells: never more pixels than stored, or one cell."""
    high_px, wide_px = cell_px(settings)
    depth = settings.tokens(frames, high_px, wide_px)
    most_high = max(1, int(aspect.height_px) // high_px)
    most_wide = max(1, int(aspect.width_px) // wide_px)
    most = settings.microbatch_tokens // depth
    reach = -math.log1p(-settings.max_crop)
    found = []
    for high in range(1, min(most_high, most) + 1):
        ideal = high * high_px * math.exp(aspect.middle) / wide_px
        room = min(most_wide, most // high)
        for wide in sorted({min(max(1, w), room) for w in (math.floor(ideal), math.ceil(ideal))}):
            area = high * wide
            value = math.log(wide * wide_px / (high * high_px))
            cut = max(0.0, abs(value - aspect.low) - reach, abs(value - aspect.high) - reach)
            loss = abs(math.log(area / cells)) + 2 * abs(value - aspect.middle) + 10 * cut
            tokens = depth * area
            found.append(_Candidate(high * high_px, wide * wide_px, tokens, cut < 1e-9, loss))
    return found


def cell_px(settings: BucketSettings) -> tuple[int, int]:
    """Height and width of a token."""
    stride = settings.spatial_stride
    return stride * settings.patch[1], stride * settings.patch[2]


def cells_of(side_px: float, settings: BucketSettings) -> int:
    """Tokens of one frame of a square picture."""
    high_px, wide_px = cell_px(settings)
    return max(1, int(side_px * side_px / (high_px * wide_px)))


def frames_of(steps: int, settings: BucketSettings) -> int:
    """Frames of a length."""
    return steps * settings.temporal_stride + 1


def depth_of(steps: int, settings: BucketSettings) -> int:
    """Tokens one behind the other in time."""
    return settings.tokens(frames_of(steps, settings), *cell_px(settings))


def least_steps(settings: BucketSettings) -> int:
    """Of the shortest video: its latent frames, one more than steps, fill whole patches."""
    return max(1, settings.patch[0] - 1)


def whole_steps(steps: int, settings: BucketSettings, *, up: bool = False) -> int:
    """The nearest length below (or above) that fills whole patches."""
    patch = settings.patch[0]
    latent = -(-(steps + 1) // patch) * patch if up else (steps + 1) // patch * patch
    return max(least_steps(settings), latent - 1)
