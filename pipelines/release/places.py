"""Where releases lie, and how a folder of many files comes into being all at once.

    OUT/releases/TAG/             a release: complete when it has its manifest.json
    OUT/releases/.making-TAG/     a first making under way; worthless after a crash
    OUT/releases/.rebuilt-TAG/    the successor of a release; decided once it has its manifest

On a local disk a new release appears by one rename. A rebuilt one takes the place of its
predecessor file by file: the old manifest goes first and the new one comes last, so that half of
each is never taken for a release. What a crash leaves is brought to its end by :func:`recover`.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Any

from curation.errors import CatalogError, ConfigError
from curation.storage import Storage

FOLDER = "releases"
MANIFEST = "manifest.json"
MAKING, REBUILT = ".making-", ".rebuilt-"
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_tag(tag: str) -> str:
    """A tag that is a safe name of a folder and of a Lance version.

    Raises:
        ConfigError: It is not.
    """
    if TAG.fullmatch(tag) and ".." not in tag and not tag.endswith((".", ".lock")):
        return tag
    raise ConfigError(
        f"{tag!r} is no name for a release",
        where="--tag",
        mend="letters, digits, dots, hyphens and underscores, a letter or digit first: v1.0",
    )


def release_folder(tag: str) -> str:
    """Folder of a release, relative to the dataset root."""
    return f"{FOLDER}/{check_tag(tag)}"


def folders(storage: Storage) -> list[str]:
    """Names of all folders below ``releases``, half-made ones too."""
    storage.fs.invalidate_cache()
    try:
        entries = storage.fs.ls(storage.path(FOLDER), detail=True)
    except FileNotFoundError:
        return []
    return sorted(
        PurePosixPath(str(e["name"]).rstrip("/")).name for e in entries if e["type"] == "directory"
    )


def release_tags(storage: Storage) -> list[str]:
    """Tags of the releases that are complete, withdrawn ones too, sorted."""
    names = (n for n in folders(storage) if TAG.fullmatch(n))
    return [n for n in names if storage.exists(f"{FOLDER}/{n}/{MANIFEST}")]


def read_manifest(storage: Storage, tag: str) -> dict[str, Any]:
    """The manifest of a release.

    Raises:
        CatalogError: There is no such release, or its manifest cannot be read.
    """
    name = f"{release_folder(tag)}/{MANIFEST}"
    found = storage.read_json(name)
    if isinstance(found, dict):
        return found
    if storage.exists(name):
        raise CatalogError("the manifest is damaged", where=name, mend="make the release anew")
    known = release_tags(storage)
    raise CatalogError(
        f"there is no release {tag!r}",
        where=storage.url,
        mend=f"one of: {', '.join(known)}" if known else "none was made yet: clipmill release OUT",
    )


def recover(storage: Storage) -> list[str]:
    """Bring what a crash left to its end; the caller holds the lease.

    Returns:
        Tags whose first making was given up: nothing of it remains here.
    """
    lost = []
    for name in folders(storage):
        if name.startswith(MAKING):
            storage.remove_tree(f"{FOLDER}/{name}")
            lost.append(name.removeprefix(MAKING))
        elif name.startswith(REBUILT):
            staged, tag = f"{FOLDER}/{name}", name.removeprefix(REBUILT)
            if storage.read_json(f"{staged}/{MANIFEST}") is None:
                storage.remove_tree(staged)
            else:
                take_place(storage, staged, f"{FOLDER}/{tag}")
    for tag in release_tags(storage):
        if read_manifest(storage, tag)["state"] == "withdrawn":
            clear_withdrawn(storage, tag)
    return lost


def clear_withdrawn(storage: Storage, tag: str) -> None:
    """Remove all of a withdrawn release but its manifest."""
    folder = release_folder(tag)
    for name in storage.walk(folder):
        if name != f"{folder}/{MANIFEST}":
            storage.remove(name)
    _remove_empty_folders(storage, folder)


def publish(storage: Storage, staged: str, final: str) -> None:
    """Give a new release its name; the manifest makes it valid."""
    storage.remove_tree(final)  # without a manifest: half of one that was made on a remote store
    if storage.local:
        os.rename(storage.path(staged), storage.path(final))
    else:
        take_place(storage, staged, final)


def take_place(storage: Storage, staged: str, final: str) -> None:
    """Put the files of a folder in the place of another's; may be repeated after a crash."""
    storage.remove(f"{final}/{MANIFEST}")
    wanted = set(storage.read_json(f"{staged}/{MANIFEST}")["files"])
    for name in storage.walk(staged):
        inner = name.removeprefix(f"{staged}/")
        if inner != MANIFEST:
            storage.rename(name, f"{final}/{inner}")
    for name in storage.walk(final):
        if name.removeprefix(f"{final}/") not in wanted:
            storage.remove(name)
    storage.rename(f"{staged}/{MANIFEST}", f"{final}/{MANIFEST}")
    storage.remove_tree(staged)
    _remove_empty_folders(storage, final)


def remove_release(storage: Storage, folder: str) -> None:
    """Remove a release; the manifest first, so that half of it is none."""
    storage.remove(f"{folder}/{MANIFEST}")
    storage.remove_tree(folder)


def _remove_empty_folders(storage: Storage, folder: str) -> None:
    if not storage.local:
        return
    for path, _, _ in os.walk(storage.path(folder), topdown=False):
        if not os.listdir(path):
            os.rmdir(path)
