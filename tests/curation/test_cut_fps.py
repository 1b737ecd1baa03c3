"""Constant frame rates: how many frames, at which times, and which source frame each one is."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from curation.media.retime import exact_rate, num_frames_at, on_display
from tests.conftest import Maker
from tests.curation.chain import cut_clips, scan, split_stage
from tests.media import Camera, Recording, Tone, psnr, read_pictures

FAST = Camera(pan_per_s=0.3, tilt_per_s=0.1)
JUMPY_MS = [0, 20, 60, 85, 150, 300, 320, 345, 480, 505, *range(540, 1500, 35)]
Row = dict[str, Any]


def shown_at(times_s: np.ndarray, rate: Fraction, count: int) -> list[int]:
    """Index of the frame on display at each output time, by searching (1 ms of slack)."""
    return [
        int(np.searchsorted(times_s, float(k / rate) + 1e-3, "right")) - 1 for k in range(count)
    ]


def check(path: Path, row: Row, cut: Row, rate: Fraction) -> None:
    """Frame for frame what was on display, at k / rate, as long as that many frames are."""
    count = cut["media_num_frames"]
    pts, pictures = read_pictures(path)
    unit = float(Fraction(row["time_base"]))
    inside = [i for i, t in enumerate(pts) if row["start_pts"] <= t < row["end_pts"]]
    times_s = np.array([(pts[i] - row["start_pts"]) * unit for i in inside])
    assert count == round(row["duration_s"] * rate)
    assert cut["media_duration_s"] == pytest.approx(float(count / rate), abs=1e-6)
    assert abs(cut["media_duration_s"] - row["duration_s"]) <= float(1 / rate / 2) + 1e-6
    assert cut["media_fps"] == pytest.approx(float(rate), abs=1e-5)
    with av.open(str(cut["path"])) as clip:
        stream = clip.streams.video[0]
        assert stream.duration is not None and stream.time_base is not None
        assert stream.duration * stream.time_base == pytest.approx(count / rate, abs=1e-3)
        assert stream.average_rate == pytest.approx(rate, rel=1e-3)
        frames = list(clip.decode(stream))
    assert [f.time for f in frames] == pytest.approx(
        [float(k / rate) for k in range(count)], abs=1e-3
    )
    chosen = shown_at(times_s, rate, count)
    for k, (index, frame) in enumerate(zip(chosen, frames, strict=True)):
        got = frame.to_ndarray(format="gray")
        alike = psnr(pictures[inside[index]], got)
        assert alike > 33, k
        for near in (index - 1, index + 1):
            if 0 <= near < len(inside):
                assert psnr(pictures[inside[near]], got) < alike - 2, f"{k} may be {near}"


@pytest.mark.parametrize(
    ("name", "how", "fps"),
    [
        ("up.mp4", Recording(fps=24), 30.0),
        ("down.mp4", Recording(fps=60), 24.0),
        ("same.mp4", Recording(fps=24), 24.0),
        ("rounded.mkv", Recording(fps=24), 24.0),
        ("ntsc.mp4", Recording(fps=24), 29.97),
        ("late.ts", Recording(fps=25), 50.0),
        ("vfr.mp4", Recording(times_ms=JUMPY_MS), 25.0),
        ("slow.mp4", Recording(fps=24), 1.5),
    ],
)
def test_frames_on_display(
    make_video: Maker, tmp_path: Path, name: str, how: Recording, fps: float
) -> None:
    path = make_video(name, how, camera=FAST)
    rows = scan(path, split=split_stage(min_s=0.2, max_s=0.8, edge_trim_s=0)).clip_rows()
    media, failures = cut_clips(rows, tmp_path, fps=fps)
    assert not failures
    for row, cut in zip(rows, media, strict=True):
        assert cut["media_mode_reason"] == "fps"
        assert (cut["media_start_pts"], cut["media_end_pts"]) == (row["start_pts"], row["end_pts"])
        check(path, row, cut, exact_rate(fps))


def test_unchanged_rate_is_unchanged(make_video: Maker, tmp_path: Path) -> None:
    """Times rounded to milliseconds show every frame once, none twice."""
    path = make_video("rounded.mkv", Recording(fps=24), camera=FAST)
    row = scan(path).whole_clip()
    media, _ = cut_clips([row], tmp_path, fps=24)
    wanted, got = read_pictures(path)[1], read_pictures(media[0]["path"])[1]
    assert len(got) == len(wanted) == 48
    assert min(psnr(a, b) for a, b in zip(wanted, got, strict=True)) > 37


def test_no_blending(make_video: Maker, tmp_path: Path) -> None:
    """24 to 30: of five frames one is shown twice; the repeat is the same picture."""
    path = make_video("up.mp4", Recording(fps=24), camera=FAST)
    media, _ = cut_clips([scan(path).whole_clip()], tmp_path, fps=30)
    _, got = read_pictures(media[0]["path"])
    alike = [psnr(a, b) for a, b in pairwise(got)]
    repeats = [i for i, value in enumerate(alike) if value > 38]
    assert len(got) == 60
    assert len(repeats) == 12
    assert set(np.diff(repeats)) == {5}


def test_real_variable_rate(assets: Path, tmp_path: Path) -> None:
    path = assets / "videos/odd/VID_20191220_170832.mp4"
    found = scan(path)
    row = found.whole_clip() | {"duration_s": found.row["video_duration_s"]}
    media, failures = cut_clips([row], tmp_path, fps=25, max_long_side_px=640)
    assert not failures
    assert media[0]["media_num_frames"] == round(row["duration_s"] * 25)
    assert media[0]["media_fps"] == 25
    assert len(read_pictures(media[0]["path"])[1]) == media[0]["media_num_frames"]


def test_sound_keeps_its_length(make_video: Maker, tmp_path: Path) -> None:
    path = make_video("tone.mp4", Recording(tone=Tone(start_s=0, end_s=2, total_s=2)), camera=FAST)
    media, _ = cut_clips([scan(path).whole_clip()], tmp_path, fps=10, audio="keep")
    with av.open(str(media[0]["path"])) as clip:
        sound_s = sum(f.samples for f in clip.decode(audio=0)) / 48_000
    assert sound_s == pytest.approx(2.0, abs=0.03)
    assert media[0]["media_duration_s"] == 2.0


def test_exact_rate() -> None:
    assert exact_rate(24) == 24
    assert exact_rate(23.976) == exact_rate(23.976024) == exact_rate(23.98) == Fraction(24000, 1001)
    assert exact_rate(29.97) == Fraction(30000, 1001)
    assert exact_rate(59.94) == Fraction(60000, 1001)
    assert exact_rate(5) == 5
    assert exact_rate(1.5) == Fraction(3, 2)
    assert exact_rate(12.5) == Fraction(25, 2)
    assert exact_rate(1e-9) == Fraction(1, 1001)


def test_number_of_frames() -> None:
    assert num_frames_at(Fraction(25), Fraction(2)) == 50
    assert num_frames_at(Fraction(25), Fraction(201, 100)) == 50
    assert num_frames_at(Fraction(25), Fraction(202, 100)) == 51  # half a frame rounds up
    assert num_frames_at(Fraction(1), Fraction(1, 100)) == 1


@pytest.mark.parametrize(
    ("times", "end", "fps", "wanted"),
    [
        ([0, 1, 2, 3], 4, 1, [0, 1, 2, 3]),
        ([0, 1, 2, 3], 4, 2, [0, 0, 1, 1, 2, 2, 3, 3]),
        ([0, 1, 2, 3], 4, Fraction(1, 2), [0, 2]),
        ([0, 3], 4, 1, [0, 0, 0, 1]),
        ([0, Fraction(1, 2)], 5, 1, [0, 1, 1, 1, 1]),
        ([0], 3, 1, [0, 0, 0]),
        ([], 3, 1, []),
    ],
)
def test_choice(times: list[Any], end: int, fps: Fraction, wanted: list[int]) -> None:
    frames = [VideoFrame(16, 16, "gray") for _ in times]
    given = [(10 + int(t * 1000), f) for t, f in zip(times, frames, strict=True)]
    span = (10, 10 + end * 1000)
    got = list(on_display(given, span_pts=span, unit=Fraction(1, 1000), rate=Fraction(fps)))
    assert [k for k, _ in got] == list(range(len(wanted)))
    assert [frames.index(f) for _, f in got] == wanted
