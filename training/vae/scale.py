"""The scale of a trained VAE's latents: what brings them to mean 0 and variance 1."""

from __future__ import annotations

import torch


def latent_scale(sums: list[torch.Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Shift and scale that bring latents to mean 0 and variance 1 a channel.

    Args:
        sums: Of some latents each: count, sum and sum of squares, float64 (3, C).
    """
    count, total, squares = torch.stack(sums).sum(0)
    mean = total / count
    spread = (squares / count - mean.square()).clamp(min=1e-12).sqrt()
    return tuple(mean.tolist()), tuple((1 / spread).tolist())
