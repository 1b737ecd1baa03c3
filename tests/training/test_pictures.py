"""Frames as files and pictures as frames."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from curation.errors import ConfigError
from tests.media import Camera, psnr
from training import pictures
from training.data.decode import View, decode_clip
from training.pictures import fit_picture, read_picture, spread, strip, strip_png, write_mp4

Frames = list[NDArray[np.uint8]]


def scene(num_frames: int = 9, width_px: int = 96, height_px: int = 64) -> Frames:
    times = np.arange(num_frames) / 8
    return Camera(pan_per_s=0.2, square_per_s=0.2).shoot(width_px, height_px, times)


def grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The light: half of the colours' detail is left out of such a video."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)


def decoded(path: Path, num_frames: int, fps: float, size_px: tuple[int, int]) -> Frames:
    """As a training reads it."""
    times = [n / fps for n in range(num_frames)]
    return list(decode_clip(path.read_bytes(), times, View(*size_px)))


def test_a_video_comes_back(tmp_path: Path) -> None:
    path, frames = tmp_path / "a.mp4", scene()
    assert write_mp4(path, iter(frames), 8.0, comment="made up") == 9
    back = decoded(path, 9, 8.0, (64, 96))
    assert min(psnr(grey(a), grey(b)) for a, b in zip(frames, back, strict=True)) > 40
    with av.open(str(path)) as found:
        stream = found.streams.video[0]
        context = stream.codec_context
        assert (stream.frames, float(stream.average_rate or 0)) == (9, 8.0)
        assert stream.duration and float(stream.duration * (stream.time_base or 0)) == 9 / 8
        tags = (context.color_primaries, context.color_trc, context.colorspace)
        assert tags == (1, 1, 1) and context.pix_fmt == "yuv420p"
        assert found.metadata["comment"] == "made up"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
def test_colours_are_kept(color: tuple[int, int, int], tmp_path: Path) -> None:
    frames = [np.full((32, 32, 3), color, np.uint8)] * 2
    write_mp4(tmp_path / "a.mp4", frames, 8.0)
    back = decoded(tmp_path / "a.mp4", 2, 8.0, (32, 32))
    assert np.abs(np.stack(back).astype(int) - color).max() <= 4


def test_equal_frames_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_mp4(tmp_path / name, scene(), 23.976)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    assert write_mp4(tmp_path / "a.mp4", scene(1), 8.0) == 1
    (back,) = decoded(tmp_path / "a.mp4", 1, 8.0, (64, 96))
    assert psnr(grey(back), grey(scene(1)[0])) > 40


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        ([], "at least one frame"),
        ([np.zeros((33, 32, 3), np.uint8)], "even sides"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 48, 3), np.uint8)], "32 x 32"),
        ([np.zeros((32, 32, 3), np.float32)], "float32"),
    ],
)
def test_what_is_no_video_leaves_no_file(frames: Frames, told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        write_mp4(tmp_path / "a.mp4", frames, 8.0)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        write_mp4(tmp_path / "no" / "a.mp4", scene(1), 8.0)
    with pytest.raises(ConfigError, match="cannot be written"):
        strip_png(tmp_path / "no" / "a.png", [scene(1)], ["one"])


def write_picture(path: Path, pixels: NDArray[np.uint8], exif: bytes = b"") -> Path:
    done, data = cv2.imencode(path.suffix, pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    assert done
    stored = data.tobytes()
    path.write_bytes(stored[:2] + exif + stored[2:])
    return path


def exif_turn(number: int) -> bytes:
    """An APP1 segment that says nothing but the orientation (CIPA DC-008, tag 0x0112)."""
    entry = b"\x12\x01\x03\x00\x01\x00\x00\x00" + bytes([number, 0, 0, 0])
    body = b"Exif\0\0II*\0\x08\0\0\0\x01\x00" + entry + b"\0\0\0\0"
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


def test_a_picture_of_the_size_stays_as_it_is(tmp_path: Path) -> None:
    frame = scene(1)[0]
    path = write_picture(tmp_path / "a.png", frame)
    assert np.array_equal(fit_picture(path, 64, 96), frame)


def test_a_picture_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    frame = scene(1)[0]
    sideways = np.ascontiguousarray(np.rot90(frame))
    path = write_picture(tmp_path / "a.jpg", sideways, exif_turn(6))  # to be turned clockwise
    assert read_picture(path).shape == frame.shape
    assert psnr(fit_picture(path, 64, 96), frame) > 30


def test_a_picture_is_covered_and_cut_in_the_middle() -> None:
    wide = np.zeros((64, 256, 3), np.uint8)
    wide[:, 64:192, 0] = 250  # the middle half is red
    wide[:, :64, 2] = wide[:, 192:, 2] = 250
    fitted = fit_picture(wide, 32, 64)
    assert fitted.shape == (32, 64, 3)
    assert fitted[:, 4:-4, 0].min() > 240 and fitted[:, 4:-4, 2].max() < 10
    assert fit_picture(wide.transpose(1, 0, 2), 64, 32)[4:-4, :, 0].min() > 240
    assert fit_picture(np.full((8, 8, 3), 77, np.uint8), 48, 80).tolist()[47][79] == [77, 77, 77]


def test_a_picture_is_scaled_as_training_scales(tmp_path: Path) -> None:
    large = scene(1, 384, 288)[0]
    write_mp4(tmp_path / "a.mp4", [large], 8.0)
    (trained,) = decoded(tmp_path / "a.mp4", 1, 8.0, (64, 96))
    assert psnr(fit_picture(large, 64, 96), trained) > 38


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no pixels")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, told in (("text", "no picture"), ("empty", "no picture"), ("none", "cannot be read")):
        with pytest.raises(ConfigError, match=told):
            fit_picture(tmp_path / f"{name}.png", 32, 32)


@pytest.mark.parametrize(
    ("num", "most", "found"),
    [(0, 9, []), (1, 9, [0]), (3, 9, [0, 1, 2]), (17, 5, [0, 4, 8, 12, 16]), (17, 1, [0])],
)
def test_frames_that_are_shown(num: int, most: int, found: list[int]) -> None:
    assert spread(num, most) == found


def test_a_strip_holds_all_frames_as_they_are(tmp_path: Path) -> None:
    rows = [scene(3), [np.full((16, 24, 3), 9, np.uint8)] * 2]
    drawn = strip(rows, ["a dog runs", "small ones"])
    x, y = pictures.MARGIN_PX, pictures.MARGIN_PX + pictures.TEXT_PX
    for frame in rows[0]:
        assert np.array_equal(drawn[y : y + 64, x : x + 96], frame)
        x += 96 + pictures.GAP_PX
    assert (drawn == 9).all(-1).sum() == 2 * 48 * 72  # enlarged three times
    path = strip_png(tmp_path / "a.png", rows, ["a dog runs", "small ones"])
    assert np.array_equal(read_picture(path), drawn)
    caption = drawn[pictures.MARGIN_PX : pictures.MARGIN_PX + pictures.TEXT_PX]
    assert (caption < 100).any()


def test_given_frames_are_marked() -> None:
    plain, marked = (strip([scene(3)], [""], marks) for marks in (None, [[1]]))
    changed = np.argwhere((plain != marked).any(-1))
    left = pictures.MARGIN_PX + 96 + pictures.GAP_PX
    assert changed[:, 1].min() >= left and changed[:, 1].max() < left + 96
    assert (marked[changed[0, 0], changed[0, 1]] == pictures.GIVEN).all()


def test_long_captions_stay_inside() -> None:
    drawn = strip([scene(1, 32, 32)], ["a very long text about everything " * 20])
    assert (drawn[:, -pictures.MARGIN_PX :] == 255).all()
    assert (strip([scene(1)], ["two\nlines, größer"]) < 100).any()


def test_strips_without_frames_are_refused() -> None:
    for rows in ([], [[]]):
        with pytest.raises(ValueError, match="at least one"):
            strip(rows, [""])
    with pytest.raises(ValueError, match="zip"):
        strip([scene(1)], [])
