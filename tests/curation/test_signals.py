"""The signals pass: exact times, segments, samples, and numbers that others would compute."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode

from curation.media.decode import open_video, walk_frames
from curation.media.prefetch import prefetched
from curation.signals.analysis import Shrinker
from curation.signals.transitions import content_scores
from curation.stages.split import Split
from tests.conftest import Maker
from tests.curation.chain import Scanned, scan, signals_stage, split_stage
from tests.media import Camera, Recording, Reel, Turn, write_video

VFR_MS = np.cumsum([0, *([40, 20, 110] * 16)])[:-1].tolist()


def stored_pts(path: Path) -> list[int]:
    """Every pts of the file, as its packets say."""
    with av.open(str(path)) as source:
        packets = [p.pts for p in source.demux(source.streams.video[0]) if p.size]
    return sorted(p for p in packets if p is not None)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("cfr.mp4", Recording()),
        ("ntsc.mp4", Recording(fps=29.97)),
        ("vfr.mp4", Recording(times_ms=VFR_MS)),
        ("vfr.mkv", Recording(times_ms=VFR_MS)),
        ("late.mkv", Recording(first_pts=1000)),
        ("ts.ts", Recording()),
        ("program.mpg", Recording(codec="mpeg2video")),
        ("old.avi", Recording(codec="mpeg4")),
    ],
)
def test_pts_are_those_of_the_file(make_video: Maker, name: str, how: Recording) -> None:
    path = make_video(name, how)
    found, pts = scan(path), stored_pts(path)
    assert found.frames("pts").tolist() == pts
    unit_s = eval_time_base(found)
    expected_s = (np.array(pts) - pts[0]) * unit_s
    assert found.frames("time_s") == pytest.approx(expected_s, abs=1e-6)
    row = found.row
    assert row["video_first_pts"] == pts[0]
    assert row["video_end_pts"] > pts[-1]
    assert row["video_duration_s"] == pytest.approx((row["video_end_pts"] - pts[0]) * unit_s)
    assert row["missing_s"] == 0
    assert not found.frames("damaged").any()
    assert row["is_vfr"] == name.startswith("vfr")


def eval_time_base(found: Scanned) -> float:
    """Seconds per pts unit."""
    top, bottom = found.row["time_base"].split("/")
    return int(top) / int(bottom)


@pytest.mark.parametrize("name", ["cfr.mp4", "late.mkv", "ts.ts", "program.mpg", "old.avi"])
def test_rate_survives_coarse_clocks(make_video: Maker, name: str) -> None:
    """Milliseconds cannot say 1/24 s, yet the rate is found."""
    kinds = {"program.mpg": Recording(codec="mpeg2video"), "old.avi": Recording(codec="mpeg4")}
    how = Recording(first_pts=1000) if name == "late.mkv" else kinds.get(name, Recording())
    row = scan(make_video(name, how)).row
    assert row["median_fps"] == pytest.approx(24, abs=0.02)
    assert row["video_duration_s"] == pytest.approx(2, abs=0.003)


def test_segments_concatenate_to_the_same(make_video: Maker) -> None:
    path = make_video("long.mp4", seconds=6.5, size_px=(96, 64))
    whole = scan(path)
    cut = scan(path, signals=signals_stage(segment_frames=50))
    assert whole.tables["segments"].num_rows == 1
    assert cut.tables["segments"].column("segment_start_frame").to_pylist() == [0, 50, 100, 150]
    lists = [n for n in whole.row if n.startswith("frame_")]
    assert len(lists) > 15
    for name in lists:
        assert cut.row[name] == whole.row[name], name
    assert cut.tables["frames"].equals(whole.tables["frames"].combine_chunks())
    assert cut.tables["decodes"].equals(whole.tables["decodes"])


def test_decoder_threads_change_nothing(make_video: Maker) -> None:
    path = make_video("long.mp4", seconds=6.5, size_px=(96, 64))
    one, two = scan(path), scan(path, signals=signals_stage(threads=2))
    assert one.row == two.row


def samples(found: Scanned) -> list[dict[str, Any]]:
    """Rows of ``frames`` with the decoded picture."""
    rows = found.tables["frames"].to_pylist()
    for row in rows:
        data = np.frombuffer(row["jpeg"], np.uint8)
        row["picture"] = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    return rows


@pytest.mark.parametrize("name", ["vfr.mp4", "late.mkv", "cfr.mp4"])
def test_one_sample_per_second(make_video: Maker, name: str) -> None:
    hows = {"vfr.mp4": Recording(times_ms=VFR_MS), "late.mkv": Recording(first_pts=1000)}
    path = make_video(name, hows.get(name, Recording()))
    found = scan(path)
    pts, time_s = found.frames("pts"), found.frames("time_s")
    expected = [int(np.flatnonzero(time_s >= second - 1e-6)[0]) for second in range(2)]
    if time_s[-1] >= 2 - 1e-6:
        expected.append(int(np.flatnonzero(time_s >= 2 - 1e-6)[0]))
    rows = samples(found)
    assert [r["sample_frame_index"] for r in rows] == expected
    assert [r["sample_pts"] for r in rows] == pts[expected].tolist()
    assert [r["sample_time_s"] for r in rows] == time_s[expected].tolist()
    with av.open(str(path)) as source:
        frames = {int(f.pts or 0): f.to_ndarray(format="gray") for f in source.decode(video=0)}
    for row in rows:
        right = frames[row["sample_pts"]]
        error = np.abs(row["picture"].astype(int) - right).mean()
        assert error < 8
        wrong = frames[int(pts[row["sample_frame_index"] + 6])]
        assert np.abs(row["picture"].astype(int) - wrong).mean() > 2 * error


def test_sample_interval_and_size(make_video: Maker) -> None:
    stage = signals_stage(sample_interval_s=0.5, sample_long_side_px=64)
    rows = samples(scan(make_video("cfr.mp4"), signals=stage))
    assert [r["sample_time_s"] for r in rows] == pytest.approx([0, 0.5, 1.0, 1.5])
    assert {(r["sample_width_px"], r["sample_height_px"]) for r in rows} == {(64, 38)}
    assert rows[0]["picture"].shape == (38, 64)


def flag() -> list[np.ndarray]:
    """Still pictures with one bright corner: top left."""
    picture = np.full((64, 96, 3), 40, np.uint8)
    picture[:32, :48] = 220
    return [picture] * 12


def bright_corner(picture: np.ndarray) -> tuple[int, int]:
    """Row and column (0 or 1) of the brightest quarter."""
    height, width = picture.shape[:2]
    quarters = [
        [picture[: height // 2, : width // 2].mean(), picture[: height // 2, width // 2 :].mean()],
        [picture[height // 2 :, : width // 2].mean(), picture[height // 2 :, width // 2 :].mean()],
    ]
    at = int(np.argmax(quarters))
    return at // 2, at % 2


@pytest.mark.parametrize(
    ("turn_deg", "corner", "size"),
    [
        (0, (0, 0), (96, 64)),
        (90, (0, 1), (64, 96)),
        (180, (1, 1), (96, 64)),
        (270, (1, 0), (64, 96)),
    ],
)
def test_samples_are_upright(
    tmp_path: Path,
    turn_deg: Turn,
    corner: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """A clockwise quarter turn takes the top left corner to the top right."""
    path = write_video(tmp_path / "turned.mp4", flag(), Recording(turn_deg=turn_deg))
    found = scan(path)
    (row,) = samples(found)
    assert found.row["rotation_deg"] == turn_deg
    assert (row["sample_width_px"], row["sample_height_px"]) == size
    assert (found.row["width_px"], found.row["height_px"]) == size
    assert bright_corner(row["picture"]) == corner


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shots with hard cuts."""
    shots = Reel()
    for seed in (1, 2, 3):
        shots.shot(1.5, Camera(pan_per_s=0.1, seed=seed))
    return write_video(tmp_path_factory.mktemp("reel") / "reel.mp4", shots.pictures)


def small_pictures(path: Path) -> list[np.ndarray]:
    """The analysis pictures of a file, as BGR."""
    shrink = Shrinker()
    with open_video(str(path)) as (container, stream):
        return [shrink(d.frame).bgr.copy() for d in walk_frames(container, stream)]


def test_content_equals_pyscenedetect(reel: Path) -> None:
    """Its own detector, given the same pictures, computes the same number for every frame."""
    found = scan(reel)
    ours = content_scores(*(found.frames(f"delta_{n}") for n in ("hue", "sat", "val")))
    theirs = ContentDetector()
    scores = [
        theirs._calculate_frame_score(FrameTimecode(i, fps=24.0), picture)
        for i, picture in enumerate(small_pictures(reel))
    ]
    assert ours == pytest.approx(np.array(scores), abs=2e-4)
    assert max(scores) > 15


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_stored_detectors_equal_pyscenedetect(reel: Path, detector: str) -> None:
    """Detectors run on stored numbers cut where they cut when run on the pictures."""
    theirs = (
        AdaptiveDetector(min_scene_len=0)
        if detector == "adaptive"
        else ContentDetector(threshold=20.0, min_scene_len=0)
    )
    cuts = []
    for index, picture in enumerate(small_pictures(reel)):
        cuts += theirs.process_frame(FrameTimecode(index, fps=24.0), picture)
    split: Split = split_stage(
        detector=detector, content_threshold=20.0, detect_fades=False, min_shot_s=0
    )
    assert scan(reel, split=split).cuts == sorted({c.frame_num for c in cuts})
    assert len(cuts) == 2


def test_prefetch_hands_errors_over_and_stops() -> None:
    taken = []

    def source() -> Any:  # noqa: ANN401 - a generator of anything
        for i in range(100):
            taken.append(i)
            yield i
            if i == 4:
                raise ValueError("broken")

    items = prefetched(source(), 2)
    got = []
    with pytest.raises(ValueError, match="broken"):
        got.extend(iter(items.__next__, None))
    assert got == [0, 1, 2, 3, 4]

    endless = prefetched(iter(lambda: taken.append(0) or 1, 0), 2)
    assert next(endless) == 1
    endless.close()
    seen = len(taken)
    time.sleep(0.02)
    assert len(taken) == seen  # its thread has ended: nothing is read any more
