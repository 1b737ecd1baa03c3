"""What a captioner sees: windows, spread frames, a budget of tokens, dense frames of a cut clip."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.captions.frames import (
    PATCH_PX,
    as_jpeg,
    dense_frames,
    fit_frames,
    spread_ends,
    windows,
)
from curation.captions.request import Frame
from curation.errors import MediaError
from curation.stages.sampled import picture
from tests.conftest import Maker


def frames(count: int, size_px: tuple[int, int] = (320, 180)) -> list[Frame]:
    """Grey frames, one per second, each a little lighter."""
    width, height = size_px
    return [
        Frame(float(i), as_jpeg(np.full((height, width, 3), 10 + i, np.uint8)))
        for i in range(count)
    ]


@given(st.floats(0.1, 500), st.floats(0.5, 60))
def test_windows_tile_the_clip(duration_s: float, window_s: float) -> None:
    found = windows([], duration_s, window_s)
    assert found[0].start_s == 0 and found[-1].end_s == pytest.approx(duration_s, abs=1e-3)
    assert all(a.end_s == b.start_s for a, b in pairwise(found))
    assert all(w.duration_s <= window_s + 2e-3 for w in found)
    assert len(found) == max(1, math.ceil(duration_s / window_s - 1e-9))


def test_every_frame_is_in_one_window_with_the_windows_time() -> None:
    given_frames = frames(10)
    found = windows(given_frames, 10.0, 4.0)
    assert [len(w.frames) for w in found] == [4, 3, 3]
    times = [w.start_s + f.time_s for w in found for f in w.frames]
    assert times == pytest.approx(range(10), abs=2e-3)
    assert len(windows(given_frames, 10.0, None)) == 1


@given(st.integers(0, 60), st.integers(1, 20))
def test_spread_frames_hold_the_ends(count: int, wanted: int) -> None:
    at = spread_ends(count, wanted)
    assert at == sorted(set(at)) and len(at) == min(count, wanted)
    if wanted > 1 and count:
        assert at[0] == 0 and at[-1] == count - 1


def tokens(shown: tuple[Frame, ...]) -> float:
    """The budget's own count."""
    sizes = [picture(f.jpeg).shape[:2] for f in shown]
    return sum(h * w for h, w in sizes) / PATCH_PX**2


def test_a_budget_first_makes_pictures_smaller_then_fewer() -> None:
    whole = frames(12)
    free = fit_frames(whole, max_frames=12, max_side_px=512)
    assert [f.jpeg for f in free] == [f.jpeg for f in whole]
    smaller = fit_frames(whole, max_frames=12, max_side_px=512, token_budget=500)
    assert len(smaller) == 12 and tokens(smaller) <= 500 * 1.03
    fewer = fit_frames(whole, max_frames=12, max_side_px=512, token_budget=150)
    assert 1 < len(fewer) < 12 and tokens(fewer) <= 150 * 1.05
    assert max(picture(fewer[0].jpeg).shape[:2]) >= 220
    assert (fewer[0].time_s, fewer[-1].time_s) == (0.0, 11.0)
    assert fit_frames([], max_frames=3, max_side_px=512) == ()


def test_dense_frames_stand_on_the_grid(make_video: Maker) -> None:
    path = make_video("dense.mp4", seconds=2.0)
    found = dense_frames(path, 4.0, 96)
    assert [f.time_s for f in found] == pytest.approx(np.arange(8) / 4, abs=1 / 24)
    assert picture(found[0].jpeg).shape[1] == 96
    again = dense_frames(path, 4.0, 96)
    assert [f.jpeg for f in again] == [f.jpeg for f in found]


def test_what_does_not_decode_is_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "clip.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(MediaError, match="not_a_video"):
        dense_frames(broken, 2.0, 96)
