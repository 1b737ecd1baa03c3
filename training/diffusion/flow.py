"""Rectified flow: straight paths from noise to data, and how much noise a step sees.

    x_sigma  = (1 - sigma) x0 + sigma noise         sigma = 0: data; sigma = 1: noise
    velocity = dx / dsigma = noise - x0             what the network learns (Liu et al. 2022)

A training's sigma is logit-normal, ``sigmoid(mean + std z)`` (Esser et al. 2024, the paper of
Stable Diffusion 3, section 3.1); a share may be even. It is then shifted towards noise, as a larger
video of the same content keeps more of itself under the same noise:

    shifted(s) = alpha s / (1 + (alpha - 1) s)                 (Esser et al. 2024, section 5.3.2)

with ``alpha`` linear in the tokens of one latent frame, times the square root of their number
(Peng et al. 2025, Open-Sora 2.0). Samplers walk down the same curve.

Shape suffixes: B samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Sigma = TypeVar("Sigma", float, Tensor)

MARGIN = 2.0**-24
"""Nearest that a training's sigma comes to 0 and 1; ``1 - MARGIN`` is exact in float32."""


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """How sigmas of a training are spread.

    Attributes:
        mean: Of the logit; above 0: more noise.
        std: Of the logit.
        uniform: Share of the sigmas that are even in (0, 1) before the shift; in [0, 1].
        shift_low: ``alpha`` of one latent frame with ``tokens_low`` tokens or fewer.
        shift_high: ``alpha`` with ``tokens_high`` tokens; the line goes on above.
        tokens_low: Tokens (patches, not cells) of a latent frame.
        tokens_high: Likewise.
        by_length: Multiply ``alpha`` by the square root of the number of latent frames.

    Raises:
        ValueError: A number out of its range, or the line does not rise.
    """

    mean: float = 0.0
    std: float = 1.0
    uniform: float = 0.0
    shift_low: float = 1.0
    shift_high: float = 3.0
    tokens_low: int = 256
    tokens_high: int = 4096
    by_length: bool = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean) or not 0 < self.std < math.inf:
            raise ValueError(
                f"mean {self.mean} and std {self.std} of the logit: finite, std above 0"
            )
        if not 0 <= self.uniform <= 1:
            raise ValueError(f"uniform is a share in [0, 1], not {self.uniform}")
        if not 0 < self.shift_low <= self.shift_high < math.inf:
            raise ValueError(f"0 < shift_low <= shift_high, not {self.shift_low, self.shift_high}")
        if not 0 < self.tokens_low < self.tokens_high:
            raise ValueError(
                f"0 < tokens_low < tokens_high, not {self.tokens_low, self.tokens_high}"
            )


def shift_of(config: FlowConfig, *, latent_frames: int, spatial_tokens: int) -> float:
    """The shift ``alpha`` of a video's size.

    Args:
        config: Of the flow.
        latent_frames: t, at least 1.
        spatial_tokens: Patches of one latent frame, at least 1.

    Raises:
        ValueError: A size below 1.
    """
    if latent_frames < 1 or spatial_tokens < 1:
        raise ValueError(f"{latent_frames} latent frames of {spatial_tokens} tokens")
    rise = (config.shift_high - config.shift_low) / (config.tokens_high - config.tokens_low)
    alpha = config.shift_low + rise * max(0, spatial_tokens - config.tokens_low)
    return alpha * math.sqrt(latent_frames) if config.by_length else alpha


def shifted(sigma: Sigma, shift: float) -> Sigma:
    """``shift s / (1 + (shift - 1) s)``: [0, 1] onto itself, rising; above 1: towards noise.

    The inverse is the shift by ``1 / shift``.
    """
    return shift * sigma / (1 + (shift - 1) * sigma)


def sigmas_of(uniform_B: Tensor, config: FlowConfig, shift: float) -> Tensor:
    """Sigmas of a training step: a pure function of even draws, owed to no generator.

    The draws below ``config.uniform`` become the even share, the others the logit-normal one, each
    stretched to all of [0, 1) and taken through its inverse distribution function. A higher draw
    within a share gives a higher sigma.

    Args:
        uniform_B: float64 (B,) in [0, 1).
        config: Of the flow.
        shift: ``alpha``, see :func:`shift_of`.

    Returns:
        float32 (B,) in [MARGIN, 1 - MARGIN]: never exactly data or noise.

    Raises:
        ValueError: Draws of another dtype (float32 is too coarse for the tails) or range.
    """
    if uniform_B.dtype != torch.float64:
        raise ValueError(f"draws are float64, not {uniform_B.dtype}")
    if not bool(((uniform_B >= 0) & (uniform_B < 1)).all()):
        raise ValueError("draws lie in [0, 1)")
    share = config.uniform
    is_even = uniform_B < share
    even = uniform_B / (share or 1.0)
    rest = ((uniform_B - share) / ((1 - share) or 1.0)).clamp(0, 1)
    normal = torch.sigmoid(config.mean + config.std * torch.special.ndtri(rest))
    sigma = shifted(torch.where(is_even, even, normal), shift)
    return sigma.clamp(MARGIN, 1 - MARGIN).float()


def noised(x0: Tensor, noise: Tensor, sigma_B: Tensor | float) -> Tensor:
    """``(1 - sigma) x0 + sigma noise``: exactly ``x0`` at 0, exactly ``noise`` at 1.

    Args:
        x0: Data, float (B, ...).
        noise: Standard normal, same shape.
        sigma_B: (B,), or one for all; float32 makes the answer float32 also of bf16 data.

    Raises:
        ValueError: Shapes that differ.
    """
    _same_shape(x0, noise)
    if isinstance(sigma_B, Tensor):
        if sigma_B.shape != x0.shape[:1]:
            raise ValueError(f"sigmas of {tuple(sigma_B.shape)} for data of {tuple(x0.shape)}")
        sigma_B = sigma_B.view(-1, *(1,) * (x0.ndim - 1))
    return (1 - sigma_B) * x0 + sigma_B * noise


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """``noise - x0``, the same at every sigma.

    Args:
        x0: Data, float (B, ...).
        noise: Same shape.

    Raises:
        ValueError: Shapes that differ.
    """
    _same_shape(x0, noise)
    return noise - x0


def sampling_sigmas(num_steps: int, shift: float) -> Tensor:
    """Where a sampler stops: even steps, shifted, float64 (num_steps + 1,) from 1 to 0.

    Args:
        num_steps: At least 1.
        shift: ``alpha``, see :func:`shift_of`; above 0.

    Raises:
        ValueError: No step, or a shift that is not above 0.
    """
    if num_steps < 1 or not 0 < shift < math.inf:
        raise ValueError(f"{num_steps} steps with a shift of {shift}: at least 1 and above 0")
    sigmas = shifted(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64), shift)
    sigmas[0] = 1.0  # rounding may leave it a bit beside
    return sigmas


def _same_shape(x0: Tensor, noise: Tensor) -> None:
    if x0.shape != noise.shape:  # broadcasting would hide it
        raise ValueError(f"noise of {tuple(noise.shape)} for data of {tuple(x0.shape)}")
