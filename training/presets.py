"""YAML that travels with the package in ``configs/train``, or a file of the user's."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

from curation.errors import ConfigError

BUCKETS = "buckets-"
"""Prefix of the presets that hold buckets alone; the others are trainings."""


def bucket_presets() -> list[str]:
    """Names of the buckets files, without prefix and ending."""
    return [name.removeprefix(BUCKETS) for name in _names() if name.startswith(BUCKETS)]


def training_presets() -> list[str]:
    """Names of the trainings, without ending."""
    return [name for name in _names() if not name.startswith(BUCKETS)]


def text_of(path: str, presets: Callable[[], list[str]], prefix: str = "") -> str:
    """The text of a preset or of a file.

    Args:
        path: Name of a preset, or a file.
        presets: Names that are known.
        prefix: Of the presets' files.

    Raises:
        ConfigError: It is neither.
    """
    if path in presets():
        return (resources.files("configs") / "train" / f"{prefix}{path}.yaml").read_text()
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"cannot be read: {exc}",
            where=path,
            mend=f"a YAML file, or one of: {', '.join(presets())}",
        ) from exc


def _names() -> list[str]:
    names = (entry.name for entry in (resources.files("configs") / "train").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))
