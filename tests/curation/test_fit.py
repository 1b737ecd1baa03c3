"""Fitting: sizes under limits, and what scaling does to edges and brightness."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

from curation.media.fit import Scaling, output_size
from tests.conftest import Maker
from tests.curation.chain import cut_clips, scan
from tests.media import Camera, Recording, Turn, psnr, read_pictures


@pytest.mark.parametrize(
    ("size", "sar", "long", "short", "wanted"),
    [
        ((1920, 1080), 1.0, None, None, (1920, 1080)),
        ((1920, 1080), 1.0, 1280, None, (1280, 720)),
        ((1920, 1080), 1.0, None, 360, (640, 360)),
        ((1080, 1920), 1.0, 1280, None, (720, 1280)),
        ((1920, 1080), 1.0, 1280, 480, (854, 480)),
        ((1920, 1080), 1.0, 640, 480, (640, 360)),
        ((854, 480), 1.0, 640, None, (640, 360)),  # 359.7 is nearer to 360 than to 358
        ((640, 360), 1.0, 1280, 720, (640, 360)),  # never enlarged
        ((1920, 1080), 1.0, 641, None, (640, 360)),  # an odd limit is not exceeded
        ((720, 576), 16 / 15, 384, None, (384, 288)),  # of 768 x 576
        ((480, 576), 1.6, None, 288, (384, 288)),
        ((3000, 20), 1.0, 300, None, (300, 2)),
        ((1921, 1081), 1.0, 1920, None, (1920, 1080)),
        ((405, 721), 1.0, 4000, None, (404, 720)),
    ],
)
def test_output_size(
    size: tuple[int, int],
    sar: float,
    long: int | None,
    short: int | None,
    wanted: tuple[int, int],
) -> None:
    got = output_size(*size, sar, max_long_side_px=long, max_short_side_px=short)
    assert got == wanted


def test_sizes_keep_their_shape() -> None:
    """Over many sizes: even, within the limits, and within a pixel and a half of the shape."""
    rng = np.random.default_rng(3)
    for _ in range(2000):
        width, height = (int(n) for n in rng.integers(64, 4000, 2))
        long, short = (int(n) for n in rng.integers(64, 2000, 2))
        got = output_size(width, height, 1.0, max_long_side_px=long, max_short_side_px=short)
        assert got[0] % 2 == got[1] % 2 == 0
        assert got[0] <= width and got[1] <= height
        assert max(got) <= long
        factor = min(1.0, long / max(width, height), short / min(width, height))
        assert abs(got[0] - width * factor) < 2 and abs(got[1] - height * factor) < 2
        assert min(got) <= max(2, short + 1)


@pytest.mark.parametrize("scaling", ["area", "lanczos"])
@pytest.mark.parametrize("turn_deg", [0, 90])
@pytest.mark.parametrize("bit_depth", [8, 10])
def test_scaled_frames(
    make_video: Maker,
    tmp_path: Path,
    scaling: Scaling,
    turn_deg: Turn,
    bit_depth: Literal[8, 10],
) -> None:
    """Each frame is its own source frame made small, upright, and no other."""
    camera = Camera(pan_per_s=0.3, tilt_per_s=0.1)
    how = Recording(turn_deg=turn_deg)
    path = make_video("large.mp4", how, camera=camera, seconds=1.0, size_px=(320, 192))
    media, failures = cut_clips(
        [scan(path).whole_clip()],
        tmp_path,
        max_long_side_px=160,
        scaling=scaling,
        bit_depth=bit_depth,
    )
    assert not failures
    size = (160, 96) if turn_deg == 0 else (96, 160)
    assert (media[0]["media_width_px"], media[0]["media_height_px"]) == size
    source = [np.rot90(p, -turn_deg // 90) for p in read_pictures(path)[1]]
    small = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in source]
    got = read_pictures(media[0]["path"])[1]
    assert len(got) == len(small) == 24
    for index, (a, b) in enumerate(zip(small, got, strict=True)):
        alike = psnr(a, b)
        assert alike > 30, index
        if index:
            assert psnr(small[index - 1], b) < alike - 3, index
