"""The folder of a training: one run at a time."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import IO, Any

from curation.errors import ConfigError
from curation.ids import canonical_json

LOCK = "lock"


def hold_folder(out: Path) -> IO[str]:
    """Make a folder and hold it for as long as the file that is returned is open.

    Raises:
        ConfigError: It cannot be made, or another run holds it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("w")
    except OSError as exc:
        raise ConfigError(f"cannot be written to: {exc.strerror}", where=str(out)) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        lock.close()
        raise ConfigError(
            "another run is training here", where=str(out), mend="wait for it, or another --out"
        ) from exc
    return lock


def same_settings(path: Path, mine: dict[str, Any]) -> bool:
    """Does a file hold these settings?

    Raises:
        ConfigError: It is missing or damaged.
    """
    try:
        return canonical_json(json.loads(path.read_text())) == canonical_json(mine)
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"is damaged: {exc}", where=str(path), mend="another --out, or remove the folder"
        ) from exc
