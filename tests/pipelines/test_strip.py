"""The strip: right frames, right places, nothing on top of anything else, never without bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import ConfigError
from curation.media.facts import read_facts
from curation.signals.clips import ClipPolicy, Span, clip_spans
from curation.signals.transitions import DetectorName, FrameSignals, Shot, ShotSettings
from pipelines.strip import Lane, draw_strip, signal_lanes
from pipelines.strip.canvas import Canvas, text_width
from pipelines.strip.colors import CLIP_COLOR, kind_color, reason_color
from pipelines.strip.lanes import tracks_of
from pipelines.strip.plan import MAX_ROWS, MAX_THUMBS, Row, frames_around, plan_strip
from pipelines.strip.rows import BAR, FLAG_PX, LABEL_PX, LANE_PX, Found, RowSheet
from pipelines.strip.thumbs import grab_thumbs, thumb_size
from tests.media import Recording, Turn, write_video

MARGIN_PX, WIDTH_PX = 16, 1600
LEFT, RIGHT = MARGIN_PX + LABEL_PX, WIDTH_PX - MARGIN_PX


@dataclass(frozen=True)
class Change:
    """A transition of any kind."""

    start_frame: int
    end_frame: int
    kind: str = "cut"
    confidence: float = 0.75


def shots_of(changes: Sequence[Change], num_frames: int) -> list[Shot]:
    """The shots between changes."""
    shots, at = [], 0
    for change in changes:
        stop = change.end_frame if change.kind == "cut" else change.start_frame
        if stop > at:
            shots.append(Shot(at, stop, at > 0, True))
        at = change.end_frame
    return [*shots, Shot(at, num_frames, at > 0, False)] if at < num_frames else shots


def found_of(changes: Sequence[Change], time_s: np.ndarray, *lanes: Lane) -> Found:
    """Shots and clips between changes."""
    num = len(time_s) - 1
    shots = shots_of(changes, num)
    policy = ClipPolicy(min_s=0.5, max_s=4, overlap_s=1, edge_trim_s=0.2)
    spans = clip_spans(shots, np.zeros(num, bool), time_s, policy)
    return Found(time_s=time_s, lanes=lanes, transitions=changes, shots=shots, spans=spans)


def grey(index: int) -> int:
    """The level of a frame of :func:`ladder`."""
    return 20 + 4 * index


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 frames, each flat and brighter than the one before."""
    pictures = [np.full((96, 160, 3), grey(i), np.uint8) for i in range(50)]
    return write_video(
        tmp_path_factory.mktemp("ladder") / "ladder.mp4", pictures, Recording(fps=25)
    )


LADDER_S = np.arange(51) / 25


# Which frames


@pytest.mark.parametrize(
    ("change", "want"),
    [
        (Change(29, 30), (29, 30)),
        (Change(20, 30, "dissolve"), (19, 25, 30)),
        (Change(0, 6, "fade"), (0, 3, 6)),
        (Change(90, 100, "fade"), (89, 95, 99)),
        (Change(99, 100, "wipe"), (98, 99)),
    ],
)
def test_frames_around_a_transition(change: Change, want: tuple[int, ...]) -> None:
    assert frames_around(change, 100) == want


def test_thumbnails_are_those_frames(ladder: Path) -> None:
    wanted = {0, 7, 8, 31, 49, 77}
    thumbs = grab_thumbs(str(ladder), read_facts(str(ladder)), wanted, (80, 80))
    assert sorted(thumbs) == [0, 7, 8, 31, 49]  # the file has no frame 77
    for index, image in thumbs.items():
        assert image.shape == (48, 80, 3)
        assert image.mean() == pytest.approx(grey(index), abs=1.9), index


@pytest.mark.parametrize(
    ("turn", "sar", "size", "bright_side"),
    [
        (0, None, (80, 48), "left"),
        (90, None, (48, 80), "top"),
        (180, None, (80, 48), "right"),
        (270, None, (48, 80), "bottom"),
        (0, Fraction(2), (80, 24), "left"),
    ],
)
def test_thumbnails_are_upright(
    tmp_path: Path, turn: Turn, sar: Fraction | None, size: tuple[int, int], bright_side: str
) -> None:
    picture = np.full((96, 160, 3), 30, np.uint8)
    picture[:, :80] = 220
    path = write_video(tmp_path / "v.mp4", [picture] * 3, Recording(turn_deg=turn, sar=sar))
    facts = read_facts(str(path))
    image = grab_thumbs(str(path), facts, {1}, (80, 80))[1]
    assert (image.shape[1], image.shape[0]) == size == thumb_size(facts, (80, 80))
    height, width = image.shape[:2]
    parts = {
        "left": image[:, : width // 3],
        "right": image[:, -(width // 3) :],
        "top": image[: height // 3],
        "bottom": image[-(height // 3) :],
    }
    assert max(parts, key=lambda side: parts[side].mean()) == bright_side


# How much


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.floats(0.5, 200_000), st.integers(0, 2**32 - 1))
def test_a_plan_is_bounded_and_complete(count: int, duration_s: float, seed: int) -> None:
    num = 4 * count + 10
    rng = np.random.default_rng(seed)
    time_s = np.linspace(0, duration_s, num + 1)
    changes = [Change(4 * i + 3, 4 * i + 4, "cut", float(rng.uniform())) for i in range(count)]
    plan = plan_strip(time_s, changes, shots_of(changes, num), 9)
    cards = [c for row in plan.rows for c in row.cards]
    shown = [c.number - 1 for c in cards if c.mark is not None]
    assert len(plan.rows) <= MAX_ROWS
    assert sum(len(c.frames) for c in cards) <= MAX_THUMBS
    assert plan.rows[0].start_s == 0
    assert plan.rows[-1].end_s == pytest.approx(duration_s)
    hidden = set(range(count)) - set(shown)
    assert len(shown) == len(set(shown))
    if hidden:  # only the surest are left out, and the reader is told
        assert len(shown) >= MAX_THUMBS // 2 - 1
        surest = max(changes[i].confidence for i in shown)
        assert surest <= min(changes[i].confidence for i in hidden)
        assert f"{len(shown)} least confident of {count}" in " ".join(plan.notes)
    for row in plan.rows:
        firsts = [c.frames[0] for c in row.cards]
        assert firsts == sorted(firsts)
        for card in row.cards:
            assert row.start_s - 1e-6 <= time_s[card.frames[0]] < row.end_s + 1e-6


def test_frames_of_a_shot_are_its_own_and_every_shot_has_some() -> None:
    changes = [Change(29, 30), Change(60, 80, "dissolve"), Change(200, 201)]
    time_s = np.arange(251) / 25
    shots = shots_of(changes, 250)
    (row,) = plan_strip(time_s, changes, shots, 9).rows
    own = [c for c in row.cards if c.mark is None]
    assert [c.number for c in own] == [1, 2, 3, 4]
    for card in own:
        shot = shots[card.number - 1]
        assert all(shot.start_frame <= f < shot.end_frame for f in card.frames)
    longest = max(own, key=lambda c: len(c.frames))
    assert longest.number == 3


# What is drawn where


@dataclass
class Label:
    """A text on the canvas: its box, ends exclusive."""

    text: str
    x0: float
    x1: float
    y: float


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> list[Label]:
    """All texts that are drawn, as they are drawn."""
    seen: list[Label] = []
    plain = Canvas.text

    def text(self: Canvas, x: float, y: float, text: str, *rest: object, **more: object) -> None:
        size = rest[1] if len(rest) > 1 else more.get("size", 0.4)
        assert isinstance(size, float)
        if text:
            seen.append(Label(text, x, x + text_width(text, size), y))
        plain(self, x, y, text, *rest, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Canvas, "text", text)
    return seen


@pytest.mark.parametrize("count", [0, 1, 7, 40, 300])
@pytest.mark.parametrize("seed", range(3))
def test_no_label_lies_on_another_or_beyond_the_edge(
    labels: list[Label], count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.choice(np.arange(1, 990), count, replace=False)) * 2
    kinds = ["cut", "cut", "dissolve", "fade"]
    changes = [
        Change(int(s), int(s) + 1, kinds[i % 4], float(rng.uniform())) for i, s in enumerate(starts)
    ]
    time_s = np.arange(2001) / 25
    found = found_of(changes, time_s, Lane(name="change " * 9, values=np.ones(2000), threshold=2))
    sheet = RowSheet(found, WIDTH_PX, MARGIN_PX)
    canvas = Canvas(WIDTH_PX, sheet.height_px)
    sheet.draw(canvas, 0, Row(start_s=20.0, end_s=60.0))
    assert labels
    for label in labels:
        assert label.x0 >= 0
        assert label.x1 <= WIDTH_PX
        assert 0 < label.y < sheet.height_px
    for i, a in enumerate(labels):
        for b in labels[i + 1 :]:
            apart = a.x1 <= b.x0 or b.x1 <= a.x0 or abs(a.y - b.y) >= 10
            assert apart, f"{a} on {b}"


def test_bands_flags_and_curves_stand_where_their_frames_are() -> None:
    """One shot cut at frame 100 of 200, and a signal that is high from there on."""
    time_s = np.arange(201) / 25
    changes = [Change(99, 100), Change(150, 170, "dissolve")]
    high = np.where(np.arange(200) >= 100, 1.0, 0.0)
    spans = [Span(0, 90, 0, None), Span(90, 100, 0, "edge_trim"), Span(100, 200, 1, "damaged")]
    found = Found(
        time_s=time_s,
        lanes=[
            Lane(name="none", values=[None] * 200, threshold=0.5, top=1.0),
            Lane(name="high", values=high, top=1.0),
        ],
        transitions=changes,
        shots=shots_of(changes, 200),
        spans=spans,
    )
    sheet = RowSheet(found, WIDTH_PX, MARGIN_PX)
    canvas = Canvas(WIDTH_PX, sheet.height_px)
    sheet.draw(canvas, 0, Row(start_s=0.0, end_s=8.0))

    def x_of(frame: float) -> int:
        return round(LEFT + frame / 200 * (RIGHT - LEFT))

    clips_y = FLAG_PX + 18 + 3 + 2
    for frame, color in ((60, CLIP_COLOR), (99, reason_color("edge_trim")), (199, (0, 0, 0))):
        assert tuple(canvas.pixels[clips_y, x_of(frame)]) == color, frame
    shots_y = FLAG_PX + 2
    assert tuple(canvas.pixels[shots_y, x_of(160)]) == kind_color("dissolve")
    assert tuple(canvas.pixels[2, x_of(100) + 1]) == kind_color("cut")
    lane_bottom = sheet.height_px - 50 - 7
    lane = canvas.pixels[lane_bottom - LANE_PX : lane_bottom].astype(int)
    stroke = lane.sum(axis=2).argmin(axis=0)  # the darkest line, from the top of the lane
    assert stroke[x_of(50)] > LANE_PX - 6
    assert stroke[x_of(120)] < 6
    above = canvas.pixels[lane_bottom - 2 * LANE_PX - 7 : lane_bottom - LANE_PX - 7]
    dashes = (above[:, x_of(20) : x_of(80)] == np.array(BAR)).all(axis=2)
    assert np.flatnonzero(dashes.any(axis=1)).tolist() == [LANE_PX // 2]
    assert dashes.sum() == pytest.approx((x_of(80) - x_of(20)) / 2, abs=8)


def curve_runs(values: Sequence[float | None] | np.ndarray, fps: float = 25) -> list[np.ndarray]:
    """The x and y of the lines that are drawn of a signal in a row with all of it."""
    time_s = np.arange(len(values) + 1) / fps
    found = found_of([], time_s, Lane(name="signal", values=values))
    drawn: list[np.ndarray] = []

    class Spy(Canvas):
        def curve(self, points: np.ndarray, color: tuple[int, int, int]) -> None:
            drawn.append(points)
            super().curve(points, color)

    sheet = RowSheet(found, WIDTH_PX, MARGIN_PX)
    sheet.draw(Spy(WIDTH_PX, sheet.height_px), 0, Row(start_s=0.0, end_s=float(time_s[-1])))
    return drawn


def test_a_sparse_signal_is_one_line_and_a_gap_is_seen() -> None:
    sparse = [float(i) if i % 3 == 0 else None for i in range(300)]
    assert [len(run) for run in curve_runs(sparse)] == [100]
    gap = [None if 100 <= i < 140 else 1.0 for i in range(300)]
    assert [len(run) for run in curve_runs(gap)] == [100, 160]
    assert curve_runs([None] * 300) == []
    assert curve_runs([float("nan"), 1.0, float("inf")])[0].shape == (1, 2)


def test_a_peak_of_one_frame_survives_any_length() -> None:
    values = np.zeros(200_000)
    values[123_456] = 1.0
    (run,) = curve_runs(values)
    assert len(run) <= 2 * WIDTH_PX
    peak_x = LEFT + 123_456 / 200_000 * (RIGHT - LEFT)
    assert run[np.argmin(run[:, 1]), 0] == pytest.approx(peak_x, abs=1.0)
    assert np.ptp(run[:, 1]) == pytest.approx(LANE_PX - 4, abs=0.1)


def test_a_lane_of_another_length_is_refused() -> None:
    found = found_of([], LADDER_S, Lane(name="motion", values=[1.0] * 49))
    with pytest.raises(ValueError, match="motion has 49 values for 50 frames"):
        RowSheet(found, WIDTH_PX, MARGIN_PX)


def test_lanes_of_one_name_share_their_scale_and_keep_their_colours() -> None:
    lanes = [
        Lane(name="odds", values=[0.25] * 50, kind="cut", top=1.0),
        Lane(name="odds", values=[0.75] * 50, kind="wipe", threshold=0.5, top=1.0),
        Lane(name="level", values=[-2.0] * 25 + [6.0] * 25),
        Lane(name="level ", values=[1.0] * 50, threshold=10.0),
    ]
    odds, level, other = tracks_of(lanes, 50)
    assert [kind for _, kind in odds.curves] == ["cut", "wipe"]
    assert (odds.low, odds.high, odds.threshold) == (0, 1, 0.5)
    assert (level.low, level.high) == (-2, 6)
    assert (other.low, other.high) == (0, pytest.approx(11.5))


@pytest.mark.parametrize(
    ("detector", "thresholds"),
    [
        ("auto", {"shot network": 0.4, "TransNetV2": 0.4}),
        ("content", {"content change": 27.0, "brightness": 12.0}),
        ("histogram", {"histogram change": 0.2, "brightness": 12.0}),
    ],
)
def test_signals_become_lanes(detector: DetectorName, thresholds: dict[str, float]) -> None:
    """A threshold is shown where the detector looks, and what was not measured takes no room."""
    rng = np.random.default_rng(0)
    signals = FrameSignals(
        content=rng.uniform(0, 30, 40),
        histogram=rng.uniform(0, 1, 40),
        rgb_mean=rng.uniform(0, 255, 40),
        odds=rng.uniform(0, 0.2, (40, 4)),
        transnet=np.where(np.arange(40)[:, None] < 20, np.nan, rng.uniform(0, 1, (40, 2))),
        change_share=np.zeros(40),
        time_s=np.arange(40) / 25,
    )
    chosen = ShotSettings(detector=detector, confidence=0.4)
    lanes = signal_lanes(signals, chosen, [None] * 40)
    names = ["shot network", "TransNetV2", "content change", "histogram change", "brightness"]
    assert [track.name for track in tracks_of(lanes, 40)] == names
    assert {lane.name: lane.threshold for lane in lanes if lane.threshold} == thresholds
    network = [lane for lane in lanes if lane.name == "shot network"]
    for column, lane in enumerate(network):
        assert lane.kind == ("cut", "dissolve", "fade", "wipe")[column]
        assert list(lane.values) == signals.odds[:, column].tolist()
    moving = signal_lanes(signals, chosen, [None, 0.5] * 20)
    assert moving[-1].name == "motion (per second)"


# Files


def read_png(path: Path) -> np.ndarray:
    """The pixels of a page, uint8 [h, w, 3]."""
    image = cv2.imread(str(path))
    assert image is not None
    return image


def strip_of(video: Path, out: Path, changes: Sequence[Change]) -> list[Path]:
    """Draw the ladder with some changes."""
    found = found_of(changes, LADDER_S, Lane(name="level", values=np.arange(50.0)))
    return draw_strip(
        str(video),
        out,
        time_s=LADDER_S,
        lanes=found.lanes,
        transitions=changes,
        shots=found.shots,
        spans=found.spans,
    )


def test_a_cut_shows_its_last_old_and_first_new_frame(ladder: Path, tmp_path: Path) -> None:
    (path,) = strip_of(ladder, tmp_path / "strip.png", [Change(24, 25)])
    assert [p.name for p in tmp_path.iterdir()] == ["strip.png"], "no temporary file is left"
    pixels = read_png(path).astype(int)

    def num_pixels(frame: int) -> int:
        of_level = np.abs(pixels[:, :, 0] - grey(frame)) <= 1
        return int((of_level & (np.ptp(pixels, axis=2) <= 1)).sum())

    assert all(num_pixels(frame) > 100 * 150 for frame in (24, 25))
    assert all(num_pixels(frame) < 100 * 150 for frame in (23, 26))  # what no card asks for


def test_many_rows_become_pages(
    ladder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.strip.draw.MAX_PAGE_PX", 700)
    changes = [Change(2 * i + 1, 2 * i + 2) for i in range(24)]
    paths = strip_of(ladder, tmp_path / "s.v1.png", changes)
    assert [p.name for p in paths] == ["s.v1.png", "s.v1-2.png", "s.v1-3.png"]
    shapes = [read_png(p).shape for p in paths]
    assert all(width == WIDTH_PX and height <= 1400 for height, width, _ in shapes)


@pytest.mark.parametrize("name", ["strip.jpg", "strip", "no/such/folder/strip.png"])
def test_where_it_cannot_be_drawn(ladder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot draw to"):
        strip_of(ladder, tmp_path / name, [])


@pytest.mark.parametrize("num_frames", [1, 2])
def test_tiny_videos(tmp_path: Path, num_frames: int) -> None:
    pictures = [np.full((96, 160, 3), 90, np.uint8)] * num_frames
    video = write_video(tmp_path / "v.mp4", pictures)
    time_s = np.arange(num_frames + 1) / 24
    found = found_of([], time_s, Lane(name="level", values=[0.0] * num_frames))
    (path,) = draw_strip(
        str(video),
        tmp_path / "s.png",
        time_s=time_s,
        lanes=found.lanes,
        transitions=[],
        shots=found.shots,
        spans=found.spans,
    )
    assert read_png(path).shape[1] == WIDTH_PX
