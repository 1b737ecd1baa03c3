"""Cut, mode auto: copied where that is exact, encoded everywhere else, and always these frames."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.media.copy import copy_exactly
from curation.media.encode import Written
from curation.media.facts import read_facts
from tests.conftest import Maker
from tests.curation.chain import VIDEO_ID, cut_clips, scan, split_stage
from tests.media import Camera, Recording, psnr, read_pictures, write_video

FAST = Camera(pan_per_s=0.3, tilt_per_s=0.1)
STEP = 512  # pts of one frame at 24 fps in the MP4s written here
GOP = 12
VFR = [40 * i + (i % 3) * 9 for i in range(48)]
Row = dict[str, Any]


def span_pictures(path: Path, cut: Row) -> list[np.ndarray]:
    """The source's own pictures of what a clip says it shows, by a plain decode."""
    pts, pictures = read_pictures(path)
    inside = zip(pts, pictures, strict=True)
    return [p for t, p in inside if cut["media_start_pts"] <= t < cut["media_end_pts"]]


def check_frames(path: Path, cut: Row) -> None:
    """Frame by frame the source's: equal when copied, else closer than to either neighbour."""
    wanted, got = span_pictures(path, cut), read_pictures(cut["path"])[1]
    assert len(got) == len(wanted) == cut["media_num_frames"]
    for index, (a, b) in enumerate(zip(wanted, got, strict=True)):
        if cut["media_mode"] == "copy":
            assert np.array_equal(a, b), f"frame {index}"
            continue
        alike = psnr(a, b)
        assert alike > 35, f"frame {index}"
        for near in (index - 1, index + 1):
            if 0 <= near < len(wanted):
                assert psnr(wanted[near], b) < alike - 3, f"frame {index} may be {near}"


def check_times(path: Path, cut: Row, row: Row) -> None:
    """Frames at the source's times from 0, and the track as long as the clip."""
    pts, _ = read_pictures(path)
    unit = Fraction(row["time_base"])
    inside = [t for t in pts if row["start_pts"] <= t < row["end_pts"]]
    with av.open(str(cut["path"])) as clip:
        stream = clip.streams.video[0]
        length_s = float((stream.duration or 0) * (stream.time_base or 0))
        times_s = [f.time for f in clip.decode(stream)]
    assert times_s == pytest.approx([float((t - inside[0]) * unit) for t in inside], abs=1e-3)
    assert length_s == pytest.approx(cut["media_duration_s"], abs=1.1e-3)


def cut_row(path: Path, root: Path, row: Row, **fields: Any) -> Row:  # noqa: ANN401
    """Cut one row (mode auto) and check the frames and columns that hold for every mode."""
    media, failures = cut_clips([row], root, **fields)
    assert not failures
    (cut,) = media
    assert (cut["media_start_pts"], cut["media_end_pts"]) == (row["start_pts"], row["end_pts"])
    assert (cut["media_lost_start_s"], cut["media_lost_end_s"]) == (0, 0)
    assert cut["media_num_frames"] == row["num_frames"]
    assert (cut["media_encoder"] is None) == (cut["media_mode"] == "copy")
    return cut


@pytest.mark.parametrize(
    ("name", "how", "first", "last"),
    [
        ("cfr.mp4", Recording(), 12, 36),
        ("vfr.mp4", Recording(times_ms=VFR), 12, 36),
        ("late.mkv", Recording(first_pts=1000), 12, 36),
        ("ts.ts", Recording(), 12, 48),
        ("ends.mp4", Recording(), 24, 48),
        ("open.mp4", Recording(open_gop=True, b_frames=3), 12, 48),
        ("no_b.mp4", Recording(b_frames=0), 0, 12),
    ],
)
def test_copied_when_both_ends_are_keyframes(
    make_video: Maker, tmp_path: Path, name: str, how: Recording, first: int, last: int
) -> None:
    path = make_video(name, how, camera=FAST)
    found = scan(path)
    row = inner(found.whole_clip(), read_pictures(path)[0], first, last)
    cut = cut_row(path, tmp_path, row)
    assert (cut["media_mode"], cut["media_mode_reason"]) == ("copy", "keyframes")
    # The last open group has three leading frames of the one before.
    assert cut["media_max_gop_frames"] == GOP + 3 * how.open_gop
    assert cut["media_codec"] == "h264"
    check_frames(path, cut)
    check_times(path, cut, row)


def inner(row: Row, pts: list[int], first: int, last: int) -> Row:
    """The clip of frames ``[first, last)`` of a video."""
    end = pts[last] if last < len(pts) else row["end_pts"]
    return row | {"start_pts": pts[first], "end_pts": end, "num_frames": last - first}


@pytest.mark.parametrize(
    ("name", "how", "first", "last", "reason"),
    [
        ("cfr.mp4", Recording(), 13, 36, "not_on_keyframe"),
        ("cfr.mp4", Recording(), 12, 35, "not_on_keyframe"),
        ("vfr.mp4", Recording(times_ms=VFR), 11, 36, "not_on_keyframe"),
        ("ts.ts", Recording(), 12, 37, "not_on_keyframe"),
        ("open.mp4", Recording(open_gop=True, b_frames=3), 12, 36, "open_group"),
    ],
)
def test_encoded_when_a_copy_would_lose_frames(
    make_video: Maker,
    tmp_path: Path,
    name: str,
    how: Recording,
    first: int,
    last: int,
    reason: str,
) -> None:
    """What mode copy would give up is said by mode copy, in seconds; auto gives up nothing."""
    path = make_video(name, how, camera=FAST)
    pts, _ = read_pictures(path)
    row = inner(scan(path).whole_clip(), pts, first, last)
    cut = cut_row(path, tmp_path, row)
    assert (cut["media_mode"], cut["media_mode_reason"]) == ("reencode", reason)
    check_frames(path, cut)
    check_times(path, cut, row)
    (copied,), _ = cut_clips([row], tmp_path / "copy", mode="copy")
    check_frames(path, copied)
    assert copied["media_mode_reason"] == "asked"
    unit = float(Fraction(row["time_base"]))
    lost = (copied["media_lost_start_s"], copied["media_lost_end_s"])
    kept = (copied["media_start_pts"], copied["media_end_pts"])
    assert lost[0] == pytest.approx((kept[0] - row["start_pts"]) * unit, abs=1e-6)
    assert lost[1] == pytest.approx((row["end_pts"] - kept[1]) * unit, abs=1e-6)
    assert max(lost) > 0.02
    assert copied["media_num_frames"] < row["num_frames"]


def test_long_groups_are_encoded(make_video: Maker, tmp_path: Path) -> None:
    path = make_video("cfr.mp4", Recording(), camera=FAST)
    row = scan(path).whole_clip()
    cut = cut_row(path, tmp_path, row, copy_max_gop_frames=GOP - 1, gop_frames=5)
    assert (cut["media_mode_reason"], cut["media_max_gop_frames"]) == ("gop_too_long", 5)
    assert cut_row(path, tmp_path, row, copy_max_gop_frames=GOP)["media_mode"] == "copy"


@pytest.mark.parametrize(
    ("how", "fields", "reason"),
    [
        (Recording(codec="mpeg4"), {}, "codec"),
        (Recording(turn_deg=90), {}, "rotated"),
        (Recording(sar=Fraction(4, 3)), {}, "not_square"),
        (Recording(pix_fmt="yuv444p"), {}, "pixel_format"),
        (Recording(pix_fmt="yuv420p10le"), {}, "pixel_format"),
        (Recording(), {"bit_depth": 10}, "pixel_format"),
        (Recording(pix_fmt="yuvj420p"), {}, "full_range"),
        (Recording(interlaced=True, b_frames=0), {}, "interlaced"),
        (Recording(), {"deinterlace": "always"}, "interlaced"),
        (Recording(), {"fps": 12}, "fps"),
        (Recording(), {"max_long_side_px": 128}, "resized"),
        (Recording(), {"max_short_side_px": 64}, "resized"),
    ],
)
def test_encoded_when_pixels_are_needed(
    make_video: Maker, tmp_path: Path, how: Recording, fields: Row, reason: str
) -> None:
    path = make_video("some.mp4", how, camera=FAST)
    media, failures = cut_clips([scan(path).whole_clip()], tmp_path, **fields)
    assert not failures
    assert (media[0]["media_mode"], media[0]["media_mode_reason"]) == ("reencode", reason)


@pytest.mark.parametrize(
    ("how", "fields"),
    [
        (Recording(codec="mpeg4", b_frames=0), {"copy_codecs": ("h264", "mpeg4")}),
        (Recording(pix_fmt="yuv420p10le"), {"bit_depth": 10}),
        (Recording(interlaced=True, b_frames=0), {"deinterlace": "never"}),
        (Recording(), {"max_long_side_px": 160, "max_short_side_px": 500}),
        (Recording(), {"letterbox": "crop"}),
    ],
)
def test_copied_when_what_is_asked_is_there_already(
    make_video: Maker, tmp_path: Path, how: Recording, fields: Row
) -> None:
    path = make_video("some.mp4", how, camera=FAST)
    cut = cut_row(path, tmp_path, scan(path).whole_clip(), **fields)
    assert (cut["media_mode"], cut["media_mode_reason"]) == ("copy", "keyframes")
    check_frames(path, cut)


def test_packets_that_are_not_the_frames(make_video: Maker, tmp_path: Path) -> None:
    """Where other frames were decoded before than there are packets now, nothing is copied."""
    path = make_video("cfr.mp4", Recording(), camera=FAST)
    for num_frames, got in ((24, Written), (23, "frames_differ"), (25, "frames_differ")):
        target = tmp_path / f"{num_frames}.mp4"
        span = (12 * STEP, 36 * STEP)
        made = copy_exactly(str(path), target, *span, num_frames=num_frames, max_gop_frames=60)
        assert made == got if isinstance(got, str) else isinstance(made, got)


def test_odd_sides(tmp_path: Path) -> None:
    pictures = [p[:63, :95] for p in FAST.shoot(96, 64, [i / 24 for i in range(24)])]
    path = write_video(tmp_path / "odd.mp4", pictures, Recording(pix_fmt="yuv444p"))
    row = scan(path).whole_clip() | {"pix_fmt": "yuv420p"}
    cut = cut_row(path, tmp_path, row)
    assert cut["media_mode_reason"] == "odd_size"
    assert (cut["media_width_px"], cut["media_height_px"]) == (94, 62)


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
def test_key_flags_that_lie(tmp_path: Path, suffix: str) -> None:
    """Intra refresh: containers flag keyframes that are built up over the frames before them."""
    path = tmp_path / f"refresh.{suffix}"
    with av.open(str(path), "w") as out:
        params = f"keyint={GOP}:intra-refresh=1:bframes=0"
        options = {"preset": "ultrafast", "x264-params": params}
        stream = cast(VideoStream, out.add_stream("libx264", rate=24, options=options))
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for index, picture in enumerate(FAST.shoot(160, 96, [i / 24 for i in range(36)])):
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    pts, _ = read_pictures(path)
    row = inner(scan(path).whole_clip(), pts, GOP, 2 * GOP)
    cut = cut_row(path, tmp_path, row)
    assert cut["media_mode_reason"] == "not_decodable_alone"
    check_frames(path, cut)


def with_edit_list(source: Path, target: Path, hidden: int) -> Path:
    """A copy whose edit list hides the first frames, as trimming without encoding leaves it."""
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as out:
        stream = given.streams.video[0]
        track = out.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.pts is None or packet.dts is None:
                continue
            packet.pts -= hidden * STEP
            packet.dts -= hidden * STEP
            packet.stream = track
            out.mux(packet)
    return target


def test_edit_list_hides_frames(make_video: Maker, tmp_path: Path) -> None:
    """Packets before the edit are in the file and must not be in the clip."""
    plain = make_video("cfr.mp4", Recording(), camera=FAST)
    path = with_edit_list(plain, tmp_path / "edited.mp4", hidden=5)
    pts, pictures = read_pictures(path)
    assert len(pictures) == 43
    found = scan(path)
    whole = found.whole_clip()
    cut = cut_row(path, tmp_path, whole)
    assert cut["media_mode_reason"] == "not_on_keyframe"
    check_frames(path, cut)
    later = cut_row(path, tmp_path, inner(whole, pts, 7, 31))  # frames 12 to 36 of the whole
    assert later["media_mode"] == "copy"
    check_frames(path, later)


@pytest.mark.parametrize(
    ("name", "first", "last", "reason"),
    [
        ("real/car-detection.mp4", 60, 180, "keyframes"),
        ("real/car-detection.mp4", 61, 120, "not_on_keyframe"),
        ("real/one-by-one-person-detection.mp4", 30, 90, "keyframes"),
        ("real/bikes.mp4", 30, 76, "keyframes"),
        ("real/bikes.mp4", 187, 242, "keyframes"),
        ("real/flower.mp4", 0, 90, "gop_too_long"),
        ("real/cityCC0.mpg", 12, 36, "codec"),
        ("odd/VID_20191220_170832.mp4", 0, 30, "keyframes"),
        ("odd/VID_20191220_170832.mp4", 1, 20, "not_on_keyframe"),
        ("odd/h264_10bits.mp4", 0, 20, "pixel_format"),
    ],
)
def test_real_footage(
    assets: Path, tmp_path: Path, name: str, first: int, last: int, reason: str
) -> None:
    path = assets / "videos" / name
    with av.open(str(path)) as source:
        pts = sorted(p.pts for p in source.demux(video=0) if p.pts is not None)
    facts = asdict(read_facts(str(path))) | {"local_path": str(path), "video_id": VIDEO_ID}
    facts |= {"clip_id": "c" * 32, "median_fps": facts["avg_fps"]}
    cut = cut_row(path, tmp_path, inner(facts, pts, first, last))
    assert cut["media_mode_reason"] == reason
    wanted, got = span_pictures(path, cut), read_pictures(cut["path"])[1]
    assert len(wanted) == len(got)
    if reason == "keyframes":
        assert all(np.array_equal(a, b) for a, b in zip(wanted, got, strict=True))
    elif name != "real/cityCC0.mpg":  # which is made square
        assert min(psnr(a, b) for a, b in zip(wanted, got, strict=True)) > 33


def test_shots_of_a_film_begin_at_keyframes(assets: Path, tmp_path: Path) -> None:
    """Encoders put keyframes at cuts, so that whole shots can often be copied."""
    path = assets / "videos/real/bikes.mp4"
    rows = scan(path, split=split_stage(min_s=0.5, max_s=10, edge_trim_s=0)).clip_rows()
    media, failures = cut_clips(rows, tmp_path)
    assert not failures
    reasons = [m["media_mode_reason"] for m in media]
    assert reasons.count("keyframes") >= 4
    assert set(reasons) <= {"keyframes", "gop_too_long"}


def test_the_same_bytes_again(make_video: Maker, tmp_path: Path) -> None:
    path = make_video("cfr.mp4", Recording(), camera=FAST)
    row = scan(path).whole_clip()
    cuts = [cut_row(path, tmp_path / str(i), row) for i in range(2)]
    assert cuts[0]["media_mode"] == "copy"
    assert cuts[0]["media_sha256"] == cuts[1]["media_sha256"]
