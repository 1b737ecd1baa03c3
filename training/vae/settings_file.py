"""A VAE's training from a YAML file or a preset's name, with dotted overrides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from curation.errors import ConfigError
from curation.yaml_settings import apply_override, explained, mapping_in
from training.presets import text_of, training_presets
from training.vae.settings import VaeTraining


def read_training(path: str, overrides: Sequence[str] = ()) -> VaeTraining:
    """Read a file or preset, apply ``key.sub=value`` overrides, and check everything.

    Args:
        path: YAML file, or a preset's name (``vae-small``).
        overrides: ``steps=100``, ``data.sources.0.root=OUT``, ``optimizer.lr=5e-4``.

    Raises:
        ConfigError: An unknown or mistyped key or value.
    """
    data = mapping_in(text_of(path, training_presets), path)
    for text in overrides:
        apply_override(data, text)
    return training_of(data, path)


def training_of(data: dict[str, Any], where: str) -> VaeTraining:
    """Settings of a mapping.

    Raises:
        ConfigError: It is another kind of training, or a key or value is wrong.
    """
    kind = data.get("kind")
    if kind != "vae":
        raise ConfigError(
            f"is a training of kind {kind!r}", where=where, mend="kind: vae is the one there is"
        )
    try:
        return VaeTraining.model_validate(data)
    except ValidationError as exc:
        raise explained(exc, VaeTraining, where) from exc
