"""The exact level: clips of the same coded pictures, known by the digests of their packets.

Of a group of up to ``WHOLE`` equal clips every two are linked, so that whichever stays, the others
are its duplicates. In larger groups the first ``WHOLE`` by id are linked with each other and with
all the rest: as long as any of those is among the clips to choose from, one clip stays of the
group; the number of edges stays below ``WHOLE`` per clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from curation.errors import CatalogError
from curation.schema import EDGES

if TYPE_CHECKING:  # the catalog knows plans, and plans know these settings
    from curation.catalog.views import Views

LEVEL = "exact"
WHOLE = 50
BATCH_ROWS = 65_536
EQUAL = """
SELECT p.packets_digest, p.clip_id FROM packets p SEMI JOIN (
    SELECT packets_digest FROM packets WHERE packets_digest IS NOT NULL
    GROUP BY packets_digest HAVING count(*) > 1) USING (packets_digest)
ORDER BY p.packets_digest, p.clip_id
"""
KNOWN = "SELECT packets_digest, clip_id FROM packets WHERE packets_digest IS NOT NULL"


class Exact(BaseModel):
    """Nothing to set: packets are equal or not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def threshold(self) -> float:
        """From which similarity a pair is a duplicate."""
        return 1.0

    def stored(self) -> dict[str, Any]:
        """The settings that the stored edges depend on."""
        return {}


def exact_edges(
    views: Views,
    settings: Exact,
    *,
    reference: Views | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[pa.RecordBatch]:
    """Pairs of clips with equal packets, as rows of ``EDGES``.

    ``reference`` and ``fingerprint`` are left null. With a reference, the first equal clip of it
    for each clip that has any: enough to reject it.

    Args:
        views: The dataset.
        settings: None so far.
        reference: Another dataset to compare with, instead of within this one.
        on_progress: Called with the number of clips done and the number of all.

    Raises:
        CatalogError: A dataset has no digests.
    """
    _require(views)
    if reference is not None:
        _require(reference)
        yield from _to_reference(views, reference)
    else:
        yield from _within(views)
    on_progress(1, 1)


def _require(views: Views) -> None:
    try:
        views.columns("packets")
    except Exception as exc:
        raise CatalogError(
            "the dataset has no digests of packets",
            where="dedup.exact",
            mend="put the stage packets in the plan and run curate, or leave the level out",
        ) from exc


def _within(views: Views) -> Iterator[pa.RecordBatch]:
    """Links of each group; of a group only its first clips are held."""
    digest: str | None = None
    heads: list[str] = []
    pairs: list[tuple[str, str]] = []
    for batch in views.reader(EQUAL, BATCH_ROWS):
        rows = zip(*(batch.column(i).to_pylist() for i in range(2)), strict=True)
        for found, clip in rows:
            if found != digest:
                digest, heads = found, []
            pairs += [(head, clip) for head in heads]
            if len(heads) < WHOLE:
                heads.append(clip)
            if len(pairs) >= BATCH_ROWS:
                yield _edges(pairs)
                pairs = []
    if pairs:
        yield _edges(pairs)


def _to_reference(views: Views, reference: Views) -> Iterator[pa.RecordBatch]:
    """Both datasets in the order of their digests, merged."""
    theirs = _rows(reference)
    other = next(theirs, None)
    pairs: list[tuple[str, str]] = []
    for digest, clip in _rows(views):
        while other is not None and other[0] < digest:
            other = next(theirs, None)
        if other is not None and other[0] == digest:
            pairs.append((clip, other[1]))
        if len(pairs) >= BATCH_ROWS:
            yield _edges(pairs)
            pairs = []
    if pairs:
        yield _edges(pairs)


def _rows(views: Views) -> Iterator[tuple[str, str]]:
    for batch in views.reader(f"{KNOWN} ORDER BY packets_digest, clip_id", BATCH_ROWS):
        yield from zip(*(batch.column(i).to_pylist() for i in range(2)), strict=True)


def _edges(pairs: list[tuple[str, str]]) -> pa.RecordBatch:
    count = len(pairs)
    columns = {
        "clip_a": pa.array([a for a, _ in pairs], pa.string()),
        "clip_b": pa.array([b for _, b in pairs], pa.string()),
        "level": pa.repeat(LEVEL, count),
        "similarity": pa.array(np.ones(count)),
    }
    arrays = [columns.get(f.name, pa.nulls(count, f.type)) for f in EDGES]
    return pa.record_batch(arrays, schema=EDGES)
