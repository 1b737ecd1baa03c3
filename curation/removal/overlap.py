"""What goes with a clip: all clips, of every split, that share a frame with it, and their time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from curation.removal.gone import IDS_AT_A_TIME, chunks, listed
from curation.removal.timeline import TIMES, removed_spans
from curation.removal.tombstones import GoneSpan, Hidden

CLIP_NAMES = ("clip_id", "video_id", "fingerprint", "start_pts", "end_pts", *TIMES)
Row = dict[str, Any]


@dataclass
class Found:
    """Clips that go, those of them that only overlap, and spans for their time."""

    gone: set[str]
    overlapping: set[str]
    spans: list[Row]


class Splits:
    """The clips of every split that the dataset has seen."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def of_clips(self, clips: Iterable[str], *, without: set[str]) -> dict[str, Row]:
        """Rows of some clips by id, but for those of videos that go whole."""
        found = {}
        for some in chunks(sorted(clips), IDS_AT_A_TIME):
            for row in self._rows("clips", f"clip_id IN ({listed(some)})", CLIP_NAMES):
                if row["video_id"] not in without:
                    found[row["clip_id"]] = row
        return found

    def everything(self, videos: set[str], asked: dict[str, Row]) -> Found:
        """All clips that go with whole videos and with some clips."""
        found = Found(set(), set(), [])
        for row in self._of_videos("clips", videos, ("clip_id",)):
            found.gone.add(row["clip_id"])
        hidden = _hidden(asked.values())
        for some in chunks(sorted(hidden), IDS_AT_A_TIME):
            self._overlapping({v: hidden[v] for v in some}, found)
        return found

    def _overlapping(self, hidden: dict[str, Hidden], found: Found) -> None:
        """Clips of some videos that share a frame with a named one, and their time."""
        gone: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
        rest: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in self._of_videos("clips", hidden, CLIP_NAMES):
            key = row["video_id"], row["fingerprint"]
            goes = hidden[row["video_id"]].hides_pts(row["start_pts"], row["end_pts"])
            (gone if goes else rest)[key].append(row)
        if not self._catalog.has("spans"):
            raise CatalogError("the dataset has clips and no spans", where="table 'spans'")
        for row in self._of_videos("spans", hidden, ("video_id", "fingerprint", *TIMES)):
            rest[row["video_id"], row["fingerprint"]].append(row)
        for (video_id, fingerprint), rows in sorted(gone.items()):
            found.gone |= {r["clip_id"] for r in rows}
            found.overlapping |= {r["clip_id"] for r in rows}
            keys = {"video_id": video_id, "fingerprint": fingerprint}
            spans = removed_spans(rows, rest[video_id, fingerprint])
            found.spans += [span | keys for span in spans]

    def _of_videos(self, table: str, videos: Iterable[str], names: Sequence[str]) -> Iterator[Row]:
        if self._catalog.has(table):
            for some in chunks(sorted(videos), IDS_AT_A_TIME):
                yield from self._rows(table, f"video_id IN ({listed(some)})", names)

    def _rows(self, table: str, where: str, names: Sequence[str]) -> Iterator[Row]:
        scanner = self._catalog.dataset(table).scanner(columns=list(names), filter=where)
        for batch in scanner.to_batches():
            yield from batch.to_pylist()


def _hidden(clips: Iterable[Row]) -> dict[str, Hidden]:
    spans: defaultdict[str, list[GoneSpan]] = defaultdict(list)
    for row in clips:
        names = GoneSpan.__dataclass_fields__
        spans[row["video_id"]].append(GoneSpan(**{n: row[n] for n in names}))
    return {
        v: Hidden(video_id=v, whole=False, spans=tuple(s), clip_ids=frozenset())
        for v, s in spans.items()
    }
