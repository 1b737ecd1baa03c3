"""The strip: right frames, in right pages, never without bound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import ConfigError
from curation.media.facts import read_facts
from pipelines.strip import Lane, draw_strip
from pipelines.strip.plan import MAX_ROWS, MAX_THUMBS, frames_around, plan_strip
from pipelines.strip.thumbs import grab_thumbs, thumb_size
from tests.media import Recording, Turn, write_video
from tests.pipelines.strip_parts import LADDER_S, WIDTH_PX, Change, found_of, shots_of


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
