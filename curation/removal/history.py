"""Old versions: a table forgets what was deleted from it.

Lance marks deleted rows and leaves their bytes where they are; every version keeps its files; a
tag keeps its version; a transaction tells which ids were deleted; an index keeps vectors of rows
that are gone. So: indices and tags that know of them go, fragments with deleted rows are written
anew, a last version without any word of the deletion is made, and all versions before it go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta

import lance

from curation.catalog.catalog import INDEX_FROM_ROWS, Catalog
from curation.catalog.vectors import holds_embeddings, refresh_index
from curation.removal.gone import Gone, count_rows, holds, pictures_left
from curation.removal.removal import Removal
from curation.removal.rows import blank_sources, sources_with_words
from curation.removal.tombstones import TABLE, Tombstones

MARK = "clipmill.removal"
"""Entry of a table's configuration that names the last removal."""


def purge(
    catalog: Catalog, removal: Removal, on_table: Callable[[str], object] = lambda _: None
) -> list[str]:
    """Make every table forget what was deleted from it.

    Args:
        catalog: The dataset.
        removal: What is gone.
        on_table: Called with the name of each table.

    Returns:
        Tags that had to go, as ``table:tag``.
    """
    untagged = []
    for table in catalog.tables():
        on_table(table)
        mine = purge_table(
            *(catalog, table, removal.gone, removal.run_id),
            touched=table in removal.rows,
            untag=removal.releases,
        )
        untagged += [f"{table}:{tag}" for tag in mine]
    return untagged


def keep_blank(catalog: Catalog, run_id: str) -> int:
    """See that nothing is said of removed videos in ``sources``, now or in an old version.

    For the end of every run: inputs may bring the words again, or a copy under another name.

    Returns:
        Number of sources that had words.
    """
    count = blank_sources(catalog)
    if count:
        gone = Gone.of(Tombstones(catalog).all().values())
        purge_table(catalog, "sources", gone, run_id, touched=True)
    return count


def purge_table(
    catalog: Catalog,
    table: str,
    gone: Gone,
    run_id: str,
    *,
    touched: bool,
    untag: Collection[str] = (),
) -> list[str]:
    """Make one table forget what was deleted from it.

    Args:
        catalog: The dataset.
        table: Its name.
        gone: What is gone.
        run_id: Of who asks.
        touched: Rows were deleted.
        untag: Tags that go in any case: those of releases that were changed.

    Returns:
        Tags that had to go.
    """
    dataset = catalog.dataset(table)
    latest, moved, untagged = dataset.version, [], []
    for tag, info in dataset.tags.list().items():
        if info["version"] == latest and tag not in untag:
            moved.append(tag)
        elif tag in untag or remembers(catalog, dataset.checkout_version(tag), table, gone):
            dataset.tags.delete(tag)
            untagged.append(tag)
    deleted = any(f.num_deletions for f in dataset.get_fragments())
    if deleted or touched:  # a fragment of which nothing was left is gone already
        for index in dataset.describe_indices():
            dataset.drop_index(index.name)
        dataset = catalog.dataset(table)
        dataset.optimize.compact_files(
            materialize_deletions=True, materialize_deletions_threshold=0.0
        )
        dataset = catalog.dataset(table)
    if table != TABLE:
        dataset.update_config({MARK: run_id})
        dataset = catalog.dataset(table)
    _index(catalog, table, dataset)
    dataset = catalog.dataset(table)
    for tag in moved:  # the same rows, in files without the others
        dataset.tags.update(tag, dataset.version)
    dataset.cleanup_old_versions(
        older_than=timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False
    )
    return untagged


def remembers(catalog: Catalog, version: lance.LanceDataset, table: str, gone: Gone) -> bool:
    """True when the files of a version of a table hold what is gone, deleted or not."""
    if table == "sources":
        wheres = sources_with_words(catalog, sorted(gone.videos))
        return any(count_rows(version, where, deleted=True) for where in wheres)
    if table == "runs":
        batches = version.scanner(batch_size=64).to_batches()
        rows = (row for batch in batches for row in batch.to_pylist())
        return any(gone.names(v) for row in rows for v in row.values() if isinstance(v, str))
    return bool(holds(table, version, gone) or pictures_left(version, gone))


def _index(catalog: Catalog, table: str, dataset: lance.LanceDataset) -> None:
    """Build the indices that the end of a run would build; see ``Catalog.compact``."""
    large = dataset.count_rows() >= INDEX_FROM_ROWS and table not in ("runs", "verdicts")
    names = {name for index in dataset.describe_indices() for name in index.field_names}
    if large and "video_id" in dataset.schema.names and "video_id" not in names:
        dataset.create_scalar_index("video_id", "BTREE")
    if holds_embeddings(table, dataset.schema):
        refresh_index(catalog.dataset(table))
