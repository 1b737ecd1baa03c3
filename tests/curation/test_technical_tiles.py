"""Noise, blur, blocks and combing of a real picture that is spoiled by known amounts."""

from __future__ import annotations

import itertools

import av
import cv2
import numpy as np
import pytest

from curation.signals.technical_tiles import (
    Luma,
    Native,
    blockiness,
    blur_px,
    combing,
    cut_tiles,
    noise,
)
from tests.curation.technical import gray, real_picture, tiles_of
from tests.media import texture


def noisy(picture: np.ndarray, sigma: float) -> np.ndarray:
    """With white noise of a standard deviation in levels."""
    grain = np.random.default_rng(0).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + grain), 0, 255).astype(np.uint8)


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """Coded in blocks of 8 pixels and back."""
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    found = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert found is not None
    return found


def woven(picture: np.ndarray, shift_px: int) -> np.ndarray:
    """Every other line is of a moment later, when all has moved."""
    out = picture.copy()
    out[1::2] = np.roll(picture, shift_px, axis=1)[1::2]
    return out


def rising(values: list[float]) -> bool:
    """Each is clearly above the one before."""
    return all(b > 1.02 * a for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0])
def test_noise_is_the_standard_deviation(sigma: float) -> None:
    """Measured 0.94 to 1.02 of what was added; the calmest fifth of the blocks is told."""
    level = noise(tiles_of(noisy(gray(real_picture()), sigma)))
    assert level == pytest.approx(sigma / 255, rel=0.12)


def test_noise_is_not_texture() -> None:
    """The clean picture has hair and grass all over: half a level."""
    assert noise(tiles_of(gray(real_picture()))) == pytest.approx(0.0023, abs=0.001)
    edges = np.kron(np.indices((24, 40)).sum(0) % 2, np.ones((30, 32))).astype(np.uint8) * 120 + 60
    assert noise(tiles_of(edges)) == 0


def test_blur_is_the_sigma_of_the_blur() -> None:
    picture = gray(real_picture())
    sigmas = [0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    found = [
        blur_px(tiles_of(cv2.GaussianBlur(picture, (0, 0), s) if s else picture), 0.0)
        for s in sigmas
    ]
    assert all(f is not None for f in found)
    values = [f for f in found if f is not None]
    assert rising(values)
    assert values[0] < 0.65
    assert values[1:] == pytest.approx(sigmas[1:], rel=0.35)


def test_enlarged_pictures_are_blurred() -> None:
    picture = gray(real_picture())
    widths = []
    for factor in (1, 2, 4):
        small = cv2.resize(
            picture, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA
        )
        large = cv2.resize(small, (1280, 720), interpolation=cv2.INTER_CUBIC)
        widths.append(blur_px(tiles_of(large), 0.0) or 0.0)
    assert rising(widths) and widths[2] > 1.2


def test_a_small_sharp_subject_is_enough() -> None:
    """Half of it is out of focus, as in a portrait. A picture without an edge tells nothing."""
    picture = gray(real_picture())
    soft = cv2.GaussianBlur(picture, (0, 0), 4)
    soft[:, 640:] = picture[:, 640:]
    assert (blur_px(tiles_of(soft), 0.0) or 9) < 0.8
    slope = np.tile(np.linspace(40, 200, 1280), (720, 1)).astype(np.uint8)
    assert blur_px(tiles_of(slope), 0.0) is None


def test_noise_does_not_sharpen_a_blurred_picture() -> None:
    """Three levels of noise make 1.6 pixels 1.25, and 0.45 pixels 0.43."""
    soft = cv2.GaussianBlur(gray(real_picture()), (0, 0), 2)
    clean = blur_px(tiles_of(soft), 0.0) or 0
    grainy = tiles_of(noisy(soft, 3))
    assert blur_px(grainy, noise(grainy) or 0.0) == pytest.approx(clean, rel=0.3)


def test_blockiness_rises_as_quality_falls() -> None:
    picture = gray(real_picture())
    found = [blockiness(tiles_of(jpeg(picture, q))) for q in (95, 70, 40, 20, 10)]
    assert rising(found)
    assert found[0] < 0.15 and found[-1] > 0.7


def test_blockiness_is_found_after_a_crop_and_lost_by_scaling() -> None:
    blocks = jpeg(gray(real_picture()), 20)
    whole = blockiness(tiles_of(blocks))
    assert blockiness(tiles_of(np.ascontiguousarray(blocks[3:, 5:]))) == pytest.approx(
        whole, abs=0.05
    )
    scaled = cv2.resize(blocks, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    assert blockiness(tiles_of(scaled)) < 0.25 < 0.6 < whole


def test_texture_and_noise_are_no_blocks() -> None:
    picture = gray(real_picture())
    for clean in (picture, noisy(picture, 5), gray(texture(0)), noisy(gray(texture(1)), 10)):
        assert blockiness(tiles_of(clean)) < 0.08


def test_combing_rises_with_motion() -> None:
    picture = gray(real_picture())
    found = [combing(tiles_of(woven(picture, shift))) for shift in (0, 1, 2, 4, 8)]
    assert found[0] == 0
    assert rising(found[1:]) and found[1] > 0.05 and found[-1] > 0.6


def test_noise_and_fine_texture_are_not_combed() -> None:
    assert combing(tiles_of(noisy(gray(real_picture()), 10))) < 0.01
    assert combing(tiles_of(gray(texture(0)))) == 0


@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv420p", "yuvj420p", "yuv420p10le", "yuv422p", "yuv444p12le", "nv12", "gray", "gbrp",
     "rgb24", "yuyv422", "p010le"],
)  # fmt: skip
def test_every_pixel_format_measures_the_same(pix_fmt: str) -> None:
    """Bit depth and range do not matter; packed and RGB pictures are converted."""
    picture = np.repeat(noisy(gray(real_picture()), 5)[..., None], 3, axis=2)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
    tiles = cut_tiles(Native()(frame))
    assert tiles is not None
    assert noise(tiles) == pytest.approx(5 / 255, rel=0.1)
    assert blur_px(tiles, 5 / 255) == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("size_px", [(1, 1), (2, 400), (31, 31), (33, 35), (97, 1001), (4000, 40)])
def test_any_size(size_px: tuple[int, int]) -> None:
    plane = np.full(size_px[::-1], 90, np.uint8)
    tiles = cut_tiles(Luma(plane=plane, shift=0, black=16, span=219))
    assert (tiles is None) == (min(size_px) < 32)
    if tiles is not None:
        assert noise(tiles) == 0 and combing(tiles) == 0 and blockiness(tiles) == 0
        assert blur_px(tiles, 0.0) is None


def test_large_pictures_cost_no_more() -> None:
    sizes = [(1080, 1920), (2160, 3840)]
    stacks = [tiles_of(np.zeros(size, np.uint8)).stack.size for size in sizes]
    assert stacks[0] == stacks[1]
