"""Motion and sharpness rise and fall with what the camera does, and go to the right account."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.signals.flow import FlowMeter, Motion, split_motion
from tests.curation.chain import Scanned, scan
from tests.media import Camera, Recording, write_video

SIZE_PX = (320, 180)


def shoot(folder: Path, camera: Camera, seconds: float = 1.5, fps: float = 24) -> Scanned:
    """A scan of footage by a camera."""
    times_s = np.arange(round(seconds * fps)) / fps
    pictures = camera.shoot(*SIZE_PX, times_s)
    return scan(write_video(folder / "shot.mp4", pictures, Recording(fps=fps)))


def scored(folder: Path, camera: Camera) -> dict[str, Any]:
    """The score of footage by a camera."""
    return shoot(folder, camera).score()


def test_faster_pans_move_more(tmp_path: Path) -> None:
    speeds = [0.0, 0.02, 0.06, 0.15, 0.3]
    found = [scored(tmp_path, Camera(pan_per_s=v))["motion_per_s"] for v in speeds]
    assert found == sorted(found)
    assert found == pytest.approx(speeds, rel=0.05, abs=0.0025)


def test_more_blur_is_less_sharp(tmp_path: Path) -> None:
    blurs = [0.0, 0.002, 0.004, 0.008]
    found = [scored(tmp_path, Camera(pan_per_s=0.05, blur=b))["sharpness"] for b in blurs]
    for crisp, soft in pairwise(found):
        assert soft < 0.9 * crisp


def test_still_picture_is_static(tmp_path: Path) -> None:
    score = scored(tmp_path, Camera())
    assert score["static_fraction"] == 1
    assert score["motion_per_s"] < 0.001


@pytest.mark.parametrize(
    ("camera", "signal", "expected"),
    [
        (Camera(pan_per_s=0.1), "pan_per_s", 0.1),
        (Camera(pan_per_s=-0.1), "pan_per_s", -0.1),
        (Camera(tilt_per_s=0.1), "tilt_per_s", -0.1),  # the camera goes down
        (Camera(zoom_per_s=0.3), "zoom_per_s", 0.25),  # 0.3 of the first picture, 0.2 of the last
        (Camera(roll_per_s=0.3), "roll_per_s", 0.3),
        (Camera(roll_per_s=-0.3), "roll_per_s", -0.3),
    ],
)
def test_camera_motion_and_its_sign(
    tmp_path: Path, camera: Camera, signal: str, expected: float
) -> None:
    """A pan, tilt, zoom or roll is the camera's, and has a direction."""
    found = shoot(tmp_path, camera)
    assert np.nanmean(found.frames(signal)) == pytest.approx(expected, rel=0.15)
    others = {"pan_per_s", "tilt_per_s", "zoom_per_s", "roll_per_s"} - {signal}
    for other in others:
        assert abs(np.nanmean(found.frames(other))) < 0.15 * abs(expected), other
    score = found.score()
    assert score["object_motion_per_s"] < 0.1 * score["camera_motion_per_s"]


def test_moving_square_is_an_object(tmp_path: Path) -> None:
    score = scored(tmp_path, Camera(square_per_s=0.3))
    assert score["object_motion_per_s"] > 0.005
    assert score["camera_motion_per_s"] < 0.2 * score["object_motion_per_s"]


def test_object_before_a_moving_camera(tmp_path: Path) -> None:
    """A pan of known speed is found behind an object that moves on its own."""
    score = scored(tmp_path, Camera(pan_per_s=0.08, square_per_s=0.3))
    assert score["camera_motion_per_s"] == pytest.approx(0.08, rel=0.1)
    assert score["object_motion_per_s"] > 0.005


def test_flow_field_of_half_an_object() -> None:
    """Up to nearly half the picture may move by itself."""
    flow = np.zeros((72, 128, 2), np.float32)
    flow[..., 0] = 2.0  # the background shifts right: the camera pans left
    flow[:, :56, 1] = 9.0
    motion = split_motion(flow, 0.125)
    per_s = 1 / (np.hypot(72, 128) * 0.125)
    assert motion.pan_per_s == pytest.approx(-2 * per_s, rel=0.1)
    assert motion.object_per_s == pytest.approx(9 * per_s * 56 / 128, rel=0.15)


@pytest.mark.parametrize("fps", [5, 12.5, 24, 29.97, 60, 120])
def test_pairs_are_an_eighth_of_a_second_apart(fps: float) -> None:
    """Whatever the rate: from the first frame at or after a grid point to the next such frame."""
    meter, blank = FlowMeter(), np.zeros((64, 64), np.uint8)
    pairs = [(meter.push(blank, i / fps), i / fps) for i in range(round(2 * fps) + 1)]
    spans = [(pair[1], end) for pair, end in pairs if pair is not None]
    lengths = np.array([end - start for start, end in spans])
    assert lengths == pytest.approx(max(0.125, 1 / fps), abs=1.01 / fps)
    assert lengths.mean() == pytest.approx(max(0.125, 1 / fps), rel=0.07)
    assert [s for s, _ in spans][1:] == [e for _, e in spans][:-1]


def test_a_late_start_finds_the_same_pairs() -> None:
    """From the second grid point on, whatever frame a pass begins with."""
    times = np.arange(80) / 29.97
    pictures = [p.mean(2).astype(np.uint8) for p in Camera(pan_per_s=0.2).shoot(96, 64, times)]

    def pairs(first: int) -> dict[float, Motion]:
        meter = FlowMeter()
        found = [meter.push(pictures[i], float(times[i])) for i in range(first, len(times))]
        return {start: motion for pair in found if pair for motion, start in [pair]}

    whole = pairs(0)
    for first in (1, 17, 40):
        late = pairs(first)
        assert late.items() <= whole.items()
        assert len(late) >= len([s for s in whole if s >= times[first]]) - 1
