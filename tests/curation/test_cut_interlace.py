"""Deinterlacing: one frame out for each one in, at its time, without combs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import av
import numpy as np
import pytest
from av.filter import Graph
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from curation.media.bars import Box
from curation.media.decode import Decoded
from curation.media.filters import FrameFilters
from tests.curation.chain import cut_clips, scan, split_stage
from tests.media import Camera, Recording, psnr, read_pictures, write_video

SIZE_PX = (320, 192)
FAST = Camera(pan_per_s=0.5, square_per_s=0.2)
Row = dict[str, Any]


def shot() -> list[np.ndarray]:
    """Footage at 48 moments a second."""
    return FAST.shoot(*SIZE_PX, [i / 48 for i in range(48)])


def write_fields(path: Path, codec: str = "libx264", first_line: int = 0) -> Path:
    """Write footage of two moments a frame: the field of ``first_line`` (0: top) comes first."""
    moments = shot()
    graph = Graph()
    source = graph.add("buffer", "video_size=320x192:pix_fmt=yuv420p:time_base=1/24")
    order = graph.add("setfield", "bff" if first_line else "tff")
    graph.link_nodes(source, order, graph.add("buffersink"))
    graph.configure()
    options = {"preset": "ultrafast", "crf": "10"} if codec == "libx264" else {"b": "9M"}
    with av.open(str(path), "w") as out:
        stream = cast(VideoStream, out.add_stream(codec, rate=24, options=options))
        stream.width, stream.height, stream.pix_fmt = *SIZE_PX, "yuv420p"
        stream.codec_context.flags |= 0x20000000 | 0x40000  # interlaced motion and DCT
        for index, (early, late) in enumerate(zip(moments[::2], moments[1::2], strict=True)):
            woven = late.copy()
            woven[first_line::2] = early[first_line::2]
            plain = VideoFrame.from_ndarray(woven, format="rgb24").reformat(format="yuv420p")
            plain.pts, plain.time_base = index, Fraction(1, 24)
            graph.vpush(plain)
            frame = graph.vpull()
            frame.pict_type = PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def combs(picture: np.ndarray) -> float:
    """How much lines differ from the mean of their neighbours, against every other line."""
    y = picture.astype(float)
    near = np.abs(y[1:-1] - (y[:-2] + y[2:]) / 2).mean()
    return float(near / np.abs(y[2:-2] - (y[:-4] + y[4:]) / 2).mean())


@pytest.mark.parametrize("first_line", [0, 1])
@pytest.mark.parametrize(
    ("name", "codec"),
    [("inter.mp4", "libx264"), ("inter.mpg", "mpeg2video"), ("inter.ts", "libx264")],
)
def test_combs_go_frames_stay(tmp_path: Path, name: str, codec: str, first_line: int) -> None:
    path = write_fields(tmp_path / name, codec, first_line)
    found = scan(path, split=split_stage(min_s=0.2, max_s=0.5, edge_trim_s=0))
    assert found.row["interlaced"]
    rows = found.clip_rows()
    media, failures = cut_clips(rows, tmp_path)
    plain, _ = cut_clips(rows, tmp_path / "plain", deinterlace="never", mode="reencode")
    assert not failures
    assert len(media) >= 2
    moments = [16 + p.astype(float) @ (0.299, 0.587, 0.114) * 219 / 255 for p in shot()]
    start = 0
    for row, cut, left in zip(rows, media, plain, strict=True):
        assert cut["media_mode_reason"] == ("codec" if codec == "mpeg2video" else "interlaced")
        assert (cut["media_deinterlaced"], left["media_deinterlaced"]) == (True, False)
        got, combed = luma(cut["path"]), luma(left["path"])
        assert len(got) == len(combed) == row["num_frames"] == cut["media_num_frames"]
        for index, (a, b) in enumerate(zip(got, combed, strict=True)):
            assert combs(a) < 0.7 < combs(b), index
            now = 2 * (start + index)
            # The earlier field is kept; the other lines are of its moment, not of the later
            # field's, and nothing is of a neighbouring frame's.
            kept, made = slice(first_line, None, 2), slice(1 - first_line, None, 2)
            alike = psnr(moments[now][kept], a[kept])
            assert alike > 35, index
            assert psnr(moments[now][made], a[made]) > psnr(moments[now + 1][made], a[made]) + 3
            for near in (now - 2, now + 2):
                if 0 <= near < len(moments):
                    assert psnr(moments[near][kept], a[kept]) < alike - 3, index
        check_times(cut, row)
        start += row["num_frames"]


def luma(path: Path) -> list[np.ndarray]:
    """Stored luma of every frame."""
    with av.open(str(path)) as clip:
        return [f.to_ndarray(format="yuv420p")[: f.height] for f in clip.decode(video=0)]


def check_times(cut: Row, row: Row) -> None:
    expected_s = np.array(row["frame_time_s"]) - row["start_s"]
    with av.open(str(cut["path"])) as clip:
        frames = list(clip.decode(video=0))
    assert [f.time for f in frames] == pytest.approx(expected_s, abs=1.1e-3)
    assert not any(f.interlaced_frame for f in frames)


def test_progressive_frames_pass_untouched(tmp_path: Path) -> None:
    """auto leaves frames without the flag alone, to the bit; always does not."""
    pictures = FAST.shoot(*SIZE_PX, [i / 24 for i in range(16)])
    path = write_video(tmp_path / "plain.mp4", pictures, Recording())
    row = scan(path).whole_clip()
    shas = {}
    for how in ("never", "auto", "always"):
        media, _ = cut_clips([row], tmp_path / how, mode="reencode", deinterlace=how)
        assert media[0]["media_num_frames"] == 16
        assert media[0]["media_deinterlaced"] == (how == "always")
        shas[how] = media[0]["media_sha256"]
    assert shas["never"] == shas["auto"] != shas["always"]


def decoded(path: Path) -> list[Decoded]:
    with av.open(str(path)) as source:
        return [Decoded(f, f.pts or 0, False) for f in source.decode(video=0)]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("how", ["auto", "always"])
def test_shortest_clips(tmp_path: Path, count: int, how: Literal["auto", "always"]) -> None:
    path = write_fields(tmp_path / "inter.mp4")
    frames = decoded(path)[:count]
    got = list(FrameFilters(how, None)(frames))
    assert [pts for pts, _ in got] == [d.pts for d in frames]


def test_flag_that_comes_late(tmp_path: Path) -> None:
    """Progressive, then interlaced: the graph is rebuilt in between and loses nothing."""
    smooth = decoded(write_video(tmp_path / "a.mp4", shot()[::2], Recording()))[:8]
    woven = decoded(write_fields(tmp_path / "b.mp4"))[8:20]
    filters = FrameFilters("auto", Box(x_px=16, y_px=8, width_px=240, height_px=160))
    got = list(filters([*smooth, *woven]))
    assert filters.deinterlacing
    assert [pts for pts, _ in got] == [d.pts for d in [*smooth, *woven]]
    assert {(f.width, f.height) for _, f in got} == {(240, 160)}
    for (_, frame), given in zip(got[:8], smooth, strict=True):
        cropped = given.frame.to_ndarray()[8:168, 16:256]
        assert np.array_equal(frame.to_ndarray()[:160], cropped)
    assert max(combs(f.to_ndarray()[:160]) for _, f in got[8:]) < 0.7


def test_real_interlaced_file(assets: Path, tmp_path: Path) -> None:
    """A Super Video CD: 480 x 576 at 4:3, flagged top field first."""
    path = assets / "videos/odd/k3bphotosvcd.mpg"
    rows = scan(path, split=split_stage(min_s=0.5, max_s=1)).clip_rows()[2:4]
    media, failures = cut_clips(rows, tmp_path)
    assert not failures
    for row, cut in zip(rows, media, strict=True):
        assert cut["media_deinterlaced"]
        assert (cut["media_width_px"], cut["media_height_px"]) == (768, 576)
        pts, pictures = read_pictures(path)
        inside = zip(pts, pictures, strict=True)
        wanted = [p for t, p in inside if row["start_pts"] <= t < row["end_pts"]]
        got = read_pictures(cut["path"])[1]
        assert len(got) == len(wanted) == row["num_frames"]
        assert Fraction(row["time_base"]) == Fraction(1, 90000)
        check_times(cut, row)
