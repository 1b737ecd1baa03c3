"""Writing small files that a person named: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from curation.errors import ConfigError


def write_text(path: str, text: str) -> None:
    """Write a text file; see :func:`write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: str, data: bytes) -> None:
    """Write a file under a temporary name, then rename it.

    Raises:
        ConfigError: It cannot be written there.
    """
    target = Path(path)
    if not target.name or "\0" in path:
        raise ConfigError("is no name of a file", where=repr(path), mend="name a file to write")
    temporary = target.with_name(f".{target.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, target)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ConfigError(f"cannot be written: {exc.strerror}", where=str(target)) from exc
