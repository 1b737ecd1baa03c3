"""Autoencoders of pictures, frame by frame: diffusers' classes at a tiny size, and real TAEF2."""

# ruff: noqa: ANN401 - networks of diffusers have no types

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from curation.errors import ConfigError
from curation.models.registry import MODELS_DIR_VARIABLE, find_weights
from curation.models.weights import TAEF2_DECODER, TAEF2_ENCODER
from training.models import taef2
from training.models.autoencoder import LatentSpec, psnr_db
from training.models.autoencoder_frames import (
    EXACT_LOGVAR,
    FrameAutoencoder,
    open_frames,
    open_taef2,
)


def video(frames: int, *, videos: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(videos, 3, frames, 16, 24, generator=generator) * 2 - 1


def build_kl() -> Any:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(1)
    return diffusers.AutoencoderKL(
        **{"block_out_channels": (8, 8, 8), "latent_channels": 4, "norm_num_groups": 4},
        **{"down_block_types": ("DownEncoderBlock2D",) * 3, "shift_factor": 0.25},
        **{"up_block_types": ("UpDecoderBlock2D",) * 3, "scaling_factor": 0.5},
    )


def build_tiny() -> Any:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(1)
    return diffusers.AutoencoderTiny(
        **{"encoder_block_out_channels": (8, 8, 8, 8), "num_encoder_blocks": (1, 1, 1, 1)},
        **{"decoder_block_out_channels": (8, 8, 8, 8), "num_decoder_blocks": (1, 1, 1, 1)},
        latent_channels=4,
    )


def test_a_kl_autoencoder_frame_by_frame(tmp_path: Path) -> None:
    model = build_kl().eval()
    model.save_pretrained(tmp_path)
    autoencoder = open_frames(str(tmp_path), frames_at_once=3)
    spec = autoencoder.spec
    assert (spec.temporal_stride, spec.spatial_stride) == (1, 4)
    assert (spec.shift, spec.scale) == ((0.25,), (0.5,))
    given = video(5, videos=2)
    posterior = autoencoder.encode(given)
    assert posterior.mean.shape == (2, 4, 5, 4, 6)
    with torch.inference_mode():
        raw = model.encode(given[1, :, 3][None]).latent_dist
        torch.testing.assert_close(posterior.mean[1:, :, 3], (raw.mean - 0.25) * 0.5)
        logvar = raw.logvar + 2 * torch.tensor(0.5).log()
        torch.testing.assert_close(posterior.logvar[1:, :, 3], logvar)
        back = autoencoder.decode(posterior.mean)
        assert back.shape == given.shape
        frame = model.decode(raw.mean).sample.clamp(-1, 1)
        torch.testing.assert_close(back[1:, :, 3], frame, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="width divisible by 4"):
        autoencoder.encode(given[..., :22])
    assert open_frames(str(tmp_path), tiling=True).spec.fingerprint != spec.fingerprint


def test_a_tiny_autoencoder_has_no_variance(tmp_path: Path) -> None:
    model = build_tiny().eval()
    model.save_pretrained(tmp_path)
    autoencoder, given = open_frames(str(tmp_path)), video(2)
    posterior = autoencoder.encode(given)
    assert posterior.mean.shape == (1, 4, 2, 2, 3)
    assert (posterior.logvar == EXACT_LOGVAR).all()
    drawn = posterior.sample(torch.ones(1))
    torch.testing.assert_close(drawn, posterior.mean, atol=1e-5, rtol=0)
    with torch.inference_mode():
        expected = model.encode(given[:, :, 1]).latents
        torch.testing.assert_close(posterior.mean[:, :, 1], expected)
        back = model.decode(expected).sample.clamp(-1, 1)
    torch.testing.assert_close(autoencoder.decode(posterior.mean)[:, :, 1], back)
    torch.testing.assert_close(autoencoder.encode(given[:, :, :1]).mean, posterior.mean[:, :, :1])


def test_how_many_go_through_together_is_bounded() -> None:
    seen: list[int] = []

    def encode(pictures: Tensor) -> tuple[Tensor, None]:
        seen.append(len(pictures))
        return torch.nn.functional.avg_pool2d(pictures, 8), None

    spec = LatentSpec(
        name="pool", fingerprint="0" * 16, latent_channels=3, temporal_stride=1, spatial_stride=8
    )
    autoencoder = FrameAutoencoder(
        spec,
        encode,
        lambda latents: latents.repeat_interleave(8, 2).repeat_interleave(8, 3),
        device=torch.device("cpu"),
        dtype=torch.float32,
        frames_at_once=4,
    )
    given = video(5, videos=2)
    posterior = autoencoder.encode(given)
    assert seen == [4, 4, 2]
    for which in range(2):
        alone = autoencoder.encode(given[which : which + 1])
        torch.testing.assert_close(posterior.mean[which : which + 1], alone.mean)


def test_classes_of_videos_are_not_taken(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    wan = diffusers.AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    wan.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="'AutoencoderKLWan' is no autoencoder of pictures"):
        open_frames(str(tmp_path))


def test_taef2_needs_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(ConfigError, match="models pull taef2-encoder"):
        open_taef2()
    torch.save(taef2.encoder().state_dict(), tmp_path / TAEF2_ENCODER.file)
    with pytest.raises(ConfigError, match="is not the TAEF2's encoder file"):
        open_taef2()
    with pytest.raises(ConfigError, match="does not hold the weights of TAEF2"):
        taef2.load(taef2.decoder(), tmp_path / TAEF2_ENCODER.file)


@pytest.fixture
def real_taef2(assets: Path, monkeypatch: pytest.MonkeyPatch) -> FrameAutoencoder:
    """TAEF2 with its real weights, where they are."""
    if find_weights(TAEF2_ENCODER) is None:
        monkeypatch.setenv(MODELS_DIR_VARIABLE, str(assets / "weights"))
    if find_weights(TAEF2_ENCODER) is None or find_weights(TAEF2_DECODER) is None:
        pytest.skip("the weights of TAEF2 are not here")
    return open_taef2(frames_at_once=2)


def test_taef2_shows_real_frames(real_taef2: FrameAutoencoder, assets: Path) -> None:
    with av.open(str(assets / "videos" / "real" / "bikes.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24") for _, f in zip(range(3), container.decode(video=0))]  # noqa: B905
    height, width = (side // 8 * 8 for side in frames[0].shape[:2])
    pixels = torch.from_numpy(np.stack(frames)[:, :height, :width])
    given = (pixels.permute(3, 0, 1, 2)[None].float() / 127.5 - 1)[..., :256, :256]
    posterior = real_taef2.encode(given)
    assert posterior.mean.shape == (1, 32, 3, 32, 32)
    # Distilled from latents that are normalised: about unit variance as they are.
    assert 0.5 < posterior.mean.std() < 1.2
    assert psnr_db(real_taef2.decode(posterior.mean), given) > 35
    assert torch.equal(real_taef2.encode(given).mean, posterior.mean)
