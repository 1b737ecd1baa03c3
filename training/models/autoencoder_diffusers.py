"""Video autoencoders of diffusers behind the interface of ``autoencoder.py``.

Tried with the real classes: Wan, LTX, CogVideoX, HunyuanVideo. Others go through the same door when
they say their strides, since diffusers keeps one convention: raw latents less ``latents_mean``,
times ``scaling_factor / latents_std``, each where the class has it. What a class says is not
believed: opening runs a tiny video through it, and refuses it when sizes differ.

Three things these classes do without a word are refused or mended here:

* Wan drops frames over ``4 k + 1``: 8 frames become those of 5.
* CogVideoX encodes ``4 k + 1`` frames, but decodes an even number of latent frames to too many (2
  to 8, not to 5): it takes ``8 k + 1`` frames.
* LTX from 0.9.1 on adds noise while it decodes: here always the same noise.
"""

# ruff: noqa: ANN401 - networks of diffusers have no types

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curation.errors import ConfigError
from training.models.autoencoder import Autoencoder, LatentSpec, Posterior
from training.models.pretrained import (
    as_dtype,
    files_sha256,
    fingerprint,
    model_folder,
    read_config,
    weights_files,
)

PROBE_CELLS = 2
"""Side of the video that opening runs through, in latent cells."""
FRAME_STEPS = {"AutoencoderKLCogVideoX": 8}
"""Frames are ``k * step + 1`` where that is not the temporal stride."""
NOISE_SEED = 0
"""Of the noise that some decoders add."""


class DiffusersAutoencoder(Autoencoder):
    """A video autoencoder of diffusers that is loaded."""

    def __init__(
        self, model: nn.Module, spec: LatentSpec, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.spec, self.device = spec, device
        self._dtype = dtype
        network: Any = model.to(device)
        if network.dtype != dtype:
            network = network.to(dtype)
        self._model: Any = network.eval().requires_grad_(False)

    def _encode(self, video: Tensor) -> Posterior:
        given = self._model.encode(video.to(self.device, self._dtype)).latent_dist
        return self.spec.normalise(given.mean.float(), given.logvar.float())

    def _decode(self, latents: Tensor) -> Tensor:
        raw = self.spec.raw(latents.to(self.device).float()).to(self._dtype)
        config = self._model.config
        if getattr(config, "timestep_conditioning", False):
            # LTX's decoder is told how noisy its latents are: not at all.
            timestep = torch.zeros(len(raw), device=self.device, dtype=self._dtype)
        else:
            timestep = None
        with torch.random.fork_rng(_gpus()):
            torch.manual_seed(NOISE_SEED)
            if timestep is None:
                return self._model.decode(raw).sample.float()
            return self._model.decode(raw, timestep).sample.float()


def _gpus() -> list[int]:
    """All that a seed would reach, once CUDA is in use."""
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


def open_diffusers(
    name: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    tiling: bool = False,
) -> DiffusersAutoencoder:
    """Load a video autoencoder.

    Args:
        name: FOLDER, FOLDER#subfolder, owner/name or owner/name#subfolder; of a pipeline the part
            is usually ``vae``.
        device: Where it runs.
        dtype: Precision of the network, float32 by default.
        tiling: Bounded memory: large frames in overlapping tiles, and long videos in overlapping
            spans where the class can. Moves the numbers, hence part of the fingerprint.

    Raises:
        ConfigError: It is not there, is none, or lacks weights; or see
            :func:`diffusers_autoencoder`.
    """
    folder = model_folder(name)
    model = load_network(folder, as_dtype(dtype))
    return diffusers_autoencoder(
        model,
        name,
        device=device,
        dtype=dtype,
        tiling=tiling,
        weights=files_sha256(weights_files(folder)),
    )


def diffusers_autoencoder(
    model: nn.Module,
    name: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    tiling: bool = False,
    weights: list[str] | None = None,
) -> DiffusersAutoencoder:
    """Wrap a video autoencoder that is built, such as ``AutoencoderKLWan()`` for its speed.

    Args:
        model: Of a class of diffusers.
        name: For people.
        device: Where it is moved to.
        dtype: Precision that it is brought to, float32 by default.
        tiling: See :func:`open_diffusers`.
        weights: Digests of its weights, for the fingerprint; None: random ones.

    Raises:
        ConfigError: Its class says no strides, other ones than it has, or cannot tile.
    """
    place, precision = torch.device(device), as_dtype(dtype)
    network: Any = model
    if tiling:
        _bound_memory(network, name)
    kind = type(network).__name__
    temporal, spatial = strides(network, name)
    shift, scale = shift_and_scale(network)
    spec = LatentSpec(
        name=name,
        fingerprint=fingerprint(
            {**network.config, "_class_name": kind}, weights or "random", precision, tiling
        ),
        latent_channels=network.config.get("latent_channels") or network.config.z_dim,
        temporal_stride=temporal,
        spatial_stride=spatial,
        shift=shift,
        scale=scale,
        frame_step=FRAME_STEPS.get(kind),
    )
    autoencoder = DiffusersAutoencoder(model, spec, device=place, dtype=precision)
    _try(autoencoder)
    return autoencoder


def strides(model: Any, name: str) -> tuple[int, int]:
    """Frames and pixels to a latent cell, as a class of diffusers says them.

    Raises:
        ConfigError: It does not.
    """
    temporal, spatial = _said(model, "temporal"), _said(model, "spatial")
    if (halved := model.config.get("temperal_downsample")) is not None:
        # Wan and what is built like it: each stage says whether it halves the time.
        temporal = temporal or 2 ** sum(halved)
        spatial = spatial or 2 ** len(halved) * (model.config.get("patch_size") or 1)
    if (widths := model.config.get("block_out_channels")) is not None:
        spatial = spatial or 2 ** (len(widths) - 1)
    if not temporal or not spatial:
        raise ConfigError(
            f"{type(model).__name__} does not say how many frames and pixels a latent cell covers",
            where=name,
            mend="use another autoencoder",
        )
    return int(temporal), int(spatial)


def shift_and_scale(model: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """``shift`` and ``scale`` of :class:`LatentSpec`, as diffusers' pipelines apply them."""
    config, buffers = model.config, dict(model.named_buffers(recurse=False))
    mean, std = (
        _numbers(buffers[key] if key in buffers else config.get(key))
        for key in ("latents_mean", "latents_std")
    )
    factor = float(config.get("scaling_factor") or 1.0)
    shift = mean or (float(config.get("shift_factor") or 0.0),)
    return shift, tuple(factor / number for number in std or (1.0,))


def load_network(folder: Path, dtype: torch.dtype) -> Any:
    """An autoencoder of diffusers from a local folder, of the class that its configuration names.

    Raises:
        ConfigError: No autoencoder, or weights are missing.
    """
    import diffusers

    kind = str(read_config(folder).get("_class_name"))
    network = getattr(diffusers, kind, None)
    if not kind.startswith("Autoencoder") or network is None:
        raise ConfigError(
            f"{kind!r} is no autoencoder of diffusers {diffusers.__version__}",
            where=str(folder),
            mend="such as AutoencoderKLWan: see _class_name in its config.json",
        )
    try:
        model, info = network.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            torch_dtype=dtype,
        )
    except (OSError, ValueError, RuntimeError, TypeError) as exc:
        raise ConfigError(
            f"{kind} cannot be loaded: {str(exc).strip().splitlines()[0][:200]}", where=str(folder)
        ) from exc
    if lacking := sorted(info["missing_keys"]):
        raise ConfigError(
            f"lacks {len(lacking)} of the weights of {kind}: {', '.join(lacking[:3])}",
            where=str(folder),
        )
    return model


def _try(autoencoder: DiffusersAutoencoder) -> None:
    """Run a short video and a picture through; what is said has to be what is done."""
    spec = autoencoder.spec
    side_px = PROBE_CELLS * spec.spatial_stride
    for frames in (1, 1 + (spec.frame_step or spec.temporal_stride)):
        video = torch.zeros(1, 3, frames, side_px, side_px, device=autoencoder.device)
        try:
            got = autoencoder.decode(autoencoder.encode(video).mean)
        except (ValueError, RuntimeError, AttributeError, TypeError) as exc:
            raise ConfigError(
                f"is not usable as a video autoencoder: {str(exc).strip().splitlines()[0][:200]}",
                where=spec.name,
            ) from exc
        if got.shape != video.shape:
            raise ConfigError(
                f"gives back {tuple(got.shape)} for a video of {tuple(video.shape)}",
                where=spec.name,
            )


def _bound_memory(model: Any, name: str) -> None:
    try:
        model.enable_tiling()
    except (AttributeError, NotImplementedError) as exc:
        raise ConfigError(
            f"{type(model).__name__} cannot work in tiles", where=name, mend="leave tiling off"
        ) from exc
    for switch in ("use_framewise_encoding", "use_framewise_decoding"):
        if hasattr(model, switch):
            setattr(model, switch, True)


def _said(model: Any, axis: str) -> int | None:
    """A stride by any of the names that diffusers' classes give it."""
    for key in (f"scale_factor_{axis}", f"{axis}_compression_ratio"):
        if found := model.config.get(key):
            return int(found)
    # Some work it out when they are built.
    found = getattr(model, f"{axis}_compression_ratio", None)
    return None if found is None else int(found)


def _numbers(values: Any) -> tuple[float, ...]:
    """Floats of a list, or of a buffer of one number a channel."""
    if values is None:
        return ()
    numbers = torch.as_tensor(values, dtype=torch.float64).flatten().tolist()
    if not all(map(math.isfinite, numbers)):
        raise ConfigError("its latents_mean or latents_std are not finite numbers")
    return tuple(numbers)
