"""Times of rectified flow: their quantiles, their shift, both ends."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import Tensor

from training.diffusion.flow import (
    FlowConfig,
    noised,
    sampling_sigmas,
    shift_of,
    shifted,
    sigmas_of,
    velocity,
)

SHIFTS = (0.2, 1.0, 3.0, 17.5)


def even_draws(count: int) -> Tensor:
    """The middles of so many equal parts of [0, 1)."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("tokens", "frames", "shift"),
    [
        (256, 1, 1.0),
        (2176, 1, 2.0),  # midway
        (4096, 1, 3.0),
        (7936, 1, 5.0),  # the line goes on above
        (98, 1, 1.0),  # but not below
        (98, 4, 2.0),
        (4096, 9, 9.0),
    ],
)
def test_shift_of_a_size(tokens: int, frames: int, shift: float) -> None:
    config = FlowConfig()
    assert shift_of(config, latent_frames=frames, spatial_tokens=tokens) == pytest.approx(shift)


def test_shift_without_length() -> None:
    config = FlowConfig(by_length=False, shift_low=1.5)
    assert shift_of(config, latent_frames=9, spatial_tokens=4096) == 3.0
    assert shift_of(config, latent_frames=9, spatial_tokens=1) == 1.5


def test_shift_moves_towards_noise_and_back() -> None:
    assert shifted(0.5, 3.0) == 0.75
    assert shifted(0.25, 3.0) == 0.5
    assert shifted(0.25, 1.0) == 0.25
    s = torch.linspace(0, 1, 101, dtype=torch.float64)
    for shift in SHIFTS:
        there = shifted(s, shift)
        assert (there.diff() > 0).all()
        assert there[0] == 0 and there[-1].item() == pytest.approx(1)
        assert torch.allclose(shifted(there, 1 / shift), s, atol=1e-12)


def test_shift_is_that_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    s = torch.linspace(1, 0.02, 50, dtype=torch.float64)
    for alpha in (1.0, 2.3, 7.0):
        fixed = diffusers.FlowMatchEulerDiscreteScheduler(shift=alpha)
        fixed.set_timesteps(sigmas=s.tolist())
        # the exponential kind, of Flux, is the same curve with alpha = exp(mu)
        moving = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        moving.set_timesteps(sigmas=s.tolist(), mu=math.log(alpha))
        for other in (fixed, moving):
            assert torch.allclose(shifted(s, alpha), other.sigmas[:-1].double(), atol=1e-6)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.7, 1.6)])
def test_quantiles_are_those_of_the_logit_normal(mean: float, std: float, shift: float) -> None:
    draws = even_draws(257)
    logits = NormalDist(mean, std)
    expected = [shifted(sigmoid(logits.inv_cdf(u)), shift) for u in draws.tolist()]
    sigmas = sigmas_of(draws, FlowConfig(mean=mean, std=std), shift)
    assert sigmas.dtype == torch.float32
    assert sigmas.tolist() == pytest.approx(expected, rel=1e-6)


def test_an_even_share() -> None:
    """Below any sigma lie a quarter of an even spread and three of a logit-normal one."""
    count, shift, mean, std = 4000, 2.0, 0.3, 0.8
    config = FlowConfig(mean=mean, std=std, uniform=0.25)
    sigmas = sigmas_of(even_draws(count), config, shift)
    for bound in (0.01, 0.1, 0.5, 0.75, 0.9, 0.99):
        before = shifted(bound, 1 / shift)
        logit = math.log(before / (1 - before))
        expected = 0.25 * before + 0.75 * NormalDist(mean, std).cdf(logit)
        assert abs((sigmas < bound).sum().item() - expected * count) <= 2


def test_all_even() -> None:
    draws = even_draws(100)
    sigmas = sigmas_of(draws, FlowConfig(uniform=1.0), 3.0)
    assert torch.equal(sigmas, shifted(draws, 3.0).float())


def test_how_draws_are_shared_out() -> None:
    """A change here changes every training that goes on."""
    draws = torch.tensor([0.0625, 0.125, 0.5, 0.875], dtype=torch.float64)
    sigmas = sigmas_of(draws, FlowConfig(uniform=0.125), 3.0)
    # even, 0.5; then the quantiles 0, 3/7 and 6/7
    z = NormalDist().inv_cdf
    expected = [0.75, 2**-24, *(shifted(sigmoid(z(u)), 3.0) for u in (3 / 7, 6 / 7))]
    assert sigmas.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("uniform", [0.0, 0.1, 0.5, 1.0])
def test_sigmas_are_never_quite_0_or_1(uniform: float, shift: float) -> None:
    edges = [0.0, 5e-324, 1e-300, uniform, math.nextafter(uniform, 0), 1 - 2**-53]
    draws = torch.tensor([u for u in edges if 0 <= u < 1], dtype=torch.float64)
    sigmas = sigmas_of(draws, FlowConfig(uniform=uniform, std=4.0), shift)
    assert ((sigmas > 0) & (sigmas < 1)).all()
    assert ((1 - sigmas) > 0).all()  # in float32, as a step computes it


def test_a_sigma_depends_on_its_own_draw_alone() -> None:
    draws = torch.rand(333, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    config = FlowConfig(uniform=0.1)
    whole = sigmas_of(draws, config, 2.3)
    assert torch.equal(whole, torch.cat([sigmas_of(u[None], config, 2.3) for u in draws]))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("draws", "words"),
    [
        (torch.zeros(2), "float64, not torch.float32"),
        (torch.tensor([0.5, 1.0], dtype=torch.float64), "in \\[0, 1\\)"),
        (torch.tensor([-0.1], dtype=torch.float64), "in \\[0, 1\\)"),
        (torch.tensor([math.nan], dtype=torch.float64), "in \\[0, 1\\)"),
    ],
)
def test_bad_draws_are_refused(draws: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sigmas_of(draws, FlowConfig(), 1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"std": 0.0}, "std above 0"),
        ({"std": math.inf}, "std above 0"),
        ({"mean": math.nan}, "finite"),
        ({"uniform": 1.01}, "share in"),
        ({"uniform": -0.1}, "share in"),
        ({"shift_low": 0.0}, "shift_low"),
        ({"shift_low": 4.0}, "shift_low <= shift_high"),
        ({"tokens_low": 4096}, "tokens_low < tokens_high"),
        ({"tokens_low": 0}, "tokens_low"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FlowConfig(**changes)


@pytest.mark.parametrize(("frames", "tokens"), [(0, 256), (1, 0)])
def test_a_size_of_nothing_is_refused(frames: int, tokens: int) -> None:
    with pytest.raises(ValueError, match="latent frames of"):
        shift_of(FlowConfig(), latent_frames=frames, spatial_tokens=tokens)


def pair(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 4, 2, 5, 5, generator=generator)
    return x0.to(dtype), noise.to(dtype)


def test_both_ends_are_exact() -> None:
    x0, noise = pair()
    assert torch.equal(noised(x0, noise, torch.zeros(3)), x0)
    assert torch.equal(noised(x0, noise, torch.ones(3)), noise)
    assert torch.equal(noised(x0, noise, 0.0), x0)


def test_each_sample_has_its_own_sigma() -> None:
    x0, noise = pair()
    sigmas = torch.tensor([0.1, 0.5, 0.9])
    x = noised(x0, noise, sigmas)
    for i, sigma in enumerate((0.1, 0.5, 0.9)):
        assert torch.allclose(x[i], (1 - sigma) * x0[i] + sigma * noise[i], atol=1e-6)


def test_velocity_is_the_slope_of_the_path() -> None:
    x0, noise = (a.double() for a in pair())
    for here, there in pairwise([0.0, 0.2, 0.7, 1.0]):
        slope = (noised(x0, noise, there) - noised(x0, noise, here)) / (there - here)
        assert torch.allclose(slope, velocity(x0, noise), atol=1e-12)


def test_noise_is_mixed_as_diffusers_does() -> None:
    diffusers = pytest.importorskip("diffusers")
    x0, noise = pair()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    times = scheduler.timesteps[[0, 400, 990]]
    theirs = scheduler.scale_noise(x0, times, noise)
    assert torch.allclose(noised(x0, noise, times / 1000), theirs, atol=1e-6)


def test_bf16_data_are_noised_in_float32() -> None:
    x0, noise = pair(torch.bfloat16)
    x = noised(x0, noise, torch.full((3,), 0.3))
    assert x.dtype == torch.float32
    assert torch.allclose(x, 0.7 * x0.float() + 0.3 * noise.float(), atol=1e-6)


def test_shapes_that_would_broadcast_are_refused() -> None:
    x0, noise = pair()
    with pytest.raises(ValueError, match="noise of"):
        noised(x0, noise[:1], torch.zeros(3))
    with pytest.raises(ValueError, match="noise of"):
        velocity(x0, noise[:1])
    with pytest.raises(ValueError, match="sigmas of"):
        noised(x0, noise, torch.zeros(1))


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_sampler_goes_from_1_to_0(shift: float) -> None:
    sigmas = sampling_sigmas(30, shift)
    assert sigmas.shape == (31,) and sigmas.dtype == torch.float64
    assert sigmas[0] == 1 and sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    assert sigmas[15].item() == pytest.approx(shifted(0.5, shift))


def test_no_steps_are_refused() -> None:
    assert sampling_sigmas(1, 3.0).tolist() == [1, 0]
    for steps, shift in ((0, 1.0), (5, 0.0), (5, math.inf)):
        with pytest.raises(ValueError, match="steps with a shift"):
            sampling_sigmas(steps, shift)
