"""The denoiser's network: sizes, what depends on what, both kinds of attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from training.models.dit import PRESETS, Dit, DitConfig, from_tokens, preset, to_tokens
from training.models.rope import pairs_of, rope_angles, turned

SMALL = DitConfig(latent_channels=4, text_dim=6, width=48, depth=2, heads=2)


def network(config: DitConfig = SMALL) -> Dit:
    """With weights that are nowhere zero, so that everything matters."""
    torch.manual_seed(0)
    made = Dit(config)
    with torch.no_grad():
        for weights in made.parameters():
            weights.add_(torch.randn_like(weights) * 0.1)
    return made.eval()


def inputs(samples: int = 2, frames: int = 3, high: int = 4, wide: int = 6) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "x_BCthw": torch.randn(samples, 4, frames, high, wide),
        "sigma_B": torch.rand(samples),
        "given_BCthw": torch.randn(samples, 4, frames, high, wide),
        "mask_BSthw": torch.rand(samples, 4, frames, high, wide).round(),
        "text_BLD": torch.randn(samples, 5, 6),
        "text_mask_BL": torch.tensor([[True] * 5, [True, True, False, False, False]])[:samples],
        "fps_B": torch.tensor([8.0, 24.0])[:samples],
        "times_Bt": torch.arange(frames)[None] * torch.tensor([[0.5], [4 / 24]])[:samples],
    }


def run(made: Dit, **changed: Any) -> Tensor:  # noqa: ANN401
    with torch.no_grad():
        return made(**inputs() | changed)


@pytest.mark.parametrize("attention", ["full", "factorised"])
def test_every_input_moves_the_velocity(attention: Any) -> None:  # noqa: ANN401
    made = network(replace(SMALL, attention=attention))
    plain = run(made)
    assert plain.shape == (2, 4, 3, 4, 6)
    for name, value in inputs().items():
        other = ~value if name == "text_mask_BL" else value * 1.5 + 0.3
        if name == "text_mask_BL":
            other[:, 0] = True
        assert not torch.allclose(run(made, **{name: other}), plain, atol=1e-4), name


def test_a_new_network_says_nothing_and_learns_at_once() -> None:
    made = Dit(SMALL)
    found = made(**inputs())
    assert not found.any()
    (found - 1).square().mean().backward()
    assert made.leave.weight.grad is not None and made.leave.weight.grad.abs().sum() > 0


def test_padding_of_a_text_does_not_count() -> None:
    made, given = network(), inputs()
    text = given["text_BLD"].clone()
    text[1, 2:] = 1e3
    assert torch.equal(run(made, text_BLD=text), run(made))
    longer = torch.cat([given["text_BLD"], torch.ones(2, 3, 6)], 1)
    mask = torch.cat([given["text_mask_BL"], torch.zeros(2, 3, dtype=torch.bool)], 1)
    assert torch.allclose(run(made, text_BLD=longer, text_mask_BL=mask), run(made), atol=1e-5)


def test_samples_do_not_see_one_another() -> None:
    made, given = network(), inputs()
    whole = run(made)
    alone = {name: value[1:] for name, value in given.items()}
    with torch.no_grad():
        assert torch.allclose(made(**alone), whole[1:], atol=1e-5)


def test_time_counts_by_distance_and_in_seconds() -> None:
    """Moving all frames by a second changes nothing; stretching their distances does."""
    made, times = network(), inputs()["times_Bt"]
    plain = run(made)
    assert torch.allclose(run(made, times_Bt=times + 1.0), plain, atol=1e-4)
    assert not torch.allclose(run(made, times_Bt=times * 2), plain, atol=1e-3)


def test_factorised_blocks_see_a_frame_then_a_place() -> None:
    """After a block over space alone a frame does not depend on others; after two it does."""
    for depth, sees in ((1, False), (2, True)):
        made = network(replace(SMALL, attention="factorised", depth=depth))
        moved = inputs()["x_BCthw"].clone()
        moved[:, :, 0] += 1
        changed = (run(made, x_BCthw=moved) - run(made)).abs().amax((0, 1, 3, 4))
        assert changed[0] > 1e-3
        assert (changed[1:] > 1e-4).all() if sees else (changed[1:] == 0).all()


def test_both_kinds_of_attention_have_the_same_weights() -> None:
    full, factorised = Dit(SMALL), Dit(replace(SMALL, attention="factorised"))
    factorised.load_state_dict(full.state_dict())


@pytest.mark.parametrize("attention", ["full", "factorised"])
def test_checkpointing_gives_the_same_gradients(attention: Any) -> None:  # noqa: ANN401
    made, found = network(replace(SMALL, attention=attention)), []
    for made.checkpointing in (False, True):
        made.zero_grad()
        made(**inputs()).square().sum().backward()
        found.append([p.grad.clone() for p in made.parameters() if p.grad is not None])
    assert len(found[0]) == len(list(made.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_patches_there_and_back() -> None:
    x = torch.randn(2, 3, 2, 4, 6)
    tokens = to_tokens(x, (1, 2, 2))
    assert tokens.shape == (2, 2 * 2 * 3, 3 * 4)
    assert torch.equal(from_tokens(tokens, (2, 2, 3), (1, 2, 2)), x)
    with pytest.raises(ValueError, match="not divisible by patches"):
        network()(**inputs(high=3))


@pytest.mark.parametrize(
    ("name", "millions"),
    [("debug", 5.3), ("small", 30.2), ("base", 119.6), ("large", 413.8), ("1b", 1080.8)],
)
def test_presets_have_their_stated_sizes(name: str, millions: float) -> None:
    with torch.device("meta"):
        made = Dit(PRESETS[name])
    assert sum(p.numel() for p in made.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"width": 50, "heads": 3}, "not divisible by 3 heads"),
        ({"width": 4, "heads": 1}, "even number of channels from 6"),
        ({"depth": 0}, "depth"),
        ({"patch": (2, 2, 2)}, "one latent frame"),
    ],
)
def test_sizes_that_do_not_fit(sizes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        preset("debug", **sizes)


def test_rotation_depends_on_distance_alone() -> None:
    """<turn(q, a), turn(k, b)> is a function of a - b, on each axis."""
    torch.manual_seed(2)
    q, k = torch.randn(2, 16).double()
    assert sum(pairs_of(16)) == 8

    def product(a: Tensor, b: Tensor) -> Tensor:
        return (turned(q, a.cos(), a.sin()) * turned(k, b.cos(), b.sin())).sum()

    times = torch.tensor([[0.0, 0.25, 1.25]])
    angles = rope_angles(times, 3, 3, 16)[0].double().unflatten(0, (3, 3, 3))
    rows = product(angles[0, 0, 0], angles[0, 1, 0])
    shifted = product(angles[1, 1, 2], angles[1, 2, 2])
    torch.testing.assert_close(rows, shifted, rtol=1e-4, atol=1e-4)
    columns = product(angles[0, 0, 0], angles[0, 0, 2])
    shifted = product(angles[2, 1, 0], angles[2, 1, 2])
    torch.testing.assert_close(columns, shifted, rtol=1e-4, atol=1e-4)
    assert product(angles[0, 0, 0], angles[1, 0, 0]) != product(angles[1, 0, 0], angles[2, 0, 0])
    assert torch.equal(angles[0, 0, 0], torch.zeros(8).double())
