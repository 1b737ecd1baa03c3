"""Where a source's bytes lie on this machine: its scratch folder, and whether they are the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import psutil
from fsspec.implementations.local import LocalFileSystem

from curation.ids import digest
from curation.storage import Storage, fetch


@contextlib.contextmanager
def scratch_folder(storage: Storage, key: str) -> Iterator[Path]:
    """A local folder for one unit's work.

    A killed worker leaves its folder, with a copy of a remote source perhaps: the next attempt at
    the same unit on this machine removes it.
    """
    prefix = f"clipmill-unit-{digest(storage.url, key)[:16]}-"
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        owner = old.name.removeprefix(prefix).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-") as folder:
        yield Path(folder)


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
