"""Figures of reconstructions, on damage of known size."""

from __future__ import annotations

import pytest
import torch

from tests.training.models.test_vae import footage
from training.models.autoencoder import psnr_db
from training.vae.measure import quality_of, ssim


def test_a_perfect_reconstruction() -> None:
    video = footage(9, 48, 64)
    found = quality_of(video, video, 4)
    assert found.psnr_db == float("inf") and found.ssim == pytest.approx(1)
    assert found.change_ratio == pytest.approx(1)


def test_psnr_of_a_known_error() -> None:
    video = torch.zeros(1, 3, 2, 16, 16)
    assert psnr_db(video, video + 2 / 255) == pytest.approx(48.13, abs=0.01)


def test_ssim_falls_with_blur_more_than_with_brightness() -> None:
    video = footage(2, 64, 96) * 0.8
    blurred = torch.nn.functional.avg_pool3d(video, (1, 5, 5), 1, (0, 2, 2))
    assert ssim(video, blurred) < ssim(video, video + 0.05) < 1


def test_flicker_in_still_places() -> None:
    video = footage(1, 48, 64).expand(-1, -1, 9, -1, -1)
    made = video.clone()
    made[:, :, 1::2] += 3 / 127.5  # every other frame is brighter by 3 levels
    found = quality_of(video, made, 4)
    assert found.still_flicker_levels == pytest.approx(3, abs=1e-3)
    assert found.change_ratio is None
    assert quality_of(video, video + 0.02, 4).still_flicker_levels == pytest.approx(0, abs=1e-4)


def test_seams_lie_between_latent_frames() -> None:
    video = footage(17, 48, 64)
    made, group = video.clone(), torch.tensor([0, *[1 + n // 4 for n in range(16)]])
    made += (group % 2 * 0.04).view(1, 1, -1, 1, 1)  # latent frames differ in brightness
    made[:, :, 3::4] += 0.01
    found = quality_of(video, made, 4)
    assert found.seam_ratio is not None and found.seam_ratio > 4
    assert quality_of(video, made, 1).seam_ratio is None
    noisy = video + 0.05 * torch.randn(video.shape, generator=torch.Generator().manual_seed(0))
    assert quality_of(video, noisy, 4).seam_ratio == pytest.approx(1, abs=0.05)
