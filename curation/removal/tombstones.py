"""Tombstones: what was taken out on request, and how a row is known to belong to it.

A tombstone names a whole video by the sha256 of its bytes, or a span of one by its times in the
file (pts). So what was taken out is known again under another name, in another place, and however
the video is split. Without tombstones all of this costs one count per process.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.catalog import Catalog
from curation.signals.flow import EPSILON_S as GRID_EPSILON_S
from curation.signals.prints import STEP_S

TABLE = "tombstones"
VIDEO, CLIP = "video", "clip"
REASON = "removed"
"""Reason of the spans, and status of the sources, that were taken out."""
EPSILON_S = 2e-6
"""Times are stored to the microsecond: two of them are equal when they differ by no more."""


@dataclass(frozen=True, kw_only=True)
class GoneSpan:
    """A span ``[start, end)`` of a video that is gone, in pts and in seconds from its start."""

    start_pts: int
    end_pts: int
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """What of one video may not come back.

    Attributes:
        video_id: The video.
        whole: All of it.
        spans: These parts of it.
        clip_ids: The clips that were named when they were taken out.
    """

    video_id: str
    whole: bool
    spans: tuple[GoneSpan, ...]
    clip_ids: frozenset[str]

    def hides_pts(self, start_pts: int, end_pts: int) -> bool:
        """True when a span of the file shares a frame with what is gone."""
        return self.whole or any(
            s.start_pts < end_pts and start_pts < s.end_pts for s in self.spans
        )

    def hides_s(self, start_s: float, end_s: float) -> bool:
        """The same by seconds from the video's first frame."""
        return self.whole or any(
            s.start_s < end_s - EPSILON_S and start_s + EPSILON_S < s.end_s for s in self.spans
        )

    def covers(self, pts: np.ndarray) -> np.ndarray:
        """For each time in the file (int64 [n]) whether it is gone: bool [n]."""
        gone = np.full(len(pts), self.whole)
        for span in self.spans:
            gone |= (pts >= span.start_pts) & (pts < span.end_pts)
        return gone

    def shows(self, times_s: np.ndarray) -> np.ndarray:
        """For each frame whether its print shows what is gone: bool [n].

        A print is of the quarter second before its frame, so the first frame after the span has
        one of what is gone.

        Args:
            times_s: float64 [n], seconds from the video's first frame.
        """
        point = np.floor((times_s + GRID_EPSILON_S) / STEP_S) * STEP_S
        gone = np.full(len(times_s), self.whole)
        for span in self.spans:
            gone |= (point > span.start_s + EPSILON_S) & (point - STEP_S < span.end_s - EPSILON_S)
        return gone


class Tombstones:
    """The tombstones of a dataset root, read video by video, and not at all when there are none.

    Args:
        catalog: The dataset. Tombstones that come later are not seen.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._some = catalog.has(TABLE) and catalog.dataset(TABLE).count_rows() > 0

    def __bool__(self) -> bool:
        """True when there are any."""
        return self._some

    def of(self, video_id: str) -> Hidden | None:
        """What of a video is gone; None: nothing."""
        return self.of_videos([video_id]).get(video_id)

    def of_videos(self, video_ids: Iterable[str]) -> dict[str, Hidden]:
        """What of some videos is gone, by video; those without a tombstone are left out."""
        ids = ", ".join(f"'{v}'" for v in sorted(set(video_ids)))
        if not self._some or not ids:
            return {}
        rows = self._catalog.dataset(TABLE).to_table(filter=f"video_id IN ({ids})")
        return _by_video(rows)

    def all(self) -> dict[str, Hidden]:
        """Everything that is gone, by video."""
        return _by_video(self._catalog.dataset(TABLE).to_table()) if self._some else {}


_KNOWN: weakref.WeakKeyDictionary[Catalog, Tombstones] = weakref.WeakKeyDictionary()


def tombstones_of(catalog: Catalog) -> Tombstones:
    """The tombstones as they were when this catalog object was first asked: those of its run.

    Nobody adds one while a run holds the lease.
    """
    if catalog not in _KNOWN:
        _KNOWN[catalog] = Tombstones(catalog)
    return _KNOWN[catalog]


def _by_video(rows: pa.Table) -> dict[str, Hidden]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows.to_pylist():
        found.setdefault(row["video_id"], []).append(row)
    return {
        video_id: Hidden(
            video_id=video_id,
            whole=any(r["kind"] == VIDEO for r in mine),
            spans=tuple(
                GoneSpan(**{n: r[n] for n in GoneSpan.__dataclass_fields__})
                for r in mine
                if r["kind"] == CLIP
            ),
            clip_ids=frozenset(r["clip_id"] for r in mine if r["clip_id"] is not None),
        )
        for video_id, mine in found.items()
    }


def picture_columns(columns: pa.Schema) -> list[str]:
    """Columns that hold one picture or print for each frame of a row, beside their times."""
    if "frame_pts" not in columns.names:
        return []
    return [f.name for f in columns if pa.types.is_list(f.type) and is_bytes(f.type.value_type)]


def is_bytes(kind: pa.DataType) -> bool:
    """True for binary values of any kind."""
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def without_pictures(rows: pa.Table, hidden: Hidden) -> pa.Table:
    """Rows of per-frame lists with null in place of every picture of a gone frame."""
    for name in picture_columns(rows.schema):
        made = []
        for row in rows.select(["frame_pts", "frame_time_s", name]).to_pylist():
            pictures = row[name]
            if pictures is not None:
                gone = hidden.covers(np.array(row["frame_pts"], np.int64))
                gone |= hidden.shows(np.array(row["frame_time_s"], np.float64))
                pictures = [None if g else p for g, p in zip(gone, pictures, strict=True)]
            made.append(pictures)
        at = rows.column_names.index(name)
        field = rows.schema.field(name)
        rows = rows.set_column(at, field, pa.array(made, field.type))
    return rows


def without_samples(rows: pa.Table, hidden: Hidden) -> pa.Table:
    """Rows of sampled frames without those that are gone."""
    gone = hidden.covers(rows.column("sample_pts").to_numpy())
    return rows.filter(pa.array(~gone))


def without_clips(rows: pa.Table, hidden: Hidden) -> pa.Table:
    """Rows of clips without those that were named when they were taken out."""
    named = pa.array(sorted(hidden.clip_ids), pa.string())
    options = pc.SetLookupOptions(value_set=named)
    gone = pc.call_function("is_in", [rows.column("clip_id")], options)
    return rows.filter(pc.call_function("invert", [gone]))
