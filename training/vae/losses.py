"""Losses of a VAE: reconstruction, change over time, divergence; perceptual and adversarial.

All are means over numbers, so that a weight means the same at any size.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.autoencoder import Posterior
from training.vae.settings import LossSettings

Features = Callable[[Tensor], list[Tensor]]
"""Feature maps of pictures (N, 3, H, W) in [-1, 1], each (N, C, h, w)."""


def vae_loss(
    video: Tensor,
    made: Tensor,
    posterior: Posterior,
    settings: LossSettings,
    *,
    features: Features | None = None,
    verdict: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum, and every term without its weight.

    Args:
        video: (B, 3, T, H, W) in [-1, 1].
        made: Its reconstruction.
        posterior: Of the latents.
        settings: Weights; a term of weight 0 is left out, but for those that cost nothing.
        features: Network of the perceptual term.
        verdict: Discriminator, of the adversarial term.
    """
    error = made - video
    terms = {
        "l1": error.abs().mean(),
        "mse": error.square().mean(),
        "temporal": error.diff(dim=2).abs().mean() if video.shape[2] > 1 else error.new_zeros(()),
        "kl": posterior.kl(),
    }
    if settings.perceptual and features is not None:
        terms["perceptual"] = perceptual_distance(video, made, features)
    if settings.adversarial and verdict is not None:
        terms["adversarial"] = -verdict(made).mean()
    total = sum(
        (getattr(settings, name) * value for name, value in terms.items()), video.new_zeros(())
    )
    return total, terms


def perceptual_distance(video: Tensor, made: Tensor, features: Features) -> Tensor:
    """Mean squared distance of feature maps brought to unit length, over layers.

    As LPIPS without learned weights of channels (Zhang et al. 2018, arXiv 1801.03924).
    """
    pairs = zip(features(_frames(video)), features(_frames(made)), strict=True)
    distances = [
        (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean() for a, b in pairs
    ]
    return torch.stack(distances).mean()


class Discriminator(nn.Module):
    """Verdicts on patches of a video, over space and two neighbouring frames.

    A 3D form of the PatchGAN of Isola et al. 2017 (arXiv 1611.07004), with hinge losses.

    Args:
        width: Channels of the first layer.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [
                nn.Conv3d(before, after, (2, 4, 4), (1, 2, 2), (0, 1, 1)),
                nn.GroupNorm(8, after) if before > 3 else nn.Identity(),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv3d(widths[-1], 1, (1, 3, 3), padding=(0, 1, 1)))

    def forward(self, video: Tensor) -> Tensor:
        """Above 0: looks real. ``video`` is (B, 3, T, H, W), T from 4."""
        return self.layers(video)

    def loss(self, video: Tensor, made: Tensor) -> Tensor:
        """Hinge loss of telling videos from reconstructions."""
        real, false = self(video), self(made.detach())
        return F.relu(1 - real).mean() + F.relu(1 + false).mean()


def efficientnet_features(device: torch.device) -> Features:
    """Feature maps of EfficientNet-lite0 at a half to a sixteenth of the size.

    Raises:
        ConfigError: Its package or weights are not installed.
    """
    from curation.models.embedders_efficientnet import load_network

    network = load_network().to(device)
    mean = torch.full((1, 3, 1, 1), 127 / 127.5 - 1, device=device)

    def features(pictures: Tensor) -> list[Tensor]:
        x = (pictures - mean) * (127.5 / 128)
        x = F.relu6(network._bn0(network._conv_stem(x)))
        found = [x]
        for block in network._blocks[:9]:
            before, x = x, block(x)
            if x.shape[-1] != before.shape[-1]:
                found.append(x)
        return found

    return features


def _frames(video: Tensor) -> Tensor:
    return video.transpose(1, 2).flatten(0, 1)
