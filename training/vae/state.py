"""The state of a VAE's training as one file: written whole or not at all, without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from curation.errors import ConfigError
from training.files import written_whole

KEY = "clipmill_vae_training"


def save_state(path: Path, groups: dict[str, dict[str, Tensor]], about: dict[str, Any]) -> None:
    """Write named groups of tensors, under a temporary name first.

    Args:
        path: To write.
        groups: Name of a group to its tensors.
        about: Plain JSON.
    """
    flat = {
        f"{group}/{name}": tensor.detach().cpu().contiguous()
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
    }
    with written_whole(path) as temporary:
        save_file(flat, temporary, {KEY: json.dumps(about, sort_keys=True)})


def load_state(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What :func:`save_state` wrote; a group without tensors is left out.

    Raises:
        ConfigError: The file is damaged or another one.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as stored:
            about = json.loads(stored.metadata()[KEY])
            for full in stored.keys():  # noqa: SIM118 - no mapping
                group, _, name = full.partition("/")
                groups.setdefault(group, {})[name] = stored.get_tensor(full)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as exc:
        raise ConfigError(
            f"is no checkpoint of a VAE's training: {exc}",
            where=str(path),
            mend="remove it to begin anew",
        ) from exc
    return groups, about


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
