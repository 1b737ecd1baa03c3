"""A million samples: how long the planned order takes to begin, and what it holds in memory.

    python -m tests.bench.loader_index [--samples 1000000] [--repeats 3]

Writes a synthetic index (no shards) to a temporary folder, then plans in fresh processes, once for
each repetition: settings to the first microbatch, 1,000 steps, and the state a trainer keeps.
Targets: 2 s, 500 MB, 1 KB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.ids import hash64
from curation.schema import SHARD_INDEX, SHARD_INDEX_NAME

BATCH = 50_000
PER_SHARD = 256
SIZES_PX = ((360, 640), (480, 640), (640, 360), (720, 1280), (1080, 1920), (480, 480))
RATES = (23.976, 24.0, 25.0, 29.97, 30.0)
SOURCES = ("archive", "stock", "partner", None)
SHAPES = (
    {"frames": 17, "height_px": 256, "width_px": 256},
    {"frames": 17, "height_px": 192, "width_px": 336, "samples": 6},
    {"frames": 17, "height_px": 336, "width_px": 192, "samples": 6},
    {"frames": 33, "height_px": 192, "width_px": 336, "samples": 3},
    {"frames": 33, "height_px": 256, "width_px": 256, "samples": 3},
    {"frames": 1, "height_px": 256, "width_px": 256},
)
MICROBATCHES = 12
STEPS = 1000


def write_index(root: Path, num_samples: int, seed: int = 0) -> Path:
    """Write a synthetic index, batch by batch: six sizes, five rates, clips of 1 to 10 s."""
    path = root / SHARD_INDEX_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = SHARD_INDEX.with_metadata({"clipmill.shard_format": "4"})
    chance = np.random.default_rng(seed)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, num_samples, BATCH):
            numbers = np.arange(start, min(start + BATCH, num_samples))
            writer.write_table(pa.table(_columns(numbers, chance), schema=schema))
    return path


def _columns(numbers: np.ndarray, chance: np.random.Generator) -> dict[str, Any]:
    count = len(numbers)
    ids = [f"{hash64(f'clip {n}'):016x}{n:016x}" for n in numbers]
    # As shards are packed: neighbours have one stored size.
    shard = numbers // PER_SHARD
    sizes = np.array(SIZES_PX, np.int32)[shard % len(SIZES_PX)]
    fps = np.array(RATES)[chance.integers(0, len(RATES), count)]
    frames = np.round(fps * chance.uniform(1, 10, count)).astype(np.int32)
    words = {
        "shard": [
            f"shards/{h}x{w}/g0000-{s:06}.tar" for s, (h, w) in zip(shard, sizes, strict=True)
        ]
    }
    sources = [SOURCES[n] for n in chance.integers(0, len(SOURCES), count)]
    splits = np.where(chance.random(count) < 0.98, "train", "val").tolist()
    sha256 = [f"{n:064x}" for n in numbers]
    where = np.cumsum(np.full(count, 700_000)) % 200_000_000
    return {
        "clip_id": ids,
        "key_hash": np.array([hash64(i) for i in ids], np.uint64),
        "mp4_hash": chance.integers(0, 2**64, count, np.uint64),
        "text_hash": chance.integers(0, 2**64, count, np.uint64),
        **words,
        "generation": np.zeros(count, np.int32),
        "bucket": [f"{h}x{w}" for h, w in sizes],
        "split": splits,
        "source": sources,
        "frames": frames,
        "height_px": sizes[:, 0],
        "width_px": sizes[:, 1],
        "fps": fps,
        "duration_s": frames / fps,
        "has_caption": np.ones(count, bool),
        "num_captions": np.ones(count, np.int32),
        "mp4_offset": where,
        "mp4_bytes": chance.integers(200_000, 1_200_000, count),
        "mp4_sha256": sha256,
        "json_offset": where + 600_000,
        "json_bytes": chance.integers(600, 900, count),
        "txt_offset": where + 610_000,
        "txt_bytes": chance.integers(60, 90, count),
        "m4a_offset": [None] * count,
        "m4a_bytes": [None] * count,
        "shard_bytes": np.full(count, PER_SHARD * 720_000),
        "shard_sha256": sha256,
    }


def measure(root: str) -> dict[str, float]:
    """Plan in this process, which must be a fresh one; seconds and MB (10**6 bytes)."""
    settings = _settings()
    imported_mb = _peak_mb()
    start, cpu = time.perf_counter(), time.process_time()
    from training.data.plan import open_plan

    plan = open_plan(settings, root)
    opened_s = time.perf_counter() - start
    first = plan.order.step(0)
    started_s, started_cpu_s = time.perf_counter() - start, time.process_time() - cpu
    index = plan.index_at(0, 0)
    index.clip_ids(first[0].samples)
    keyed_s = time.perf_counter() - start
    peak_mb = _peak_mb()
    state = plan.state(123_456_789)
    begin = time.perf_counter()
    for step in range(STEPS):
        plan.order.step(step)
    return {
        "samples": len(index),
        "epoch_microbatches": plan.sources[0].phases[0].order.num_microbatches,
        "opened_s": opened_s,
        "started_s": started_s,
        "started_cpu_s": started_cpu_s,
        "with_keys_of_the_first_s": keyed_s,
        "peak_mb": peak_mb,
        "peak_mb_above_imports": peak_mb - imported_mb,
        "peak_mb_after_steps": _peak_mb(),
        "state_bytes": len(json.dumps(state)),
        "steps_1000_s": time.perf_counter() - begin,
    }


def _settings() -> Any:  # noqa: ANN401 - imported late: see measure
    from training.data.plan import open_plan
    from training.data.settings import DataSettings

    assert open_plan
    buckets = {"shapes": SHAPES, "cost_tolerance": 0.4}
    order = {"microbatches": MICROBATCHES}
    return DataSettings.model_validate({"buckets": buckets, "order": order})


def _peak_mb() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    """Write the index, measure in fresh processes, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", metavar="ROOT", help="plan this index and print JSON")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = write_index(Path(folder), given.samples)
        print(f"{given.samples:,} samples, index of {path.stat().st_size / 1e6:.0f} MB")
        command = [sys.executable, "-m", "tests.bench.loader_index", "--measure", folder]
        runs = []
        for _ in range(given.repeats):
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append(json.loads(done.stdout))
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"{name:26} min {min(values):12,.3f}   median {median(values):12,.3f}")


if __name__ == "__main__":
    main()
