"""Guidance: its formulas, also against those of diffusers, and its span."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from training.diffusion.guidance import Guidance, guided


def velocities() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    with_text, without = torch.randn(2, 3, 4, 5, 2, 2, generator=generator)
    # three samples of quite different spread
    return with_text * torch.tensor([0.1, 1, 10]).view(3, 1, 1, 1, 1), without + 0.3


def test_formula() -> None:
    with_text, without = torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 2.0]])
    assert guided(with_text, without, Guidance(scale=4.0)).tolist() == [[9, -2]]
    assert torch.equal(guided(with_text, without, Guidance(scale=0.0)), without)
    assert torch.equal(guided(with_text, without, Guidance(scale=1.0)), with_text)


def test_bf16_is_guided_in_float32() -> None:
    with_text, without = (v.bfloat16() for v in velocities())
    made = guided(with_text, without, Guidance(scale=7.0))
    assert made.dtype == torch.float32
    expected = without.float() + 7 * (with_text.float() - without.float())
    assert torch.allclose(made, expected)


@pytest.mark.parametrize("rescale", [0.0, 0.3, 1.0])
def test_formulas_are_those_of_diffusers(rescale: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.ClassifierFreeGuidance(guidance_scale=5.0, guidance_rescale=rescale)
    with_text, without = velocities()
    made = guided(with_text, without, Guidance(scale=5.0, rescale=rescale))
    expected = theirs.forward(with_text, without).pred
    assert torch.allclose(made, expected, rtol=1e-4, atol=1e-5)


def test_full_rescale_has_the_spread_of_the_text_alone() -> None:
    with_text, without = velocities()
    made = guided(with_text, without, Guidance(scale=5.0, rescale=1.0))
    dims = (1, 2, 3, 4)
    assert torch.allclose(made.std(dims), with_text.std(dims), rtol=1e-4)


def test_samples_do_not_see_one_another() -> None:
    with_text, without = velocities()
    guidance = Guidance(scale=3.0, rescale=0.7)
    whole = guided(with_text, without, guidance)
    alone = guided(with_text[1:2], without[1:2], guidance)
    assert torch.allclose(whole[1:2], alone, rtol=1e-5, atol=1e-6)


def test_what_is_said_of_given_latents_does_not_count() -> None:
    with_text, without = velocities()
    unknown = torch.tensor([0, 0, 1, 1, 1], dtype=torch.bool).view(1, 1, 5, 1, 1)
    guidance = Guidance(scale=3.0, rescale=0.7)
    made = guided(with_text, without, guidance, unknown=unknown)
    free = guided(with_text[:, :, 2:], without[:, :, 2:], guidance)
    assert torch.allclose(made[:, :, 2:], free, rtol=1e-4, atol=1e-5)
    wild = with_text.clone()
    wild[:, :, :2] = 1e4
    assert torch.equal(guided(wild, without, guidance, unknown=unknown)[:, :, 2:], made[:, :, 2:])


def test_a_network_that_says_nothing_makes_no_nan() -> None:
    zeros = torch.zeros(2, 4, 1, 2, 2)
    assert torch.equal(guided(zeros, zeros, Guidance(scale=4.0, rescale=0.7)), zeros)


def test_nothing_unknown_makes_no_nan() -> None:
    with_text, without = velocities()
    nowhere = torch.zeros(3, 1, 5, 1, 1, dtype=torch.bool)
    made = guided(with_text, without, Guidance(scale=4.0, rescale=0.7), unknown=nowhere)
    assert made.isfinite().all()


@pytest.mark.parametrize(
    ("sigma", "on"),
    [(1.0, False), (0.81, False), (0.8, True), (0.5, True), (0.2, False), (0, False)],
)
def test_span(sigma: float, on: bool) -> None:
    assert Guidance(scale=4.0, low=0.2, high=0.8).is_on(sigma) == on
    assert not Guidance(scale=1.0, low=0.2, high=0.8).is_on(sigma)


def test_guidance_is_on_everywhere_by_default_once_it_has_a_scale() -> None:
    assert all(Guidance(scale=2.0).is_on(sigma) for sigma in (1.0, 0.5, 1e-6))
    assert not Guidance().is_on(0.5)
    assert Guidance(scale=0.0).is_on(0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scale": -1.0}, "not below 0, not -1.0"),
        ({"scale": math.nan}, "finite"),
        ({"low": 0.5, "high": 0.5}, "low < high"),
        ({"low": -0.1}, "0 <= low"),
        ({"high": 1.5}, "high <= 1"),
        ({"rescale": 1.1}, "share in"),
        ({"rescale": math.nan}, "share in"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Guidance(**changes)


def test_other_shapes_are_refused() -> None:
    with_text, without = velocities()
    with pytest.raises(ValueError, match="velocities of"):
        guided(with_text, without[:1], Guidance(scale=2.0))
