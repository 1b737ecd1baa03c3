"""Frames at times: exactly those of a full decode, damage raised, colours right."""

from __future__ import annotations

import bisect
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from curation.errors import ConfigError, MediaError
from tests.conftest import Maker
from tests.media import Camera, Recording
from tests.training.shards import number_of, numbered
from training.data import decode
from training.data.decode import View, decode_clip
from training.data.sample import decoder_of

SMALL = View(48, 48)


def full_decode(data: bytes, times_s: list[float], view: View) -> np.ndarray:
    """All frames decoded from the beginning, then those on screen, converted in the same way."""
    with av.open(io.BytesIO(data), "r") as source:
        stream = source.streams.video[0]
        unit = float(cast(Any, stream.time_base))
        frames = list(source.decode(stream))
    pts = [cast(int, frame.pts) for frame in frames]
    out = np.empty((len(times_s), view.height_px, view.width_px, 3), np.uint8)
    write = decode._Writer(out, view)
    for place, time_s in enumerate(times_s):
        at = pts[0] + time_s / unit + max(1e-4 / unit, 0.5)
        write(frames[max(0, bisect.bisect_right(pts, at) - 1)], place)
    return out


def times(start_s: float, fps: float, count: int) -> list[float]:
    return [start_s + k / fps for k in range(count)]


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        (24, 8, [0, 3, 6, 9, 12]),
        (30, 16, [0, 1, 3, 5, 7]),
        (25, 24, [0, 1, 2, 3, 4]),
        (60, 8, [0, 7, 15, 22, 30]),
        (24, 24, [0, 1, 2, 3, 4]),
        (12, 24, [0, 0, 1, 1, 2]),
    ],
)
def test_the_frame_on_screen(
    tmp_path: Path, stored: float, wanted: float, expected: list[int]
) -> None:
    data = numbered(tmp_path, 40, Recording(fps=stored), (64, 64))
    got = decode_clip(data, times(0, wanted, 5), SMALL)
    assert got.shape == (5, 48, 48, 3)
    assert got.dtype == np.uint8
    assert [number_of(picture) for picture in got] == expected
    # In the middle of a frame's time, and just before its end.
    for part in (0.5, 0.99):
        got = decode_clip(data, times(part / stored, wanted, 1), SMALL)
        assert number_of(got[0]) == 0


def test_the_ends_of_a_clip(tmp_path: Path) -> None:
    data = numbered(tmp_path, 40, Recording(fps=24), (64, 64))
    got = decode_clip(data, [-1.0, 39 / 24, 5.0, 100.0], SMALL)
    assert [number_of(picture) for picture in got] == [0, 39, 39, 39]


CODED = {
    "b": Recording(b_frames=2),
    "pyramid": Recording(b_frames=7, gop_frames=24),
    "none": Recording(b_frames=0),
    "open": Recording(b_frames=3, open_gop=True),
    "late": Recording(b_frames=3, first_pts=1000),
    "mpeg4": Recording(codec="mpeg4"),
    "hevc": Recording(codec="libx265", b_frames=0),
}


@pytest.mark.parametrize("name", CODED)
def test_equal_to_a_full_decode(
    make_video: Maker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "SEEK_FROM_S", 1.0)
    camera = Camera(pan_per_s=0.2)
    data = make_video(f"{name}.mp4", CODED[name], seconds=3, camera=camera).read_bytes()
    for start_s in (0.0, 0.31, 1.27, 2.3, 2.9):
        for fps in (3.0, 8.0, 24.0):
            at = times(start_s, fps, 5)
            assert np.array_equal(decode_clip(data, at, SMALL), full_decode(data, at, SMALL))


def test_equal_to_a_full_decode_of_real_footage(assets: Path) -> None:
    data = (assets / "videos" / "real" / "bikes.mp4").read_bytes()
    rng = np.random.default_rng(0)
    for start_s in rng.uniform(0, 8, 6):
        at = times(start_s, 8, 9)
        assert np.array_equal(decode_clip(data, at, SMALL), full_decode(data, at, SMALL))


def test_packets_that_nobody_needs_are_not_decoded(
    make_video: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_video("b.mp4", CODED["pyramid"], seconds=6).read_bytes()
    seen: list[int] = []
    sound = decode._sound

    def counted(frames: list[VideoFrame], first: int) -> list[VideoFrame]:
        seen.extend(cast(int, frame.pts) for frame in frames)
        return sound(frames, first)

    monkeypatch.setattr(decode, "_sound", counted)
    decode_clip(data, times(1.0, 3, 5), SMALL)
    inside = round((4 / 3) * 24)
    assert 5 <= len(seen) < 0.8 * inside


@pytest.mark.parametrize("size", [(48, 48), (64, 32), (32, 64), (96, 160), (40, 24)])
def test_scaled_to_cover_then_cropped(make_video: Maker, size: tuple[int, int]) -> None:
    data = make_video("any.mp4").read_bytes()
    height, width = size
    corners = [View(height, width, y, x) for y in (0.0, 1.0) for x in (0.0, 1.0)]
    got = [decode_clip(data, [0.5], view)[0] for view in corners]
    assert all(picture.shape == (height, width, 3) for picture in got)
    high, wide = corners[0].scaled(96, 160)
    assert (high >= height and wide >= width) and (high == height or wide == width)
    assert high / wide == pytest.approx(96 / 160, rel=0.03)
    whole = decode_clip(data, [0.5], View(high, wide))[0]
    for view, picture in zip(corners, got, strict=True):
        top, left = view.corner(high, wide)
        assert (top, left) == (
            (high - height) * round(view.crop_y),
            (wide - width) * round(view.crop_x),
        )
        assert np.array_equal(picture, whole[top : top + height, left : left + width])


def test_mirrored(make_video: Maker) -> None:
    data = make_video("any.mp4").read_bytes()
    plain = decode_clip(data, [0.5], View(48, 48, 0.5, 0.2))
    assert np.array_equal(
        decode_clip(data, [0.5], View(48, 48, 0.5, 0.2, mirror=True)), plain[:, :, ::-1]
    )


def test_writes_into_what_it_is_given(make_video: Maker) -> None:
    data = make_video("any.mp4").read_bytes()
    batch = np.zeros((2, 3, 48, 48, 3), np.uint8)
    got = decode_clip(data, times(0, 8, 3), SMALL, batch[1])
    assert np.shares_memory(got, batch)
    assert not batch[0].any()
    assert np.array_equal(batch[1], decode_clip(data, times(0, 8, 3), SMALL))


def flat(y: int, u: int, v: int, size_px: tuple[int, int], matrix: int, full: bool) -> bytes:
    """An MP4 of one colour, with a matrix and range by FFmpeg's numbers."""
    width, height = size_px
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as target:
        stream = cast(Any, target.add_stream("libx264", rate=24, options={"crf": "1"}))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1
        planes = np.full((height * 3 // 2, width), y, np.uint8)
        planes[height : height * 5 // 4], planes[height * 5 // 4 :] = u, v
        for _ in range(3):
            target.mux(stream.encode(VideoFrame.from_ndarray(planes, format="yuv420p")))
        target.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize(
    ("size_px", "matrix", "full", "expected"),
    [  # of Y 125, Cb 103, Cr 159 by the definitions in ITU-R BT.709 and BT.601
        ((64, 64), 1, False, (182, 116, 74)),  # BT.709
        ((64, 64), 6, False, (176, 112, 76)),  # BT.601
        ((64, 64), 2, False, (176, 112, 76)),  # not named, small: BT.601
        ((1280, 96), 2, False, (182, 116, 74)),  # not named, large: BT.709
        ((64, 64), 1, True, (174, 115, 79)),
    ],
)
def test_colours(
    size_px: tuple[int, int], matrix: int, full: bool, expected: tuple[int, int, int]
) -> None:
    picture = decode_clip(flat(125, 103, 159, size_px, matrix, full), [0.0], View(32, 32))[
        0, 16, 16
    ]
    assert np.abs(picture.astype(int) - np.array(expected)).max() <= 2, picture


def test_white_is_white_and_black_black() -> None:
    for y, grey in ((235, 255), (16, 0)):
        picture = decode_clip(flat(y, 128, 128, (64, 64), 1, False), [0.0], View(32, 32))
        assert np.abs(picture.astype(int) - grey).max() <= 1


class TestDamage:
    """A clip that is damaged where it is needed is never returned."""

    @pytest.fixture
    def data(self, make_video: Maker) -> bytes:
        return make_video("d.mp4", Recording(b_frames=2), seconds=4).read_bytes()

    def breaks(self, data: bytes) -> Iterator[Callable[[], object]]:
        at = times(0.2, 8, 25)
        third = len(data) // 3
        for broken in (
            b"",
            b"no video" * 100,
            data[: len(data) // 2],
            data[:third] + b"\xff" * third + data[2 * third :],
            data[:third] + bytes(third) + data[2 * third :],
        ):
            yield lambda broken=broken: decode_clip(broken, at, SMALL)

    def test_raises(self, data: bytes) -> None:
        for call in self.breaks(data):
            with pytest.raises(MediaError):
                call()

    def test_outside_of_the_window_does_not_matter(self, data: bytes) -> None:
        late, more = len(data) * 2 // 3, len(data) // 10
        broken = data[:late] + b"\xff" * more + data[late + more :]
        at = times(0.2, 8, 5)
        assert np.array_equal(decode_clip(broken, at, SMALL), decode_clip(data, at, SMALL))


def test_torchcodec(make_video: Maker) -> None:
    data = make_video("any.mp4", Recording(b_frames=2), seconds=3).read_bytes()
    try:
        other = decoder_of("torchcodec")
    except ConfigError as exc:
        assert exc.where == "read.decoder" and "torchcodec" in str(exc)
        return
    with pytest.raises(ConfigError, match="bilinear"):
        other(data, [0.0], SMALL, None)
    view = View(48, 48, 0.0, 1.0, scaling="bilinear")
    for start_s in (0.0, 0.37, 2.0, 9.0):
        at = times(start_s, 8, 6)
        ours, theirs = decode_clip(data, at, view), other(data, at, view, None)
        assert np.abs(ours.astype(int) - theirs).mean() < 3
    with pytest.raises(MediaError):
        other(b"no video", [0.0], view, None)
