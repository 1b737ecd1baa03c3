"""The same footage scores the same at any size and frame rate.

Scores of three seconds, measured; 640x360 and 1920x1080, at 24 and 60 frames per second (camera and
object before a standing camera was told from a slow one; tripod shots now have camera 0.000):

    footage      size  fps  motion  camera  object   luma    dark  sharpness
    01_dog       360p   24  0.0124  0.0048  0.0134  0.559  0.0271     0.288
    01_dog       360p   60  0.0125  0.0050  0.0132  0.559  0.0272     0.286
    01_dog      1080p   24  0.0124  0.0047  0.0133  0.558  0.0284     0.308
    01_dog      1080p   60  0.0121  0.0047  0.0129  0.558  0.0284     0.307
    crystal      360p   24  0.1030  0.1022  0.0158  0.402  0.0224     0.327
    crystal      360p   60  0.1100  0.1098  0.0162  0.402  0.0224     0.326
    crystal     1080p   24  0.1030  0.1022  0.0158  0.402  0.0224     0.364
    crystal     1080p   60  0.1100  0.1098  0.0161  0.402  0.0224     0.364
    02_cups      360p   24  0.0565  0.0116  0.0551  0.586  0.0389     0.196
    02_cups      360p   60  0.0567  0.0120  0.0551  0.586  0.0389     0.195
    02_cups     1080p   24  0.0573  0.0115  0.0558  0.586  0.0402     0.210
    02_cups     1080p   60  0.0576  0.0118  0.0561  0.586  0.0403     0.209
    video        360p   24  0.0371  0.0359  0.0156  0.528  0.0576     0.073
    video        360p   60  0.0374  0.0360  0.0170  0.528  0.0576     0.073
    video       1080p   24  0.0375  0.0354  0.0165  0.528  0.0581     0.073
    video       1080p   60  0.0385  0.0365  0.0175  0.528  0.0582     0.072
    generated    360p   24  0.1340  0.1340  0.0015  0.558  0.0000     0.121
    generated    360p   60  0.1342  0.1342  0.0016  0.558  0.0000     0.122
    generated   1080p   24  0.1339  0.1339  0.0015  0.558  0.0000     0.120
    generated   1080p   60  0.1341  0.1341  0.0015  0.557  0.0000     0.121

Largest differences: motion 7 % (frame rate: crystal's hand-held camera shakes faster than the
eighth of a second between two pictures), sharpness 11 % (size: crystal has 480 lines, which
1080 lines only blow up), object motion 12 % (video.mp4 has 192 lines of heavy compression; 4 %
in the others), shares of pixels 0.0014.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.curation.chain import scan
from tests.curation.footage import Picture, generated, real, record
from tests.media import Camera

GENERATED = Camera(pan_per_s=0.12, tilt_per_s=0.03, zoom_per_s=0.05)
MOTION = ("motion_per_s", "camera_motion_per_s", "object_motion_per_s")
SHARES = ("luma_mean", "dark_fraction", "bright_fraction", "black_fraction", "static_fraction")


def check_same(base: dict[str, Any], other: dict[str, Any], motion: float = 0.09) -> None:
    """Two scores of the same footage agree; motion within a share of itself."""
    for name in MOTION:
        assert other[name] == pytest.approx(base[name], rel=motion, abs=0.0005), name
    for name in SHARES:
        assert other[name] == pytest.approx(base[name], abs=0.003), name
    assert other["sharpness"] == pytest.approx(base["sharpness"], rel=0.13)


def scores_of(
    folder: Path, picture: Picture, variants: list[tuple[tuple[int, int], float]], seconds: float
) -> list[dict[str, Any]]:
    """Scores of footage at several sizes and frame rates."""
    scores = []
    for size_px, fps in variants:
        path = folder / f"{size_px[1]}-{fps}.mp4"
        record(path, picture, size_px=size_px, fps=fps, seconds=seconds)
        scores.append(scan(path).score())
        path.unlink()
    return scores


def test_generated_pan(tmp_path: Path) -> None:
    variants = [((640, 360), 24.0), ((640, 360), 60.0), ((1920, 1080), 24.0)]
    base, *others = scores_of(tmp_path, generated(GENERATED), variants, seconds=1.5)
    for other in others:
        check_same(base, other)
    # ... and it is the true speed: 0.124 diagonals per second, 4 % more by the zoom's growth.
    assert base["camera_motion_per_s"] == pytest.approx(0.129, rel=0.03)
    assert base["static_fraction"] == 0


def test_real_footage(assets: Path, tmp_path: Path) -> None:
    footage = real(assets / "videos/real/01_dog.mp4")
    variants = [((640, 360), 24.0), ((640, 360), 60.0), ((1920, 1080), 24.0)]
    base, *others = scores_of(tmp_path, footage, variants, seconds=3)
    # A tripod shot: all its motion is the subjects'.
    assert base["object_motion_per_s"] > 0.003 and base["camera_motion_per_s"] < 0.001
    for other in others:
        check_same(base, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crystal.mp4", "02_cups.mp4", "video.mp4"])
def test_more_real_footage(assets: Path, tmp_path: Path, name: str) -> None:
    sizes = [(640, 360), (1920, 1080)]
    variants = [(size_px, fps) for size_px in sizes for fps in (24.0, 60.0)]
    base, *others = scores_of(tmp_path, real(assets / "videos/real" / name), variants, seconds=3)
    for other in others:
        for key in ("static_fraction",):  # one pair of 23 more or less
            assert other[key] == pytest.approx(base[key], abs=0.05)
            other[key] = base[key]
        check_same(base, other, motion=0.14 if name == "video.mp4" else 0.09)


def test_different_footage_differs(tmp_path: Path) -> None:
    """The tolerances above can tell one footage from another."""
    variants = [((320, 180), 24.0)]
    (slow,) = scores_of(tmp_path, generated(GENERATED), variants, seconds=1)
    (fast,) = scores_of(tmp_path, generated(Camera(pan_per_s=0.15)), variants, seconds=1)
    with pytest.raises(AssertionError):
        check_same(slow, fast)
