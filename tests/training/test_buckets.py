"""Training shapes: what no autoencoder holds is refused, and every clip has a place or a reason."""

from __future__ import annotations

import math
import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.training.synthetic import Row, index_of
from training.data.buckets import (
    REASONS,
    Assignment,
    Bucket,
    BucketSettings,
    Shape,
    assign,
    stored_shapes,
)
from training.data.index import ShardIndex

Stored = tuple[int, int, int, float]
"""Frames, height, width, frames per second of a clip."""


def made(*shapes: dict[str, object], **other: object) -> BucketSettings:
    return BucketSettings.model_validate({"shapes": shapes, **other})


def shape(
    frames: int, height_px: int = 64, width_px: int = 64, fps: float = 8, **other: object
) -> dict[str, object]:
    size = {"frames": frames, "height_px": height_px, "width_px": width_px}
    return {**size, "fps": fps, **other}


def clips(*stored: Stored) -> ShardIndex:
    return index_of(
        [
            Row(clip=f"c{n}", frames=frames, height_px=height, width_px=width, fps=fps)
            for n, (frames, height, width, fps) in enumerate(stored)
        ]
    )


def given_to(
    stored: Stored, config: BucketSettings, *, pictures: bool = False
) -> tuple[str, str, float, float]:
    """Bucket's name or "", reason or "", crop and scale of one clip."""
    found = assign(clips(stored), config.buckets(), config, pictures=pictures)
    bucket, reason = int(found.bucket[0]), int(found.reason[0])
    name = found.buckets[bucket].name if bucket >= 0 else ""
    return name, REASONS[reason] if reason >= 0 else "", float(found.crop[0]), float(found.scale[0])


# What is refused


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        (shape(8), "nearest: 5 and 9"),
        (shape(2), "nearest: 1 and 5"),
        (shape(16), "nearest: 13 and 17"),
        (shape(9, height_px=65), "height 65 is not divisible by 16 .*nearest: 64 and 80"),
        (shape(9, width_px=100), "width 100 .*nearest: 96 and 112"),
        (shape(9, width_px=15), "nearest: 16$"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_the_nearest(
    wrong: dict[str, object], near: str
) -> None:
    with pytest.raises(ValidationError) as error:
        made(wrong)
    said = error.value.errors()[0]["msg"]
    assert re.search(near, said), said


@pytest.mark.parametrize(
    ("frames", "temporal_stride", "fits"),
    [(8, 4, False), (9, 4, True), (5, 4, True), (9, 8, True), (13, 8, False), (7, 1, True)],
)
def test_frames_are_strides_and_one_more(frames: int, temporal_stride: int, fits: bool) -> None:
    if fits:
        assert made(shape(frames), temporal_stride=temporal_stride).buckets()
        return
    with pytest.raises(ValidationError, match=r"are not k \* "):
        made(shape(frames), temporal_stride=temporal_stride)


def test_a_patch_of_several_latent_frames_must_divide_them() -> None:
    assert made(shape(13), patch=(2, 2, 2)).buckets()[0].tokens == 2 * 4 * 4
    with pytest.raises(ValidationError, match="3 latent frames are not divisible"):
        made(shape(9), patch=(2, 2, 2))
    assert made(shape(1), patch=(2, 2, 2)).buckets()[0].tokens == 4 * 4  # a picture is padded
    with pytest.raises(ValidationError, match="at least 1"):
        made(shape(9), patch=(1, 0, 2))


def test_tokens_by_hand() -> None:
    """17 frames are 5 latent ones; 256 x 192 px are 32 x 24 cells, 16 x 12 patches."""
    bucket = made(shape(17, 256, 192), microbatch_tokens=2000).buckets()[0]
    assert bucket.tokens == 5 * 16 * 12 and bucket.samples == 2 and bucket.cost == 1920
    assert bucket.name == "17x256x192@8" and bucket.span_s == 2.0


def test_microbatches_that_differ_in_cost_are_refused() -> None:
    shapes = [shape(9, samples=20), shape(9, 96, 96, samples=7)]  # 48 and 108 tokens
    costs = {960, 756}
    assert {b.cost for b in made(*shapes).buckets()} == costs
    with pytest.raises(ValidationError, match="21% less than the dearest"):
        made(*shapes, cost_tolerance=0.2)
    assert made(*shapes, cost_tolerance=1 - 756 / 960 + 1e-9).buckets()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(1, 8), st.integers(1, 8)),
        min_size=1,
        max_size=4,
        unique=True,
    ),
    st.integers(50, 2000),
    st.floats(0, 0.9),
)
def test_what_is_accepted_costs_about_the_same(
    sizes: list[tuple[int, int, int]], tokens: int, tolerance: float
) -> None:
    shapes = [shape(4 * t + 1, 16 * h, 16 * w) for t, h, w in sizes]
    counts = [(t + 1) * h * w for t, h, w in sizes]
    costs = [tokens // count * count for count in counts]
    try:
        buckets = made(*shapes, microbatch_tokens=tokens, cost_tolerance=tolerance).buckets()
    except ValidationError:
        assert 0 in costs or min(costs) < (1 - tolerance) * max(costs) + 1e-6
        return
    assert sorted(b.cost for b in buckets) == sorted(costs) and 0 not in costs
    assert min(costs) >= (1 - tolerance) * max(costs) - 1e-6


def test_other_shapes_that_are_refused() -> None:
    with pytest.raises(ValidationError, match="stands there twice"):
        made(shape(9), shape(9, samples=3))
    with pytest.raises(ValidationError, match="more than microbatch_tokens=10"):
        made(shape(9), microbatch_tokens=10)
    with pytest.raises(ValidationError, match="more than microbatch_tokens"):
        made(shape(9, samples=1000))
    for wrong in (shape(0), shape(9, fps=0), shape(9, fps=math.inf), shape(9, samples=0)):
        with pytest.raises(ValidationError):
            made(wrong)


# Which clip goes where: by hand


def test_a_clip_of_exactly_the_span_fits_and_one_frame_less_does_not() -> None:
    config = made(shape(17))  # 2 s from first to last
    assert given_to((49, 64, 64, 24.0), config)[0] == "17x64x64@8"
    assert given_to((48, 64, 64, 24.0), config)[:2] == ("", "too_short")
    assert given_to((17, 64, 64, 8.0), config)[0]
    # 48 steps at a rate stored as 23.976: 2.002 s.
    assert given_to((49, 64, 64, 23.976), config)[0]


def test_nothing_is_enlarged_unless_it_is_allowed() -> None:
    config = made(shape(9, 128, 128))
    assert given_to((48, 127, 300, 24.0), config)[:2] == ("", "too_small")
    assert given_to((48, 128, 128, 24.0), config) == ("9x128x128@8", "", 0.0, 1.0)
    allowed = made(shape(9, 128, 128), max_upscale=2.0)
    assert given_to((48, 64, 64, 24.0), allowed) == ("9x128x128@8", "", 0.0, 2.0)
    assert given_to((48, 63, 64, 24.0), allowed)[1] == "too_small"


def test_crop_and_scale_by_hand() -> None:
    """1280 x 720 covers 64 x 64 at 64 / 720 of its size: 113.8 x 64, of which 64 stay."""
    name, reason, crop, scale = given_to((48, 720, 1280, 24.0), made(shape(9)))
    assert (name, reason) == ("9x64x64@8", "")
    assert crop == pytest.approx(1 - 720 / 1280) and scale == pytest.approx(64 / 720)
    strict = made(shape(9), max_crop=0.4)
    assert given_to((48, 720, 1280, 24.0), strict) == ("", "too_cropped", 0.0, 0.0)
    exact = made(shape(9), max_crop=1 - 720 / 1280)
    assert given_to((48, 720, 1280, 24.0), exact)[0]


def test_slow_clips_do_not_show_frames_twice() -> None:
    config = made(shape(9, fps=24.0))
    assert given_to((48, 64, 64, 23.976), config)[0]  # max_rate allows 2%
    assert given_to((48, 64, 64, 15.0), config)[:2] == ("", "too_slow")
    assert given_to((48, 64, 64, 15.0), made(shape(9, fps=24.0), max_rate=2))[0]


def test_the_reason_is_that_of_the_bucket_that_came_closest() -> None:
    long_and_wide = made(shape(49), shape(9, 64, 256), cost_tolerance=0.9)
    assert given_to((24, 256, 256, 24.0), long_and_wide)[1] == "too_short"
    assert given_to((48, 256, 256, 24.0), long_and_wide)[1] == "too_cropped"


def test_the_bucket_that_shows_most_wins() -> None:
    config = made(shape(9), shape(25), shape(9, 64, 128), cost_tolerance=0.9)
    assert given_to((49, 64, 64, 12.0), config)[0] == "25x64x64@8"  # more of its time
    assert given_to((24, 64, 128, 16.0), config)[0] == "9x64x128@8"  # more of its picture
    # Both show all of the picture and of the time: more tokens.
    large = made(shape(9), shape(9, 128, 128), cost_tolerance=0.9)
    assert given_to((9, 512, 512, 8.0), large)[0] == "9x128x128@8"


def test_pictures_have_their_own_buckets() -> None:
    config = made(shape(9), shape(1, 96, 96), cost_tolerance=0.9)
    clip, still = (48, 128, 128, 24.0), (1, 128, 128, 1.0)
    assert given_to(clip, config)[0] == "9x64x64@8"
    assert given_to(clip, config, pictures=True)[0] == "1x96x96@8"
    assert given_to(still, config)[0] == given_to(still, config, pictures=True)[0] == "1x96x96@8"
    small = (48, 64, 64, 24.0)
    assert given_to(small, config)[0] == "9x64x64@8"
    assert given_to(small, config, pictures=True)[1] == "too_small"
    # Without buckets of clips, clips are pictures; without one for it, a still is dropped.
    assert given_to(clip, made(shape(1, 96, 96)))[0] == "1x96x96@8"
    assert given_to(still, made(shape(9)))[1] == "too_short"
    assert given_to(clip, made(shape(9)), pictures=True)[0] == ""


def test_an_empty_index_has_no_shapes() -> None:
    config = made(shape(9))
    found = assign(clips(), config.buckets(), config)
    assert [len(a) for a in (found.bucket, found.reason, found.crop, found.scale)] == [0] * 4
    shapes, which = stored_shapes(clips())
    assert shapes.shape == (0, 4) and which.shape == (0,)


def test_stored_shapes_are_sorted_whatever_the_order_of_clips() -> None:
    stored = [(9, 64, 48, 8.0), (9, 48, 64, 8.0), (9, 64, 48, 7.5), (1, 99, 99, 1.0)] * 3
    shapes, which = stored_shapes(clips(*stored))
    assert shapes.tolist() == sorted([list(map(float, s)) for s in set(stored)])
    assert [tuple(shapes[n]) for n in which] == stored
    again, _ = stored_shapes(clips(*stored[::-1]))
    assert np.array_equal(shapes, again)


# Against plain Python

SIZES = (16, 48, 64, 96, 128, 200, 360, 640)
STORED = st.tuples(
    st.sampled_from((1, 2, 5, 8, 9, 24, 25, 33, 48, 120)),
    st.sampled_from(SIZES),
    st.sampled_from(SIZES),
    st.sampled_from((1.0, 5.0, 7.9, 8.0, 12.5, 23.976, 24.0, 30.0)),
)
SHAPE = st.tuples(
    st.sampled_from((1, 5, 9, 17, 33)),
    st.sampled_from((16, 48, 64, 96, 128)),
    st.sampled_from((16, 48, 64, 96, 128)),
    st.sampled_from((4.0, 8.0, 12.0, 24.0)),
)


def why_not(bucket: Bucket, stored: Stored, config: BucketSettings) -> str:
    """Why a clip does not fit a bucket; "": it does."""
    frames, height, width, fps = stored
    if (bucket.frames - 1) / bucket.fps > (frames - 1) / fps + 1e-3:
        return "too_short"
    scale = max(bucket.height_px / height, bucket.width_px / width)
    if scale > config.max_upscale + 1e-6:
        return "too_small"
    if bucket.frames > 1 and fps * config.max_rate < bucket.fps:
        return "too_slow"
    crop = 1 - bucket.height_px * bucket.width_px / (scale**2 * height * width)
    return "too_cropped" if crop > config.max_crop + 1e-6 else ""


def shows(bucket: Bucket, stored: Stored) -> float:
    """Share of a clip's time and picture that a bucket shows."""
    frames, height, width, fps = stored
    scale = max(bucket.height_px / height, bucket.width_px / width)
    area = bucket.height_px * bucket.width_px / (scale**2 * height * width)
    return area * min(1, max(bucket.frames / bucket.fps, 1 / fps) * fps / frames)


def check_one(stored: Stored, number: int, found: Assignment, config: BucketSettings) -> None:
    single = stored[0] == 1 or all(b.frames == 1 for b in found.buckets)
    usable = [b for b in found.buckets if (b.frames == 1) == single]
    fitting = [b for b in usable if not why_not(b, stored, config)]
    chosen, reason = int(found.bucket[number]), int(found.reason[number])
    if chosen < 0:
        assert not fitting
        reasons = [REASONS.index(why_not(b, stored, config)) for b in usable]
        assert reason == max(reasons, default=0)
        assert found.crop[number] == found.scale[number] == 0
        return
    bucket = found.buckets[chosen]
    assert reason == -1 and bucket in fitting
    best = max(shows(b, stored) for b in fitting)
    assert shows(bucket, stored) >= best - 2e-6
    equal = [b for b in fitting if abs(shows(b, stored) - best) < 1e-9]
    if bucket in equal:
        assert bucket.tokens == max(b.tokens for b in equal)
    _, height, width, _ = stored
    scale = max(bucket.height_px / height, bucket.width_px / width)
    assert found.scale[number] == pytest.approx(scale)
    cut = 1 - bucket.height_px * bucket.width_px / (scale**2 * height * width)
    assert found.crop[number] == pytest.approx(max(0.0, cut), abs=1e-6)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(STORED, max_size=25),
    st.lists(SHAPE, min_size=1, max_size=6, unique=True),
    st.sampled_from((0.0, 0.2, 0.5, 0.9)),
    st.sampled_from((1.0, 1.5, 4.0)),
    st.sampled_from((1.0, 1.02, 3.0)),
)
def test_every_clip_has_the_best_bucket_it_fits_or_the_reason_why_none(
    stored: list[Stored],
    shapes: list[tuple[int, int, int, float]],
    max_crop: float,
    max_upscale: float,
    max_rate: float,
) -> None:
    config = BucketSettings(
        shapes=tuple(Shape(frames=f, height_px=h, width_px=w, fps=fps) for f, h, w, fps in shapes),
        microbatch_tokens=10_000,
        cost_tolerance=0.99,
        max_crop=max_crop,
        max_upscale=max_upscale,
        max_rate=max_rate,
    )
    # float32 is what the index holds.
    exact = [(f, h, w, float(np.float32(fps))) for f, h, w, fps in stored]
    found = assign(clips(*exact), config.buckets(), config)
    assert list(found.buckets) == sorted(found.buckets)
    for number, clip in enumerate(exact):
        check_one(clip, number, found, config)


def test_equal_clips_go_together_and_the_shapes_may_stand_in_any_order() -> None:
    shapes = [shape(9), shape(17), shape(9, 64, 128), shape(1, 96, 96)]
    stored = [
        (f, h, w, fps)
        for f, h, w, fps in product((1, 24, 48, 90), (96, 200), (96, 240), (8.0, 24.0))
    ]
    one = made(*shapes, cost_tolerance=0.9)
    other = made(*shapes[::-1], cost_tolerance=0.9)
    assert one.buckets() == other.buckets()
    twice = assign(clips(*stored, *stored), one.buckets(), one)
    half = len(stored)
    assert np.array_equal(twice.bucket[:half], twice.bucket[half:])
    assert np.array_equal(
        twice.bucket[:half], assign(clips(*stored), other.buckets(), other).bucket
    )


@pytest.mark.parametrize(
    "given",
    [
        {"shapes": [shape(10**30 + 1)]},
        {"shapes": [shape(5, 10**9)]},
        {"shapes": [shape(5, 64, 2**40)]},
        {"shapes": [shape(5, samples=10**12)], "microbatch_tokens": 2**31},
        {"shapes": [shape(5, fps=1e300)]},
        {"shapes": [shape(5, fps=1e-300)]},
        {
            "shapes": [shape(65537, 2**14, 2**14)],
            "microbatch_tokens": 2**31,
            "spatial_stride": 1024,
        },
        {"microbatch_tokens": 2**31 + 1},
        {"microbatch_tokens": 10**400},
        {"temporal_stride": 10**20},
        {"spatial_stride": 10**20},
        {"patch": (1, 10**20, 2)},
        {"max_upscale": math.inf},
    ],
)
def test_absurd_numbers_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BucketSettings.model_validate(given)
