"""The same footage has the same technical scores at any size, frame rate and codec.

Two seconds, measured; `blur`, `noise` and `blocks` belong to the stored pixels, so they may change
with size and must not with frame rate. A flower (1 pixel of its 540 lines is one of 360):

    footage    size  fps  codec        blur    noise   blocks  flicker  lighting  saturation
    generated  360p   24  h264 crf 14     -   0.0014    0.140   0.0003    0.0175       0.519
    generated  720p   24  h264 crf 14     -   0.0009    0.121   0.0002    0.0176       0.519
    generated  360p   60  h264 crf 14     -   0.0012    0.063   0.0005    0.0175       0.518
    generated  360p   24  h264 crf 23     -   0.0008    0.317   0.0004    0.0175       0.518
    generated  360p   24  mpeg4           -   0.0012    0.653   0.0002    0.0175       0.519
    01_dog     360p   24  h264 crf 14  0.27   0.0016    0.019   0.0003    0.0030       0.183
    01_dog     720p   24  h264 crf 14  0.29   0.0011    0.086   0.0003    0.0030       0.184
    01_dog     360p   60  h264 crf 14  0.27   0.0011    0.041   0.0003    0.0030       0.183
    01_dog     360p   24  h264 crf 23  0.27   0.0004    0.063   0.0003    0.0036       0.183
    01_dog     360p   24  mpeg4        0.27   0.0006    0.077   0.0003    0.0030       0.183
    flower     360p   24  h264 crf 14  0.66   0.0012    0.142   0.0011    0.0020       0.544
    flower     720p   24  h264 crf 14  0.72   0.0011    0.143   0.0012    0.0019       0.544
    flower     360p   60  h264 crf 14  0.68   0.0010    0.132   0.0013    0.0022       0.543
    flower     360p   24  mpeg4        0.78   0.0011    0.566   0.0012    0.0019       0.544

Largest differences: saturation 0.002, lighting 0.0006, flicker 0.0004, blur 18 % (codec) and 9 %
(size), noise 0.0012 (what a codec takes away), blocks 0.08 but for the codecs that make them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.curation.footage import Picture, generated, real
from tests.curation.technical import technical
from tests.media import Camera, Recording, write_video

GENERATED = Camera(pan_per_s=0.12, tilt_per_s=0.03, zoom_per_s=0.05)
SMALL, LARGE = (640, 360), (1280, 720)
SECONDS = 1.2
Variant = tuple[tuple[int, int], Recording]
BASE: Variant = (SMALL, Recording(crf=14))
VARIANTS: list[Variant] = [
    (LARGE, Recording(crf=14)),
    (SMALL, Recording(fps=60, crf=14)),
    (SMALL, Recording(crf=23)),
    (SMALL, Recording(codec="mpeg4")),
]


def scores_of(folder: Path, picture: Picture, variants: list[Variant]) -> list[dict[str, Any]]:
    """Scores of footage at several sizes, frame rates and codecs."""
    scores = []
    for size_px, how in variants:
        times_s = np.arange(round(SECONDS * how.fps)) / how.fps
        pictures = (picture(*size_px, float(t)) for t in times_s)
        scores.append(technical(write_video(folder / "a.mp4", pictures, how)))
    return scores


def check_same(base: dict[str, Any], other: dict[str, Any]) -> None:
    """Two scores of the same footage agree, but for what the codec did to its pixels."""
    assert other["saturation"] == pytest.approx(base["saturation"], abs=0.005)
    assert other["lighting_change"] == pytest.approx(base["lighting_change"], abs=0.002)
    assert other["flicker"] == pytest.approx(base["flicker"], abs=0.001)
    assert other["noise"] == pytest.approx(base["noise"], abs=0.002)
    for name in ("flashes_per_s", "combing_fraction", "frozen_fraction", "bar_top_fraction"):
        assert other[name] == base[name] == 0, name
    if None not in (base["blur_px"], other["blur_px"]):  # generated footage has no edges
        assert other["blur_px"] == pytest.approx(base["blur_px"], rel=0.25)


def check(folder: Path, picture: Picture, variants: list[Variant]) -> list[dict[str, Any]]:
    """All variants agree with the base; returns their scores."""
    base, *others = scores_of(folder, picture, [BASE, *variants])
    for other in others:
        check_same(base, other)
    return [base, *others]


def test_generated(tmp_path: Path) -> None:
    base, large, fast, *_ = check(tmp_path, generated(GENERATED), VARIANTS)
    assert large["blockiness"] == pytest.approx(base["blockiness"], abs=0.1)
    assert fast["blockiness"] == pytest.approx(base["blockiness"], abs=0.1)
    assert fast["true_fps"] == pytest.approx(60) and base["true_fps"] == pytest.approx(24)


@pytest.mark.parametrize("name", ["01_dog.mp4", "flower.mp4"])
@pytest.mark.slow
def test_real_footage(assets: Path, tmp_path: Path, name: str) -> None:
    """At 60 frames per second the nearest of 30 is shown twice: the true rate stays 30."""
    footage = real(assets / "videos/real" / name)
    base, large, fast, *_ = check(tmp_path, footage, VARIANTS)
    assert large["blockiness"] == pytest.approx(base["blockiness"], abs=0.1)
    assert fast["true_fps"] == pytest.approx(30, abs=2) and base["true_fps"] == pytest.approx(24)


def test_different_footage_differs(tmp_path: Path) -> None:
    """The tolerances above can tell one footage from another."""
    small: Variant = ((320, 180), Recording())
    one, other = (
        scores_of(tmp_path, generated(Camera(pan_per_s=0.12, seed=seed)), [small])[0]
        for seed in (0, 1)
    )
    with pytest.raises(AssertionError):
        check_same(one, other)
