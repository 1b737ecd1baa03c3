"""Which rows belong to what is gone: the same conditions delete them and look for them later."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from curation.removal.tombstones import TABLE, GoneSpan, Hidden, picture_columns

IDS_AT_A_TIME = 10_000
SPANS_AT_A_TIME = 100
CLIP_COLUMNS = ("clip_id", "clip_a", "clip_b", "group_id")
"""Columns that name a clip, over all tables."""
STAYING = frozenset({TABLE, "identities", "sources", "runs"})
"""Tables whose rows stay: what is gone has to be known again, and what ran has run."""
TEXTS = ("title", "caption", "metadata")
"""What a source's owner said of it; blank in the rows of a removed video."""
ID = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{32})(?![0-9a-f])")
"""A video's or a clip's id in a file name or a text."""


@dataclass(frozen=True, kw_only=True)
class Gone:
    """Ids and spans that may stand nowhere.

    Attributes:
        videos: Ids of whole videos.
        clips: Ids of clips.
        spans: By video, the parts of it that are gone.
    """

    videos: frozenset[str] = frozenset()
    clips: frozenset[str] = frozenset()
    spans: Mapping[str, Sequence[GoneSpan]] = field(default_factory=dict)

    @classmethod
    def of(cls, hidden: Iterable[Hidden]) -> Gone:
        """What tombstones say."""
        found = list(hidden)
        return cls(
            videos=frozenset(h.video_id for h in found if h.whole),
            clips=frozenset(c for h in found for c in h.clip_ids),
            spans={h.video_id: h.spans for h in found if h.spans and not h.whole},
        )

    def names(self, text: str) -> bool:
        """True when a text (a path, say) holds the id of a gone video or clip."""
        return any(i in self.clips or i in self.videos for i in ID.findall(text))

    def hides(self, video_id: str | None, start_s: float | None, end_s: float | None) -> bool:
        """True for a span that is of a gone video, or shares a frame with a gone span."""
        if video_id in self.videos:
            return True
        spans = self.spans.get(video_id or "", ())
        if not spans or start_s is None or end_s is None:
            return False
        hidden = Hidden(video_id="", whole=False, spans=tuple(spans), clip_ids=frozenset())
        return hidden.hides_s(start_s, end_s)

    def mask(self, rows: pa.RecordBatch) -> np.ndarray:
        """For each row of a table whether it goes, by its ids and its time: bool [n]."""
        names = set(rows.schema.names)
        goes = np.zeros(rows.num_rows, bool)
        for column, ids in (*((c, self.clips) for c in CLIP_COLUMNS), ("video_id", self.videos)):
            if column in names and ids:
                goes |= np.array([i in ids for i in rows.column(column).to_pylist()], bool)
        if self.spans and names >= {"video_id", "sample_pts"}:
            videos, pts = (rows.column(c).to_pylist() for c in ("video_id", "sample_pts"))
            for i, (video_id, at) in enumerate(zip(videos, pts, strict=True)):
                spans = self.spans.get(video_id, ())
                goes[i] |= any(s.start_pts <= at < s.end_pts for s in spans)
        return goes

    def videos_of_spans(self) -> list[str]:
        """The videos of which a part is gone."""
        return sorted(set(self.spans) - self.videos)


def row_keys(columns: pa.Schema) -> list[str]:
    """Columns that :meth:`Gone.mask` looks at."""
    return [c for c in (*CLIP_COLUMNS, "video_id", "sample_pts") if c in columns.names]


def conditions(table: str, columns: pa.Schema, gone: Gone) -> Iterator[str]:
    """SQL conditions; a row that meets any of them has to go.

    Args:
        table: The table.
        columns: Its schema.
        gone: What is gone.
    """
    names = set(columns.names)
    if table in STAYING:
        return
    if "video_id" in names:
        for some in chunks(sorted(gone.videos), IDS_AT_A_TIME):
            yield f"video_id IN ({listed(some)})"
    for column in CLIP_COLUMNS:
        if column in names:
            for some in chunks(sorted(gone.clips), IDS_AT_A_TIME):
                yield f"{column} IN ({listed(some)})"
    if "video_id" in names:
        yield from _inside(names, gone)


def _inside(names: set[str], gone: Gone) -> Iterator[str]:
    """Rows by their time: clips that share a frame with a gone span, and frames inside one."""
    pieces: list[str] = []
    for video_id in gone.videos_of_spans():
        for span in gone.spans[video_id]:
            first, end = span.start_pts, span.end_pts
            if names >= {"clip_id", "start_pts", "end_pts"}:
                overlap = f"start_pts < {end} AND end_pts > {first}"
                pieces.append(f"(video_id = '{video_id}' AND {overlap})")
            elif "sample_pts" in names:
                inside = f"sample_pts >= {first} AND sample_pts < {end}"
                pieces.append(f"(video_id = '{video_id}' AND {inside})")
    for some in chunks(pieces, SPANS_AT_A_TIME):
        yield " OR ".join(some)


def rows_with_pictures(columns: pa.Schema, gone: Gone) -> Iterator[str]:
    """Conditions for rows of per-frame lists in which pictures may have to become null."""
    if picture_columns(columns):
        for some in chunks(gone.videos_of_spans(), IDS_AT_A_TIME):
            yield f"video_id IN ({listed(some)})"


def count_rows(dataset: lance.LanceDataset, where: str, *, deleted: bool = False) -> int:
    """How many rows meet a condition; with ``deleted`` also those that are only marked as such.

    A deleted row stays in its data file until the fragment is rewritten.
    """
    if not deleted:
        return dataset.count_rows(where)
    scanner = dataset.scanner(
        columns=[],
        filter=where,
        late_materialization=False,
        with_row_id=True,
        include_deleted_rows=True,
    )
    return sum(batch.num_rows for batch in scanner.to_batches())


def holds(table: str, dataset: lance.LanceDataset, gone: Gone) -> int:
    """Rows of one version of a table that should not be in its files, deleted ones counted.

    Pictures of gone frames inside rows that stay are found by :func:`pictures_left`.
    """
    wheres = conditions(table, dataset.schema, gone)
    return sum(count_rows(dataset, where, deleted=True) for where in wheres)


def pictures_left(dataset: lance.LanceDataset, gone: Gone) -> int:
    """Rows of per-frame lists that still hold a picture of a gone frame."""
    names, count = picture_columns(dataset.schema), 0
    for where in rows_with_pictures(dataset.schema, gone):
        scanner = dataset.scanner(
            columns=["video_id", "frame_pts", "frame_time_s", *names],
            filter=where,
            batch_size=16,
            late_materialization=False,
            with_row_id=True,
            include_deleted_rows=True,
        )
        for batch in scanner.to_batches():
            count += sum(_has_picture(row, names, gone) for row in batch.to_pylist())
    return count


def _has_picture(row: Mapping[str, Any], names: list[str], gone: Gone) -> bool:
    spans = tuple(gone.spans[row["video_id"]])
    hidden = Hidden(video_id=row["video_id"], whole=False, spans=spans, clip_ids=frozenset())
    inside = hidden.covers(np.array(row["frame_pts"], np.int64))
    inside |= hidden.shows(np.array(row["frame_time_s"], np.float64))
    lists = (row[name] for name in names if row[name] is not None)
    return any(p is not None and i for found in lists for p, i in zip(found, inside, strict=True))


def chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Items in lists of at most a size."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


def listed(ids: Iterable[str]) -> str:
    """Ids as a list of SQL strings."""
    return ", ".join("'" + i.replace("'", "''") + "'" for i in ids)
