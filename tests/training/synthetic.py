"""Shard indexes without any shard: rows as they stand in ``shards/index.parquet``, of any shape."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.ids import hash64, sha_prefix64
from curation.schema import SHARD_INDEX, SHARD_INDEX_NAME
from training.data.index import NUMBERS, WORDS, ShardIndex
from training.data.settings import DataSettings

Value = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sample; what is not said is made up from its name."""

    clip: str
    shard: str = "shards/a/g0000-000000.tar"
    generation: int = 0
    split: str | None = None
    source: str | None = None
    frames: int = 48
    height_px: int = 240
    width_px: int = 320
    fps: float = 24.0
    mp4_bytes: int = 1000
    text: str = ""

    def values(self) -> dict[str, Value]:
        """A row of ``SHARD_INDEX``."""
        sha256 = hashlib.sha256(f"mp4 of {self.clip}".encode()).hexdigest()
        return {
            "clip_id": self.clip,
            "key_hash": hash64(self.clip),
            "mp4_hash": sha_prefix64(sha256),
            "text_hash": hash64(f"text of {self.clip}: {self.text}"),
            "shard": self.shard,
            "generation": self.generation,
            "bucket": f"{self.height_px}x{self.width_px}",
            "split": self.split,
            "source": self.source,
            "frames": self.frames,
            "height_px": self.height_px,
            "width_px": self.width_px,
            "fps": self.fps,
            "duration_s": self.frames / self.fps,
            "has_caption": bool(self.text),
            "num_captions": int(bool(self.text)),
            "mp4_offset": 512,
            "mp4_bytes": self.mp4_bytes,
            "mp4_sha256": sha256,
            "json_offset": 0,
            "json_bytes": 2,
            "txt_offset": 0,
            "txt_bytes": len(self.text),
            "m4a_offset": None,
            "m4a_bytes": None,
            "shard_bytes": 10_000,
            "shard_sha256": "0" * 64,
        }


def write_index(
    root: Path | str,
    rows: Sequence[Row],
    *,
    rows_per_group: int = 1000,
    version: str = "4",
    dictionary: bool = True,
) -> str:
    """Write the index of a dataset root; returns the root."""
    path = Path(root) / SHARD_INDEX_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = SHARD_INDEX.with_metadata({"clipmill.shard_format": version})
    table = pa.Table.from_pylist([row.values() for row in rows], schema=schema)
    pq.write_table(table, path, row_group_size=rows_per_group, use_dictionary=dictionary)
    return str(root)


def index_of(rows: Sequence[Row]) -> ShardIndex:
    """The same in memory, without a file and without a fingerprint."""
    values = [row.values() for row in rows]
    columns = {name: np.array([v[name] for v in values], kind) for name, kind in NUMBERS.items()}
    words: dict[str, tuple[str, ...]] = {}
    for name in WORDS:
        own = [v[name] for v in values]
        words[name] = tuple(dict.fromkeys(str(word) for word in own if word is not None))
        codes = [-1 if word is None else words[name].index(str(word)) for word in own]
        columns[name] = np.array(codes, np.int32)
    return ShardIndex("memory", columns, words, np.arange(len(rows)))


def some_rows(num_shards: int, per_shard: int, **given: Value) -> list[Row]:
    """Clips ``c0``, ``c1``, ... of three stored shapes, in shards of equal size."""
    shapes = ((48, 240, 320), (120, 240, 320), (60, 320, 240))
    rows = []
    for number in range(num_shards * per_shard):
        frames, height_px, width_px = shapes[number % 3]
        generation = given.get("generation", 0)
        shard = f"shards/s/g{generation:04}-{number // per_shard:06}.tar"
        base = {"frames": frames, "height_px": height_px, "width_px": width_px, "shard": shard}
        rows.append(Row(**{"clip": f"c{generation}-{number}", **base, **given}))  # pyright: ignore[reportArgumentType]
    return rows


def small_settings(**order: Value) -> DataSettings:
    """Two buckets of clips and one of pictures, of 2, 4 and 8 samples a microbatch."""
    shapes = [
        {"frames": 9, "height_px": 64, "width_px": 64, "fps": 8, "samples": 4},
        {"frames": 25, "height_px": 64, "width_px": 64, "fps": 8, "samples": 2},
        {"frames": 1, "height_px": 96, "width_px": 96, "fps": 8, "samples": 8},
    ]
    buckets = {"shapes": shapes, "microbatch_tokens": 300, "cost_tolerance": 0.5}
    return DataSettings.model_validate({"buckets": buckets, "order": {"microbatches": 4, **order}})
