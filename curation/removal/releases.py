"""Releases: which of them hold what is gone. Making them anew is another room's matter."""

from __future__ import annotations

import tarfile

from curation.errors import CatalogError, DamagedError
from curation.removal.files import RELEASES
from curation.removal.gone import Gone
from curation.removal.inside import gone_in_file
from curation.storage import Storage

MAKING, REBUILT = ".making-", ".rebuilt-"
"""How folders of releases under way begin."""


def release_tags(storage: Storage) -> list[str]:
    """Names of the releases of a dataset root, sorted; one that is half rebuilt counts."""
    folders = {name.split("/")[1] for name in storage.walk(RELEASES) if name.count("/") > 1}
    tags = {folder.removeprefix(REBUILT) for folder in folders}
    return sorted(tag for tag in tags if not tag.startswith("."))


def remove_half_made(storage: Storage) -> None:
    """Remove what a killed process left of a release that never came to be."""
    for name in storage.walk(RELEASES):
        if name.startswith(f"{RELEASES}/{MAKING}"):
            storage.remove(name)


def releases_with(storage: Storage, gone: Gone) -> list[str]:
    """Tags of the releases that hold any of what is gone.

    Raises:
        CatalogError: A file of a release cannot be read.
    """
    return [tag for tag in release_tags(storage) if _holds(storage, tag, gone)]


def _holds(storage: Storage, tag: str, gone: Gone) -> bool:
    mine = (f"{RELEASES}/{tag}", f"{RELEASES}/{REBUILT}{tag}")
    for name in (name for folder in mine for name in storage.walk(folder)):
        try:
            if gone.names(name) or next(gone_in_file(storage, name, gone), None) is not None:
                return True
        except (OSError, tarfile.TarError, DamagedError) as exc:
            why = exc.what if isinstance(exc, DamagedError) else exc
            raise CatalogError(
                f"cannot be read: {why}", where=name, mend="remove or withdraw the release first"
            ) from exc
    return False
