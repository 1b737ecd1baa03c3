"""A row of the strip: all in its place, nothing on top of anything else, every lane as measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from curation.signals.clips import Span
from curation.signals.transitions import DetectorName, FrameSignals, ShotSettings
from pipelines.strip import Lane, signal_lanes
from pipelines.strip.canvas import Canvas, text_width
from pipelines.strip.colors import CLIP_COLOR, kind_color, reason_color
from pipelines.strip.lanes import tracks_of
from pipelines.strip.plan import Row
from pipelines.strip.rows import BAR, FLAG_PX, LABEL_PX, LANE_PX, Found, RowSheet
from tests.pipelines.strip_parts import (
    LADDER_S,
    MARGIN_PX,
    WIDTH_PX,
    Change,
    found_of,
    shots_of,
)

LEFT, RIGHT = MARGIN_PX + LABEL_PX, WIDTH_PX - MARGIN_PX


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
