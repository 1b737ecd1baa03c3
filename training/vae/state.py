"""The state of a VAE's training as one file: written whole or not at all, without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
