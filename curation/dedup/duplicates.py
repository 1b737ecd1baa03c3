"""From the edges of a dataset to the choice among some of its clips."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.dedup.crowd import Crowd
from curation.dedup.edges import EdgeReport, crowd_file
from curation.dedup.groups import Choice, choose
from curation.dedup.lookup import is_among
from curation.dedup.quality import by_quality
from curation.dedup.settings import Dedup
from curation.dedup.vector_file import write_vectors


def find_duplicates(
    catalog: Catalog,
    views: Views,
    settings: Dedup,
    edges: EdgeReport,
    passed: pa.Array | pa.ChunkedArray,
    *,
    fingerprint: str | None = None,
) -> Choice:
    """Which of some clips stay; seconds for a million.

    Args:
        catalog: The dataset.
        views: Its current rows.
        settings: Thresholds and the order of quality.
        edges: What ``bring_edges`` said of the table.
        passed: Ids of the clips that may stay.
        fingerprint: Of the verdicts, for the rows of ``duplicates``.

    Raises:
        ConfigError: Quality is asked of a column that there is not.
    """
    candidates = by_quality(views, settings.prefer, passed)
    with _crowd(catalog, views, settings, edges, candidates) as crowd:
        return choose(
            candidates,
            _near(catalog, edges, settings.thresholds()),
            settings.thresholds(),
            crowd=crowd,
            fingerprint=fingerprint,
        )


def _near(
    catalog: Catalog, edges: EdgeReport, thresholds: dict[str, float]
) -> Iterator[pa.RecordBatch]:
    """The edges above the thresholds."""
    prints = ", ".join(f"'{s.fingerprint}'" for s in edges.sets)
    above = " OR ".join(f"(level = '{k}' AND similarity >= {v!r})" for k, v in thresholds.items())
    scanner = catalog.dataset("edges").scanner(filter=f"fingerprint IN ({prints}) AND ({above})")
    return iter(scanner.to_batches())


@contextmanager
def _crowd(
    catalog: Catalog, views: Views, settings: Dedup, edges: EdgeReport, candidates: pa.Table
) -> Iterator[Crowd | None]:
    """The crowded clips among the candidates, with their vectors at hand."""
    found = [s for s in edges.sets if s.num_crowded]
    if not found or settings.semantic is None:
        yield None
        return
    with catalog.storage.open_read(crowd_file(found[0].fingerprint)) as file:
        crowded = pa.ipc.open_file(file).read_all()
    ids = candidates.column("clip_id").combine_chunks()
    crowded = crowded.filter(is_among(crowded.column("clip_id"), ids))
    with tempfile.TemporaryDirectory(prefix="clipmill-crowd-") as folder:
        among = crowded.column("clip_id").combine_chunks()
        vectors = write_vectors(views, Path(folder), among=among)
        yield Crowd(vectors, crowded, ids, settings.semantic.min_cosine)
