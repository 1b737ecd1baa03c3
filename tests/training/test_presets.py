"""The trainings that travel with the package: each is valid, and of the size that it says."""

from __future__ import annotations

import pytest
import torch

from training.models.dit import Dit
from training.presets import training_presets
from training.settings import DenoiserTraining
from training.settings_file import read_training

MILLIONS = {"dit-debug": 5, "dit-small": 30, "dit-base": 120, "dit-1b": 1081, "closed-loop": 5}
DENOISERS = [name for name in training_presets() if name != "vae-small"]


def test_there_is_one_of_each_size() -> None:
    assert set(DENOISERS) == set(MILLIONS)


@pytest.mark.parametrize("name", DENOISERS)
def test_a_preset_is_a_training_whose_shapes_the_network_takes(name: str) -> None:
    wanted = read_training(name)
    assert isinstance(wanted, DenoiserTraining)
    with torch.device("meta"):
        network = Dit(wanted.model.config(patch=wanted.data.buckets.patch))
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions == pytest.approx(MILLIONS[name], abs=0.5)
    config = network.config
    for bucket in wanted.data.buckets.buckets():
        t, h, w = (bucket.frames - 1) // 4 + 1, bucket.height_px // 8, bucket.width_px // 8
        count = bucket.samples
        with torch.device("meta"):
            made = network(
                torch.empty(count, config.latent_channels, t, h, w),
                torch.empty(count),
                given_BCthw=torch.empty(count, config.latent_channels, t, h, w),
                mask_BSthw=torch.empty(count, config.mask_channels, t, h, w),
                text_BLD=torch.empty(count, 7, config.text_dim),
                text_mask_BL=torch.ones(count, 7, dtype=torch.bool),
                fps_B=torch.empty(count),
                times_Bt=torch.empty(count, t),
            )
        assert made.shape == (count, config.latent_channels, t, h, w)
        assert t * (h // 2) * (w // 2) == bucket.tokens
