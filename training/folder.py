"""The folder of a training: one run at a time."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import IO, Any

from curation.errors import ConfigError
from curation.ids import canonical_json
from training.files import write_text

LOCK, SETTINGS = "lock", "settings.json"


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


def take_folder(out: Path, settings: dict[str, Any], *, holds_a_run: bool) -> IO[str]:
    """Hold a folder for a run of some settings and write them down, or refuse it.

    Args:
        out: Of the run.
        settings: Those that decide what comes out, plain JSON.
        holds_a_run: A checkpoint is there: settings must be the same.

    Returns:
        The lock, see :func:`hold_folder`.

    Raises:
        ConfigError: Another run holds it, or it is of other settings.
    """
    lock = hold_folder(out)
    path = out / SETTINGS
    try:
        if holds_a_run and not same_settings(path, settings):
            raise ConfigError(
                "holds a training with other settings",
                where=str(out),
                mend=f"another --out, or the settings of its {SETTINGS}",
            )
        write_text(path, json.dumps(settings, indent=2, sort_keys=True) + "\n")
    except BaseException:
        lock.close()
        raise
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
