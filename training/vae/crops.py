"""Crops of samples, at several sizes; every draw is keyed, so any run draws the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from curation.ids import hash64
from training.data.batch import Batch
from training.data.keys import draw
from training.vae.settings import CropSettings


def crops_of(batch: Batch, settings: CropSettings, seed: int) -> Tensor:
    """Crops of all samples that count, float (N, 3, T, size, size) in [-1, 1].

    Args:
        batch: With pixels.
        settings: How they are taken.
        seed: Of the run.

    Raises:
        ValueError: The samples are smaller than a crop.
    """
    assert batch.video is not None
    crops = []
    for clip, key, weight in zip(batch.video, batch.keys, batch.weights.tolist(), strict=True):
        if weight:
            number = hash64(key)
            crops += [
                _crop(clip, settings, Draw(seed, batch.epoch, f"vae-{index}", number))
                for index in range(settings.per_sample)
            ]
    if not crops:
        return torch.empty(0, 3, batch.bucket.frames, settings.size_px, settings.size_px)
    return torch.stack(crops)


@dataclass(frozen=True)
class Draw:
    """The numbers drawn for one crop."""

    seed: int
    epoch: int
    name: str
    number: int

    def of(self, purpose: str) -> float:
        """A number in [0, 1)."""
        return draw(self.seed, self.epoch, f"{self.name}-{purpose}", self.number)


def _crop(clip: Tensor, settings: CropSettings, draws: Draw) -> Tensor:
    """One crop of a clip (3, T, H, W), uint8."""
    size, (height, width) = settings.size_px, clip.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"crops of {size} pixels do not fit into {height} x {width}")
    fitting = [s for s in settings.scales if round(min(height, width) * s) >= size] or [1.0]
    factor = fitting[int(draws.of("scale") * len(fitting))]
    # Cut before shrinking: the rest is not needed.
    reach_y, reach_x = (min(round(size / factor), side) for side in (height, width))
    lively = draws.of("lively") < settings.lively
    places = [
        clip[..., top : top + reach_y, left : left + reach_x]
        for index in range(settings.candidates if lively else 1)
        for top in [int(draws.of(f"y-{index}") * (height - reach_y + 1))]
        for left in [int(draws.of(f"x-{index}") * (width - reach_x + 1))]
    ]
    part = max(places, key=_liveliness).float() / 127.5 - 1
    if (reach_y, reach_x) != (size, size):
        part = F.interpolate(part.transpose(0, 1), (size, size), mode="area").transpose(0, 1)
    return part


def _liveliness(part: Tensor) -> float:
    """Mean change from frame to frame of a part's green, every other pixel."""
    green = part[1, :, ::2, ::2].to(torch.int16)
    return green.diff(dim=0).abs().float().mean().item() if len(green) > 1 else 0.0
