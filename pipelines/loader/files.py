"""Writing small files that a person named: whole or not at all."""

from __future__ import annotations

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
    temporary = target.with_name(f".{target.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, target)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"cannot be written: {exc.strerror}", where=str(target)) from exc
