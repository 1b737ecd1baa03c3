"""Classifier-free guidance: away from what the network says without the text.

    v = v_without + scale (v_with - v_without)       (Ho and Salimans 2022; scale is 1 + their w)

It may be confined to a span of sigma, as it does harm in the noise of the beginning and nothing
near the end, where it can be saved (Kynkäänniemi et al. 2024); and a guided velocity, too large at
a high scale, may be brought back to the spread that it has with the text alone (Lin et al. 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How much, and where.

    Attributes:
        scale: 1: the text alone; 0: as if there were none; above 1: away from that.
        low: Guidance works where ``low < sigma <= high``; the text alone speaks elsewhere.
        high: At most 1.
        rescale: Share of the velocity that is brought back to the spread without guidance, in
            [0, 1]; 0.7 in the paper.

    Raises:
        ValueError: A number out of its range, or an empty span.
    """

    scale: float = 1.0
    low: float = 0.0
    high: float = 1.0
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"the scale of guidance is finite and not below 0, not {self.scale}")
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"0 <= low < high <= 1, not {self.low} and {self.high}")
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"rescale is a share in [0, 1], not {self.rescale}")

    def is_on(self, sigma: float) -> bool:
        """Whether the network must be asked without the text as well.

        Args:
            sigma: Share of noise, 0 to 1.
        """
        return self.scale != 1 and self.low < sigma <= self.high


def guided(
    with_text: Tensor, without: Tensor, guidance: Guidance, *, unknown: Tensor | None = None
) -> Tensor:
    """The guided velocity; whether it is on at this sigma is for the caller to ask.

    The spread of :attr:`Guidance.rescale` is the standard deviation of each sample over all its
    numbers (section 3.4 of Lin et al. 2023, there of the noise that is predicted).

    Args:
        with_text: Velocity with the text, float (B, ...).
        without: Velocity without, same shape.
        guidance: Scale and rescale.
        unknown: Bool, broadcastable: the spread is taken there alone, as the network has never
            learnt what to say where latents are given. None: everywhere.

    Returns:
        float32, same shape.

    Raises:
        ValueError: Shapes that differ.
    """
    if with_text.shape != without.shape:
        raise ValueError(f"velocities of {tuple(with_text.shape)} and {tuple(without.shape)}")
    with_text, without = with_text.float(), without.float()
    made = without + guidance.scale * (with_text - without)
    if not guidance.rescale:
        return made
    where = torch.ones_like(made) if unknown is None else unknown.to(made).expand_as(made)
    # A network that has not learnt yet says 0 everywhere: 0 / 0 must not become NaN.
    ratio = _spread(with_text, where) / _spread(made, where).clamp(min=1e-12)
    return made * (1 + guidance.rescale * (ratio - 1))


def _spread(x: Tensor, where: Tensor) -> Tensor:
    """Standard deviation of each sample where ``where`` is 1, (B, 1, ...)."""
    dims = tuple(range(1, x.ndim))
    count = where.sum(dims, keepdim=True).clamp(min=1)
    mean = (x * where).sum(dims, keepdim=True) / count
    return (((x - mean).square() * where).sum(dims, keepdim=True) / count).sqrt()
