"""What has to be written: the kept clips held against the shards that stand, in numbers alone.

A clip stays in its shard for life. A shard is written anew only when one of its clips went, or
changed its mp4 or its texts; kept clips that lie in no shard, or not in the folder they belong to,
are packed as a new generation. When nothing stays, or the layout is another, all is packed anew.
Per clip some 80 bytes are kept, as arrays.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from curation.errors import CatalogError, DamagedError
from curation.ids import canonical_json, hash64, sha_prefix64
from curation.schema import SHARD_INDEX
from curation.shards.index import (
    FORMAT,
    FORMAT_VERSION,
    INDEX,
    LAYOUT,
    PLAN,
    VERDICTS,
    ShardName,
    Verdicts,
    by_shard,
    check_whole,
    metadata_of,
)
from curation.shards.settings import ShardSettings
from curation.shards.tar import Sample, member_bytes, tar_bytes, text_digest
from curation.storage import Storage

LEFT, NEW = -1, -2
"""Targets of a clip whose shard is left as it is, and of one that comes into a new shard."""
HASHES = ["key_hash", "mp4_hash", "text_hash"]
SIZES = ["mp4_bytes", "m4a_bytes", "json_bytes", "txt_bytes"]


class PlanDigest:
    """What the shards will hold, as hex digits: contents, order and settings."""

    def __init__(self, settings: ShardSettings) -> None:
        known = [FORMAT_VERSION, settings.model_dump()]
        self._sha = hashlib.sha256(canonical_json(known).encode())

    def add(self, sample: Sample) -> int:
        """Take the next sample in; returns its ``text_hash``."""
        text = text_digest(sample.json_bytes(), sample.text_bytes())
        self._sha.update(f"{sample.clip_id} {sample.media_sha256} {text.hex()}\n".encode())
        return int.from_bytes(text[:8], "big")

    @property
    def text(self) -> str:
        """The digest."""
        return self._sha.hexdigest()


def plan_digest(samples: Iterable[Sample], settings: ShardSettings) -> str:
    """What the shards will hold, as hex digits: contents, order and settings.

    Generations leave no trace in it: the same kept clips and settings give the same digest.
    """
    digest = PlanDigest(settings)
    for sample in samples:
        digest.add(sample)
    return digest.text


@dataclass
class Kept:
    """The kept clips, in the order of ``writer.order_key``.

    Attributes:
        hashes: ``key_hash``, ``mp4_hash`` and ``text_hash``: uint64 [3, n].
        folders: Where each belongs, as a place in ``names``: int32 [n].
        names: Folders.
        plan: See :func:`plan_digest`.
        verdicts: See ``index.Verdicts``.
    """

    hashes: np.ndarray
    folders: np.ndarray
    names: list[str]
    plan: str
    verdicts: str

    @classmethod
    def of(cls, samples: Iterable[Sample], settings: ShardSettings) -> Kept:
        """Look at every sample once.

        Raises:
            CatalogError: Two samples have the same key.
        """
        plan, verdicts = PlanDigest(settings), Verdicts()
        hashes = [array("Q"), array("Q"), array("Q")]
        folders, known = array("i"), dict[str, int]()
        for sample in samples:
            values = (hash64(sample.clip_id), sha_prefix64(sample.media_sha256), plan.add(sample))
            for column, value in zip(hashes, values, strict=True):
                column.append(value)
            folders.append(known.setdefault(sample.folder, len(known)))
            verdicts.add(sample.clip_id, sample.split)
        columns = np.array([np.array(c, np.uint64) for c in hashes])
        if np.unique(columns[0]).size != columns.shape[1]:
            raise CatalogError("two kept clips have the same key", where=INDEX)
        found = np.array(folders, np.int32)
        return cls(columns, found, list(known), plan.text, verdicts.text)


@dataclass
class Standing:
    """The shards that an index names.

    Attributes:
        names: Shards, in order.
        folders: Of each shard.
        starts: Row at which each begins, and their number: int64 [shards + 1].
        hashes: As those of :class:`Kept`, row by row.
        whole: Whether each file is there with its size: bool [shards].
        metadata: Of the index.
    """

    names: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    starts: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    hashes: np.ndarray = field(default_factory=lambda: np.zeros((3, 0), np.uint64))
    whole: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    metadata: dict[bytes, bytes] = field(default_factory=dict)

    def holds(self, kept: Kept) -> bool:
        """True for exactly these clips, in files of the right size (``verify`` looks inside)."""
        return self.metadata.get(PLAN) == kept.plan.encode() and bool(self.whole.all())

    @property
    def generation(self) -> int:
        """The highest one; -1: there is no shard."""
        parsed = (ShardName.parse(name) for name in self.names)
        return max((p.generation for p in parsed if p is not None), default=-1)


def standing_shards(storage: Storage, settings: ShardSettings) -> Standing | None:
    """The shards that can stay; None: no index, a damaged one, or another format or layout."""
    metadata = metadata_of(storage)
    wanted = {FORMAT: str(FORMAT_VERSION).encode(), LAYOUT: settings.layout().encode()}
    if metadata is None or any(metadata.get(k) != v for k, v in wanted.items()):
        return None
    names, folders, counts, whole = list[str](), list[str](), list[int](), list[bool]()
    columns = [list[np.ndarray]() for _ in HASHES]
    try:
        check_whole(storage, INDEX, SHARD_INDEX)  # rows of shards that stay are copied whole
        for shard, rows in by_shard(storage, INDEX, ["shard", "shard_bytes", *HASHES]):
            parsed = ShardName.parse(shard)
            if parsed is None:
                return None
            names.append(shard)
            folders.append(parsed.folder)
            counts.append(rows.num_rows)
            size = rows.column("shard_bytes")[0].as_py()
            whole.append(storage.exists(shard) and storage.size_bytes(shard) == size)
            for column, name in zip(columns, HASHES, strict=True):
                column.append(rows.column(name).to_numpy())
    except DamagedError:  # packed anew
        return None
    if len(set(names)) < len(names):
        return None
    none = [np.zeros(0, np.uint64)]
    return Standing(
        names=names,
        folders=folders,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        hashes=np.array([np.concatenate(column or none) for column in columns]),
        whole=np.array(whole, bool),
        metadata=metadata,
    )


@dataclass
class Change:
    """What has to be done.

    Attributes:
        standing: The shards that stand; without any when all is packed anew.
        targets: For each kept clip the place in ``standing.names`` of the shard that is written
            anew with it, ``LEFT`` or ``NEW``: int32 [n].
        counts: Samples of each shard that is written anew under its name, by place.
        gone: Places of the shards that hold no kept clip any more.
        generation: Of the new shards.
        metadata: What the new index says of all its rows.
    """

    standing: Standing
    targets: np.ndarray
    counts: dict[int, int]
    gone: frozenset[int]
    generation: int
    metadata: dict[bytes, bytes]

    def left(self, place: int) -> bool:
        """True for a shard that is not touched."""
        return place not in self.counts and place not in self.gone


def find_change(kept: Kept, standing: Standing | None, settings: ShardSettings) -> Change:
    """Hold the kept clips against the shards that stand; ``None``: pack everything anew."""
    metadata = {
        PLAN: kept.plan.encode(),
        FORMAT: str(FORMAT_VERSION).encode(),
        LAYOUT: settings.layout().encode(),
        VERDICTS: kept.verdicts.encode(),
    }
    if standing is not None:
        rows, places = _places(kept, standing)
        if (places >= 0).any():
            return _change(kept, standing, rows, places, metadata)
    targets = np.full(kept.folders.size, NEW, np.int32)
    return Change(Standing(), targets, {}, frozenset(), 0, metadata)


def _places(kept: Kept, standing: Standing) -> tuple[np.ndarray, np.ndarray]:
    """Row and shard of each kept clip, -1 where it is in none or belongs to another folder."""
    keys = standing.hashes[0]
    order = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys, kept.hashes[0], sorter=order)
    rows = order[np.minimum(at, max(keys.size - 1, 0))] if keys.size else np.zeros_like(at)
    found = keys[rows] == kept.hashes[0] if keys.size else np.zeros(at.size, bool)
    places = np.searchsorted(standing.starts, rows, side="right") - 1
    known = {name: i for i, name in enumerate(kept.names)}
    folders = np.array([known.get(name, -1) for name in standing.folders] or [-1], np.int32)
    found &= folders[np.minimum(places, folders.size - 1)] == kept.folders
    return np.where(found, rows, -1), np.where(found, places, -1).astype(np.int32)


def _change(
    kept: Kept,
    standing: Standing,
    rows: np.ndarray,
    places: np.ndarray,
    metadata: dict[bytes, bytes],
) -> Change:
    stays = places >= 0
    num = len(standing.names)
    counts = np.bincount(places[stays], minlength=num)
    same = (kept.hashes[1:, stays] == standing.hashes[1:, rows[stays]]).all(axis=0)
    changed = np.bincount(places[stays][~same], minlength=num) > 0
    changed |= counts < np.diff(standing.starts)
    changed |= ~standing.whole
    anew = {int(i): int(counts[i]) for i in np.flatnonzero(changed & (counts > 0))}
    targets = np.where(stays, np.where(changed[places], places, LEFT), NEW).astype(np.int32)
    gone = frozenset(int(i) for i in np.flatnonzero(counts == 0))
    return Change(standing, targets, anew, gone, standing.generation + 1, metadata)


def packed_at_once(
    storage: Storage, standing: Standing, kept: Kept, settings: ShardSettings
) -> bool:
    """True when the shards that hold these clips are as one run over everything packs them."""
    if standing.generation > 0 or not np.array_equal(kept.hashes[0], standing.hashes[0]):
        return False
    folder, number, room = "", 0, 0
    for shard, rows in by_shard(storage, INDEX, ["shard", *SIZES]):
        parsed, sizes = ShardName.parse(shard), _sizes(rows)
        assert parsed is not None
        number = number + 1 if parsed.folder == folder else 0
        full = number == 0 or tar_bytes(room + int(sizes[0])) > settings.target_bytes
        folder, room = parsed.folder, int(sizes.sum())
        fits = rows.num_rows == 1 or tar_bytes(room) <= settings.target_bytes
        if parsed.number != number or not full or not fits:
            return False
    return True


def _sizes(rows: pa.Table) -> np.ndarray:
    """Size of each sample in its tar, as ``tar.sample_bytes`` has it: int64 [n]."""
    total = np.zeros(rows.num_rows, np.int64)
    for name in SIZES:
        values = rows.column(name).to_numpy()
        here = ~np.isnan(values.astype(np.float64))
        total += np.where(here, member_bytes(np.where(here, values, 0).astype(np.int64)), 0)
    return total
