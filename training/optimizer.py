"""AdamW with a warm-up and a decay, and its state as plain tensors."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

Share = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSettings(BaseModel):
    """AdamW (Loshchilov and Hutter 2019), warm-up and decay, an average of the weights.

    Attributes:
        lr: Highest learning rate.
        warmup_steps: Steps up to it, in a straight line.
        decay: From the first step on, to ``final_share`` of it behind the last: along a cosine, in
            a straight line, or not at all.
        final_share: What would come after the last step, over the highest rate.
        betas: Of AdamW.
        eps: Of AdamW.
        weight_decay: Of matrices; biases, norms and tables are left alone.
        clip_norm: Largest norm of the gradient.
        ema_decay: Of the average of the weights; it begins shorter, as (1 + n) / (10 + n).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lr: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    final_share: float = Field(default=0.02, ge=0, le=1)
    betas: tuple[Share, Share] = (0.9, 0.99)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.998, ge=0, lt=1)


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Rate of one step.

    Args:
        settings: The optimizer's.
        step: From 0.
        steps: Of the whole training.
    """
    done, warm = step / steps, min(1.0, (step + 1) / max(1, settings.warmup_steps))
    falls = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}
    share = settings.final_share + (1 - settings.final_share) * falls[settings.decay]
    return settings.lr * warm * share


def make_adamw(
    network: nn.Module, settings: OptimizerSettings, *, fused: bool | None = None
) -> torch.optim.AdamW:
    """The optimizer of a network, in two groups: matrices, which decay, and the rest.

    Args:
        network: Its weights that want gradients.
        settings: The optimizer's.
        fused: One kernel for all; None: torch's own choice.
    """
    weights = {n: p for n, p in network.named_parameters() if p.requires_grad}
    decays = {n for n, p in weights.items() if p.ndim > 1 and n.endswith("weight")}
    groups = [
        {"params": [weights[n] for n in weights if n in decays]},
        {"params": [weights[n] for n in weights if n not in decays], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=fused,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all weights."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer remembers of each weight, as ``<number>.<what>``."""
    states = optimizer.state_dict()["state"]
    return {f"{n}.{what}": value for n, kept in states.items() for what, value in kept.items()}


def fill_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer back what :func:`optimizer_tensors` took."""
    states: dict[int, dict[str, Tensor]] = {}
    for full, value in tensors.items():
        number, _, what = full.partition(".")
        states.setdefault(int(number), {})[what] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
