"""Writing the tars of a change: samples go, as they come, to the shards they belong to.

Several tars are open at a time, one per generation of a bucket at most; rows of the index wait in a
file of this machine until all is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.errors import CatalogError
from curation.ids import hash64, sha_prefix64
from curation.schema import SHARD_INDEX
from curation.shards.audio import sound_of
from curation.shards.index import ShardName, key_of, shard_name
from curation.shards.plans import LEFT, NEW, Change, Kept
from curation.shards.settings import ShardSettings
from curation.shards.swap import staged_name
from curation.shards.tar import SOUND, Sample, Tar, add_sample, new_tar, sample_bytes, tar_bytes
from curation.storage import Storage

HELD_ROWS = 1024
"""Rows of an open tar that are kept as dictionaries before they become Arrow."""


class Rows:
    """Rows of written shards, kept in a file until the index is put together."""

    def __init__(self, path: Path) -> None:
        self._path, self._places = path, dict[str, int]()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._writer = pa.ipc.new_file(str(path), SHARD_INDEX, options=options)
        self._reader: Any = None

    def add(self, shard: str, rows: pa.Table) -> None:
        """Keep the rows of a shard."""
        self._places[shard] = len(self._places)
        (batch,) = rows.combine_chunks().to_batches()
        self._writer.write_batch(batch)

    def finish(self) -> int:
        """No more come; returns of how many shards there are some."""
        self._writer.close()
        self._reader = pa.ipc.open_file(pa.memory_map(str(self._path)))
        return len(self._places)

    def in_order(self) -> Iterator[tuple[str, pa.Table]]:
        """The shards in the order of the index."""
        for shard in sorted(self._places, key=key_of):
            batch = self._reader.get_batch(self._places[shard])
            yield shard, pa.Table.from_batches([batch])

    def close(self) -> None:
        """Let go of the file."""
        self._reader = None


class _Shard:
    """A tar that is being filled."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.name, self.size, self.count = name, 0, 0
        self._rows: list[dict[str, Any]] = []
        self._batches: list[pa.RecordBatch] = []
        self._stack = ExitStack()
        self._tar: Tar = self._stack.enter_context(new_tar(storage, staged_name(name)))

    def add(self, storage: Storage, sample: Sample, sound: bytes | None) -> None:
        """Add a sample and its row."""
        self._rows.append(
            index_row(self.name, sample) | add_sample(self._tar, storage, sample, sound)
        )
        self.count += 1
        if len(self._rows) >= HELD_ROWS:
            self._settle()

    def close(self) -> pa.Table:
        """End the tar; returns the rows of its samples."""
        self._stack.close()
        self._settle()
        rows = pa.Table.from_batches(self._batches)
        whole = {"shard_bytes": self._tar.size, "shard_sha256": self._tar.sha256.hexdigest()}
        for name, value in whole.items():
            place = rows.schema.get_field_index(name)
            column = pa.repeat(pa.scalar(value, rows.schema.field(name).type), rows.num_rows)
            rows = rows.set_column(place, rows.schema.field(name), column)
        return rows

    def _settle(self) -> None:
        """Rows as Arrow take a tenth of what they take as dictionaries."""
        self._batches.append(pa.RecordBatch.from_pylist(self._rows, schema=SHARD_INDEX))
        self._rows = []

    def abandon(self, exc: BaseException) -> None:
        """Leave no file."""
        self._stack.__exit__(type(exc), exc, exc.__traceback__)


class Packer:
    """Sends samples, as they come in their order, to the tars they belong to.

    Args:
        storage: The dataset root.
        settings: Packing.
        change: Which sample belongs where.
        rows: Takes the rows of each tar when it is full.
        on_sample: Called with the bytes of each packed sample.
    """

    def __init__(
        self,
        storage: Storage,
        settings: ShardSettings,
        change: Change,
        rows: Rows,
        on_sample: Callable[[int], None],
    ) -> None:
        self._storage, self._settings, self._change = storage, settings, change
        self._rows, self._on_sample = rows, on_sample
        self._open: dict[int, _Shard] = {}  # by place among the standing shards; NEW: the new one
        self._folder, self._number = "", 0

    def __enter__(self) -> Packer:
        return self

    def __exit__(self, kind: object, exc: BaseException | None, tb: object) -> None:
        if exc is not None:
            for shard in self._open.values():
                shard.abandon(exc)

    def take(self, samples: Iterable[Sample], kept: Kept, generations: frozenset[int]) -> None:
        """Write the shards of some generations.

        Raises:
            CatalogError: The samples are not those that were looked at.
        """
        coming, wanted = iter(samples), self._wanted(generations)
        count = 0
        for key, target, sample in zip(kept.hashes[0], wanted, coming, strict=False):
            count += 1
            if target == LEFT:
                continue
            if hash64(sample.clip_id) != key:
                break
            sound = sound_of(self._storage, sample) if self._settings.audio == SOUND else None
            if target == NEW:
                self._add_new(sample, sound)
            else:
                self._add(int(target), sample, sound)
            self._on_sample(sample.media_bytes)
        else:
            if count == wanted.size and next(coming, None) is None:
                self._close(NEW)
                return
        raise CatalogError(
            "the kept clips changed while they were packed",
            where=self._storage.url,
            mend="let one command at a time work on a dataset, and run `clipmill shard OUT`",
        )

    def _wanted(self, generations: frozenset[int]) -> np.ndarray:
        """Targets, with what belongs to other generations left out."""
        change = self._change
        here = np.zeros(len(change.standing.names) + 1, bool)
        for place in change.counts:
            parsed = ShardName.parse(change.standing.names[place])
            here[place] = parsed is not None and parsed.generation in generations
        new = change.generation in generations
        mine = np.where(change.targets == NEW, new, here[np.maximum(change.targets, -1)])
        return np.where(mine, change.targets, LEFT)

    def _add(self, place: int, sample: Sample, sound: bytes | None) -> None:
        """Add to a shard that is written anew under its name."""
        shard = self._open.get(place)
        if shard is None:
            shard = self._open[place] = _Shard(self._storage, self._change.standing.names[place])
        shard.add(self._storage, sample, sound)
        if shard.count == self._change.counts[place]:
            self._close(place)

    def _add_new(self, sample: Sample, sound: bytes | None) -> None:
        """Add to the new shard of the sample's folder, or to the next one when it is full."""
        size, shard = sample_bytes(sample, sound), self._open.get(NEW)
        same = sample.folder == self._folder
        if shard is not None:
            full = tar_bytes(shard.size + size) > self._settings.target_bytes
            if full or not same:
                self._close(NEW)
                self._number = self._number + 1 if same else 0
                shard = None
        if shard is None:
            self._folder = sample.folder
            name = shard_name(sample.folder, self._change.generation, self._number)
            shard = self._open[NEW] = _Shard(self._storage, name)
        shard.add(self._storage, sample, sound)
        shard.size += size

    def _close(self, place: int) -> None:
        if place in self._open:
            shard = self._open[place]
            rows = shard.close()
            del self._open[place]
            self._rows.add(shard.name, rows)


def index_row(name: str, sample: Sample) -> dict[str, Any]:
    """What the index says of a sample, but for where it lies."""
    parsed = ShardName.parse(name)
    assert parsed is not None, name
    return {
        "clip_id": sample.clip_id,
        "key_hash": hash64(sample.clip_id),
        "mp4_hash": sha_prefix64(sample.media_sha256),
        "shard": name,
        "generation": parsed.generation,
        "bucket": sample.bucket,
        "split": sample.split or None,
        "source": sample.source,
        "frames": sample.frames,
        "height_px": sample.height_px,
        "width_px": sample.width_px,
        "fps": sample.fps,
        "duration_s": sample.duration_s,
        "has_caption": bool(sample.caption),
        "num_captions": len(sample.record.get("captions", ())),
        "mp4_sha256": sample.media_sha256,
    }
