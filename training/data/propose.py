"""Buckets proposed from the clips at hand, for a budget of tokens.

What is wanted of them, in this order: nearly every clip fits one; a microbatch of any costs about
the same; little of a picture is cut off and nothing is enlarged; a clip shows most of its time.

**Rate.** 8 to 16 frames per second, as the open video models are trained: below 8 motion becomes a
slide show, above 16 neighbouring frames nearly repeat and the same tokens show half the time. Of
these rates the one at which frames are taken most evenly (every third of 24 per second are 8;
15 would take one or two by turns), then the highest. Outside of that range only where clips are
slower, or too short for the smallest bucket.

**Aspects.** The stored ones in as few groups as lose little to the crop.

**Lengths.** From what nearly all clips have to what a quarter exceeds, up to three. All aspects get
the same ones, so that the model meets every length in every format.

**Sides.** About 256 px where the clips and the budget allow; larger when the longest bucket leaves
budget unused, smaller when a second of video would not fit.

The same clips and settings give the same buckets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from curation.errors import ConfigError
from training.data.buckets import BucketSettings, Shape, misfits, stored_shapes
from training.data.index import ShardIndex
from training.data.sides import (
    Aspect,
    Wanted,
    cell_px,
    cells_of,
    depth_of,
    equal_cost,
    frames_of,
    least_steps,
    whole_steps,
)

COVERED = 0.95
"""Share of the clips that should fit a bucket, where clips permit."""
OUTLIERS = (0.02, 0.01, 0.005, 0.0)
"""Share of clips that sizes, rates and lengths are not made for; the first that covers enough."""
RATES = (8.0, 10.0, 12.0, 12.5, 15.0, 16.0)
QUICK, SLOW = (20.0, 24.0, 25.0, 30.0, 50.0, 60.0), (6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5)
ROUNDING = 1.02
"""Rates are stored as means: 23.976 reaches 24."""
EVENNESS = 0.05
CROPS = (0.1, 0.15, 0.2, 0.3, 0.4)
ROOM = (0.8, 0.3)
"""Shares of ``max_crop`` that a group of formats may use up: sides come in steps, which cut too."""
MOST_ASPECTS, MOST_LENGTHS = 5, 3
CLIPS_PER_BUCKET = 20
"""Fewer clips get fewer buckets: each has a last microbatch with repeats."""
SIDE_PX, SMALL_SIDE_PX = 256, 64
WANTED_S = 1.0
LONG = 0.75
"""Quantile of the lengths that the longest bucket is made for."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Stored:
    """Stored shapes, float64 of shape (U, 4): frames, height, width, rate; and how many have it."""

    shapes: Floats
    counts: Floats

    def __len__(self) -> int:
        return len(self.counts)

    def where(self, mask: NDArray[np.bool_]) -> _Stored:
        return _Stored(self.shapes[mask], self.counts[mask])

    def quantile(self, values: Floats, share: float) -> float:
        """The smallest value that at least this share of the clips does not exceed."""
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(self.counts[order]) / self.counts.sum()
        return float(values[order][min(len(order) - 1, np.searchsorted(reached, share - 1e-12))])


def propose(
    indexes: Sequence[ShardIndex], settings: BucketSettings, *, images: bool = False
) -> tuple[Shape, ...]:
    """Shapes that fit the stored clips and cost about ``microbatch_tokens`` a microbatch.

    Args:
        indexes: What is there to train on.
        settings: Budget, strides, patch and limits.
        images: Propose buckets of one frame too. Stored pictures get some in any case.

    Returns:
        Shapes that :class:`BucketSettings` takes beside these settings, largest first by aspect.

    Raises:
        ConfigError: There is no clip, or not even one small sample fits the budget.
    """
    stored = _stored(indexes)
    if not len(stored):
        raise ConfigError("there are no clips to propose buckets for", where="buckets")
    pictures = stored.where(stored.shapes[:, 0] == 1)
    clips = stored.where(stored.shapes[:, 0] > 1)
    _check_budget(settings, clips=len(clips) > 0)
    best: tuple[float, tuple[Shape, ...]] = (-1.0, ())
    for outliers, room in product(OUTLIERS, ROOM):
        found = _proposed(clips, pictures, settings, outliers, room, images)
        covered = _covered(found, clips, pictures, settings)
        if covered > best[0] + 1e-9:
            best = covered, found
        if covered >= COVERED:
            break
    return best[1]


def _stored(indexes: Sequence[ShardIndex]) -> _Stored:
    shapes, counts = [np.zeros((0, 4))], [np.zeros(0)]
    for index in indexes:
        own, which = stored_shapes(index)
        shapes.append(own)
        counts.append(np.bincount(which, minlength=len(own)).astype(np.float64))
    return _Stored(np.concatenate(shapes), np.concatenate(counts))


def _check_budget(settings: BucketSettings, *, clips: bool) -> None:
    frames = frames_of(least_steps(settings), settings) if clips else 1
    least = settings.tokens(frames, *cell_px(settings))
    if settings.microbatch_tokens < least:
        raise ConfigError(
            f"microbatch_tokens={settings.microbatch_tokens}: not even one sample of "
            f"{frames} frames of a single token each fits",
            where="buckets.microbatch_tokens",
            mend=f"the smallest budget that works is {least}",
        )


def _covered(
    found: tuple[Shape, ...], clips: _Stored, pictures: _Stored, settings: BucketSettings
) -> float:
    """Share of what is stored that fits a bucket."""
    buckets = settings.model_copy(update={"shapes": found}).buckets()
    fits = 0.0
    for stored, single in ((clips, False), (pictures, True)):
        taken = np.zeros(len(stored), bool)
        for bucket in buckets:
            if (bucket.frames == 1) == single:
                taken |= misfits(bucket, stored.shapes, settings) < 0
        fits += float(stored.counts[taken].sum())
    return fits / float(clips.counts.sum() + pictures.counts.sum())


def _proposed(
    clips: _Stored,
    pictures: _Stored,
    settings: BucketSettings,
    outliers: float,
    room: float,
    images: bool,
) -> tuple[Shape, ...]:
    """Shapes made for all but some clips."""
    wanted: list[Wanted] = []
    rate, cells = RATES[0], cells_of(SIDE_PX, settings)
    if len(clips):
        rate = _rate(clips, settings, outliers)
        num = int(clips.counts.sum()) // CLIPS_PER_BUCKET
        aspects = _aspects(clips, settings, outliers, room, num)
        steps, cells = _lengths(clips, rate, settings, outliers, num // len(aspects))
        for aspect in aspects:
            for place, step in enumerate(steps):
                weight = aspect.share * (1 if place else 2)
                wanted.append(Wanted(aspect, frames_of(step, settings), cells, weight))
            if images:
                wanted.append(Wanted(aspect, 1, cells, aspect.share / 2))
    if len(pictures):
        num = int(pictures.counts.sum()) // CLIPS_PER_BUCKET
        for aspect in _aspects(pictures, settings, outliers, room, num):
            wanted.append(Wanted(aspect, 1, cells, aspect.share))
    return equal_cost(wanted, rate, settings)


def _rate(clips: _Stored, settings: BucketSettings, outliers: float) -> float:
    """Frames per second of all buckets; see the module's page."""
    fps = clips.shapes[:, 3]
    reach = clips.quantile(fps, outliers) * min(settings.max_rate, ROUNDING)
    span_s = clips.quantile((clips.shapes[:, 0] - 1) / fps, outliers)
    least = (frames_of(least_steps(settings), settings) - 1) / span_s
    usual = [r for r in RATES if least <= r <= reach]
    if usual:

        def unlike(rate: float) -> tuple[int, bool, float]:
            ratio = fps / rate
            uneven = np.abs(ratio - np.maximum(1, np.round(ratio))) / ratio
            share = float(np.average(uneven, weights=clips.counts))
            return round(share / EVENNESS), rate != int(rate), -rate

        return min(usual, key=unlike)
    for rate in (*QUICK, *SLOW):
        if least <= rate <= reach:
            return rate
    slowest = clips.quantile(fps, outliers)
    digits = 2 - math.floor(math.log10(slowest))
    return math.floor(slowest * 10**digits) / 10**digits


def _aspects(
    stored: _Stored, settings: BucketSettings, outliers: float, room: float, most: int
) -> list[Aspect]:
    """Few groups of formats, most common first."""
    values = np.log(stored.shapes[:, 2] / stored.shapes[:, 1])
    low = stored.quantile(values, outliers / 2)
    high = stored.quantile(values, 1 - outliers / 2)
    inside = stored.where((values >= low) & (values <= high))
    values = values[(values >= low) & (values <= high)]
    groups: list[Aspect] = []
    widest = room * settings.max_crop
    for crop in (*(c for c in CROPS if c < widest), widest):
        groups = _grouped(inside, values, crop, settings, outliers)
        if len(groups) <= max(1, min(MOST_ASPECTS, most)):
            break
    return sorted(groups, key=lambda g: -g.share)[: 2 * MOST_ASPECTS]


def _grouped(
    stored: _Stored, values: Floats, crop: float, settings: BucketSettings, outliers: float
) -> list[Aspect]:
    """Groups of formats so near to one another that a middle one loses at most ``crop``."""
    reach, most = -math.log1p(-crop), -math.log1p(-settings.max_crop)
    groups: list[Aspect] = []
    rest = np.sort(values)
    while len(rest):
        low = float(rest[0])
        mask = (values >= low) & (values <= low + 2 * reach + 1e-9)
        own, inside = stored.where(mask), values[mask]
        high = float(inside.max())
        # The most common format, unless its bucket would cut too much off the others.
        middle = min(max(own.quantile(inside, 0.5), high - most), low + most)
        groups.append(
            Aspect(
                middle=middle,
                low=low,
                high=high,
                share=float(own.counts.sum() / stored.counts.sum()),
                height_px=own.quantile(own.shapes[:, 1], outliers),
                width_px=own.quantile(own.shapes[:, 2], outliers),
            )
        )
        rest = rest[rest > high]
    rare = [g for g in groups if g.share < outliers / 2]
    return groups if len(rare) == len(groups) else [g for g in groups if g not in rare]


def _lengths(
    clips: _Stored, rate: float, settings: BucketSettings, outliers: float, most: int
) -> tuple[list[int], int]:
    """Lengths in steps of the temporal stride, shortest first, and the cells of a frame."""
    budget, least = settings.microbatch_tokens, least_steps(settings)
    span_s = (clips.shapes[:, 0] - 1) / clips.shapes[:, 3]
    sides_px = np.sqrt(clips.shapes[:, 1] * clips.shapes[:, 2])
    most_cells = cells_of(clips.quantile(sides_px, outliers), settings)

    def steps_of(seconds: float) -> int:
        return whole_steps(int(seconds * rate / settings.temporal_stride + 1e-6), settings)

    short = steps_of(clips.quantile(span_s, outliers))
    long = max(short, steps_of(clips.quantile(span_s, LONG)))
    cells = min(most_cells, cells_of(SIDE_PX, settings))
    if depth_of(short, settings) * cells > budget:
        wanted = min(short, steps_of(WANTED_S))
        small = min(cells_of(SMALL_SIDE_PX, settings), budget // depth_of(least, settings))
        cells = min(cells, max(budget // depth_of(wanted, settings), small, 1))
    top = least
    while top < long:
        longer = whole_steps(top + 1, settings, up=True)
        if longer > long or depth_of(longer, settings) * cells > budget:
            break
        top = longer
    if top == long:
        cells = max(cells, min(most_cells, budget // depth_of(top, settings)))
    short = min(short, top)
    # Lengths that hardly differ would only divide the clips: each is about twice the one before.
    num = max(1, min(MOST_LENGTHS, most, 1 + round(math.log2(top / short))))
    if num == 1:
        return [short], cells
    shares = [place / (num - 1) for place in range(num)]
    chosen = {whole_steps(round(short ** (1 - s) * top**s), settings) for s in shares}
    return sorted(chosen), cells
