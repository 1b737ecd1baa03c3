"""Files of a dataset root: which of them hold what is gone, by their names alone."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import cast

from curation.captions.ledger import FOLDER as REPLIES
from curation.captions.ledger import Ledger
from curation.catalog.catalog import FOLDER as CATALOG
from curation.catalog.lease import LOCK
from curation.catalog.lease import NAME as LEASE
from curation.removal.gone import Gone
from curation.removal.removal import FOLDER as RECORDS
from curation.removal.removal import NEEDLES, NOTE
from curation.schema import SIBLINGS_FOLDER
from curation.shards.index import FOLDER as SHARDS
from curation.shards.swap import STAGING
from curation.storage import Storage

REPORT = "report"
DUPLICATES = "dedup"
"""Clips that look alike in crowds (``curation/dedup/edges.py``): found again when missing."""
RELEASES = "releases"
OWN = frozenset({NOTE, NEEDLES, LEASE, LOCK})
"""Files of the removal itself and of the lease."""
OTHERS = frozenset({CATALOG, SHARDS, STAGING, SIBLINGS_FOLDER, RELEASES, REPORT, RECORDS, REPLIES})
"""Folders that have steps of their own."""
HALF_WRITTEN = re.compile(r"\.tmp-[0-9a-f]{8}$")
"""What a killed process leaves of a file that it was writing."""


def all_files(storage: Storage) -> Iterator[str]:
    """Names of all files below a dataset root, folder by folder, in order."""
    storage.fs.invalidate_cache()
    prefix = f"{storage.root}/"
    for folder, folders, files in storage.fs.walk(storage.root):
        cast("list[str]", folders).sort()
        inside = str(folder).rstrip("/").removeprefix(storage.root).strip("/")
        for name in sorted(files):
            yield posixpath.join(inside, name).removeprefix(prefix)


def files_of(storage: Storage, gone: Gone) -> Iterator[str]:
    """Files that are named after a gone video or clip: media, parts, claims, caches."""
    for name in all_files(storage):
        if name.partition("/")[0] not in OTHERS and name not in OWN and gone.names(name):
            yield name


def remove_files(storage: Storage, gone: Gone) -> int:
    """Remove what belongs to gone videos and clips, and what killed processes left behind.

    Tables, shards and releases are seen to elsewhere. The report shows pictures and captions of
    single clips, and what is kept of the search for duplicates names them, so all of that goes: it
    is made from the catalog at any time.

    Returns:
        How many files went.
    """
    count = 0
    for name in [n for n in all_files(storage) if n.partition("/")[0] != CATALOG]:
        own = name in OWN or name.startswith(f"{RECORDS}/")
        other = name.partition("/")[0] in OTHERS
        if not own and (HALF_WRITTEN.search(name) or (not other and gone.names(name))):
            storage.remove(name)
            count += 1
    for folder in (REPORT, DUPLICATES):
        storage.remove_tree(folder)

    def answered(request_id: str) -> bool:
        return request_id.partition("/")[0] in gone.clips

    return count + Ledger(storage).sweep(done=answered)
