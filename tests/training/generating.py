"""A small denoiser with everything that belongs to it: real classes, random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.training.encoding import tiny_vae
from training.checkpoint import save_checkpoint
from training.denoiser import CONFIG, WEIGHTS, About, Shape, fields_of
from training.diffusion.frame_masks import MODES
from training.generate import Generator
from training.models.dit import Dit, DitConfig
from training.models.open_autoencoder import open_autoencoder
from training.models.text_encoders import open_text_encoder

SHAPES = (
    Shape(frames=9, height_px=32, width_px=48, fps=8),
    Shape(frames=5, height_px=32, width_px=48, fps=4),
    Shape(frames=1, height_px=48, width_px=64, fps=8),
)
SIZES = DitConfig(latent_channels=4, text_dim=384, width=24, depth=2, heads=2)


def tiny_dit(seed: int = 0, config: DitConfig = SIZES) -> Dit:
    """A network that says something: a new one is zero."""
    torch.manual_seed(seed)
    network = Dit(config)
    with torch.no_grad():
        for weights in network.parameters():
            weights.normal_(0, 0.2)
    return network.eval().requires_grad_(False)


def tiny_generator(folder: Path) -> Generator:
    """All in memory; the autoencoder's file lies in the folder."""
    vae = tiny_vae(folder)
    return Generator(
        tiny_dit(),
        about_of(vae),
        open_autoencoder(vae),
        open_text_encoder(),
        autocast="off",
    )


def about_of(vae: str) -> About:
    return About(
        name="tiny",
        model=fields_of(SIZES),
        flow={},
        modes=MODES,
        vae=vae,
        vae_fingerprint=open_autoencoder(vae).spec.fingerprint,
        text_encoder="minilm",
        text_fingerprint=open_text_encoder().spec.fingerprint,
        temporal_stride=4,
        spatial_stride=8,
        shapes=SHAPES,
        steps=3,
    )


def write_export(folder: Path, vae: str) -> Path:
    """As ``clipmill export`` leaves it."""
    folder.mkdir()
    save_file(tiny_dit().state_dict(), folder / WEIGHTS)
    told = about_of(vae).model_copy(update={"weights": "ema"})
    (folder / CONFIG).write_text(told.model_dump_json())
    return folder


def write_run(folder: Path, vae: str) -> Path:
    """A run with one checkpoint, whose averages are those of :func:`write_export`."""
    groups = {"ema": tiny_dit().state_dict(), "model": tiny_dit(1).state_dict()}
    told = {"denoiser": json.loads(about_of(vae).model_dump_json())}
    save_checkpoint(folder, 7, groups, told)
    return folder
