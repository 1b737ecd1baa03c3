"""Rows: tombstones in, everything else out, and spans for the time of what went.

Every function may run again after it was cut short anywhere: it then finds less to do.
"""

from __future__ import annotations

import re

import lance
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.removal.gone import (
    ID,
    IDS_AT_A_TIME,
    TEXTS,
    Gone,
    chunks,
    conditions,
    count_rows,
    listed,
    rows_with_pictures,
)
from curation.removal.removal import Removal
from curation.removal.tombstones import (
    TABLE,
    Hidden,
    Tombstones,
    picture_columns,
    without_pictures,
)
from curation.schema import TOMBSTONES

SPAN_KEYS = ["video_id", "fingerprint", "start_frame", "end_frame", "reason"]
SEGMENT_KEYS = ["video_id", "fingerprint", "segment_start_frame"]


def add_tombstones(catalog: Catalog, removal: Removal) -> None:
    """Write the tombstones of a removal, once."""
    catalog.create({TABLE: TOMBSTONES})
    dataset = catalog.dataset(TABLE)
    mine = f"run_id = '{removal.run_id}'"
    rows = pa.Table.from_pylist(removal.tombstone_rows(), schema=TOMBSTONES)
    if count_rows(dataset, mine) == rows.num_rows:
        return
    dataset.delete(mine)
    catalog.append(TABLE, rows)


def add_spans(catalog: Catalog, removal: Removal) -> None:
    """Give the time of removed clips its rows, so that the seconds still tile."""
    if not removal.spans:
        return
    dataset = catalog.dataset("spans")
    names = dataset.schema.names
    rows = [{n: row.get(n) for n in names} for row in removal.spans]
    merge = dataset.merge_insert(SPAN_KEYS).when_not_matched_insert_all()
    merge.execute(pa.Table.from_pylist(rows, schema=dataset.schema))


def delete_rows(catalog: Catalog, gone: Gone) -> None:
    """Delete the rows of what is gone from every table, of every fingerprint."""
    for table in catalog.tables():
        dataset = catalog.dataset(table)
        for where in conditions(table, dataset.schema, gone):
            # A deletion is a version even when it finds nothing.
            if count_rows(dataset, where):
                dataset.delete(where)
        _blank_pictures(dataset, gone)


def _blank_pictures(dataset: lance.LanceDataset, gone: Gone) -> None:
    """Put null in place of the pictures of gone frames, in rows that hold those of others too."""
    names = picture_columns(dataset.schema)
    for where in rows_with_pictures(dataset.schema, gone):
        for batch in dataset.scanner(filter=where, batch_size=8).to_batches():
            made = []
            for i in range(batch.num_rows):
                row = pa.Table.from_batches([batch.slice(i, 1)])
                video_id = row.column("video_id")[0].as_py()
                spans = tuple(gone.spans[video_id])
                hidden = Hidden(video_id=video_id, whole=False, spans=spans, clip_ids=frozenset())
                blank = without_pictures(row, hidden)
                if any(not blank.column(n).equals(row.column(n)) for n in names):
                    made.append(blank)
            if made:
                merge = dataset.merge_insert(SEGMENT_KEYS).when_matched_update_all()
                merge.execute(pa.concat_tables(made))


def blank_sources(catalog: Catalog) -> int:
    """Blank what was said of the sources of removed videos; their URI and identity stay.

    A run that is given the same manifest again brings the words again, so every run has to call
    this once its sources are read.

    Returns:
        Number of sources that had words.
    """
    videos = sorted(v for v, hidden in Tombstones(catalog).all().items() if hidden.whole)
    count = 0
    for where in sources_with_words(catalog, videos):
        dataset = catalog.dataset("sources")
        found = count_rows(dataset, where)
        if found:
            dataset.update(dict.fromkeys(TEXTS, "NULL"), where=where)
            count += found
    return count


def sources_with_words(catalog: Catalog, videos: list[str]) -> list[str]:
    """Conditions for rows of ``sources`` that hold a removed video and words about it."""
    words = " OR ".join(f"{name} IS NOT NULL" for name in TEXTS)
    found = sorted(sources_of(catalog, videos))
    return [f"source_id IN ({listed(some)}) AND ({words})" for some in chunks(found, IDS_AT_A_TIME)]


def sources_of(catalog: Catalog, videos: list[str]) -> set[str]:
    """Sources that hold some videos; one that holds other bytes by now is another video's."""
    held: set[tuple[str, str]] = set()
    for some in chunks(videos, IDS_AT_A_TIME):
        held |= _states(catalog, "identities", f"video_id IN ({listed(some)})")
    found: set[str] = set()
    for some in chunks(sorted({source for source, _ in held}), IDS_AT_A_TIME):
        now = _states(catalog, "sources", f"source_id IN ({listed(some)})")
        found |= {source for source, _ in now & held}
    return found


def _states(catalog: Catalog, table: str, where: str) -> set[tuple[str, str]]:
    rows = catalog.dataset(table).to_table(columns=["source_id", "etag"], filter=where)
    return {(r["source_id"], r["etag"]) for r in rows.to_pylist()}


def forget_in_runs(catalog: Catalog, gone: Gone) -> None:
    """Put ``removed`` in place of the ids of what is gone in the texts that runs left behind."""

    def blank(found: re.Match[str]) -> str:
        return "removed" if found.group() in gone.clips | gone.videos else found.group()

    dataset = catalog.dataset("runs")
    for batch in dataset.scanner(batch_size=64).to_batches():
        changed = []
        for row in batch.to_pylist():
            new = {k: ID.sub(blank, v) if isinstance(v, str) else v for k, v in row.items()}
            if new != row:
                changed.append(new)
        if changed:
            merge = dataset.merge_insert(["run_id", "event"]).when_matched_update_all()
            merge.execute(pa.Table.from_pylist(changed, schema=dataset.schema))
