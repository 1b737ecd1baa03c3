"""Samples to look at, read from the shards as a training reads them: ``clipmill inspect``.

Only the index and the shards are opened, not the catalog: what is shown is what was packed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import CatalogError, ConfigError, MediaError
from curation.storage import Storage
from pipelines.loader.frames import Show
from training.data.buckets import REASONS, Assignment, Bucket, assign
from training.data.index import ShardIndex, load_index
from training.data.keys import draw64_all
from training.data.plan import choose_buckets
from training.data.settings import DataSettings

PURPOSE = "inspect"
"""Of the draw that chooses samples: the same ones each time."""
FIRST_SCORES = (
    *("aesthetic_mean", "nsfw_max", "overlay_text_fraction", "text_kind", "num_faces"),
    *("motion_per_s", "camera_class", "sharpness", "luma_mean", "saturation", "noise"),
)
ENOUGH_SCORES = 6
"""Where fewer of those are known, others are shown too."""


@dataclass(frozen=True)
class Looked:
    """One sample.

    Attributes:
        key: Clip id.
        shard: The tar it lies in, relative to the root.
        split: train, val, ...; None: the dataset is not divided.
        stored: ``frames x height x width @ fps`` as stored.
        duration_s: Length.
        bucket: Training bucket it is shown for; None: as stored, or dropped.
        reason: Why it fits no bucket; None: it fits, or is shown as stored.
        record: Its ``.json``.
        times_s: Of the frames, from the beginning of the clip.
        frames: uint8 of shape (T, height, width, 3), RGB; None: it does not decode.
        error: Why not.
        notes: How the loader would deliver it, in words.
    """

    key: str
    shard: str
    split: str | None
    stored: str
    duration_s: float
    bucket: str | None
    reason: str | None
    record: dict[str, Any]
    times_s: list[float] = field(default_factory=list)
    frames: NDArray[np.uint8] | None = None
    error: str | None = None
    notes: str = ""

    @property
    def captions(self) -> list[tuple[str, str, float]]:
        """Kind, text and weight of all captions."""
        return [
            (str(c.get("kind")), str(c.get("text")), float(c.get("weight") or 0))
            for c in self.record.get("captions") or ()
        ]

    @property
    def scores(self) -> dict[str, Any]:
        """Some scores, the best known first."""
        given = {k: v for k, v in (self.record.get("scores") or {}).items() if v is not None}
        known = [name for name in FIRST_SCORES if name in given]
        others = [name for name in given if name not in FIRST_SCORES]
        shown = known + others[: max(0, ENOUGH_SCORES - len(known))]
        return {name: given[name] for name in shown}

    @property
    def origin(self) -> dict[str, Any]:
        """File, licence and what else is known of where it comes from."""
        given = self.record.get("metadata") or {}
        named = {k: given[k] for k in ("license", "source", "title") if given.get(k)}
        return {"file": self.record.get("file")} | named

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: everything but the pixels."""
        return {
            "key": self.key,
            "shard": self.shard,
            "split": self.split,
            "stored": self.stored,
            "duration_s": self.duration_s,
            "bucket": self.bucket,
            "reason": self.reason,
            "times_s": self.times_s,
            "shown": None if self.frames is None else list(self.frames.shape),
            "error": self.error,
            "notes": self.notes,
            "record": self.record,
        }


@dataclass(frozen=True)
class Chosen:
    """Samples to be shown.

    Attributes:
        index: They are of.
        positions: In the index.
        num_fitting: Samples that the filters let through, of which these are some.
        assigned: Buckets of all samples; None: they are shown as stored.
    """

    index: ShardIndex
    positions: list[int]
    num_fitting: int
    assigned: Assignment | None


def choose(
    root: str,
    *,
    limit: int,
    split: str | None = None,
    bucket: str | None = None,
    settings: DataSettings | None = None,
) -> Chosen:
    """Draw samples: the same ones each time, any of them equally likely.

    Args:
        root: Dataset root.
        limit: Most samples.
        split: Only of this split.
        bucket: Only of this training bucket (``17x256x256@8``), or of this stored bucket (the
            shards' folder, ``48x720x1280``) where ``settings`` is None.
        settings: Buckets that samples are shown for; None: as stored.

    Raises:
        ConfigError: There is no such bucket.
        CatalogError: There are no shards, or no such split.
    """
    index = load_index(root)
    if split is not None:
        index = index.where(split=split)
    if settings is None:
        fitting, assigned = _in_stored(index, bucket), None
    else:
        chosen, buckets = choose_buckets(settings, [index])
        assigned = assign(index, buckets, chosen)
        fitting = _in_bucket(assigned, bucket)
    keys = draw64_all(0, 0, PURPOSE, index["key_hash"][fitting])
    drawn = fitting[np.argsort(keys, kind="stable")[:limit]]
    return Chosen(index, sorted(drawn.tolist()), len(fitting), assigned)


def _in_stored(index: ShardIndex, bucket: str | None) -> NDArray[np.int64]:
    """Samples of a stored bucket."""
    if bucket is None:
        return np.arange(len(index))
    folders = [PurePosixPath(name).parent.name for name in index.words["shard"]]
    if bucket not in folders:
        known = ", ".join(sorted(set(folders))[:12])
        raise ConfigError(
            f"there is no stored bucket {bucket!r}",
            where="--bucket",
            mend=f"there are {known}; with --buckets the names of training buckets",
        )
    wanted = [n for n, folder in enumerate(folders) if folder == bucket]
    return np.flatnonzero(np.isin(index["shard"], wanted))


def _in_bucket(assigned: Assignment, bucket: str | None) -> NDArray[np.int64]:
    """Samples of a training bucket; without a name all that fit any."""
    if bucket is None:
        return np.flatnonzero(assigned.bucket >= 0)
    names = [b.name for b in assigned.buckets]
    if bucket not in names:
        raise ConfigError(
            f"there is no training bucket {bucket!r}",
            where="--bucket",
            mend=f"there are {', '.join(names)}",
        )
    return np.flatnonzero(assigned.bucket == names.index(bucket))


def looked_at(chosen: Chosen, show: Show) -> Iterator[Looked]:
    """Read samples from their shards and decode some frames of each.

    Args:
        chosen: Which.
        show: Gives frames of a sample's MP4.

    Raises:
        CatalogError: A shard is missing or holds something else than the index says.
    """
    index, storage = chosen.index, Storage(chosen.index.root)
    keys = index.clip_ids(chosen.positions)
    for position, key in zip(chosen.positions, keys, strict=True):
        shard = index.words["shard"][index["shard"][position]]
        data, text = _members(storage, shard, index, position)
        try:
            record = json.loads(text)
        except json.JSONDecodeError as exc:
            raise _changed(storage, shard) from exc
        if record.get("clip_id") != key:
            raise _changed(storage, shard)
        bucket, reason = _bucket(chosen.assigned, position)
        times, frames, error, notes = [], None, None, ""
        try:
            times, frames, notes = show(data, index, position, record, bucket)
        except MediaError as exc:
            error = str(exc)
        size = "x".join(str(int(index[n][position])) for n in ("frames", "height_px", "width_px"))
        code = int(index["split"][position])
        yield Looked(
            key=key,
            shard=shard,
            split=index.words["split"][code] if code >= 0 else None,
            stored=f"{size}@{float(index['fps'][position]):.4g}",
            duration_s=float(index.durations_s()[position]),
            bucket=bucket.name if bucket else None,
            reason=reason,
            record=record,
            times_s=[round(t, 4) for t in times],
            frames=frames,
            error=error,
            notes=notes,
        )


def _members(storage: Storage, shard: str, index: ShardIndex, position: int) -> tuple[bytes, bytes]:
    """The MP4 and the JSON of a sample."""
    found = []
    try:
        with storage.open_read(shard) as source:
            for name in ("mp4", "json"):
                source.seek(int(index[f"{name}_offset"][position]))
                size = int(index[f"{name}_bytes"][position])
                data = source.read(size)
                if len(data) < size:
                    raise _changed(storage, shard)
                found.append(data)
    except OSError as exc:
        raise CatalogError(
            f"a shard cannot be read: {exc}", where=shard, mend=f"clipmill verify {storage.url}"
        ) from exc
    return found[0], found[1]


def _changed(storage: Storage, shard: str) -> CatalogError:
    return CatalogError(
        "the shard is not what the index says", where=shard, mend=f"clipmill verify {storage.url}"
    )


def _bucket(assigned: Assignment | None, position: int) -> tuple[Bucket | None, str | None]:
    if assigned is None:
        return None, None
    number = int(assigned.bucket[position])
    if number < 0:
        return None, REASONS[int(assigned.reason[position])]
    return assigned.buckets[number], None
