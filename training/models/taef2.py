"""TAEF2: a tiny autoencoder of pictures, 8x smaller sides, 32 channels, 1.3 million numbers a half.

Distilled from the autoencoder of FLUX.2 by madebyollin/taesd (MIT): its latents are FLUX.2's after
their normalisation, so about of unit variance. Plain convolutions and residual blocks, and where
the picture is smallest each block first adds what a normalisation over the whole picture says;
that is why a picture is not to be cut into tiles here. Pictures are in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from curation.errors import ConfigError

WIDTH = 64
POOL_GROUPS = 4
LATENT_CHANNELS = 32
SPATIAL_STRIDE = 8
LATENT_LIMIT = 3.0
"""The decoder sees latents softly limited to this magnitude."""


class Block(nn.Module):
    """Three convolutions and a way around them; (B, ``WIDTH``, H, W) as it came.

    Args:
        pool: Add normalised features of the whole picture first.
    """

    def __init__(self, *, pool: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv())
        self.pool: nn.Module | None = None
        if pool:
            wide = 4 * WIDTH
            self.pool = nn.Sequential(
                nn.Conv2d(WIDTH, wide, 1, bias=False),
                nn.GroupNorm(POOL_GROUPS, wide),
                nn.ReLU(),
                nn.Conv2d(wide, WIDTH, 1, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class SoftLimit(nn.Module):
    """Latents within ``LATENT_LIMIT``."""

    def forward(self, z: Tensor) -> Tensor:
        """Same shape."""
        return torch.tanh(z / LATENT_LIMIT) * LATENT_LIMIT


def encoder() -> nn.Sequential:
    """(B, 3, H, W) in [0, 1] to (B, 32, H/8, W/8); layers are numbered as in the file."""
    layers: list[nn.Module] = [_conv(3), Block()]
    for stage in range(3):
        layers += [_conv(stride=2, bias=False), *_blocks(pool=stage == 2)]
    return nn.Sequential(*layers, _conv(out=LATENT_CHANNELS))


def decoder() -> nn.Sequential:
    """(B, 32, h, w) to (B, 3, 8h, 8w), about [0, 1]; layers are numbered as in the file."""
    layers: list[nn.Module] = [SoftLimit(), _conv(LATENT_CHANNELS), nn.ReLU()]
    for stage in range(3):
        layers += [*_blocks(pool=stage == 0), nn.Upsample(scale_factor=2), _conv(bias=False)]
    return nn.Sequential(*layers, Block(), _conv(out=3))


def load(network: nn.Sequential, path: Path) -> nn.Sequential:
    """Fill a half with the weights of its file, in float32.

    Raises:
        ConfigError: The file holds something else.
    """
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, AttributeError) as exc:
        raise ConfigError(
            f"does not hold the weights of TAEF2: {str(exc).splitlines()[-1].strip()[:200]}",
            where=str(path),
        ) from exc
    return network


def _conv(
    channels: int = WIDTH, out: int = WIDTH, *, stride: int = 1, bias: bool = True
) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1, stride=stride, bias=bias)


def _blocks(*, pool: bool) -> Iterator[Block]:
    return (Block(pool=pool) for _ in range(3))
