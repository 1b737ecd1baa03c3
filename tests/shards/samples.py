"""Hand-made samples, and the tars and index they become."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curation.ids import digest
from curation.shards.index import read_index
from curation.shards.settings import ShardReport, ShardSettings
from curation.shards.tar import Sample
from curation.shards.writer import order_key, write_shards
from curation.storage import Storage

SHAPES = [(10, 64, 96), (10, 128, 96), (9, 64, 96)]


def make_samples(storage: Storage, count: int, *, size_bytes: int = 5000) -> list[Sample]:
    """Samples of three shapes whose media are random bytes, in shard order."""
    samples = []
    for i in range(count):
        frames, height, width = SHAPES[i % 3]
        data = random.Random(i).randbytes(size_bytes + 17 * i)
        clip = digest("clip", i)
        path = f"media/{clip[:2]}/{clip}-f.mp4"
        storage.write_bytes(path, data)
        sample = Sample(
            clip_id=clip,
            media_path=path,
            media_bytes=len(data),
            media_sha256=hashlib.sha256(data).hexdigest(),
            frames=frames,
            height_px=height,
            width_px=width,
            fps=10.0,
            duration_s=frames / 10,
            caption="" if i % 2 else f"a cäption {i}",
            record={"clip_id": clip, "file": f"{i}.mp4", "scores": {"luma_mean": 0.5}},
        )
        samples.append(sample)
    return in_order(samples)


def in_order(samples: list[Sample], seed: int = 0) -> list[Sample]:
    return sorted(samples, key=lambda s: order_key(s.split, s.bucket, seed, s.clip_id))


def pack(
    storage: Storage,
    samples: list[Sample],
    target_bytes: int = 2**20,
    on_sample: Callable[[int], None] = lambda _: None,
    *,
    repack: bool = False,
    **settings: Any,  # noqa: ANN401 - fields of ShardSettings
) -> ShardReport:
    packing = ShardSettings(target_bytes=target_bytes, **settings)
    samples = in_order(samples, packing.seed)
    return write_shards(storage, lambda: samples, packing, on_sample, repack=repack)


def index_rows(storage: Storage) -> list[dict[str, Any]]:
    table = read_index(storage)
    assert table is not None
    return table.to_pylist()


def bytes_of(storage: Storage) -> dict[str, bytes]:
    return {n: Path(storage.path(n)).read_bytes() for n in storage.walk("shards")}
