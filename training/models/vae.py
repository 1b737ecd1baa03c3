"""The small causal video VAE that ships: 4 x 8 x 8 pixels to a latent cell of 16 numbers.

    vae = open_vae()
    posterior = vae.encode(video)  # float (B, 3, 4k + 1, H, W) in [-1, 1]; H, W divisible by 8
    video = vae.decode(posterior.mean)

Whole videos go through in chunks and tiles (:mod:`training.models.vae_stream`), with the same
result, so that what is computed at once is bounded by ``tile_px``; ``encode_stream`` and
``decode_stream`` there take videos that come piece by piece. Made by ``clipmill train vae-small``;
figures and footage in ``training/README.md``.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from curation.errors import ConfigError
from curation.ids import canonical_json
from training.files import written_whole
from training.models.autoencoder import Autoencoder, LatentSpec, Posterior
from training.models.vae_network import (
    SPATIAL,
    TEMPORAL,
    VaeConfig,
    VaeNetwork,
)
from training.models.vae_stream import (
    CHUNK_FRAMES,
    TILE_PX,
    DecoderStream,
    EncoderStream,
    stretches,
)

SHIPPED = "clipmill-small"
FILE = "clipmill_vae_small.safetensors"
"""Of the shipped weights, in this folder."""
KEY = "clipmill_vae"
"""Of the metadata of a file of weights: JSON of config, shift, scale and about."""


class Vae(Autoencoder):
    """A network with the scale of its latents, in evaluation.

    Args:
        network: On its device, in its dtype.
        shift: Of each latent channel.
        scale: Of each latent channel.
        fingerprint: Of weights and scale.
        name: For people.
        tile_px: Largest side of a tile.
    """

    def __init__(
        self,
        network: VaeNetwork,
        shift: tuple[float, ...],
        scale: tuple[float, ...],
        *,
        fingerprint: str,
        name: str = SHIPPED,
        tile_px: int = TILE_PX,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.tile_px = tile_px
        self.spec = LatentSpec(
            name=name,
            fingerprint=fingerprint,
            latent_channels=network.config.latent_channels,
            temporal_stride=TEMPORAL,
            spatial_stride=SPATIAL,
            shift=shift,
            scale=scale,
        )
        weights = network.analysis.weight
        self.device, self.dtype = weights.device, weights.dtype

    def _encode(self, video: Tensor) -> Posterior:
        stream = EncoderStream(self.network, self.tile_px)
        parts = [stream.push(x) for x in stretches(video.to(self.dtype), 1, CHUNK_FRAMES)]
        mean, logvar = (torch.cat(kind, 2).to(video.dtype) for kind in zip(*parts, strict=True))
        return self.spec.normalise(mean, logvar)

    def _decode(self, latents: Tensor) -> Tensor:
        stream = DecoderStream(self.network, self.tile_px)
        raw = self.spec.raw(latents).to(self.dtype)
        parts = [stream.push(z) for z in stretches(raw, 1, CHUNK_FRAMES // TEMPORAL)]
        return torch.cat(parts, 2).to(latents.dtype)


def open_vae(
    path: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    tile_px: int = TILE_PX,
) -> Vae:
    """Load a VAE.

    Args:
        path: File of :func:`save_vae`; None: the shipped weights.
        device: For the network.
        dtype: Of its computations; None: float32.
        tile_px: Largest side of a tile.

    Raises:
        ConfigError: There is no such file, or it is no VAE of this kind.
    """
    file = Path(path) if path is not None else shipped_file()
    try:
        with safe_open(file, "pt") as stored:
            about = json.loads((stored.metadata() or {})[KEY])
            state = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
        network = VaeNetwork(VaeConfig(**about["config"]))
        network.load_state_dict(state)
        shift, scale = (tuple(float(v) for v in about[name]) for name in ("shift", "scale"))
        known = [about["config"], shift, scale, str(dtype or torch.float32)]
        return Vae(
            network.to(device=device, dtype=dtype or torch.float32),
            shift,
            scale,
            fingerprint=_fingerprint(known, state),
            name=SHIPPED if path is None else file.stem,
            tile_px=tile_px,
        )
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc}", where=str(file)) from exc
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as exc:
        raise ConfigError(
            f"holds no VAE of clipmill: {type(exc).__name__}: {str(exc).splitlines()[0][:200]}",
            where=str(file),
            mend="a file that `clipmill train` wrote for a VAE",
        ) from exc


def save_vae(
    path: Path,
    network: VaeNetwork,
    shift: tuple[float, ...],
    scale: tuple[float, ...],
    about: dict[str, Any],
) -> None:
    """Write weights in float16 as one file, under a temporary name first.

    Args:
        path: To write.
        network: In float32.
        shift: Of the latents, see :class:`LatentSpec`.
        scale: Likewise.
        about: How it was made; plain JSON.

    Raises:
        ValueError: A weight is not finite in float16.
    """
    state = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    if wrong := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise ValueError(f"not finite in float16: {', '.join(wrong[:4])}")
    known = {"config": asdict(network.config), "shift": shift, "scale": scale, "about": about}
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        save_file(state, temporary, {KEY: json.dumps(known, sort_keys=True)})


def shipped_file() -> Path:
    """Where the shipped weights lie."""
    return Path(str(resources.files("training.models") / FILE))


def about_vae(path: Path | None = None) -> dict[str, Any]:
    """How a file's weights were made: steps, footage, licences.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        with safe_open(path or shipped_file(), "pt") as stored:
            return json.loads(stored.metadata()[KEY])["about"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as exc:
        raise ConfigError("holds no VAE of clipmill", where=str(path)) from exc


def _fingerprint(known: list[Any], state: dict[str, Tensor]) -> str:
    """16 hex digits of what decides the latents: sizes, scale, precision, weights."""
    digest = sha256(canonical_json(known).encode())
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].numpy().tobytes())
    return digest.hexdigest()[:16]
