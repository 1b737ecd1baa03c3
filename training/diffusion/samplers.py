"""From noise to data along the velocity: Euler's and Heun's methods, with parts that are known.

    dx / dsigma = velocity(x, sigma)         from noise at sigma = 1 to data at sigma = 0

Where latents are given the path is known: ``(1 - sigma) given + sigma noise``. There the state is
set to it before the network sees it, as in training, and whatever the network says there is
not used; at sigma = 0 it is the given latents themselves, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from training.diffusion.flow import noised

Velocity = Callable[[Tensor, float], Tensor]
"""What a network says of a state, float32 (B, ...), at a sigma in (0, 1]: same shape."""

Method = Literal["euler", "heun"]


def _silent(done: int, total: int) -> None:
    """Tell nobody."""


@torch.no_grad()
def integrate(
    velocity: Velocity,
    noise: Tensor,
    sigmas: Tensor,
    *,
    method: Method = "euler",
    given: Tensor | None = None,
    unknown: Tensor | None = None,
    told: Callable[[int, int], object] = _silent,
) -> Tensor:
    """Follow the velocity from noise to data; nothing is drawn, no gradient is kept.

    ``euler`` asks for one velocity a step (error of order 1 in the step). ``heun`` asks again at
    the step's end and goes along the mean of both (order 2); its last step is one of Euler's, as in
    Karras et al. 2022, algorithm 1: the network has not seen sigma = 0. So n steps ask n times, or
    2 n - 1 times.

    Args:
        velocity: The network, guidance and all.
        noise: Standard normal, float (B, ...).
        sigmas: (num_steps + 1,), falling from 1 to 0; see ``flow.sampling_sigmas``.
        method: See above.
        given: Known latents, same shape as the noise; wanted with ``unknown``.
        unknown: Bool, broadcastable to the noise; False where latents are given.
        told: Called with the steps done and all steps, after each.

    Returns:
        float32, same shape as the noise.

    Raises:
        ValueError: Sigmas that do not fall from 1 to 0, only one of ``given`` and ``unknown``,
            given latents of another shape, or an unknown method.
    """
    stops: list[float] = sigmas.tolist()
    falling = all(there < here for here, there in pairwise(stops))
    if not falling or stops[0] != 1 or stops[-1] != 0:
        raise ValueError(f"sigmas fall from 1 to 0, not {stops}")
    if method not in ("euler", "heun"):
        raise ValueError(f"no method {method!r}; there are euler and heun")
    noise = noise.float()
    known_path = _known_path(noise, given, unknown)
    x = noise  # at sigma = 1 the known path is the noise
    for done, (here, there) in enumerate(pairwise(stops), start=1):
        slope = velocity(x, here).float()
        ahead = known_path(x + (there - here) * slope, there)
        if method == "heun" and there > 0:
            slope = (slope + velocity(ahead, there).float()) / 2
            ahead = known_path(x + (there - here) * slope, there)
        x = ahead
        told(done, len(stops) - 1)
    return x


def _known_path(
    noise: Tensor, given: Tensor | None, unknown: Tensor | None
) -> Callable[[Tensor, float], Tensor]:
    """What puts a state back on the known path, where there is one."""
    if given is None and unknown is None:
        return lambda x, sigma: x
    if given is None or unknown is None:
        raise ValueError("given latents and where they are unknown go together")
    kept, free = given.float(), unknown.to(device=noise.device, dtype=torch.bool)
    if kept.shape != noise.shape:
        raise ValueError(f"given latents of {tuple(kept.shape)}, noise of {tuple(noise.shape)}")
    return lambda x, sigma: torch.where(free, x, noised(kept, noise, sigma))
