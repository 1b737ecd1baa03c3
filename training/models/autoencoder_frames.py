"""Autoencoders of pictures, frame by frame, behind the interface of ``autoencoder.py``.

Each frame is a latent frame: ``temporal_stride`` 1, any number of frames. They know nothing of
time, so neighbouring frames may flicker. Here are diffusers' ``AutoencoderKL`` and
``AutoencoderTiny``, and TAEF2, whose real weights are small. The tiny ones have no variance: their
``logvar`` is the constant :data:`EXACT_LOGVAR`, and a sample is the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from curation.errors import ConfigError
from curation.models.registry import require_weights
from curation.models.weights import TAEF2_DECODER, TAEF2_ENCODER
from training.models import taef2
from training.models.autoencoder import Autoencoder, LatentSpec, Posterior
from training.models.autoencoder_diffusers import load_network, shift_and_scale
from training.models.pretrained import (
    as_dtype,
    files_sha256,
    fingerprint,
    model_folder,
    read_config,
    weights_files,
)

TAEF2 = "taef2"
PICTURE_CLASSES = ("AutoencoderKL", "AutoencoderTiny")
"""Classes of diffusers that are wrapped here."""
EXACT_LOGVAR = -30.0
"""Of raw latents without variance: diffusers' lower limit, a deviation of 3e-7."""
FRAMES_AT_ONCE = 8

Encode = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""(N, 3, H, W) in [-1, 1] to mean and logvar (N, C, h, w); no logvar: exact."""
Decode = Callable[[Tensor], Tensor]
"""(N, C, h, w) to (N, 3, H, W) in [-1, 1]."""


class FrameAutoencoder(Autoencoder):
    """An autoencoder of pictures that is loaded.

    Args:
        spec: Of its latents; ``temporal_stride`` 1.
        encode: The encoder; raw latents.
        decode: The decoder of raw latents.
        device: Where both are.
        dtype: What both take.
        frames_at_once: Bounds memory; frames of all videos of a batch count.
    """

    def __init__(
        self,
        spec: LatentSpec,
        encode: Encode,
        decode: Decode,
        *,
        device: torch.device,
        dtype: torch.dtype,
        frames_at_once: int = FRAMES_AT_ONCE,
    ) -> None:
        if spec.temporal_stride != 1:
            raise ValueError(
                f"frame by frame is a temporal stride of 1, not {spec.temporal_stride}"
            )
        if frames_at_once < 1:
            raise ValueError(f"frames_at_once is at least 1, not {frames_at_once}")
        self.spec, self.device = spec, device
        self._pictures_encode, self._pictures_decode = encode, decode
        self._dtype, self._frames_at_once = dtype, frames_at_once

    def _encode(self, video: Tensor) -> Posterior:
        means: list[Tensor] = []
        logvars: list[Tensor] = []
        for frames in _pictures(video).split(self._frames_at_once):
            mean, logvar = self._pictures_encode(frames.to(self.device, self._dtype))
            means.append(mean.float())
            exact = torch.full_like(means[-1], EXACT_LOGVAR)
            logvars.append(exact if logvar is None else logvar.float())
        num_videos = len(video)
        return self.spec.normalise(_video(means, num_videos), _video(logvars, num_videos))

    def _decode(self, latents: Tensor) -> Tensor:
        raw = _pictures(self.spec.raw(latents.to(self.device).float()))
        frames = [
            self._pictures_decode(part.to(self._dtype)).float()
            for part in raw.split(self._frames_at_once)
        ]
        return _video(frames, len(latents))


def open_taef2(
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    frames_at_once: int = FRAMES_AT_ONCE,
) -> FrameAutoencoder:
    """TAEF2 with its real weights, see ``training/models/taef2.py``.

    Raises:
        ConfigError: They are not on this machine, or are other ones.
    """
    place, precision = torch.device(device), as_dtype(dtype)
    files = [require_weights(weights) for weights in (TAEF2_ENCODER, TAEF2_DECODER)]
    encoder, decoder = (
        taef2.load(network, file).to(place, precision).eval().requires_grad_(False)
        for network, file in zip((taef2.encoder(), taef2.decoder()), files, strict=True)
    )
    spec = LatentSpec(
        name=TAEF2,
        fingerprint=fingerprint({"_class_name": TAEF2}, *files_sha256(files), precision),
        latent_channels=taef2.LATENT_CHANNELS,
        temporal_stride=1,
        spatial_stride=taef2.SPATIAL_STRIDE,
    )
    return FrameAutoencoder(
        spec,
        lambda pictures: (encoder((pictures + 1) / 2), None),
        lambda latents: decoder(latents) * 2 - 1,
        device=place,
        dtype=precision,
        frames_at_once=frames_at_once,
    )


def open_frames(
    name: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    tiling: bool = False,
    frames_at_once: int = FRAMES_AT_ONCE,
) -> FrameAutoencoder:
    """Load an autoencoder of pictures of diffusers.

    Args:
        name: FOLDER, FOLDER#subfolder, owner/name or owner/name#subfolder.
        device: Where it runs.
        dtype: Precision of the network, float32 by default.
        tiling: Large pictures in overlapping tiles; moves the numbers, hence part of the
            fingerprint.
        frames_at_once: Frames that go through together.

    Raises:
        ConfigError: It is not there, or is another class than :data:`PICTURE_CLASSES`.
    """
    place, precision = torch.device(device), as_dtype(dtype)
    folder = model_folder(name)
    kind = read_config(folder).get("_class_name")
    if kind not in PICTURE_CLASSES:
        raise ConfigError(
            f"{kind!r} is no autoencoder of pictures that is supported",
            where=name,
            mend=f"one of: {', '.join(PICTURE_CLASSES)}",
        )
    model: Any = load_network(folder, precision).to(place).eval().requires_grad_(False)
    if tiling:
        model.enable_tiling()
    shift, scale = shift_and_scale(model)
    spec = LatentSpec(
        name=name,
        fingerprint=fingerprint(
            read_config(folder), *files_sha256(weights_files(folder)), precision, tiling
        ),
        latent_channels=model.config.latent_channels,
        temporal_stride=1,
        spatial_stride=_spatial_stride(model.config),
        shift=shift,
        scale=scale,
    )

    def encode(pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        if kind == "AutoencoderTiny":
            return model.encode(pictures).latents, None
        posterior = model.encode(pictures).latent_dist
        return posterior.mean, posterior.logvar

    return FrameAutoencoder(
        spec,
        encode,
        lambda latents: model.decode(latents).sample,
        device=place,
        dtype=precision,
        frames_at_once=frames_at_once,
    )


def _spatial_stride(config: Mapping[str, Any]) -> int:
    """Each stage but one halves the sides."""
    key = "block_out_channels" if "block_out_channels" in config else "encoder_block_out_channels"
    return 2 ** (len(config[key]) - 1)


def _pictures(video: Tensor) -> Tensor:
    """(B, C, T, H, W) as (B * T, C, H, W)."""
    return video.transpose(1, 2).flatten(0, 1)


def _video(pictures: list[Tensor], num_videos: int) -> Tensor:
    """Pictures of so many videos as (B, C, T, H, W)."""
    return torch.cat(pictures).unflatten(0, (num_videos, -1)).transpose(1, 2).contiguous()
