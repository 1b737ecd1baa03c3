"""The mathematics of one training step: noise, velocity, and a loss with one denominator.

    x = (1 - sigma) x0 + sigma noise          what the network is shown
    v = noise - x0                            what it should say
    loss = sum over the step of w_b |v - v'|^2 at unknown places / sum over the step of w_b n_b

The sums go over all microbatches of a step on all ranks, n_b being the unknown numbers of sample b
and w_b its weight. So it does not matter how a step is cut into microbatches, and samples that must
not count (w = 0) or whose frames are mostly given do not dilute those that do. The denominator
is counted before the first backward: gradients are summed, never averaged.

Shape suffixes: B samples, C channels, t latent frames, h w latent cells, D numbers of a text state,
L tokens of text, S temporal stride of the autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from training.diffusion.flow import noised, velocity

Denoise = Callable[..., Tensor]
"""Velocity (B, C, t, h, w) of noised latents, as ``training.models.dit.Dit`` gives it."""


@dataclass(frozen=True)
class Inputs:
    """All that a microbatch's loss depends on.

    Attributes:
        x0_BCthw: Clean latents.
        noise_BCthw: Standard normal.
        sigma_B: Share of noise, 0 to 1.
        given_BCthw: Latents of the given frames, grey elsewhere.
        mask_BSthw: 1 where a pixel frame is given.
        unknown_Bt: bool, latent frames that count in the loss.
        weights_B: Of the samples; 0: does not count.
        text_BLD: States of the text.
        text_mask_BL: bool, True where there are states.
        fps_B: Pixel frames per second.
        times_Bt: Time of each latent frame, seconds.
    """

    x0_BCthw: Tensor
    noise_BCthw: Tensor
    sigma_B: Tensor
    given_BCthw: Tensor
    mask_BSthw: Tensor
    unknown_Bt: Tensor
    weights_B: Tensor
    text_BLD: Tensor
    text_mask_BL: Tensor
    fps_B: Tensor
    times_Bt: Tensor

    def to(self, device: torch.device) -> Inputs:
        """The same on a device."""
        return Inputs(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


def unknown_numbers(unknown_Bt: Tensor, weights_B: Tensor, numbers: int) -> float:
    """Weighted count of the numbers that a loss is over.

    Args:
        unknown_Bt: Latent frames that count.
        weights_B: Of the samples.
        numbers: C * h * w, of a latent frame.
    """
    return float((unknown_Bt.sum(1).double() * weights_B.double()).sum()) * numbers


def weighted_loss(denoise: Denoise, inputs: Inputs, denominator: float) -> tuple[Tensor, Tensor]:
    """This microbatch's part of a step's loss.

    Args:
        denoise: The network.
        inputs: The microbatch.
        denominator: Of the whole step: sum of :func:`unknown_numbers`.

    Returns:
        The part, a scalar, and each sample's mean squared error over its unknown numbers, (B,),
        without gradient; 0 for a sample of which all is given.
    """
    x = noised(inputs.x0_BCthw, inputs.noise_BCthw, inputs.sigma_B)
    made = denoise(
        x,
        inputs.sigma_B,
        given_BCthw=inputs.given_BCthw,
        mask_BSthw=inputs.mask_BSthw,
        text_BLD=inputs.text_BLD,
        text_mask_BL=inputs.text_mask_BL,
        fps_B=inputs.fps_B,
        times_Bt=inputs.times_Bt,
    )
    wanted = velocity(inputs.x0_BCthw, inputs.noise_BCthw)
    errors_Bt = (made.float() - wanted).square().mean((1, 3, 4))
    unknown_Bt = inputs.unknown_Bt.float()
    numbers = inputs.x0_BCthw[0, :, 0].numel()
    sums_B = (errors_Bt * unknown_Bt).sum(1)
    part = (sums_B * inputs.weights_B).sum() * (numbers / denominator)
    return part, (sums_B / unknown_Bt.sum(1).clamp(min=1)).detach()
