"""Cut, mode copy: packets untouched, whole groups of pictures, nothing from outside the clip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from curation.errors import ErrorCode
from tests.conftest import Maker
from tests.curation.chain import cut_clips, scan, split_stage
from tests.media import Camera, Recording, Tone, psnr, read_pictures, write_video

FAST = Camera(pan_per_s=0.3, tilt_per_s=0.1)
PIECES = split_stage(min_s=0.2, max_s=0.9, edge_trim_s=0)
HOWS = {
    "cfr.mp4": Recording(),
    "open.mp4": Recording(open_gop=True, b_frames=3),
    "late.mkv": Recording(first_pts=1000),
    "ts.ts": Recording(),
    "open.mpg": Recording(codec="mpeg2video"),
    "old.avi": Recording(codec="mpeg4"),
    "vfr.mp4": Recording(times_ms=[40 * i + (i % 3) * 9 for i in range(48)]),
}


def packets_of(path: Path | str) -> dict[float, tuple[bytes, bool]]:
    """Data and keyframe flag of every video packet, by time in seconds."""
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        unit = stream.time_base or Fraction(1)
        return {
            round(float(p.pts * unit), 3): (bytes(p), p.is_keyframe)
            for p in source.demux(stream)
            if p.size and p.pts is not None
        }


@pytest.mark.parametrize("name", HOWS)
def test_whole_groups_and_nothing_else(make_video: Maker, tmp_path: Path, name: str) -> None:
    path = make_video(name, HOWS[name], camera=FAST)
    found = scan(path, split=PIECES)
    rows = found.clip_rows()
    media, failures = cut_clips(rows, tmp_path, mode="copy")
    # Twelve frames a group, 21 a clip: one group fits into all but the short last clip.
    assert len(media) >= 2
    assert {f.code for f in failures} <= {ErrorCode.NO_KEYFRAME}
    assert len(media) + len(failures) == len(rows)
    spans = {r["clip_id"]: (r["start_pts"], r["end_pts"]) for r in rows}
    source_pts, source_pictures = read_pictures(path)
    for cut in media:
        start, end = spans[cut["clip_id"]]
        first, stop = cut["media_start_pts"], cut["media_end_pts"]
        assert start <= first < stop <= end
        inside = [p for t, p in zip(source_pts, source_pictures, strict=True) if first <= t < stop]
        _, shown = read_pictures(cut["path"])
        assert len(shown) == len(inside) == cut["media_num_frames"]
        for index, (a, b) in enumerate(zip(inside, shown, strict=True)):
            assert psnr(a, b) > 90, f"frame {index}"  # decoded alone, as good as in its file


@pytest.mark.parametrize("name", ["cfr.mp4", "open.mp4", "late.mkv", "old.avi"])
def test_packets_are_unchanged(make_video: Maker, tmp_path: Path, name: str) -> None:
    path = make_video(name, HOWS[name], camera=FAST)
    found = scan(path, split=PIECES)
    media, _ = cut_clips(found.clip_rows()[:2], tmp_path, mode="copy")
    data = packets_of(path)
    top, bottom = (int(n) for n in found.row["time_base"].split("/"))
    for cut in media:
        offset_s = cut["media_start_pts"] * top / bottom
        copied = packets_of(cut["path"])
        assert min(copied) == 0
        assert copied[0.0][1], "begins with a keyframe"
        for time_s, packet in copied.items():
            near = min(data, key=lambda t, at=time_s + offset_s: abs(t - at))
            assert packet == data[near]


def test_keeps_all_that_fits(make_video: Maker, tmp_path: Path) -> None:
    """Groups are 0-11, 12-23, 24-35, 36-47; the whole video keeps all, one frame less loses one."""
    path = make_video("cfr.mp4", HOWS["cfr.mp4"], camera=FAST)
    row = scan(path).whole_clip()
    step = row["video_end_pts"] // 48
    (every,), _ = cut_clips([row], tmp_path, mode="copy")
    assert (every["media_start_pts"], every["media_end_pts"]) == (0, row["end_pts"])
    assert every["media_num_frames"] == 48
    (less,), _ = cut_clips([row | {"start_pts": step}], tmp_path, mode="copy")
    assert (less["media_start_pts"], less["media_num_frames"]) == (12 * step, 36)
    (early,), _ = cut_clips([row | {"end_pts": 47 * step}], tmp_path, mode="copy")
    assert (early["media_end_pts"], early["media_num_frames"]) == (36 * step, 36)
    (exact,), _ = cut_clips([row | {"end_pts": 24 * step}], tmp_path, mode="copy")
    assert (exact["media_end_pts"], exact["media_num_frames"]) == (24 * step, 24)


def test_no_whole_group_is_named(make_video: Maker, tmp_path: Path) -> None:
    path = make_video("cfr.mp4", HOWS["cfr.mp4"], camera=FAST)
    row = scan(path).whole_clip()
    step = row["video_end_pts"] // 48
    inner = row | {"start_pts": 13 * step, "end_pts": 23 * step}
    crossing = row | {"start_pts": 6 * step, "end_pts": 18 * step}
    for clip in (inner, crossing):
        media, failures = cut_clips([clip], tmp_path, mode="copy")
        assert not media
        assert [f.code for f in failures] == [ErrorCode.NO_KEYFRAME]


def test_codec_that_mp4_does_not_hold(tmp_path: Path) -> None:
    pictures = FAST.shoot(96, 64, [i / 24 for i in range(24)])
    how = Recording(codec="wmv2")
    path = write_video(tmp_path / "old.avi", pictures, how)
    media, failures = cut_clips([scan(path).whole_clip()], tmp_path, mode="copy")
    assert not media
    assert [f.code for f in failures] == [ErrorCode.ENCODE_FAILED]
    assert not list(tmp_path.rglob("*.mp4"))


def test_sound_is_kept_on_request(make_video: Maker, tmp_path: Path) -> None:
    tone = Tone(start_s=0.0, end_s=2.0, total_s=2.0)
    path = make_video("tone.mp4", Recording(tone=tone), camera=FAST)
    for audio, streams in (("keep", 1), ("drop", 0)):
        media, _ = cut_clips(
            scan(path, split=PIECES).clip_rows()[:1], tmp_path / audio, mode="copy", audio=audio
        )
        with av.open(str(media[0]["path"])) as clip:
            assert len(clip.streams.audio) == streams
            if streams:
                sound = sum(f.samples for f in clip.decode(audio=0)) / 48_000
                assert sound == pytest.approx(media[0]["media_duration_s"], abs=0.03)
