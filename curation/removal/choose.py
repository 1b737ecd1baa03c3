"""From what the user names to everything that goes with it; reads only."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import CatalogError, ConfigError
from curation.removal.files import files_of
from curation.removal.gone import IDS_AT_A_TIME, STAYING, chunks, listed, row_keys
from curation.removal.overlap import Splits
from curation.removal.releases import releases_with
from curation.removal.removal import Removal, clip_tombstone, now, video_tombstone
from curation.removal.tombstones import Tombstones
from curation.shards.rewrite import shards_are_current, shards_of
from curation.shards.settings import ShardSettings
from curation.shards.sibling_check import siblings_of

PREFIX = re.compile(r"[0-9a-f]{4,64}")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the user names.

    Attributes:
        videos: Ids of videos, or prefixes of four digits and more that fit one alone.
        clips: Ids of clips, likewise.
        sources: URIs; the video that each holds goes whole.
        where: SQL condition over the view ``clips``.
        with_duplicates: Also the clips that show the same as one that goes.
    """

    videos: Sequence[str] = ()
    clips: Sequence[str] = ()
    sources: Sequence[str] = ()
    where: str | None = None
    with_duplicates: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON gives them back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def __post_init__(self) -> None:
        if not (self.videos or self.clips or self.sources or self.where):
            raise ConfigError(
                "nothing is named", where="remove", mend="add --video, --clip, --source or --where"
            )


def choose(
    catalog: Catalog,
    selection: Selection,
    *,
    run_id: str,
    reason: str,
    settings: ShardSettings,
    withdraw: bool = False,
) -> Removal:
    """Find everything that goes with what is named.

    Args:
        catalog: The dataset.
        selection: What is named.
        run_id: Of the command.
        reason: Why.
        settings: How the dataset is packed.
        withdraw: Withdraw releases instead of rebuilding them.

    Raises:
        ConfigError: The reason is empty, or an id is no id.
        CatalogError: What is named is not in the dataset, or fits several.
    """
    if not reason.strip():
        raise ConfigError("says nothing", where="--reason", mend="say why, in a few words")
    views = Views(catalog)
    named = _Named(catalog, views)
    videos = {named.video(v) for v in selection.videos} | {
        named.source(uri) for uri in selection.sources
    }
    clips = {named.clip(c) for c in selection.clips}
    if selection.where is not None:
        clips |= named.where(selection.where)
    split = Splits(catalog)
    asked = split.of_clips(clips, without=videos)
    found = split.everything(videos, asked)
    if selection.with_duplicates and (same := _duplicates(catalog, found.gone)):
        asked |= split.of_clips(same, without=videos)
        found = split.everything(videos, asked)
    bases = _time_bases(catalog, {c["video_id"] for c in asked.values()})
    removal = Removal(
        run_id=run_id,
        reason=reason.strip(),
        removed_at=now(),
        tombstones=_new_tombstones(catalog, videos, asked, bases),
        videos=sorted(videos),
        clips=sorted(found.gone),
        overlapping=sorted(c for c in found.overlapping if c not in asked),
        duplicates=sorted(_duplicates(catalog, found.gone)),
        spans=found.spans,
        seconds=_seconds(catalog, views, videos, found.spans),
        withdraw=withdraw,
        shard_settings=settings.model_dump(mode="json"),
        asked=selection.as_dict(),
    )
    _count(catalog, removal, settings)
    return removal


def _count(catalog: Catalog, removal: Removal, settings: ShardSettings) -> None:
    """Fill in what goes with the clips and videos of a removal."""
    gone, storage = removal.gone, catalog.storage
    for table in catalog.tables():
        dataset = catalog.dataset(table)
        keys = row_keys(dataset.schema)
        if table not in STAYING and keys:
            batches = dataset.scanner(columns=keys).to_batches()
            if count := sum(int(gone.mask(batch).sum()) for batch in batches):
                removal.rows[table] = count
    files = list(files_of(storage, gone))
    removal.num_files = len(files)
    removal.num_file_bytes = sum(storage.size_bytes(name) for name in files)
    removal.shards = shards_of(storage, gone.clips)
    removal.siblings = siblings_of(storage, gone.clips)
    removal.releases = releases_with(storage, gone)
    removal.shards_current = shards_are_current(catalog, settings)


class _Named:
    """Finds what the user names, and says what is wrong with it."""

    def __init__(self, catalog: Catalog, views: Views) -> None:
        self._catalog, self._views = catalog, views

    def video(self, given: str) -> str:
        sql = "SELECT DISTINCT video_id AS id FROM raw_identities WHERE starts_with(video_id, '{}')"
        return self._one("video", given, sql)

    def clip(self, given: str) -> str:
        if not self._catalog.has("clips"):
            raise CatalogError("the dataset has no clips", where=self._catalog.storage.url)
        sql = "SELECT DISTINCT clip_id AS id FROM raw_clips WHERE starts_with(clip_id, '{}')"
        return self._one("clip", given, sql)

    def source(self, given: str) -> str:
        texts = [given] if "://" in given else [given, os.path.abspath(given)]
        sql = f"SELECT uri, video_id FROM known_sources WHERE uri IN ({listed(texts)})"
        rows = self._views.query(sql).to_pylist()
        if not rows:
            raise CatalogError(
                "is no source of this dataset", where=given, mend="see the view sources"
            )
        if rows[0]["video_id"] is None:
            raise CatalogError(
                "was never read, so nothing of it is here", where=given, mend="leave it out"
            )
        return rows[0]["video_id"]

    def where(self, condition: str) -> set[str]:
        reader = self._views.query(f"SELECT clip_id FROM clips WHERE ({condition}\n)")
        found = set(reader.column("clip_id").to_pylist())
        if not found:
            raise CatalogError("fits no clip", where=f"--where {condition!r}")
        return found

    def _one(self, kind: str, given: str, sql: str) -> str:
        if PREFIX.fullmatch(given) is None:
            raise ConfigError(
                "is no id", where=f"--{kind} {given!r}", mend="give 4 or more of its hex digits"
            )
        rows = self._views.query(sql.format(given) + " ORDER BY id LIMIT 3").to_pylist()
        ids = [r["id"] for r in rows]
        if len(ids) == 1 or given in ids:
            return given if given in ids else ids[0]
        if ids:
            raise CatalogError(
                f"fits several, such as {ids[0]} and {ids[1]}", where=f"--{kind} {given}"
            )
        mend = "ids stand in the view clips; what was removed before stands in tombstones"
        raise CatalogError(f"is no {kind} of this dataset", where=f"--{kind} {given}", mend=mend)


def _duplicates(catalog: Catalog, gone: set[str]) -> set[str]:
    """Clips that stay and are in a group of duplicates with one that goes."""
    groups: set[str] = set()
    _walk_groups(catalog, lambda clip, group: groups.add(group) if clip in gone else None)
    same: set[str] = set()
    _walk_groups(
        catalog,
        lambda clip, group: same.add(clip) if group in groups and clip not in gone else None,
    )
    return same


def _walk_groups(catalog: Catalog, see: Callable[[str, str], None]) -> None:
    if not catalog.has("duplicates"):
        return
    scanner = catalog.dataset("duplicates").scanner(columns=["clip_id", "group_id"])
    for batch in scanner.to_batches():
        ids, groups = batch.column("clip_id").to_pylist(), batch.column("group_id").to_pylist()
        for clip, group in zip(ids, groups, strict=True):
            see(clip, group)


def _time_bases(catalog: Catalog, videos: set[str]) -> dict[str, str]:
    """Units of pts, by video."""
    found = {}
    for some in chunks(sorted(videos), IDS_AT_A_TIME):
        rows = catalog.dataset("videos").to_table(
            columns=["video_id", "time_base"], filter=f"video_id IN ({listed(some)})"
        )
        found |= {r["video_id"]: r["time_base"] for r in rows.to_pylist()}
    return found


def _new_tombstones(
    catalog: Catalog, videos: set[str], asked: dict[str, Row], bases: dict[str, str]
) -> list[Row]:
    """A tombstone for each named video and clip that has none."""
    tombstones = Tombstones(catalog)
    old = tombstones.of_videos(videos)
    rows = [video_tombstone(v) for v in sorted(videos) if v not in old or not old[v].whole]
    clips = (asked[c] for c in sorted(asked))
    return rows + [clip_tombstone(c, bases.get(c["video_id"])) for c in clips]


def _seconds(catalog: Catalog, views: Views, videos: set[str], spans: list[Row]) -> float:
    """Length of whole videos, and of the time that no clip of the present split covers any more."""
    current = catalog.current().tables.get("clips")
    total = sum(s["end_s"] - s["start_s"] for s in spans if s["fingerprint"] == current)
    if "decodes" not in catalog.current().tables:
        return total
    for some in chunks(sorted(videos), IDS_AT_A_TIME):
        sql = f"SELECT sum(video_duration_s) AS s FROM decodes WHERE video_id IN ({listed(some)})"
        total += views.query(sql).column("s")[0].as_py() or 0.0
    return total
