"""A training from a YAML file or a preset's name, with dotted overrides; ``kind`` says of what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from curation.errors import ConfigError
from curation.yaml_settings import apply_override, explained, mapping_in
from training.presets import text_of, training_presets
from training.settings import DenoiserTraining
from training.vae.settings import VaeTraining

KINDS: dict[str, type[VaeTraining] | type[DenoiserTraining]] = {
    "vae": VaeTraining,
    "denoiser": DenoiserTraining,
}


def read_training(path: str, overrides: Sequence[str] = ()) -> VaeTraining | DenoiserTraining:
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


def training_of(data: dict[str, Any], where: str) -> VaeTraining | DenoiserTraining:
    """Settings of a mapping.

    Raises:
        ConfigError: It is of no known kind, or a key or value is wrong.
    """
    kind = data.get("kind")
    if kind not in KINDS:
        raise ConfigError(
            f"is a training of kind {kind!r}", where=where, mend=f"kind: {' or '.join(KINDS)}"
        )
    try:
        return KINDS[kind].model_validate(data)
    except ValidationError as exc:
        raise explained(exc, KINDS[kind], where) from exc
