"""What goes around the data of a release: counts, card, Croissant, checksums, the manifest last.

Everything is told from the release's own files and the manifest, never from the catalog, so that a
release which was rebuilt without some clips describes itself as it is now.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.shards.index import hash_file
from curation.storage import Storage
from pipelines.release.card import CARD, card_text
from pipelines.release.croissant import CROISSANT, croissant_json
from pipelines.release.figures import Figures, gather
from pipelines.release.frozen import Frozen
from pipelines.release.places import MANIFEST

NOT_VALIDATED = "not validated: install clipmill[release]"


def describe(
    storage: Storage,
    folder: str,
    manifest: Mapping[str, Any],
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write card, Croissant and manifest of a folder that holds its shards and tables.

    Args:
        storage: The dataset root.
        folder: Of the release, relative to it.
        manifest: What is known beside the files.
        known: Files of the release whose ``sha256`` and ``bytes`` need not be read again.

    Returns:
        The manifest as written, with ``counts``, ``croissant`` and ``files``.
    """
    frozen = Frozen(storage, folder)
    figures = gather(frozen, manifest)
    files = {
        name: dict((known or {}).get(name) or _sum(storage, f"{folder}/{name}"))
        for name in frozen.files()
        if name not in (MANIFEST, CARD, CROISSANT)
    }
    croissant = croissant_json(frozen, manifest, figures, files)
    storage.write_bytes(f"{folder}/{CROISSANT}", _pretty(croissant))
    outcome = validate(croissant)
    full = {**manifest, "counts": counts_of(figures, files), "croissant": outcome}
    storage.write_bytes(f"{folder}/{CARD}", card_text(full, figures).encode())
    for name in (CARD, CROISSANT):
        files[name] = _sum(storage, f"{folder}/{name}")
    full["files"] = dict(sorted(files.items()))
    write_manifest(storage, f"{folder}/{MANIFEST}", full)
    return full


def write_manifest(storage: Storage, name: str, manifest: Mapping[str, Any]) -> None:
    """Write a manifest, which makes a folder a release."""
    storage.write_bytes(name, _pretty(manifest))


def counts_of(figures: Figures, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The few numbers that a list of releases shows."""
    shards = [about for name, about in files.items() if name.endswith(".tar")]
    return {
        "clips": figures.clips["num_clips"],
        "seconds": round(figures.clips["seconds"], 3),
        "videos": figures.clips["num_videos"],
        "sources": sum(figures.sources.values()),
        "captions": figures.num_captions,
        "shards": len(shards),
        "shard_bytes": sum(about["bytes"] for about in shards),
    }


def validate(croissant: Mapping[str, Any]) -> str:
    """Ask the reference library whether a description is a Croissant; says how that went.

    Raises:
        ValueError: It is none, which is a bug here and no fault of the data.
    """
    try:
        import mlcroissant
    except ImportError:
        return NOT_VALIDATED
    from importlib.metadata import version

    folder = tempfile.mkdtemp(prefix="clipmill-croissant-")
    try:
        path = Path(folder) / CROISSANT
        path.write_text(json.dumps(croissant))
        mlcroissant.Dataset(path)
    except mlcroissant.ValidationError as exc:
        raise ValueError(f"croissant.json: {exc}") from exc
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
    return f"validated with mlcroissant {version('mlcroissant')}"


def _sum(storage: Storage, name: str) -> dict[str, Any]:
    sha256, size = hash_file(storage, name)
    return {"sha256": sha256, "bytes": size}


def _pretty(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n").encode()
