"""Fetching weights into the models folder, and checking what lies there."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curation.errors import ClipmillError, ConfigError
from curation.models.registry import file_sha256, find_weights, how_to_get, models_folder
from curation.models.weights import Weights

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 60
State = Literal["ok", "unpinned", "changed", "missing"]


@dataclass(frozen=True)
class Finding:
    """One set of weights on this machine.

    Attributes:
        weights: Which.
        state: ``ok``; ``unpinned`` (here, but no digest is known to compare with); ``changed``
            (another file than the one results were checked with, or than was fetched); ``missing``.
        path: Where it lies.
        sha256: Digest of the file that lies there; None unless it was asked for.
    """

    weights: Weights
    state: State
    path: Path | None
    sha256: str | None = None


def look_up(weights: Weights, *, check: bool) -> Finding:
    """Find weights; with ``check`` also read the file and compare its digest."""
    path = find_weights(weights)
    if path is None:
        return Finding(weights, "missing", None)
    expected = weights.sha256 or _fetched_digest(path)
    if not check:
        return Finding(weights, "ok" if expected else "unpinned", path)
    found = file_sha256(path)
    if expected is None:
        return Finding(weights, "unpinned", path, found)
    return Finding(weights, "ok" if found == expected else "changed", path, found)


def pull(weights: Weights, on_bytes: Callable[[int], None] = lambda _: None) -> Path:
    """Fetch weights into the models folder, unless they are on this machine.

    A file appears under its name only when it is whole and, where a digest is known, right. The
    digest of an unpinned file is kept beside it, so that a later change is noticed.

    Args:
        weights: Which.
        on_bytes: Told of every so many bytes received.

    Raises:
        ConfigError: They travel in a package, or are not published anywhere we know.
        ClipmillError: The download failed, or brought another file.
    """
    here = find_weights(weights)
    if here is not None:
        return here
    if weights.hub is None and weights.url is None:
        raise ConfigError(f"{weights.name} is not fetched by itself", mend=how_to_get(weights))
    folder = models_folder()
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / weights.file, folder / f".{weights.file}.{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            _fetch(weights, file.write, on_bytes)
        found = file_sha256(part)
        if weights.sha256 is not None and found != weights.sha256:
            raise ClipmillError(
                f"what came for {weights.name} has the sha256 {found}, not {weights.sha256}",
                where=_address(weights),
                mend="the file was changed where it is published; get the old one elsewhere",
            )
        _digest_file(target).write_text(f"{found}\n")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
        file_sha256.cache_clear()
    return target


def _address(weights: Weights) -> str:
    if weights.url is not None:
        return weights.url
    from huggingface_hub import hf_hub_url

    assert weights.hub is not None
    return hf_hub_url(weights.hub, weights.hub_file or weights.file, revision=weights.revision)


def _fetch(
    weights: Weights, write: Callable[[bytes], object], on_bytes: Callable[[int], None]
) -> None:
    """Stream the published file."""
    address = _address(weights)
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            while block := answer.read(BLOCK_BYTES):
                write(block)
                on_bytes(len(block))
    except (OSError, urllib.error.URLError, ValueError) as exc:
        raise ClipmillError(
            f"cannot fetch {weights.name}: {exc}",
            where=address,
            mend=f"without internet, copy {weights.file} to {models_folder()}",
        ) from exc


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _fetched_digest(path: Path) -> str | None:
    file = _digest_file(path)
    return file.read_text().strip() if file.is_file() else None
