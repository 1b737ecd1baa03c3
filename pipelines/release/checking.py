"""Does a release still hold what its manifest says? Sizes, checksums, nothing missing or added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from curation.shards.index import hash_file
from curation.storage import Storage
from pipelines.release.places import MANIFEST, read_manifest, release_folder


@dataclass
class Checked:
    """Outcome of a check.

    Attributes:
        tag: Of the release.
        state: ``released`` or ``withdrawn``.
        revision: How often it was made.
        num_files: Files looked at.
        num_bytes: Their size.
        problems: What is wrong, in words; empty when all is well.
    """

    tag: str
    state: str
    revision: int
    num_files: int = 0
    num_bytes: int = 0
    problems: list[str] = field(default_factory=list)


def check_release(out: str, tag: str, on_bytes: Callable[[int], None] = lambda _: None) -> Checked:
    """Read every file of a release and compare it with the manifest.

    Args:
        out: The dataset root.
        tag: Of the release.
        on_bytes: Called with the size of each file read.

    Raises:
        CatalogError: There is no such release.
    """
    storage, folder = Storage(out), release_folder(tag)
    manifest = read_manifest(storage, tag)
    found = Checked(tag, manifest["state"], manifest["revision"])
    for name, about in manifest["files"].items():
        path = f"{folder}/{name}"
        if not storage.exists(path):
            found.problems.append(f"{name}: missing")
            continue
        sha256, size = hash_file(storage, path)
        found.num_files, found.num_bytes = found.num_files + 1, found.num_bytes + size
        on_bytes(size)
        if (sha256, size) != (about["sha256"], about["bytes"]):
            found.problems.append(f"{name}: bytes differ from the manifest")
    here = {n.removeprefix(f"{folder}/") for n in storage.walk(folder)} - {MANIFEST}
    found.problems += [f"{n}: not in the manifest" for n in sorted(here - set(manifest["files"]))]
    return found
