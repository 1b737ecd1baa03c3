"""Samplers against known solutions and against diffusers' schedulers."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.diffusion.flow import noised, sampling_sigmas, velocity
from training.diffusion.samplers import Method, integrate

METHODS: tuple[Method, ...] = ("euler", "heun")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def curved(x: Tensor, sigma: float) -> Tensor:
    """A velocity that mixes neighbours and bends in x and sigma."""
    return torch.sin(2 * x + sigma) + 0.5 * x.roll(1, -1) * sigma**2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_true_velocity_leads_to_the_data(method: Method, steps: int) -> None:
    x0, noise = normal(2, 3, 4, seed=1), normal(2, 3, 4)
    slope = velocity(x0, noise)
    made = integrate(lambda x, s: slope, noise, sampling_sigmas(steps, 3.0), method=method)
    assert made.dtype == torch.float32
    assert torch.allclose(made, x0, atol=1e-5)


MEAN, STD = 1.5, 0.4


def gaussian_velocity(x: Tensor, sigma: float) -> Tensor:
    """E[noise - x0 | x] for data that are normal; its path ends at ``MEAN + STD noise``.

    ``x`` is normal with mean ``(1 - s) MEAN`` and variance ``(1 - s)^2 STD^2 + s^2``; data and
    noise are what is expected of them given ``x`` (linear regression).
    """
    off = (x - (1 - sigma) * MEAN) / ((1 - sigma) ** 2 * STD**2 + sigma**2)
    return sigma * off - (MEAN + (1 - sigma) * STD**2 * off)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_order_on_a_path_that_is_known(method: Method, order: int) -> None:
    noise = normal(64)
    errors = [
        (
            integrate(gaussian_velocity, noise, sampling_sigmas(steps, 1.0), method=method)
            - (MEAN + STD * noise)
        )
        .square()
        .mean()
        .sqrt()
        .item()
        for steps in (16, 32, 64)
    ]
    assert errors[-1] > 1e-5  # well above float32
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("shift", [1.0, 4.0])
def test_euler_is_that_of_diffusers(shift: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 0, 13)[:-1].tolist())
    x = noise = normal(2, 4, 3, 6)
    for time, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        x = scheduler.step(curved(x, sigma.item()), time, x).prev_sample
    made = integrate(curved, noise, sampling_sigmas(12, shift))
    assert torch.allclose(made, x, atol=1e-5)
    assert (made - noise).abs().max() > 0.1


@pytest.mark.parametrize("shift", [1.0, 4.0])
def test_heun_is_that_of_diffusers(shift: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(12)
    asked: list[float] = []
    x = noise = normal(2, 4, 3, 6)
    for time in scheduler.timesteps:
        asked.append(time.item() / 1000)
        x = scheduler.step(curved(x, asked[-1]), time, x).prev_sample
    # Its sigmas stand twice in the list, all but the first and the last.
    sigmas = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1:-1:2], scheduler.sigmas[-1:]])
    ours: list[float] = []

    def listening(state: Tensor, sigma: float) -> Tensor:
        ours.append(sigma)
        return curved(state, sigma)

    made = integrate(listening, noise, sigmas, method="heun")
    assert torch.allclose(made, x, atol=1e-5)
    assert ours == pytest.approx(asked, abs=1e-6)
    assert not torch.allclose(made, integrate(curved, noise, sigmas), atol=1e-3)


@pytest.mark.parametrize(("method", "asked"), [("euler", 5), ("heun", 9)])
def test_the_network_never_sees_sigma_0(method: Method, asked: int) -> None:
    seen: list[float] = []

    def listening(x: Tensor, sigma: float) -> Tensor:
        seen.append(sigma)
        return x

    steps: list[tuple[int, int]] = []
    integrate(
        listening,
        normal(1, 2),
        sampling_sigmas(5, 2.0),
        method=method,
        told=lambda done, total: steps.append((done, total)),
    )
    assert len(seen) == asked
    assert seen[0] == 1 and min(seen) > 0
    assert steps == [(i, 5) for i in range(1, 6)]


@pytest.mark.parametrize("method", METHODS)
def test_given_latents_keep_to_their_path(method: Method) -> None:
    noise, given = normal(2, 3, 4, 2, 2), normal(2, 3, 4, 2, 2, seed=1)
    unknown = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]], dtype=torch.bool)[:, None, :, None, None]
    known = (~unknown).expand_as(noise)

    def checked(x: Tensor, sigma: float) -> Tensor:
        assert torch.equal(x[known], noised(given, noise, sigma)[known])
        slope = torch.sin(3 * x) * sigma
        return slope.masked_fill(known, math.nan)  # what is said there is not used

    sigmas = sampling_sigmas(6, 3.0)
    made = integrate(checked, noise, sigmas, method=method, given=given, unknown=unknown)
    assert torch.equal(made[known], given[known])
    # No number looks at another here, so the rest goes as if nothing were given.
    free = integrate(lambda x, s: torch.sin(3 * x) * s, noise, sigmas, method=method)
    assert torch.equal(made[~known], free[~known])


def test_all_given_is_given_back() -> None:
    noise, given = normal(1, 2, 3), normal(1, 2, 3, seed=1)
    unknown = torch.zeros(1, 1, 1, dtype=torch.bool)
    made = integrate(curved, noise, sampling_sigmas(3, 1.0), given=given, unknown=unknown)
    assert torch.equal(made, given)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_keeps_no_gradient(method: Method) -> None:
    layer = nn.Linear(4, 4)
    noise = normal(2, 4)
    kept = noise.clone()
    made = integrate(lambda x, s: layer(x), noise, sampling_sigmas(2, 1.0), method=method)
    assert not made.requires_grad
    assert torch.equal(noise, kept)


@pytest.mark.parametrize("method", METHODS)
def test_state_is_float32_under_a_bf16_network(method: Method) -> None:
    """Steps too small for bf16 still add up: 400 steps of a constant slope of 1 go down by 1."""

    def rough(x: Tensor, sigma: float) -> Tensor:
        assert x.dtype == torch.float32
        return torch.ones_like(x, dtype=torch.bfloat16)

    noise = torch.full((1, 2), 8.0, dtype=torch.bfloat16)
    made = integrate(rough, noise, sampling_sigmas(400, 1.0), method=method)
    assert torch.allclose(made, torch.full((1, 2), 7.0), atol=1e-4)


@pytest.mark.parametrize(
    "sigmas", [[1.0], [0.0, 1.0], [0.9, 0.0], [1.0, 0.1], [1.0, 0.5, 0.5, 0.0], [1.0, math.nan, 0]]
)
def test_sigmas_that_do_not_fall_from_1_to_0_are_refused(sigmas: list[float]) -> None:
    with pytest.raises(ValueError, match="fall from 1 to 0"):
        integrate(curved, normal(1, 2), torch.tensor(sigmas))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"given": torch.zeros(1, 2)}, "go together"),
        ({"unknown": torch.zeros(1, 2, dtype=torch.bool)}, "go together"),
        ({"given": torch.zeros(1), "unknown": torch.ones(1, 2, dtype=torch.bool)}, "latents of"),
        ({"method": "rk4"}, "no method 'rk4'"),
    ],
)
def test_bad_calls_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        integrate(curved, normal(1, 2), sampling_sigmas(2, 1.0), **changes)
