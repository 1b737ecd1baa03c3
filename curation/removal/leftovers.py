"""Is anything here that a tombstone names? Looked for by ids and times, without needles.

For ``clipmill verify``. Nothing is read when there are no tombstones. The one place in which a
missing tombstone could hide something is the table itself: keep its backups.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from curation.catalog.catalog import FOLDER as CATALOG
from curation.catalog.catalog import Catalog
from curation.engine.attempts import FOLDER as ATTEMPTS
from curation.errors import DamagedError
from curation.removal.files import OWN, all_files
from curation.removal.gone import Gone
from curation.removal.history import remembers
from curation.removal.inside import gone_in_file
from curation.removal.removal import NOTE
from curation.removal.rows import sources_with_words
from curation.removal.tombstones import Tombstones

MAX_FOUND = 100


def leftovers(catalog: Catalog) -> list[str]:
    """What of the removed videos and clips is still here, in words; empty when all is well."""
    found: list[str] = []
    if catalog.storage.exists(NOTE):
        found.append(f"{NOTE}: a removal was begun and not finished: any run goes on with it")
    tombstones = Tombstones(catalog)
    if not tombstones:
        return found
    gone = Gone.of(tombstones.all().values())
    for text in _all(catalog, gone):
        found.append(text)
        if len(found) >= MAX_FOUND:
            break
    return found


def _all(catalog: Catalog, gone: Gone) -> Iterator[str]:
    for table in catalog.tables():
        latest = catalog.dataset(table)
        for info in latest.versions():
            number = info["version"]
            if remembers(catalog, latest.checkout_version(number), table, gone):
                yield f"table {table}, version {number}: has rows of what was removed"
    for where in sources_with_words(catalog, sorted(gone.videos)):
        if count := catalog.dataset("sources").count_rows(where):
            yield f"table sources: {count} rows tell of a removed video"
    for name in all_files(catalog.storage):
        # A claim is named after the bytes that were read: a copy is known again by it.
        if name.partition("/")[0] in (CATALOG, ATTEMPTS) or name in OWN:
            continue
        if gone.names(name):
            yield f"{name}: is named after what was removed"
        try:
            for text in gone_in_file(catalog.storage, name, gone):
                yield f"{name}: {text}, which was removed"
        except (OSError, tarfile.TarError, DamagedError) as exc:
            why = exc.what if isinstance(exc, DamagedError) else exc
            yield f"{name}: cannot be searched for what was removed: {why}"
