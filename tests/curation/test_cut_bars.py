"""Black bars: cut off to the pixel where they are, and nothing cut off where they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from curation.media.bars import Box
from tests.curation.chain import cut_clips, scan
from tests.media import Camera, Recording, Turn, psnr, read_pictures, write_video

SIZE_PX = (320, 240)
PAN = Camera(pan_per_s=0.2, tilt_per_s=0.1)
TIMES_S = [i / 24 for i in range(24)]
Row = dict[str, Any]


def barred(top: int, left: int = 0, bottom: int | None = None) -> list[np.ndarray]:
    """Footage between black bars."""
    bottom = top if bottom is None else bottom
    width, height = SIZE_PX
    inner = PAN.shoot(width - 2 * left, height - top - bottom, TIMES_S)
    return [np.pad(p, ((top, bottom), (left, left), (0, 0))) for p in inner]


def cut(path: Path, root: Path, **fields: Any) -> Row:  # noqa: ANN401
    row = scan(path).whole_clip()
    media, failures = cut_clips([row], root, letterbox="crop", **fields)
    assert not failures
    assert media[0]["media_num_frames"] == row["num_frames"]
    return media[0]


def box_of(row: Row) -> tuple[int, int, int, int] | None:
    names = ("x", "y", "width", "height")
    found = tuple(row[f"media_crop_{n}_px"] for n in names)
    return None if None in found else found


@pytest.mark.parametrize("crf", [12, 30])
@pytest.mark.parametrize(
    ("top", "left", "box"),
    [
        (30, 0, (0, 30, 320, 180)),
        (31, 0, (0, 32, 320, 176)),  # the row at an odd place goes: 4:2:0 shares its colour
        (0, 40, (40, 0, 240, 240)),
        (20, 26, (26, 20, 268, 200)),
        (6, 0, (0, 6, 320, 228)),
    ],
)
def test_bars_are_cut_off(
    tmp_path: Path, top: int, left: int, box: tuple[int, int, int, int], crf: int
) -> None:
    """At coarse quality too, whose ringing may cost two lines but never a bar."""
    path = write_video(tmp_path / "bars.mp4", barred(top, left), Recording(crf=crf))
    made = cut(path, tmp_path)
    assert made["media_mode_reason"] == "letterbox"
    got = box_of(made)
    assert got is not None
    if crf == 12:
        assert got == box
    x, y, width, height = got
    assert abs(x - box[0]) <= 2 and abs(y - box[1]) <= 2
    assert (made["media_width_px"], made["media_height_px"]) == (width, height)
    source, shown = read_pictures(path)[1], read_pictures(made["path"])[1]
    for index, (a, b) in enumerate(zip(source, shown, strict=True)):
        alike = psnr(a[y : y + height, x : x + width], b)
        assert alike > 33, index
        if index:
            before = source[index - 1][y : y + height, x : x + width]
            assert psnr(before, b) < alike - 2, index


def dark_scene() -> list[np.ndarray]:
    """A night shot: light in the middle that fades into black edges above and below."""
    fall = np.clip(1.4 - np.abs(np.linspace(-1.9, 1.9, SIZE_PX[1])), 0, 1)[:, None, None]
    return [(p * 0.3 * fall).astype(np.uint8) for p in PAN.shoot(*SIZE_PX, TIMES_S)]


def once_lit() -> list[np.ndarray]:
    """Bars but for one frame, which is full: an effect, or a cut that was missed."""
    pictures = barred(30)
    pictures[11] = PAN.picture(*SIZE_PX, 0.5)
    return pictures


def subtitled() -> list[np.ndarray]:
    """Bars with white letters in the lower one for a while."""
    pictures = barred(40)
    for picture in pictures[5:15]:
        picture[212:226, 100:220:6] = 255
    return pictures


def night_with_horizon() -> list[np.ndarray]:
    """A dark lower third with a sharp edge: no pair, so no bar."""
    return [np.concatenate([p[:160], np.zeros_like(p[160:])]) for p in PAN.shoot(*SIZE_PX, TIMES_S)]


def uneven() -> list[np.ndarray]:
    """Black below much more than above: a stage, a lectern, but no format of a screen."""
    return barred(20, bottom=60)


def black() -> list[np.ndarray]:
    return [np.zeros((240, 320, 3), np.uint8)] * 24


def dim_between_bars() -> list[np.ndarray]:
    """Real bars around a picture so dark that its edge cannot be seen: left alone."""
    return [(p * 0.12).astype(np.uint8) for p in barred(30)]


@pytest.mark.parametrize(
    "pictures",
    [dark_scene, once_lit, subtitled, night_with_horizon, uneven, black, dim_between_bars],
)
def test_in_doubt_nothing_is_cut_off(tmp_path: Path, pictures: Any) -> None:  # noqa: ANN401
    path = write_video(tmp_path / "dark.mp4", pictures(), Recording())
    made = cut(path, tmp_path)
    assert box_of(made) is None
    assert (made["media_width_px"], made["media_height_px"]) == SIZE_PX
    assert made["media_mode_reason"] == "keyframes"


def test_smallest_bar(tmp_path: Path) -> None:
    path = write_video(tmp_path / "thin.mp4", barred(8), Recording())
    assert box_of(cut(path, tmp_path / "a")) == (0, 8, 320, 224)
    assert box_of(cut(path, tmp_path / "b", letterbox_min_bar=0.05)) is None


def test_a_light_that_comes_late(tmp_path: Path) -> None:
    """One bright frame is enough to see where the picture begins, and a fade does not hide it."""
    pictures = barred(30)
    faded = [(p * min(1.0, i / 20)).astype(np.uint8) for i, p in enumerate(pictures)]
    path = write_video(tmp_path / "fade.mp4", faded, Recording())
    assert box_of(cut(path, tmp_path)) == (0, 30, 320, 180)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuvj420p", "yuv444p"])
def test_other_formats(tmp_path: Path, pix_fmt: str) -> None:
    path = write_video(tmp_path / "bars.mp4", barred(30), Recording(pix_fmt=pix_fmt))
    assert box_of(cut(path, tmp_path)) == (0, 30, 320, 180)


@pytest.mark.parametrize(
    ("turn_deg", "box"),
    [
        (0, (0, 20, 320, 200)),
        (90, (20, 0, 200, 320)),
        (180, (0, 20, 320, 200)),
        (270, (20, 0, 200, 320)),
    ],
)
def test_turned(tmp_path: Path, turn_deg: Turn, box: tuple[int, int, int, int]) -> None:
    """The box is told as displayed; the picture inside is the upright one."""
    how = Recording(turn_deg=turn_deg)
    path = write_video(tmp_path / "turned.mp4", barred(20, bottom=20), how)
    made = cut(path, tmp_path)
    assert box_of(made) == box
    upright = np.rot90(read_pictures(path)[1][5], -turn_deg // 90)
    x, y, width, height = box
    shown = read_pictures(made["path"])[1][5]
    assert psnr(upright[y : y + height, x : x + width], shown) > 33


def test_box_turned() -> None:
    """Of a 100 x 60 picture, a corner that goes round with it."""
    box = Box(x_px=4, y_px=6, width_px=30, height_px=20)
    assert box.turned(100, 60, 0) == box
    assert box.turned(100, 60, 90) == Box(x_px=34, y_px=4, width_px=20, height_px=30)
    assert box.turned(100, 60, 180) == Box(x_px=66, y_px=34, width_px=30, height_px=20)
    assert box.turned(100, 60, 270) == Box(x_px=6, y_px=66, width_px=20, height_px=30)
    whole = np.zeros((60, 100))
    whole[6:26, 4:34] = 1
    for turn in (90, 180, 270):
        rows, columns = np.nonzero(np.rot90(whole, -turn // 90))
        got = box.turned(100, 60, turn)
        assert (columns.min(), rows.min()) == (got.x_px, got.y_px)
        assert columns.max() + 1 - columns.min() == got.width_px


def test_crop_then_shrink(tmp_path: Path) -> None:
    path = write_video(tmp_path / "bars.mp4", barred(30), Recording())
    made = cut(path, tmp_path, max_short_side_px=90)
    assert (made["media_width_px"], made["media_height_px"]) == (160, 90)
    assert box_of(made) == (0, 30, 320, 180)


@pytest.mark.parametrize("name", ["bikes.mp4", "flower.mp4", "nasa_13013.mp4", "cityCC0.mpg"])
def test_real_footage_without_bars(assets: Path, tmp_path: Path, name: str) -> None:
    found = scan(assets / "videos/real" / name)
    rows = found.clip_rows()[:3]
    media, failures = cut_clips(rows, tmp_path, letterbox="crop", max_long_side_px=160)
    assert not failures
    assert all(box_of(m) is None for m in media)


def test_real_footage_between_bars(assets: Path, tmp_path: Path) -> None:
    """Real footage in a 4:3 frame, as television sent it."""
    with av.open(str(assets / "videos/real/bikes.mp4")) as source:
        frames = [
            f.to_ndarray(format="rgb24")
            for _, f in zip(range(40), source.decode(video=0), strict=False)
        ]
    wide = [np.pad(f, ((104, 104), (0, 0), (0, 0))) for f in frames]
    path = write_video(tmp_path / "tv.mp4", wide, Recording(crf=24))
    got = box_of(cut(path, tmp_path))
    assert got is not None
    x, y, width, height = got
    assert (x, width) == (0, 640)
    assert 104 <= y <= 106 and 268 <= height <= 272
