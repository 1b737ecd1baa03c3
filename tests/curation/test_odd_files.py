"""Odd files: what probe, signals and split make of each. One table, one line a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from curation.errors import ErrorCode, MediaError
from tests.curation.chain import cut_clips, scan, split_stage

PLAIN = {
    "rotation_deg": 0,
    "interlaced": False,
    "is_hdr": False,
    "bit_depth": 8,
    "is_vfr": False,
    "has_alpha": False,
    "sample_aspect_ratio": 1.0,
    "full_range": False,
    "missing_s": 0.0,
    "num_damaged_frames": 0,
}
"""Facts of an ordinary file; the table tells what differs."""

FACTS: dict[str, dict[str, Any]] = {
    "3gp.3gp": {"width_px": 352, "codec": "h263", "sample_aspect_ratio": pytest.approx(12 / 11)},
    "VID_20191220_170832.mp4": {"width_px": 1920, "is_vfr": True, "video_num_frames": 41},
    "av1_video.mkv": {"width_px": 640, "codec": "av1", "video_num_frames": 125},
    "bitmap.mp4": {"width_px": 1, "height_px": 1, "video_num_frames": 5, "pix_fmt": "yuv444p"},
    "bt709_full_range.mp4": {"width_px": 1280, "full_range": True, "transfer": "bt709"},
    "corrupted.mp4": {"width_px": 1280, "num_damaged_frames": 21, "is_vfr": True},
    "dummy_video.avi": {"width_px": 320, "codec": "ffv1", "pix_fmt": "bgr0"},
    "fire2.mp4": {"width_px": 1280, "rotation_deg": 180, "is_vfr": True},
    "flv.flv": {"width_px": 320, "codec": "flv1", "declared_duration_s": None},
    "h264_10bits.mp4": {"width_px": 200, "bit_depth": 10},
    "h265_10bits.mp4": {"width_px": 200, "bit_depth": 10, "codec": "hevc"},
    "h265_video.mp4": {"width_px": 128, "codec": "hevc"},
    "k3bphotosvcd.mpg": {"width_px": 480, "interlaced": True, "sample_aspect_ratio": 1.6},
    "mov.mov": {"width_px": 560, "num_audio_streams": 1},
    "no_duration.webm": {"width_px": 1280, "has_alpha": True, "declared_duration_s": None},
    "ogg.ogv": {"width_px": 560, "codec": "theora"},
    "regular.mkv": {"width_px": 256, "is_hdr": True, "transfer": "pq", "bit_depth": 10},
    "test_yuv422p.mp4": {"width_px": 640, "pix_fmt": "yuv422p"},
    "transparent.webm": {"width_px": 200, "has_alpha": True, "codec": "vp9"},
    "truncated.mp4": {"width_px": 720, "missing_s": 6.6, "video_num_frames": 50},
    "video_180.mov": {"width_px": 568, "height_px": 320, "rotation_deg": 180},
    "video_270.mov": {"width_px": 320, "height_px": 568, "rotation_deg": 270},
    "video_90.mov": {"width_px": 320, "height_px": 568, "rotation_deg": 90},
    "video_with_failing_audio.mp4": {"width_px": 640, "video_num_frames": 280},
    "webm.webm": {"width_px": 560, "codec": "vp8"},
}
ERRORS = {
    "empty.mp4": ErrorCode.NOT_A_VIDEO,  # 0 bytes are already refused when the file is read
    "italia.mp4": ErrorCode.NO_VIDEO_STREAM,
    "partial_262_bytes.mp4": ErrorCode.NO_VIDEO_STREAM,
    "text.mp4": ErrorCode.NOT_A_VIDEO,
}


@pytest.fixture(scope="module")
def odd(assets: Path) -> Path:
    """The folder of odd files."""
    return assets / "videos/odd"


def test_the_table_is_complete(odd: Path) -> None:
    assert {p.name for p in odd.iterdir()} == set(FACTS) | set(ERRORS)


@pytest.mark.parametrize("name", sorted(FACTS))
def test_facts(odd: Path, name: str) -> None:
    found = scan(odd / name)
    expected = PLAIN | FACTS[name]
    assert {k: found.row[k] for k in expected} == expected
    accounted = sum(s["end_s"] - s["start_s"] for s in [*found.clips, *found.spans])
    whole = found.row["video_duration_s"] + found.row["missing_s"]
    assert accounted == pytest.approx(whole, abs=1e-4)
    pts = found.frames("pts")
    assert (np.diff(pts) > 0).all()
    for clip in found.clips:
        assert not found.frames("damaged")[clip["start_frame"] : clip["end_frame"]].any()
    for sample in found.tables["frames"].to_pylist():
        picture = cv2.imdecode(np.frombuffer(sample["jpeg"], np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape[:2] == (sample["sample_height_px"], sample["sample_width_px"])


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_named_errors(odd: Path, name: str) -> None:
    with pytest.raises(MediaError) as caught:
        scan(odd / name)
    assert caught.value.code == ERRORS[name]
    assert not caught.value.retryable


def test_lost_and_damaged_seconds_have_a_reason(odd: Path) -> None:
    truncated = {s["reason"]: s for s in scan(odd / "truncated.mp4").spans}
    missing = truncated["missing"]
    assert missing["end_s"] - missing["start_s"] == pytest.approx(6.6)
    assert missing["start_frame"] == missing["end_frame"] == 50
    corrupted = scan(odd / "corrupted.mp4")
    (span,) = corrupted.spans
    assert span["reason"] == "damaged"
    assert span["end_s"] == pytest.approx(5.0)
    assert span["start_s"] == pytest.approx(2.8)


def test_rotated_pictures_stand_upright(odd: Path) -> None:
    """The same scene filmed at four angles: its samples look alike."""
    pictures = {}
    for name in ("video_90.mov", "video_270.mov"):
        (sample,) = scan(odd / name).tables["frames"].to_pylist()
        data = np.frombuffer(sample["jpeg"], np.uint8)
        grey = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        pictures[name] = cv2.resize(grey, (16, 28), interpolation=cv2.INTER_AREA)
        assert grey.shape[0] > grey.shape[1]
    flat = [p.ravel().astype(float) for p in pictures.values()]
    upside_down = pictures["video_270.mov"][::-1, ::-1].ravel().astype(float)
    right = np.corrcoef(flat[0], flat[1])[0, 1]
    assert right > np.corrcoef(flat[0], upside_down)[0, 1]


@pytest.mark.parametrize(
    "name", ["fire2.mp4", "k3bphotosvcd.mpg", "regular.mkv", "bitmap.mp4", "no_duration.webm"]
)
def test_odd_files_can_be_cut(odd: Path, tmp_path: Path, name: str) -> None:
    found = scan(odd / name, split=split_stage(min_s=0.5, max_s=1.0, edge_trim_s=0))
    media, failures = cut_clips(found.clip_rows()[:2], tmp_path)
    assert not failures
    assert media
    for cut in media:
        with av.open(str(cut["path"])) as clip:
            frames = list(clip.decode(video=0))
        assert len(frames) == cut["media_num_frames"]
        assert (frames[0].width, frames[0].height) == (
            cut["media_width_px"],
            cut["media_height_px"],
        )
        assert frames[0].format.name == "yuv420p"
    if name == "k3bphotosvcd.mpg":
        assert (media[0]["media_width_px"], media[0]["media_height_px"]) == (768, 576)
