"""An average of the weights over the steps, in float32.

    average <- decay * average + (1 - decay) * weights,  decay = min(ema_decay, (1 + n) / (10 + n))

after the n-th update, so that the first weights are soon forgotten (the warm-up of TensorFlow's
``ExponentialMovingAverage``). Once per update of the optimizer, never per microbatch, and not for a
step that was skipped. What the average weighs less than a bfloat16 can tell apart would be lost in
one: at a decay of 0.9999 a change is a ten-thousandth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from curation.errors import ConfigError


class Ema:
    """The average of some weights.

    Args:
        parameters: By name, of a floating type: ``dict(module.named_parameters())``.
        decay: In the long run, 0 to 1; 0: the weights themselves.

    Attributes:
        average: float32, of the same names, shapes and devices.

    Raises:
        ValueError: The decay is none.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"a decay is at least 0 and less than 1, not {decay}")
        self.decay = decay
        self.average = {
            name: value.detach().to(torch.float32, copy=True) for name, value in parameters.items()
        }

    @torch.no_grad()
    def update(self, parameters: Mapping[str, Tensor], updates_done: int) -> None:
        """Take in the weights after an update.

        Args:
            parameters: Of the names given before.
            updates_done: n, of the whole training, this one counted: from 1.
        """
        decay = min(self.decay, (1 + updates_done) / (10 + updates_done))
        new = [parameters[name].detach().to(torch.float32) for name in self.average]
        torch._foreach_lerp_(list(self.average.values()), new, 1 - decay)  # type: ignore[attr-defined]

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Put the average into a module for a block, then its own weights back, bit for bit.

        They are written where the weights lie: so what was compiled for them still holds. Costs the
        memory of the weights once more.

        Args:
            module: Its parameters have the names given before; they keep their types.

        Raises:
            KeyError: It lacks one.
        """
        own = dict(module.named_parameters())
        places = [own[name].detach() for name in self.average]
        before = [place.clone() for place in places]
        try:
            _fill(places, list(self.average.values()))
            yield
        finally:
            _fill(places, before)

    def state_dict(self) -> dict[str, Tensor]:
        """The average itself, not a copy."""
        return dict(self.average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up an average.

        Args:
            state: As :meth:`state_dict` gave it, on any device.

        Raises:
            ConfigError: It is of other weights, or not in float32.
        """
        mine = {name: (value.shape, value.dtype) for name, value in self.average.items()}
        theirs = {name: (value.shape, value.dtype) for name, value in state.items()}
        if mine != theirs:
            other = sorted(n for n in mine.keys() | theirs.keys() if mine.get(n) != theirs.get(n))
            raise ConfigError(
                f"the average is of other weights: {', '.join(other[:3])}"
                + (f" and {len(other) - 3} more" if len(other) > 3 else ""),
                where="ema",
                mend="the model's sizes with which the training began",
            )
        _fill(list(self.average.values()), [state[name] for name in self.average])


@torch.no_grad()
def _fill(places: list[Tensor], values: list[Tensor]) -> None:
    for place, value in zip(places, values, strict=True):
        place.copy_(value)
