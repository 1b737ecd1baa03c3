"""The parts of a denoiser's training, made from its settings."""

from __future__ import annotations

import torch

from training.data.loader import ClipLoader
from training.denoiser import About, Shape, fields_of
from training.encoders import Encoders
from training.inputs import InputMaker
from training.models.dit import Dit, DitConfig
from training.settings import DenoiserTraining


def loader_of(settings: DenoiserTraining) -> ClipLoader:
    """The batches; with pixels only if something is to be encoded of them."""
    loader = ClipLoader(settings=settings.data_read(), rank=0, world_size=1)
    described = loader.latent_set
    if settings.data_read().pixels or described is None or described.autoencoder is not None:
        return loader
    loader.close()  # it has texts alone
    return ClipLoader(settings=settings.data, rank=0, world_size=1)


def network_of(settings: DenoiserTraining, encoders: Encoders) -> Dit:
    """The network with its first weights, which depend on the seed alone.

    Args:
        settings: Of the training.
        encoders: Of its latents and texts, which decide the first and the last layer.
    """
    torch.manual_seed(settings.data.order.seed)
    config = settings.model.config(
        latent_channels=encoders.spec.latent_channels,
        mask_channels=encoders.spec.temporal_stride,
        text_dim=encoders.text_dim,
        patch=settings.data.buckets.patch,
    )
    network = Dit(config).to(encoders.device)
    network.checkpointing = settings.checkpointing
    if settings.compile:
        for block in network.blocks:
            block.compile()
    return network


def maker_of(
    settings: DenoiserTraining, config: DitConfig, loader: ClipLoader, encoders: Encoders
) -> InputMaker:
    """What makes inputs of batches; only the encoders that it needs are loaded."""
    described = encoders.described
    encodes = described is None or described.autoencoder is None
    has_text = described is not None and described.text_encoder is not None
    needs_vae = encodes or settings.conditioning.gives_frames
    return InputMaker(
        encoders.spec,
        config,
        settings.flow.config(),
        settings.conditioning,
        settings.data.order.seed,
        encoders.device,
        autoencoder=encoders.autoencoder if needs_vae else None,
        text_encoder=None if has_text else encoders.text_encoder,
        empty_prompt=loader.empty_prompt,
        reads_latents=not encodes,
    )


def about_of(
    settings: DenoiserTraining, config: DitConfig, loader: ClipLoader, encoders: Encoders, step: int
) -> About:
    """What must be known of the denoiser after some steps, to use it."""
    buckets, spec = loader.plan.bucket_settings.buckets(), encoders.spec
    return About(
        name=settings.name,
        model=fields_of(config),
        flow=settings.flow.model_dump(),
        modes=settings.conditioning.modes,
        vae=settings.vae,
        vae_fingerprint=spec.fingerprint,
        text_encoder=settings.text_encoder,
        text_fingerprint=encoders.text_fingerprint,
        **encoders.how,
        temporal_stride=spec.temporal_stride,
        spatial_stride=spec.spatial_stride,
        shapes=tuple(
            Shape(frames=b.frames, height_px=b.height_px, width_px=b.width_px, fps=b.fps)
            for b in buckets
        ),
        steps=step,
    )
