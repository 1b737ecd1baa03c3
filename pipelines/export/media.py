"""The MP4 files of exported clips: where they are, linked, copied or read."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from curation.errors import CatalogError
from curation.storage import Storage

MEDIA = ("media_path", "media_bytes", "media_sha256")
"""Columns of a clip that say where its file is and what is in it."""


def read_media(storage: Storage, row: dict[str, Any]) -> bytes:
    """The bytes of a clip's file, checked.

    Raises:
        CatalogError: The file is missing or holds other bytes.
    """
    try:
        data = storage.read_bytes(row["media_path"])
    except FileNotFoundError:
        data = None
    if data is None or hashlib.sha256(data).hexdigest() != row["media_sha256"]:
        raise CatalogError(
            f"the media of clip {row['clip_id']} {'is missing' if data is None else 'is damaged'}",
            where=row["media_path"],
            mend="put the file back, or see `clipmill verify OUT`",
        )
    return data


def place_media(storage: Storage, row: dict[str, Any], target: Path) -> None:
    """Give a clip's file a second name, or copy it.

    Raises:
        CatalogError: The file is missing or holds other bytes.
    """
    if storage.local:
        with contextlib.suppress(OSError):  # missing, another disk, or no links here
            os.link(storage.path(row["media_path"]), target)
            return
    target.write_bytes(read_media(storage, row))
