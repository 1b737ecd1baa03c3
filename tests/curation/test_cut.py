"""Cut, mode reencode: the clip's frames and no others, upright, square, the same bytes always."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from curation.errors import ErrorCode, MediaError
from curation.media.encode import encode_span
from curation.media.encoders import EncodeSettings
from curation.media.fit import Fit, output_size
from curation.stage import Failure
from tests.conftest import REPO, Maker
from tests.curation.chain import Scanned, cut_clips, scan, split_stage
from tests.curation.test_signals import VFR_MS, bright_corner, flag
from tests.media import Camera, Recording, Tone, Turn, psnr, read_pictures, write_video

FAST = Camera(pan_per_s=0.3, tilt_per_s=0.1)
PIECES = split_stage(min_s=0.2, max_s=0.6, edge_trim_s=0)


def reencode(
    rows: list[dict[str, Any]],
    root: Path,
    **fields: Any,  # noqa: ANN401 - any field
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Cut clips by encoding them, whatever their keyframes."""
    return cut_clips(rows, root, mode="reencode", **fields)


def span_pictures(path: Path, start_pts: int, end_pts: int) -> list[np.ndarray]:
    """The source's own pictures of a span, by a plain decode from the start."""
    pts, pictures = read_pictures(path)
    return [p for t, p in zip(pts, pictures, strict=True) if start_pts <= t < end_pts]


def check_same_frames(path: Path, media: dict[str, Any]) -> None:
    """The clip shows the span's frames, each at its place, the first and the last too."""
    wanted = span_pictures(path, media["media_start_pts"], media["media_end_pts"])
    _, got = read_pictures(media["path"])
    assert len(got) == len(wanted) == media["media_num_frames"]
    for index, (a, b) in enumerate(zip(wanted, got, strict=True)):
        alike = psnr(a, b)
        assert alike > 37, f"frame {index}"
        if index:
            assert psnr(wanted[index - 1], b) < alike - 3, f"frame {index} may be the one before"


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("cfr.mp4", Recording()),
        ("open.mp4", Recording(open_gop=True, b_frames=3)),
        ("vfr.mp4", Recording(times_ms=VFR_MS)),
        ("late.mkv", Recording(first_pts=1000)),
        ("ts.ts", Recording()),
        ("program.mpg", Recording(codec="mpeg2video")),
        ("old.avi", Recording(codec="mpeg4")),
        ("ten.mp4", Recording(pix_fmt="yuv420p10le")),
        ("full.mp4", Recording(pix_fmt="yuvj420p")),
        ("dense.mp4", Recording(pix_fmt="yuv444p")),
    ],
)
def test_exactly_the_frames_of_the_clip(
    make_video: Maker, tmp_path: Path, name: str, how: Recording
) -> None:
    path = make_video(name, how, camera=FAST)
    found = scan(path, split=PIECES)
    rows = found.clip_rows()
    assert len(rows) >= 3
    media, failures = reencode(rows, tmp_path)
    assert not failures
    assert len(media) == len(rows)
    for row, cut in zip(rows, media, strict=True):
        assert (cut["media_start_pts"], cut["media_end_pts"]) == (row["start_pts"], row["end_pts"])
        assert cut["media_num_frames"] == row["num_frames"]
        check_same_frames(path, cut)
        check_times(cut, row)


def check_times(cut: dict[str, Any], row: dict[str, Any]) -> None:
    """Every frame at its own time from 0, and the file as long as the span."""
    expected_s = np.array(row["frame_time_s"]) - row["start_s"]
    with av.open(str(cut["path"])) as clip:
        stream = clip.streams.video[0]
        times_s = [f.time for f in clip.decode(stream)]
        assert stream.duration is not None
        assert stream.time_base is not None
        length_s = float(stream.duration * stream.time_base)
    assert times_s == pytest.approx(expected_s, abs=0.0011)
    assert length_s == pytest.approx(row["duration_s"], abs=0.0011)
    assert cut["media_duration_s"] == pytest.approx(row["duration_s"], abs=2e-6)
    assert cut["media_fps"] == pytest.approx(row["num_frames"] / row["duration_s"], rel=1e-4)


def test_real_program_stream(assets: Path, tmp_path: Path) -> None:
    """MPEG-2 with B frames and no index: seeks land where they like, the frames do not."""
    path = assets / "videos/real/cityCC0.mpg"
    rows = scan(path, split=split_stage(min_s=0.3, max_s=0.4)).clip_rows()[5:8]
    media, failures = reencode(rows, tmp_path)
    assert not failures
    for cut in media:
        wanted = span_pictures(path, cut["media_start_pts"], cut["media_end_pts"])
        _, got = read_pictures(cut["path"])
        assert len(wanted) == len(got)
        for a, b in zip(wanted, got, strict=True):
            assert psnr(cv2.resize(a, (720, 404)), b) > 33
        assert (cut["media_width_px"], cut["media_height_px"]) == (720, 404)


def whole(found: Scanned) -> list[dict[str, Any]]:
    """The whole video as one clip."""
    return [found.whole_clip()]


@pytest.mark.parametrize(
    ("turn_deg", "corner", "size"),
    [
        (0, (0, 0), (96, 64)),
        (90, (0, 1), (64, 96)),
        (180, (1, 1), (96, 64)),
        (270, (1, 0), (64, 96)),
    ],
)
def test_rotation_is_applied_to_the_pixels(
    tmp_path: Path,
    turn_deg: Turn,
    corner: tuple[int, int],
    size: tuple[int, int],
) -> None:
    path = write_video(tmp_path / "turned.mp4", flag(), Recording(turn_deg=turn_deg))
    (cut,), _ = reencode(whole(scan(path)), tmp_path)
    assert (cut["media_width_px"], cut["media_height_px"]) == size
    with av.open(str(cut["path"])) as clip:
        frame = next(clip.decode(video=0))
    assert frame.rotation == 0
    assert (frame.width, frame.height) == size
    assert bright_corner(frame.to_ndarray(format="gray")) == corner
    # Colour turns with the light.
    tinted = frame.to_ndarray(format="rgb24").astype(int)
    assert np.abs(tinted - tinted.mean(axis=2, keepdims=True)).max() < 12


@pytest.mark.parametrize("turn_deg", [0, 90])
@pytest.mark.parametrize("sar", [Fraction(4, 3), Fraction(3, 4)])
def test_pixels_are_made_square(tmp_path: Path, sar: Fraction, turn_deg: Turn) -> None:
    """A picture that is round on a screen is round in the file: never by losing lines."""
    how = Recording(sar=sar, turn_deg=turn_deg)
    found = scan(write_video(tmp_path / "wide.mp4", flag(), how))
    (cut,), _ = reencode(whole(found), tmp_path)
    shown = (96 * float(sar), 64) if sar > 1 else (96, 64 / float(sar))
    expected = {2 * int(shown[0] / 2 + 0.01), 2 * int(shown[1] / 2 + 0.01)}
    size = (cut["media_width_px"], cut["media_height_px"])
    assert set(size) == expected
    assert (size[0] < size[1]) == (turn_deg == 90)
    with av.open(str(cut["path"])) as clip:
        assert clip.streams.video[0].sample_aspect_ratio in (None, 0, 1)


def test_output_size() -> None:
    assert output_size(1920, 1080, 1.0) == (1920, 1080)
    assert output_size(405, 721, 1.0) == (404, 720)
    assert output_size(480, 576, 1.6) == (768, 576)
    assert output_size(720, 576, 0.8) == (720, 720)
    assert output_size(720, 576, 1.422222) == (1024, 576)
    assert output_size(576, 720, 0.703125) == (576, 1024)
    assert output_size(1, 1, 1.0) == (2, 2)


def test_odd_sizes_are_made_even(tmp_path: Path) -> None:
    pictures = [p[:63, :95] for p in flag()]
    path = write_video(tmp_path / "odd.mp4", pictures, Recording(pix_fmt="yuv444p"))
    (cut,), _ = reencode(whole(scan(path)), tmp_path)
    assert (cut["media_width_px"], cut["media_height_px"]) == (94, 62)


def test_always_8_bit_420_with_short_groups(make_video: Maker, tmp_path: Path) -> None:
    path = make_video("ten.mp4", Recording(pix_fmt="yuv420p10le"))
    (cut,), _ = reencode(whole(scan(path)), tmp_path, gop_frames=7)
    with av.open(str(cut["path"])) as clip:
        stream = clip.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        frames = list(clip.decode(stream))
    keys = [i for i, f in enumerate(frames) if f.key_frame]
    assert keys == list(range(0, len(frames), 7))


def test_rgb_source_keeps_its_colours(tmp_path: Path) -> None:
    """RGB announces no matrix: the clip has to name the one that it was converted with."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, :32], picture[:, 32:64], picture[:, 64:] = (
        (200, 30, 30),
        (30, 200, 30),
        (30, 30, 200),
    )
    path = write_video(
        tmp_path / "rgb.avi", [picture] * 12, Recording(codec="ffv1", pix_fmt="bgr0")
    )
    (cut,), _ = reencode(whole(scan(path)), tmp_path)
    with av.open(str(cut["path"])) as clip:
        frame = next(clip.decode(video=0))
    assert frame.colorspace == 6  # BT.601
    got = frame.to_ndarray(format="rgb24").astype(int)
    assert np.abs(got - picture)[:, [8, 48, 88]].max() < 12


CUT_AGAIN = """
import sys
from pathlib import Path
from curation.media.encode import encode_span
from curation.media.encoders import EncodeSettings
from curation.media.fit import Fit
settings = EncodeSettings(crf=18, preset="veryfast", gop_frames=12, with_audio=True)
encode_span(sys.argv[1], Path(sys.argv[2]), 4096, 16384, fit=Fit(size_px=(160, 96)), fps=24.0,
            settings=settings)
"""


def test_bytes_are_the_same_every_time_and_everywhere(make_video: Maker, tmp_path: Path) -> None:
    """Repeated here, and in another process: equal bytes, which hold no name, date or version."""
    tone = Tone(start_s=0.5, end_s=1.0, total_s=2.0)
    path = make_video("tone.mp4", Recording(tone=tone))
    settings = EncodeSettings(crf=18, preset="veryfast", gop_frames=12, with_audio=True)
    shas = []
    for name in ("one.mp4", "two.mp4"):
        target = tmp_path / name
        encode_span(
            str(path),
            target,
            4096,
            16384,
            fit=Fit(size_px=(160, 96)),
            fps=24.0,
            settings=settings,
        )
        shas.append(hashlib.sha256(target.read_bytes()).hexdigest())
    other = tmp_path / "elsewhere" / "three.mp4"
    other.parent.mkdir()
    command = [sys.executable, "-c", CUT_AGAIN, str(path), str(other)]
    subprocess.run(command, check=True, cwd=REPO)
    shas.append(hashlib.sha256(other.read_bytes()).hexdigest())
    assert len(set(shas)) == 1
    assert b"Lavf6" not in other.read_bytes()


def test_row_describes_the_file(make_video: Maker, tmp_path: Path) -> None:
    rows = scan(make_video("cfr.mp4"), split=PIECES).clip_rows()
    media, _ = reencode(rows, tmp_path)
    for row, cut in zip(rows, media, strict=True):
        data = cut["path"].read_bytes()
        assert cut["media_bytes"] == len(data)
        assert cut["media_sha256"] == hashlib.sha256(data).hexdigest()
        clip_id = row["clip_id"]
        assert cut["media_path"] == f"media/{clip_id[:2]}/{clip_id}-{'f' * 12}.mp4"
    assert not list(tmp_path.rglob("*.tmp-*"))


def test_one_bad_clip_does_not_stop_the_others(make_video: Maker, tmp_path: Path) -> None:
    rows = scan(make_video("cfr.mp4"), split=PIECES).clip_rows()[:3]
    rows[1] |= {"start_pts": 10**9, "end_pts": 10**9 + 1000}  # beyond the video
    rows[2] |= {"num_frames": rows[2]["num_frames"] + 1}  # not what decodes
    media, failures = reencode(rows, tmp_path)
    assert [m["clip_id"] for m in media] == [rows[0]["clip_id"]]
    assert [f.clip_id for f in failures] == [r["clip_id"] for r in rows[1:]]
    assert {f.code for f in failures} == {ErrorCode.DECODE_FAILED}
    assert len(list(tmp_path.rglob("*.mp4"))) == 1


def test_missing_source_is_named(make_video: Maker, tmp_path: Path) -> None:
    settings = EncodeSettings(crf=18, preset="veryfast", gop_frames=12, with_audio=False)
    with pytest.raises(MediaError) as caught:
        encode_span(
            str(tmp_path / "gone.mp4"),
            tmp_path / "clip.mp4",
            0,
            100,
            fit=Fit(size_px=(16, 16)),
            fps=24,
            settings=settings,
        )
    assert caught.value.code == ErrorCode.NOT_FOUND
