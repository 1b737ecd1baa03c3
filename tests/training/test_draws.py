"""Draws of a step: by key alone."""

from __future__ import annotations

import torch

from training.draws import SampleDraws, keyed_normal

KEYS = ["a" * 32, "b" * 32, "c" * 32]


def test_a_draw_depends_on_its_key_and_not_on_its_neighbours() -> None:
    together, alone = SampleDraws(5, 2, KEYS), SampleDraws(5, 2, KEYS[1:2])
    assert torch.equal(together.uniform("mode")[1:2], alone.uniform("mode"))
    assert torch.equal(together.normal("noise", (2, 3))[1:2], alone.normal("noise", (2, 3)))


def test_seed_epoch_purpose_and_key_each_change_it() -> None:
    found = [
        SampleDraws(seed, epoch, [key]).normal(purpose, (4,))[0]
        for seed in (0, 1)
        for epoch in (0, 1)
        for purpose in ("noise", "posterior")
        for key in KEYS
    ]
    assert len({tuple(values.tolist()) for values in found}) == len(found)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    SampleDraws(0, 0, KEYS).normal("noise", (100,))
    assert torch.equal(torch.rand(3), expected)


def test_golden_numbers() -> None:
    """A change of these is another training for everybody who goes on with one."""
    draws = SampleDraws(0, 0, KEYS)
    assert [round(v, 12) for v in draws.uniform("noise-time").tolist()] == UNIFORM
    assert keyed_normal(0, 0, "noise", 7, (3,)).tolist() == NORMAL


def test_normal_numbers_are_normal() -> None:
    values = keyed_normal(0, 0, "noise", 1, (100_000,)).double()
    assert abs(values.mean()) < 0.02 and abs(values.std() - 1) < 0.02
    other = keyed_normal(0, 0, "noise", 2, (100_000,)).double()
    assert abs((values * other).mean()) < 0.02


UNIFORM = [0.976173083136, 0.156754009973, 0.920420414539]
NORMAL = [1.933306097984314, -0.04600724205374718, -0.04366966336965561]
