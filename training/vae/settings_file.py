"""A VAE's training from a YAML file or a preset's name, with dotted overrides."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from curation.errors import ConfigError
from curation.yaml_settings import apply_override, explained, mapping_in
from training.data.settings_file import PREFIX
from training.vae.settings import VaeTraining


def read_training(path: str, overrides: Sequence[str] = ()) -> VaeTraining:
    """Read a file or preset, apply ``key.sub=value`` overrides, and check everything.

    Args:
        path: YAML file, or a preset's name (``vae-small``).
        overrides: ``steps=100``, ``data.sources.0.root=OUT``, ``optimizer.lr=5e-4``.

    Raises:
        ConfigError: An unknown or mistyped key or value.
    """
    data = mapping_in(_text(path), path)
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


def training_presets() -> list[str]:
    """Names of the trainings that travel with the package."""
    folder = resources.files("configs") / "train"
    names = (entry.name for entry in folder.iterdir())
    return sorted(
        name.removesuffix(".yaml")
        for name in names
        if name.endswith(".yaml") and not name.startswith(PREFIX)
    )


def _text(path: str) -> str:
    if path in training_presets():
        return (resources.files("configs") / "train" / f"{path}.yaml").read_text()
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"cannot be read: {exc}",
            where=path,
            mend=f"a YAML file, or one of: {', '.join(training_presets())}",
        ) from exc
