"""The loss of fixed samples at fixed noise and fixed noise times: comparable over a whole training.

A training loss is of other clips, noise and times at every step, and so moves by chance. Here
everything is the same each time: the first samples of the validation's data, from their middle,
noise by key, no frame given, texts as they are, and each of a few noise times for every sample.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from training.data.batch import Batch
from training.data.buckets import BucketSettings
from training.data.loader import ClipLoader
from training.data.settings import DataSettings, OrderSettings, SourceSettings
from training.draws import SampleDraws
from training.inputs import Drawn, InputMaker
from training.settings import ConditioningSettings, ValidationSettings
from training.step import Denoise, weighted_loss

PLAIN = ConditioningSettings(text_dropout=0.0, posterior="mean")
EPOCH = 0
"""Of the draws: the same noise each time."""


@dataclass(frozen=True)
class _Sums:
    losses: float = 0.0
    weights: float = 0.0

    def plus(self, losses: float, weights: float) -> _Sums:
        return _Sums(self.losses + losses, self.weights + weights)


class Validation:
    """Fixed samples of a training.

    Args:
        settings: Which.
        data: Of the training: its latents are taken.
        buckets: Of the training, also where they were proposed.
        maker: Of the training.
    """

    def __init__(
        self,
        settings: ValidationSettings,
        data: DataSettings,
        buckets: BucketSettings,
        maker: InputMaker,
    ) -> None:
        self._settings = settings
        self._data = data.model_copy(update={"buckets": buckets})
        self._maker = maker.plain(PLAIN)

    @property
    def is_on(self) -> bool:
        """True when there is something to validate with."""
        return self._settings.root is not None or self._settings.split is not None

    @cached_property
    def batches(self) -> list[Drawn]:
        """The samples; repeats have weight 0."""
        if not self.is_on:
            return []
        settings = self._settings
        source = SourceSettings(
            root=settings.root or self._data.sources[0].root, split=settings.split
        )
        read = self._data.read.model_copy(update={"window": "middle", "flip": 0.0})
        order = OrderSettings(seed=self._data.order.seed, microbatches=1)
        data = self._data.model_copy(update={"sources": (source,), "read": read, "order": order})
        if self._maker.reads_latents:
            data = data.model_copy(update={"pixels": False})
        found, left = [], settings.samples
        with ClipLoader(settings=data, rank=0, world_size=1) as loader:
            for batch in loader:
                if batch.epoch > 0 or left <= 0:
                    break
                _only_first(batch, left)
                left -= int((batch.weights > 0).sum())
                found.append(self._drawn(batch))
        return found

    @torch.no_grad()
    def figures(
        self, network: Denoise, autocast: contextlib.AbstractContextManager[Any]
    ) -> dict[str, float]:
        """Mean squared errors: ``val_loss`` over all times, ``val_loss_0.10`` and so on at each.

        Args:
            network: In evaluation.
            autocast: As in training.
        """
        sums = dict.fromkeys(self._settings.sigmas, _Sums())
        for drawn in self.batches:
            for sigma in sums:
                sigmas = torch.full((len(drawn.batch.keys),), sigma)
                inputs = self._maker.inputs(drawn, sigmas)
                with autocast:
                    _, losses = weighted_loss(network, inputs, max(1.0, drawn.numbers))
                weighted = float((losses * inputs.weights_B).sum())
                sums[sigma] = sums[sigma].plus(weighted, float(inputs.weights_B.sum()))
        if not self.batches:
            return {}
        means = {sigma: s.losses / max(1e-9, s.weights) for sigma, s in sums.items()}
        found = {f"val_loss_{sigma:.2f}": mean for sigma, mean in means.items()}
        return {"val_loss": sum(means.values()) / len(means)} | found

    def _drawn(self, batch: Batch) -> Drawn:
        known = torch.zeros((len(batch.keys), batch.bucket.frames), dtype=torch.bool)
        draws = SampleDraws(self._data.order.seed, EPOCH, batch.keys)
        return self._maker.given_known(batch, draws, known)


def _only_first(batch: Batch, count: int) -> None:
    """Let only the first samples of a batch count."""
    counted = (batch.weights > 0).cumsum(0)
    batch.weights = torch.where(counted <= count, batch.weights, torch.zeros_like(batch.weights))
