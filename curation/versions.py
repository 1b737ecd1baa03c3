"""Versions of the libraries a result depends on: recorded with each run, never part of a key."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = (
    "clipmill",
    "av",
    "opencv-python-headless",
    "scenedetect-headless",
    "numpy",
    "pyarrow",
    "pylance",
    "duckdb",
    "ray",
    "torch",
)


def library_versions() -> dict[str, str | None]:
    """Version of each library, None when it is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions
