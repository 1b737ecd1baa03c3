"""The table ``edges``: found once, kept until what they are made from changes.

Edges of one level, within the dataset or with one held-out dataset, are a *set*. Its rows carry
the fingerprint of the set (see ``inputs.py``). What the table holds, empty sets too, stands in
``dedup.json``, which is written after the table. A crash between the two leaves a record that
promises rows which are not there, or does not know of rows that are: a set counts only if as many
rows carry its fingerprint as the record says, so the worst is that it is found again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.dedup.held_out import Reference, open_reference
from curation.dedup.inputs import edges_fingerprint
from curation.dedup.semantic import CROWDED, Mapper, semantic_edges
from curation.dedup.settings import Dedup
from curation.schema import EDGES, STRING
from curation.storage import Storage

RECORD = "dedup.json"
CROWDS = "dedup"
FACTS = ("level", "reference", "fingerprint", "num_edges", "num_crowded")
"""What the record knows of a set."""
Progress = Callable[[str, int, int], None]
"""Called with the name of a set, the number of clips compared, and the number of all."""


@dataclass
class EdgeSet:
    """The edges of one level.

    Attributes:
        level: exact, perceptual or semantic.
        reference: The held-out root they lead to; None: within the dataset.
        fingerprint: Of its rows.
        num_edges: How many.
        num_crowded: Clips whose edges to each other are left out; see ``crowd.py``.
        computed: False when they were there already.
        busy_s: Time it took to find them.
    """

    level: str
    reference: str | None
    fingerprint: str
    num_edges: int = 0
    num_crowded: int = 0
    computed: bool = False
    busy_s: float = 0.0

    @property
    def name(self) -> str:
        """For a person."""
        return self.level if self.reference is None else f"{self.level}, {self.reference}"


@dataclass(frozen=True)
class EdgeReport:
    """What the table holds now."""

    sets: tuple[EdgeSet, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"sets": [asdict(s) for s in self.sets]}


def bring_edges(
    catalog: Catalog,
    views: Views,
    settings: Dedup,
    *,
    on_progress: Progress = lambda name, done, total: None,
    mapper: Mapper = map,
    scratch: Path | None = None,
    keep: bool = False,
) -> EdgeReport:
    """Bring the table of edges to the settings and to the rows there are; find what is missing.

    The caller holds the lease. Sets that are no longer asked for leave the table.

    Args:
        catalog: The dataset.
        views: Its current rows.
        settings: Levels and held-out datasets.
        on_progress: See ``Progress``.
        mapper: What does the comparing: ``map``, or ``ray_map.RayMap``.
        scratch: A local folder that all its workers see; None: the system's temporary folder.
        keep: Sets that are not asked for stay: for a look ahead.

    Raises:
        CatalogError: A held-out root is no dataset, or there are no embeddings to compare.
        ConfigError: A held-out dataset cannot be compared with this one.
    """
    references = [
        open_reference(root, catalog, views, settings.levels()) for root in settings.held_out
    ]
    sources: dict[str, Callable[[EdgeSet], Iterator[pa.RecordBatch]]] = {}
    sets: list[EdgeSet] = []
    for level, how in settings.levels().items():
        for reference in (None, *references):
            other = None
            if reference is not None:
                other = (reference.root, reference.catalog, reference.views)
            print_ = edges_fingerprint(level, how, catalog, views, other)
            sets.append(EdgeSet(level, reference.root if reference else None, print_))
            sources[print_] = _finder(catalog, views, how, reference, on_progress, mapper, scratch)
    stored = _stored(catalog)
    known = {s.fingerprint: s for s in sets}
    for found in stored:
        if found["fingerprint"] in known:
            mine = known[found["fingerprint"]]
            mine.num_edges, mine.num_crowded = found["num_edges"], found["num_crowded"]
    missing = [s for s in sets if s.fingerprint not in {f["fingerprint"] for f in stored}]
    others = [
        EdgeSet(*(found[name] for name in FACTS))
        for found in stored
        if keep and found["fingerprint"] not in known
    ]
    if missing or len(stored) > len(sets) + len(others):
        stay = [*others, *(s for s in sets if s not in missing)]
        rows = _rows(catalog, stay, missing, sources)
        catalog.replace("edges", pa.RecordBatchReader.from_batches(EDGES, rows))
        _write_record(catalog.storage, [*others, *sets])
    return EdgeReport(tuple(sets))


def crowd_file(fingerprint: str) -> str:
    """Name of the file of a set's crowded clips, below the dataset root."""
    return f"{CROWDS}/crowded-{fingerprint}.arrow"


def _finder(
    catalog: Catalog,
    views: Views,
    how: Any,  # noqa: ANN401 - the settings of any level
    reference: Reference | None,
    on_progress: Progress,
    mapper: Mapper,
    scratch: Path | None,
) -> Callable[[EdgeSet], Iterator[pa.RecordBatch]]:
    """What finds the edges of a set."""

    def find(mine: EdgeSet) -> Iterator[pa.RecordBatch]:
        def tell(done: int, total: int) -> None:
            on_progress(mine.name, done, total)

        def crowded(rows: pa.Table) -> None:
            mine.num_crowded = rows.num_rows
            if rows.num_rows:
                _write_crowd(catalog.storage, mine.fingerprint, rows)

        other = None if reference is None else reference.views
        if mine.level == "exact":
            from curation.dedup.exact import exact_edges

            yield from exact_edges(views, how, reference=other, on_progress=tell)
        elif mine.level == "perceptual":
            from curation.dedup.perceptual import perceptual_edges

            yield from perceptual_edges(
                views,
                how,
                reference=other,
                on_progress=tell,
                mapper=mapper,
                scratch=scratch,
            )
        else:
            yield from semantic_edges(
                views,
                how,
                reference=other,
                on_progress=tell,
                on_crowded=crowded,
                mapper=mapper,
                scratch=scratch,
            )

    return find


def _rows(
    catalog: Catalog,
    kept: list[EdgeSet],
    missing: list[EdgeSet],
    sources: dict[str, Callable[[EdgeSet], Iterator[pa.RecordBatch]]],
) -> Iterator[pa.RecordBatch]:
    """The rows that stay, then those of the missing sets as they are found."""
    if kept:
        among = ", ".join(f"'{s.fingerprint}'" for s in kept)
        stay = catalog.dataset("edges").scanner(
            columns=EDGES.names, filter=f"fingerprint IN ({among})"
        )
        yield from (batch.cast(EDGES) for batch in stay.to_batches())
    for mine in missing:
        began = time.perf_counter()
        for batch in sources[mine.fingerprint](mine):
            if batch.num_rows:
                mine.num_edges += batch.num_rows
                yield _stamped(batch, mine)
        mine.computed, mine.busy_s = True, round(time.perf_counter() - began, 3)


def _stamped(batch: pa.RecordBatch, mine: EdgeSet) -> pa.RecordBatch:
    """Rows of a set with its fingerprint and its reference."""
    columns = {
        "reference": pa.repeat(pa.scalar(mine.reference, STRING), batch.num_rows),
        "fingerprint": pa.repeat(pa.scalar(mine.fingerprint, STRING), batch.num_rows),
    }
    arrays = [columns.get(f.name, batch.column(f.name)).cast(f.type) for f in EDGES]
    return pa.record_batch(arrays, schema=EDGES)


def _stored(catalog: Catalog) -> list[dict[str, Any]]:
    """The sets of the record that are in the table as it says."""
    record = catalog.storage.read_json(RECORD)
    found = []
    for one in record["sets"] if record else []:
        rows = catalog.dataset("edges").count_rows(f"fingerprint = '{one['fingerprint']}'")
        crowd = crowd_file(one["fingerprint"])
        if rows == one["num_edges"] and (not one["num_crowded"] or catalog.storage.exists(crowd)):
            found.append(one)
    return found


def _write_record(storage: Storage, sets: list[EdgeSet]) -> None:
    storage.write_json(RECORD, {"sets": [{f: getattr(s, f) for f in FACTS} for s in sets]})
    current = {crowd_file(s.fingerprint) for s in sets}
    for name in storage.list(CROWDS, suffix=".arrow"):
        if name not in current:
            storage.remove(name)


def _write_crowd(storage: Storage, fingerprint: str, rows: pa.Table) -> None:
    with storage.open_write(crowd_file(fingerprint)) as out, pa.ipc.new_file(out, CROWDED) as file:
        file.write_table(rows)
