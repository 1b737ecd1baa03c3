"""Where a source's bytes lie on this machine, and whether they are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from curation.storage import fetch


def hash_source(uri: str, scratch: Path, beat: Callable[[], None]) -> tuple[dict[str, Any], str]:
    """Read a source whole, once; a remote one is copied to ``scratch`` on the way.

    Returns:
        Its virtual columns (``uri``, ``local_path``, ``size_bytes``), and the sha256 of its bytes.

    Raises:
        MediaError: See :func:`curation.storage.fetch`.
    """
    sha, size_bytes = hashlib.sha256(), 0

    def on_chunk(chunk: bytes) -> None:
        nonlocal size_bytes
        size_bytes += len(chunk)
        sha.update(chunk)
        beat()

    path = fetch(uri, scratch, on_chunk, suffix=PurePosixPath(uri).suffix[:8])
    return {"uri": uri, "local_path": path, "size_bytes": size_bytes}, sha.hexdigest()


def local_path_if_unchanged(uri: str, etag: str) -> dict[str, Any] | None:
    """The virtual columns of a local source in the state of ``etag``.

    Returns:
        None when it is remote, gone, or in another state: read it again to be sure.
    """
    if "://" in uri:
        return None
    try:
        info = LocalFileSystem().info(uri)
    except OSError:
        return None
    if f"{info['size']}-{info['mtime']}" != etag:
        return None
    return {"uri": uri, "local_path": uri, "size_bytes": int(info["size"])}
