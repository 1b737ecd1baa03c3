"""The shot network: NumPy runs what torch trained, and a frame sees no further than it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.signals.shotnet import CONTEXT_FRAMES, ShotNet

NUM_FRAMES = 160


@pytest.fixture(scope="module")
def thumbs() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (NUM_FRAMES, 27, 48, 3), dtype=np.uint8)


def test_numpy_equals_torch(thumbs: np.ndarray, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from infra.shotnet.net import ShotNet as TorchNet

    torch.manual_seed(5)
    net = TorchNet()
    halves = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    save_file(halves, tmp_path / "net.safetensors")
    net.load_state_dict({name: value.float() for name, value in halves.items()})
    with torch.no_grad():
        theirs = net(torch.from_numpy(thumbs[None]))[0].softmax(1).numpy()
    ours = ShotNet(tmp_path / "net.safetensors")
    assert np.abs(ours.probabilities(ours.describe(thumbs)) - theirs).max() < 1e-5
    assert theirs.std() > 0.001  # not a constant


def test_context(thumbs: np.ndarray) -> None:
    """Frames beyond the context change nothing; the one at its edge may."""
    net, at = ShotNet(), 80
    before = net.probabilities(net.describe(thumbs))[at]
    far = thumbs.copy()
    far[: at - CONTEXT_FRAMES] = 0
    far[at + CONTEXT_FRAMES + 1 :] = 255
    assert np.abs(net.probabilities(net.describe(far))[at] - before).max() < 1e-5
    far[at + CONTEXT_FRAMES - 3 :] = 255
    assert not np.array_equal(net.probabilities(net.describe(far))[at], before)


def test_probabilities_add_up(thumbs: np.ndarray) -> None:
    net = ShotNet()
    odds = net.probabilities(net.describe(thumbs[:1]))
    assert odds.shape == (1, 5)
    assert odds.sum() == pytest.approx(1, abs=1e-5)
