"""A removal: everything that one request takes out, written down before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from curation.removal.gone import Gone
from curation.removal.tombstones import CLIP, VIDEO, GoneSpan
from curation.storage import Storage

NOTE = "removing.json"
NEEDLES = "removing.needles"
"""Arrow file of what the proof looks for; goes with the note."""
FOLDER = "removals"
"""What was proven of each removal, one small JSON file each, without any id."""


@dataclass(kw_only=True)
class Removal:
    """What a request takes out.

    Attributes:
        run_id: Of the command.
        reason: Why, in the user's words.
        removed_at: ISO time, UTC.
        tombstones: Rows of the table, without reason and time.
        videos: Ids of videos that go whole.
        clips: Ids of all clips that go: of those videos, the named ones, and those that share a
            frame with a named one; of every fingerprint.
        overlapping: Those of them that go only because they share a frame with a named one.
        duplicates: Clips that show the same as one that goes, and stay.
        spans: New rows of ``spans`` for the time of clips that go.
        seconds: Length of what goes, as far as it is known.
        rows: Rows that go, by table.
        num_files: Files that go beside tables, shards and releases.
        num_file_bytes: Their size.
        shards: Shards that are written anew.
        siblings: Tars of sibling sets that are written anew.
        releases: Tags of the releases that hold any of it.
        withdraw: Withdraw those releases instead of rebuilding them.
        shard_settings: How the dataset is packed, as plain values.
        shards_current: The shards held exactly the kept clips before.
        asked: What the user named, as plain values.
    """

    run_id: str
    reason: str
    removed_at: str
    tombstones: list[dict[str, Any]]
    videos: list[str]
    clips: list[str]
    overlapping: list[str]
    duplicates: list[str]
    spans: list[dict[str, Any]]
    seconds: float
    rows: dict[str, int] = field(default_factory=dict)
    num_files: int = 0
    num_file_bytes: int = 0
    shards: list[str] = field(default_factory=list)
    siblings: list[str] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    withdraw: bool = False
    shard_settings: dict[str, Any] = field(default_factory=dict)
    shards_current: bool = False
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def gone(self) -> Gone:
        """What may stand nowhere afterwards."""
        spans: dict[str, list[GoneSpan]] = {}
        for row in self.tombstones:
            if row["kind"] == CLIP:
                names = GoneSpan.__dataclass_fields__
                spans.setdefault(row["video_id"], []).append(GoneSpan(**{n: row[n] for n in names}))
        return Gone(videos=frozenset(self.videos), clips=frozenset(self.clips), spans=spans)

    def tombstone_rows(self) -> list[dict[str, Any]]:
        """Whole rows of the table of tombstones."""
        at = datetime.fromisoformat(self.removed_at)
        also = {"reason": self.reason, "removed_at": at, "run_id": self.run_id}
        return [row | also for row in self.tombstones]

    def summary(self) -> dict[str, Any]:
        """What a person or a program wants to know of it; plain values."""
        return {
            "videos": self.videos,
            "clips": self.clips,
            "overlapping_clips": self.overlapping,
            "duplicates_that_stay": self.duplicates,
            "hours": round(self.seconds / 3600, 6),
            "seconds": round(self.seconds, 3),
            "rows": self.rows,
            "files": self.num_files,
            "file_bytes": self.num_file_bytes,
            "shards": self.shards,
            "siblings": self.siblings,
            "releases": self.releases,
            "releases_are": "withdrawn" if self.withdraw else "rebuilt",
            "reason": self.reason,
        }


def video_tombstone(video_id: str) -> dict[str, Any]:
    """The tombstone of a whole video."""
    return {"kind": VIDEO, "video_id": video_id}


def clip_tombstone(clip: Mapping[str, Any], time_base: str | None) -> dict[str, Any]:
    """The tombstone of a clip, from a row of ``clips``."""
    names = ("video_id", "clip_id", "start_pts", "end_pts", "start_s", "end_s")
    return {"kind": CLIP, "time_base": time_base} | {n: clip[n] for n in names}


def now() -> str:
    """This moment, as ISO text in UTC."""
    return datetime.now(UTC).isoformat()


def write_note(storage: Storage, removal: Removal) -> None:
    """Write a removal down: from here on it will be carried out, whatever happens."""
    storage.write_json(NOTE, asdict(removal))


def read_note(storage: Storage) -> Removal | None:
    """The removal that was begun and not finished; None: there is none."""
    note = storage.read_json(NOTE)
    return None if note is None else Removal(**note)
