"""Losses by noise and bucket: weighted, whole, and begun anew when asked for."""

from __future__ import annotations

import math

import pytest
import torch

from training.metrics import StepMetrics


def add(
    metrics: StepMetrics,
    sigmas: list[float],
    losses: list[float],
    weights: list[float] | None = None,
    bucket: str = "9x64x112@8",
) -> None:
    metrics.add(
        bucket=bucket,
        sigmas_B=torch.tensor(sigmas),
        losses_B=torch.tensor(losses),
        weights_B=torch.tensor(weights or [1.0] * len(losses)),
    )


def test_weighted_means_by_noise_and_bucket() -> None:
    metrics = StepMetrics()
    add(metrics, [0.1, 0.2, 0.6], [1.0, 4.0, 7.0], [1.0, 2.0, 1.0])
    add(metrics, [0.05], [5.0], [3.0], bucket="1x64x64@0")
    assert metrics.rows() == pytest.approx(
        {
            "loss_sigma_0.00_0.25": (1 + 8 + 15) / 6,
            "loss_sigma_0.50_0.75": 7.0,
            "loss_bucket_9x64x112@8": (1 + 8 + 7) / 4,
            "loss_bucket_1x64x64@0": 5.0,
        }
    )


def test_asked_for_once_and_begun_anew() -> None:
    metrics = StepMetrics()
    assert metrics.rows() == {}
    add(metrics, [0.1], [1.0])
    assert metrics.rows()["loss_sigma_0.00_0.25"] == 1.0
    assert metrics.rows() == {}
    add(metrics, [0.1], [3.0])
    assert metrics.rows()["loss_sigma_0.00_0.25"] == 3.0


def test_edges_belong_to_the_part_that_begins_there() -> None:
    for sigma, name in (
        (0.0, "0.00_0.25"),
        (0.2499, "0.00_0.25"),
        (0.25, "0.25_0.50"),
        (0.75, "0.75_1.00"),
        (1.0, "0.75_1.00"),
    ):
        metrics = StepMetrics()
        add(metrics, [sigma], [2.0])
        assert [n for n in metrics.rows() if "sigma" in n] == [f"loss_sigma_{name}"]


def test_what_weighs_nothing_or_is_not_finite_is_left_out() -> None:
    metrics = StepMetrics()
    add(metrics, [0.1, 0.1, 0.1, 0.9], [2.0, math.nan, math.inf, math.nan], [1.0, 1.0, 0.0, 0.0])
    add(metrics, [0.9], [9.0], [0.0], bucket="repeats")
    assert metrics.rows() == {"loss_sigma_0.00_0.25": 2.0, "loss_bucket_9x64x112@8": 2.0}


def test_how_steps_are_cut_up_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(3)
    sigmas, losses, weights = torch.rand((3, 64), generator=generator)
    whole, parts = StepMetrics(8), StepMetrics(8)
    for metrics, size in ((whole, 64), (parts, 5)):
        cut = (sigmas.split(size), losses.split(size), weights.split(size))
        for s, x, w in zip(*cut, strict=True):
            metrics.add(bucket="one", sigmas_B=s, losses_B=x, weights_B=w)
    wanted = whole.rows()
    assert parts.rows() == pytest.approx(wanted, rel=1e-12)
    assert len(wanted) == 9
    mean = (losses.double() * weights.double()).sum() / weights.double().sum()
    assert wanted["loss_bucket_one"] == pytest.approx(mean.item(), rel=1e-12)


def test_a_graph_is_not_kept() -> None:
    metrics, losses = StepMetrics(), torch.ones(2, requires_grad=True)
    metrics.add(bucket="one", sigmas_B=torch.rand(2), losses_B=losses * 2, weights_B=torch.ones(2))
    assert metrics._by_sigma is not None and not metrics._by_sigma.requires_grad
    assert metrics.rows()["loss_bucket_one"] == 2.0


def test_no_parts() -> None:
    with pytest.raises(ValueError, match="sigma_parts"):
        StepMetrics(0)
