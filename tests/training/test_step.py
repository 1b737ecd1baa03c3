"""The loss of a step: one denominator, unknown places alone, however the step is cut."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from training.step import Inputs, unknown_numbers, weighted_loss

B, C, T, H, W = 4, 2, 3, 2, 2


class Line(nn.Module):
    """The simplest network that has something to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, x_BCthw: Tensor, sigma_B: Tensor, **told: Tensor) -> Tensor:
        return x_BCthw * self.weight[0] + told["given_BCthw"] * self.weight[1]


def some(count: int = B) -> Inputs:
    torch.manual_seed(3)
    shape = (count, C, T, H, W)
    return Inputs(
        x0_BCthw=torch.randn(shape),
        noise_BCthw=torch.randn(shape),
        sigma_B=torch.rand(count),
        given_BCthw=torch.randn(shape),
        mask_BSthw=torch.zeros(count, 4, T, H, W),
        unknown_Bt=torch.tensor(
            [[True] * 3, [False, True, True], [False, False, True], [True] * 3]
        )[:count],
        weights_B=torch.tensor([1.0, 1.0, 1.0, 0.0])[:count],
        text_BLD=torch.zeros(count, 1, 1),
        text_mask_BL=torch.ones(count, 1, dtype=torch.bool),
        fps_B=torch.ones(count),
        times_Bt=torch.zeros(count, T),
    )


def part(inputs: Inputs, start: int, end: int) -> Inputs:
    return Inputs(*(getattr(inputs, f.name)[start:end] for f in fields(inputs)))


def numbers(inputs: Inputs) -> float:
    return unknown_numbers(inputs.unknown_Bt, inputs.weights_B, C * H * W)


def gradient(cuts: list[int], inputs: Inputs) -> tuple[float, Tensor]:
    network, total, loss = Line(), numbers(inputs), 0.0
    for start, end in zip([0, *cuts], [*cuts, B], strict=True):
        piece, _ = weighted_loss(network, part(inputs, start, end), total)
        piece.backward()
        loss += piece.item()
    assert network.weight.grad is not None
    return loss, network.weight.grad


def test_the_loss_is_the_mean_over_unknown_numbers_of_samples_that_count() -> None:
    inputs = some()
    assert numbers(inputs) == (3 + 2 + 1) * C * H * W
    sigma = inputs.sigma_B.view(-1, 1, 1, 1, 1)
    x = (1 - sigma) * inputs.x0_BCthw + sigma * inputs.noise_BCthw
    network = Line()
    made = network(x, inputs.sigma_B, given_BCthw=inputs.given_BCthw)
    error = (made - (inputs.noise_BCthw - inputs.x0_BCthw)).square()
    counts = (inputs.unknown_Bt & (inputs.weights_B > 0)[:, None])[:, None, :, None, None]
    wanted = error[counts.expand_as(error)].mean()
    loss, each = weighted_loss(network, inputs, numbers(inputs))
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(each[2], error[2, :, 2].mean().detach())
    assert not each.requires_grad


@pytest.mark.parametrize("cuts", [[2], [1], [1, 2, 3], [3]])
def test_however_a_step_is_cut_the_gradient_is_the_same(cuts: list[int]) -> None:
    """Also where one microbatch has more that counts than another: no mean of means."""
    whole, other = gradient([], some()), gradient(cuts, some())
    assert other[0] == pytest.approx(whole[0], rel=1e-5)
    torch.testing.assert_close(other[1], whole[1])


def test_what_is_known_or_weighs_nothing_does_not_count() -> None:
    inputs = some()
    x0 = inputs.x0_BCthw.clone()
    x0[1, :, 0] += 5
    x0[3] += 5
    moved = replace(inputs, x0_BCthw=x0)
    assert gradient([2], moved)[0] == pytest.approx(gradient([2], inputs)[0], rel=1e-6)


def test_a_sample_that_is_all_given_has_no_loss_and_no_nan() -> None:
    inputs = replace(some(), unknown_Bt=torch.zeros(B, T, dtype=torch.bool))
    assert numbers(inputs) == 0
    loss, each = weighted_loss(Line(), inputs, 1.0)
    assert loss.item() == 0 and not each.any()
