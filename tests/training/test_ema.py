"""The average of the weights: its formula, its precision, and that weights come back untouched."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from curation.errors import ConfigError
from training.ema import Ema


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)).to(dtype)


def parameters(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters())


def test_it_follows_its_formula() -> None:
    module = network()
    ema = Ema(parameters(module), 0.5)
    wanted = {n: p.detach().double().clone() for n, p in module.named_parameters()}
    for done in range(1, 30):
        with torch.no_grad():
            for value in module.parameters():
                value += torch.randn_like(value)
        ema.update(parameters(module), done)
        decay = min(0.5, (1 + done) / (10 + done))
        for name, value in module.named_parameters():
            wanted[name] = decay * wanted[name] + (1 - decay) * value.detach().double()
    for name, value in ema.average.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), wanted[name], rtol=1e-5, atol=1e-6)


def test_the_first_weights_are_soon_forgotten() -> None:
    weights = {"w": torch.zeros(1)}
    ema = Ema(weights, 0.9999)
    weights["w"] += 1
    for done in range(1, 101):
        ema.update(weights, done)
    assert ema.average["w"].item() > 0.99  # a plain mean of such a decay would be at 0.01


def test_small_changes_of_bfloat16_weights_are_kept() -> None:
    weights = {"w": torch.ones(1, dtype=torch.bfloat16)}
    ema = Ema(weights, 0.999)
    weights["w"] += 2**-7  # the next bfloat16
    ema.update(weights, 10**6)
    assert 1 < ema.average["w"].item() < 1 + 2**-15


def test_the_average_is_its_own_memory() -> None:
    weights = {"w": torch.zeros(2)}
    ema = Ema(weights, 0.9)
    weights["w"] += 1
    assert ema.average["w"].tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_applied_for_a_block_alone(dtype: torch.dtype) -> None:
    module = network(dtype)
    ema = Ema(parameters(module), 0.9)
    with torch.no_grad():
        for value in module.parameters():
            value *= 3
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    kept = {n: a.clone() for n, a in ema.average.items()}
    places = {n: p.data_ptr() for n, p in module.named_parameters()}
    with pytest.raises(RuntimeError, match="inside"), ema.applied(module):
        for name, value in module.named_parameters():
            assert value.dtype == dtype and value.data_ptr() == places[name]
            assert torch.equal(value, kept[name].to(dtype))
        assert not torch.equal(module[0].weight, before["0.weight"])  # type: ignore[index]
        raise RuntimeError("inside")
    for name, value in module.named_parameters():
        assert torch.equal(value, before[name]) and value.requires_grad
        assert torch.equal(ema.average[name], kept[name])


def test_gradients_go_on_after_it_was_applied() -> None:
    module = network()
    ema = Ema(parameters(module), 0.9)
    with ema.applied(module), torch.no_grad():
        module(torch.ones(1, 3))
    module(torch.ones(1, 3)).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_gone_on_gives_the_same_bits(tmp_path: object) -> None:
    def run(updates: range, ema: Ema) -> None:
        for done in updates:
            generator = torch.Generator().manual_seed(done)
            new = {n: torch.randn(a.shape, generator=generator) for n, a in ema.average.items()}
            ema.update(new, done)

    whole, first = Ema(parameters(network()), 0.99), Ema(parameters(network()), 0.99)
    run(range(1, 41), whole)
    run(range(1, 21), first)
    path = f"{tmp_path}/ema.safetensors"
    save_file(first.state_dict(), path)
    second = Ema(parameters(network()), 0.99)
    second.load_state_dict(load_file(path))
    run(range(21, 41), second)
    for name, value in whole.average.items():
        assert torch.equal(value, second.average[name])


def test_averages_of_others_are_refused() -> None:
    ema = Ema({"a": torch.zeros(2), "b": torch.zeros(3)}, 0.9)
    before = {n: t.clone() for n, t in ema.state_dict().items()}
    wrong = (
        {"a": torch.ones(2)},
        {"a": torch.ones(2), "b": torch.ones(4)},
        {"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(1)},
        {"a": torch.ones(2), "b": torch.ones(3, dtype=torch.bfloat16)},
    )
    for state in wrong:
        with pytest.raises(ConfigError, match=r"of other weights: [bc]"):
            ema.load_state_dict(state)
    assert all(torch.equal(t, before[n]) for n, t in ema.state_dict().items())


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_a_decay_that_is_none(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        Ema({}, decay)
