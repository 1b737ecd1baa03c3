"""What is drawn for a sample in a step: each by key, none from a generator that is shared.

A draw depends on (seed, epoch, sample, purpose) and on nothing else: not on the rank, the world
size, the microbatch or what was drawn before. So a training that goes on, on any number of ranks,
sees the same noise, and two that differ in one setting differ in nothing else. Purposes here:
``noise``, ``noise-time``, ``posterior``, ``text-drop``, ``mode``, ``frames``; the loader's are
``window``, ``crop-y``, ``crop-x``, ``flip`` and ``caption``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from curation.ids import hash64
from training.data.keys import MASK, draw, draw64


@dataclass(frozen=True)
class SampleDraws:
    """The draws of B samples of one epoch.

    Attributes:
        seed: Of the run.
        epoch: Of the source.
        keys: Clip ids.
    """

    seed: int
    epoch: int
    keys: Sequence[str]

    def uniform(self, purpose: str) -> Tensor:
        """Numbers in [0, 1), float64 (B,)."""
        return torch.tensor(
            [draw(self.seed, self.epoch, purpose, hash64(key)) for key in self.keys],
            dtype=torch.float64,
        )

    def normal(self, purpose: str, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, float32 (B, *shape), made on the CPU."""
        return torch.stack([self._normal(purpose, key, shape) for key in self.keys])

    def _normal(self, purpose: str, key: str, shape: Sequence[int]) -> Tensor:
        return keyed_normal(self.seed, self.epoch, purpose, hash64(key), shape)


def keyed_normal(seed: int, epoch: int, purpose: str, key: int, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers of one key, float32 of a shape, made on the CPU."""
    # manual_seed takes 64 bits as a signed number: the highest is left out.
    generator = torch.Generator().manual_seed(draw64(seed, epoch, purpose, key) & (MASK >> 1))
    return torch.randn(tuple(shape), generator=generator)
