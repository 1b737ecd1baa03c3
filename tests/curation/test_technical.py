"""Technical scores: each rises with what it measures, and is null where nothing was measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.conftest import Maker
from tests.curation.chain import run_stage, scan
from tests.curation.technical import pan, shot, technical, technical_stage
from tests.media import Camera, Recording, Turn, write_video

SIZE_PX = (320, 192)
NUMBERS = [f.name for f in technical_stage().adds["scores_technical"] if f.name != "clip_id"]


def grainy(pictures: list[np.ndarray], sigma: float) -> list[np.ndarray]:
    """With new noise in every picture, in levels."""
    rng = np.random.default_rng(0)
    return [
        np.clip(np.rint(p + rng.normal(0, sigma, p.shape[:2])[..., None]), 0, 255).astype(np.uint8)
        for p in pictures
    ]


def lit(
    pictures: list[np.ndarray], light: Callable[[float], float], fps: float
) -> list[np.ndarray]:
    """Under light that changes with time, 1 as it was."""
    return [np.clip(p * light(i / fps), 0, 255).astype(np.uint8) for i, p in enumerate(pictures)]


def boxed(pictures: list[np.ndarray], top: int, left: int) -> list[np.ndarray]:
    """With bars over the upper and lower, and the left and right lines."""
    out = [p.copy() for p in pictures]
    for p in out:
        p[:top], p[p.shape[0] - top :] = 0, 0
        p[:, :left], p[:, p.shape[1] - left :] = 0, 0
    return out


def test_noise_rises(tmp_path: Path) -> None:
    """A codec at high quality keeps most of it: 0.001, 0.006, 0.016 and 0.035."""
    pictures = pan(SIZE_PX, 24)
    noise = [shot(tmp_path, grainy(pictures, s))["noise"] for s in (0, 2, 5, 10)]
    assert noise[0] < 0.003
    assert noise[1:] == pytest.approx([2 / 255, 5 / 255, 10 / 255], rel=0.35)


def test_blur_rises(tmp_path: Path) -> None:
    pictures = pan(SIZE_PX, 24)
    soft = [[cv2.GaussianBlur(p, (0, 0), s) for p in pictures] for s in (0.01, 1.0, 2.0, 4.0)]
    blur = [shot(tmp_path, p)["blur_px"] for p in soft]
    assert blur[0] < 0.7
    assert blur[1:] == pytest.approx([1.0, 2.0, 4.0], rel=0.4)


def test_blockiness_rises_with_compression(tmp_path: Path) -> None:
    pictures = pan(SIZE_PX, 24)
    found = [shot(tmp_path, pictures, Recording(crf=crf)) for crf in (8, 23, 32, 40)]
    blocks = [f["blockiness"] for f in found]
    assert blocks == sorted(blocks) and blocks[0] < 0.15 and blocks[-1] > 0.3
    bits = [f["bits_per_pixel"] for f in found]
    assert bits == sorted(bits, reverse=True)


def test_bits_per_pixel_counts_the_file(make_video: Maker) -> None:
    path = make_video("cfr.mp4")
    bits = 8 * path.stat().st_size / (160 * 96 * 48)
    assert technical(path)["bits_per_pixel"] == pytest.approx(bits, abs=1e-4)


def test_saturation_rises(tmp_path: Path) -> None:
    pictures = pan(SIZE_PX, 12)
    found = []
    for share in (0.0, 0.5, 1.0):
        gray = [p.mean(2, keepdims=True) for p in pictures]
        mixed = [
            (g + share * (p - g)).astype(np.uint8) for g, p in zip(gray, pictures, strict=True)
        ]
        found.append(shot(tmp_path, mixed)["saturation"])
    assert found[0] < 0.01 and found[0] + 0.1 < found[1] < found[2] - 0.1
    dark = [np.zeros_like(p) for p in pictures]
    assert shot(tmp_path, dark)["saturation"] is None  # black has no colour


@pytest.mark.parametrize("fps", [24, 60])
def test_flicker_is_the_swing_of_the_light(tmp_path: Path, fps: float) -> None:
    """A lamp at 7 Hz, at either frame rate; a fade as strong is no flicker, but a change."""
    slow = pan(SIZE_PX, 48, step_px=1)
    pictures = [slow[int(i * 24 / fps)] for i in range(2 * int(fps))]
    found = []
    for swing in (0.0, 0.04, 0.08):
        lamp = lit(pictures, lambda t, s=swing: 1 + s * np.sin(14 * np.pi * t), fps)
        found.append(shot(tmp_path, lamp, Recording(fps=fps)))
    level = np.mean([p.mean() for p in pictures]) / 255
    flicker = [f["flicker"] for f in found]
    assert flicker[0] < 0.001
    # Half of the time a sine is beyond 0.71 of its swing.
    assert flicker[1:] == pytest.approx([0.71 * s * level for s in (0.04, 0.08)], rel=0.15)
    assert max(f["lighting_change"] for f in found) < 0.02
    fade = shot(tmp_path, lit(pictures, lambda t: 1 - 0.4 * t, fps), Recording(fps=fps))
    assert fade["flicker"] < 0.002 and fade["flashes_per_s"] == 0
    assert fade["lighting_change"] == pytest.approx(0.4 * 1.25 * level, rel=0.25)


def test_flashes_are_counted(tmp_path: Path) -> None:
    pictures = [p // 2 for p in pan(SIZE_PX, 48, step_px=1)]
    counts = []
    for every in (100, 24, 12, 6):
        flashing = [p + 90 if i % every in (4, 5) else p for i, p in enumerate(pictures)]
        counts.append(shot(tmp_path, flashing if every < 100 else pictures)["flashes_per_s"])
    assert counts == [0, 1, 2, 4]


def test_a_flash_is_no_flicker(tmp_path: Path) -> None:
    pictures = pan(SIZE_PX, 48, step_px=1)
    pictures[20] = pictures[20] // 2 + 127
    assert shot(tmp_path, pictures)["flicker"] < 0.002


@pytest.mark.parametrize(
    ("shown", "fps", "cadence"),
    [([1], 24, None), ([2], 24, "2"), ([3, 2], 60, "3:2"), ([2, 1, 1, 1], 30, "2:1x3")],
)
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_repeated_pictures(
    tmp_path: Path, shown: list[int], fps: float, cadence: str | None, codec: str
) -> None:
    """Twos, 24 in 60 and 24 in 30: the true rate is found under the stored one."""
    count = int(2 * fps)
    times = [i for i in range(count) for _ in range(shown[i % len(shown)])][:count]
    pictures = pan(SIZE_PX, max(times) + 1, step_px=6)
    found = shot(tmp_path, [pictures[i] for i in times], Recording(fps=fps, codec=codec))
    mean = np.mean(shown)
    assert found["true_fps"] == pytest.approx(fps / mean, abs=0.51)
    assert found["duplicate_fraction"] == pytest.approx(1 - 1 / mean, abs=0.02)
    assert found["repeat_cadence"] == cadence
    assert found["frozen_fraction"] == 0


def test_slow_motion_at_a_high_rate_is_no_repeat(tmp_path: Path) -> None:
    """A pan of a sixth of a pixel per frame (of 256): hardly any change from frame to frame."""
    camera = Camera(pan_per_s=0.03)
    pictures = camera.shoot(*SIZE_PX, np.arange(60) / 60)
    found = shot(tmp_path, pictures, Recording(fps=60))
    assert found["duplicate_fraction"] < 0.03 and found["frozen_fraction"] == 0


@pytest.mark.parametrize("fps", [24, 60])
@pytest.mark.parametrize("still_s", [0.0, 0.5, 1.0, 2.0])
def test_a_standstill_is_measured(tmp_path: Path, fps: float, still_s: float) -> None:
    """To a quarter of a second, and repeats are told from it."""
    pictures = pan(SIZE_PX, int(2 * fps), step_px=2)
    frozen = [pictures[int(fps)]] * int(still_s * fps)
    found = shot(
        tmp_path, [*pictures[: int(fps)], *frozen, *pictures[int(fps) :]], Recording(fps=fps)
    )
    assert found["longest_freeze_s"] == pytest.approx(still_s, abs=2.1 / fps)
    assert found["frozen_fraction"] == pytest.approx(still_s / (2 + still_s), abs=0.02)
    assert found["true_fps"] == pytest.approx(fps, rel=0.05)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (12, 0), (24, 0), (48, 0), (0, 40), (20, 30)])
def test_bars_are_found_to_the_line(tmp_path: Path, top: int, left: int) -> None:
    found = shot(tmp_path, boxed(pan(SIZE_PX, 24), top, left))
    assert found["active_height_px"] == pytest.approx(SIZE_PX[1] - 2 * top, abs=2)
    assert found["active_width_px"] == pytest.approx(SIZE_PX[0] - 2 * left, abs=2)
    assert found["bar_top_fraction"] == pytest.approx(top / SIZE_PX[1], abs=0.006)
    assert found["bar_bottom_fraction"] == pytest.approx(top / SIZE_PX[1], abs=0.006)
    assert found["bar_left_fraction"] == pytest.approx(left / SIZE_PX[0], abs=0.004)
    assert found["bar_right_fraction"] == pytest.approx(left / SIZE_PX[0], abs=0.004)


@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
def test_bars_are_told_as_displayed(tmp_path: Path, turn_deg: Turn) -> None:
    """Bars of 20 lines above and 24 below as stored: where display turns them to."""
    pictures = boxed(pan(SIZE_PX, 12), 20, 0)
    for p in pictures:
        p[-23:] = 0
    found = shot(tmp_path, pictures, Recording(turn_deg=turn_deg))
    names = ["top", "right", "bottom", "left"]
    bars = {side: found[f"bar_{side}_fraction"] for side in names}
    above = names[turn_deg // 90]
    below = names[(turn_deg // 90 + 2) % 4]
    assert bars[above] == pytest.approx(20 / 192, abs=0.006)
    assert bars[below] == pytest.approx(23 / 192, abs=0.006)
    assert sum(v > 0 for v in bars.values()) == 2
    size = (found["active_width_px"], found["active_height_px"])
    long, short = max(size), min(size)
    assert (long, short) == pytest.approx((320, 149), abs=2)


def test_a_dark_scene_has_no_bars(tmp_path: Path) -> None:
    """Black edges without a sharp beginning, a subtitle in the bar, and only one bar."""
    pictures = pan(SIZE_PX, 12)
    fall = np.clip(np.abs(np.linspace(-1.2, 1.2, 192)), 0, 1)[:, None, None]
    night = [(p * (1 - fall)).astype(np.uint8) for p in pictures]
    text = boxed(pictures, 30, 0)
    for p in text[6:]:
        p[168:180, 100:220] = 230
    below = [p.copy() for p in pictures]
    for p in below:
        p[-30:] = 0
    for given in (night, below):
        found = shot(tmp_path, given)
        assert found["bar_top_fraction"] == 0 and found["active_height_px"] == 192
    assert shot(tmp_path, text)["bar_bottom_fraction"] == 0


def test_interlaced_footage_is_combed(tmp_path: Path) -> None:
    size_px, fps = (320, 192), 24
    fields = pan(size_px, 96, step_px=5)
    woven = []
    for i in range(48):
        frame = fields[2 * i].copy()
        frame[1::2] = fields[2 * i + 1][1::2]
        woven.append(frame)
    assert shot(tmp_path, woven, Recording(fps=fps))["combing_fraction"] == 1
    assert shot(tmp_path, fields[:48], Recording(fps=fps))["combing_fraction"] == 0
    half = [*woven[:24], *([woven[23]] * 0), *fields[48:72]]
    assert shot(tmp_path, half)["combing_fraction"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("fps", [24, 60])
def test_measures_lie_on_a_time_grid(make_video: Maker, fps: float) -> None:
    """The first frames at or after its points, at any frame rate; change is of every frame."""
    found = scan(make_video("cfr.mp4", Recording(fps=fps), size_px=(160, 96)))
    time_s = found.frames("time_s")
    for name, step_s in (("saturation", 0.25), ("bar_top", 0.25), ("noise", 0.5), ("combing", 0.5)):
        at_s = time_s[~np.isnan(found.frames(name))]
        assert at_s == pytest.approx(np.arange(0, 2, step_s), abs=1 / fps)
    assert np.isnan(found.frames("change")).sum() == 1
    assert np.isnan(found.frames("step_change")[0])


def test_one_frame(tmp_path: Path) -> None:
    found = shot(tmp_path, pan(SIZE_PX, 1))
    for name in ("flicker", "frozen_fraction", "duplicate_fraction", "true_fps"):
        assert found[name] is None
    assert found["noise"] is not None and found["active_width_px"] == 320


def test_one_pixel(tmp_path: Path) -> None:
    pictures = [np.full((2, 2, 3), v, np.uint8) for v in range(50, 74)]
    found = shot(tmp_path, pictures, Recording(codec="ffv1"), "a.mkv")
    for name in ("noise", "blur_px", "blockiness", "combing_fraction"):
        assert found[name] is None
    assert found["frozen_fraction"] == 0 and found["active_width_px"] == 2


def scores_of(row: dict[str, Any]) -> dict[str, Any]:
    """The scores of one input row."""
    tables, failures = run_stage(technical_stage(), [row])
    assert not failures
    return tables["scores_technical"].to_pylist()[0]


def test_missing_lists_are_null(make_video: Maker) -> None:
    row = scan(make_video("cfr.mp4")).whole_clip()
    for name in technical_stage().reads.names:
        if name.startswith("frame_") and name != "frame_time_s":
            row[name] = None
    for name in ("width_px", "height_px", "video_bytes"):
        row[name] = None
    found = scores_of(row)
    assert [n for n in NUMBERS if found[n] is not None] == []
    row["frame_time_s"] = None
    assert [n for n in NUMBERS if scores_of(row)[n] is not None] == []


def test_damaged_frames_do_not_count(tmp_path: Path) -> None:
    """Half of the frames are damaged and look white and noisy: as if the clip ended there."""
    row = scan(write_video(tmp_path / "a.mp4", pan(SIZE_PX, 48))).whole_clip()
    lists = [name for name in row if name.startswith("frame_")]
    half = row | {name: row[name][:24] for name in lists} | {"end_s": 1.0}
    row["frame_damaged"] = [False] * 24 + [True] * 24
    for name in ("noise", "blockiness", "blur_px", "saturation", "luma_mean", "combing"):
        values = row[f"frame_{name}"]
        row[f"frame_{name}"] = [*values[:24], *[None if v is None else 0.9 for v in values[24:]]]
    assert scores_of(row) == scores_of(half)
    row["frame_damaged"] = [True] * 48
    found = scores_of(row)
    assert [n for n in NUMBERS if found[n] is not None] == ["bits_per_pixel"]


def test_clips_of_a_batch_do_not_mix(tmp_path: Path) -> None:
    rows = [
        scan(write_video(tmp_path / f"{s}.mp4", grainy(pan(SIZE_PX, 24), s))).whole_clip()
        | {"clip_id": str(s)}
        for s in (0, 5)
    ]
    tables, _ = run_stage(technical_stage(), rows)
    both = tables["scores_technical"].to_pylist()
    assert both == [scores_of(row) for row in rows]
