"""How the search for candidates grows with the dataset: time and memory over synthetic clips.

    python -m tests.bench.dedup_scale [--clips 2000 20000]

Clips of 16 prints, made of smoothed noise that drifts; one in ten is a noisy copy of another one.
Prints the CPU seconds of the index, of the search and of the comparing, candidates per clip, copies
found, and the highest memory of the process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from curation.dedup.perceptual import Perceptual, candidates, edges_between
from curation.dedup.perceptual_path import SIDE_PX
from curation.dedup.perceptual_search import build_index
from curation.dedup.perceptual_store import store_prints
from curation.signals.prints import STEP_S

NUM_PRINTS, COPY_EVERY, BATCH_CLIPS = 16, 10, 256


def pictures(seed: int) -> np.ndarray:
    """float32 [NUM_PRINTS, SIDE_PX, SIDE_PX] of a clip: a window that drifts over a cloud."""
    rng = np.random.default_rng(seed)
    ground = np.zeros((64, 64), np.float32)
    for cells, weight in ((5, 30), (11, 20), (32, 10)):
        small = rng.standard_normal((cells, cells)).astype(np.float32)
        ground += weight * cv2.resize(small, (64, 64), interpolation=cv2.INTER_CUBIC)
    at, speed = rng.uniform(24, 40, 2), rng.uniform(-0.7, 0.7, 2)
    size = (SIDE_PX, SIDE_PX)
    views = [cv2.getRectSubPix(ground, size, tuple(at + speed * n)) for n in range(NUM_PRINTS)]
    return 120 + np.array(views)


def batches(num_clips: int) -> Iterator[pa.RecordBatch]:
    """Rows of prints; every tenth clip is a copy of the one before it."""
    times = (STEP_S * (np.arange(NUM_PRINTS) + 0.5)).tolist()
    for start in range(0, num_clips, BATCH_CLIPS):
        rows = []
        for n in range(start, min(num_clips, start + BATCH_CLIPS)):
            is_copy = n % COPY_EVERY == COPY_EVERY - 1
            shown = pictures(n - is_copy)
            if is_copy:
                shown = 0.9 * shown + np.random.default_rng(n).normal(6, 2, shown.shape)
            luma = np.clip(np.round(shown), 0, 255).astype(np.uint8).tobytes()
            rows.append((f"{n:032x}", times, luma, NUM_PRINTS * STEP_S))
        columns = zip(*rows, strict=True)
        kinds = (pa.string(), pa.list_(pa.float64()), pa.binary(), pa.float64())
        names = ["clip_id", "print_times_s", "print_luma", "duration_s"]
        arrays = [pa.array(list(c), k) for c, k in zip(columns, kinds, strict=True)]
        yield pa.record_batch(arrays, names)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How deduplication by prints grows.")
    parser.add_argument("--clips", type=int, nargs="+", default=[2000, 20_000])
    options = parser.parse_args()
    for num_clips in options.clips:
        with tempfile.TemporaryDirectory() as folder:
            file = store_prints(batches(num_clips), Path(folder))
            marks = [time.process_time()]
            build_index(file.open())
            marks.append(time.process_time())
            pairs = candidates(file, None, Perceptual(), lambda done: None)
            marks.append(time.process_time())
            edges = sum(b.num_rows for b in edges_between(file, None, Perceptual()))
            marks.append(time.process_time())
        index_s, search_s, whole_s = np.diff(marks).tolist()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{num_clips} clips: index {index_s:.0f} s, search {search_s - index_s:.0f} s, "
            f"comparing {whole_s - search_s:.0f} s, "
            f"{len(pairs) / num_clips:.2f} candidates a clip, "
            f"{edges} edges of {num_clips // COPY_EVERY} copies, peak {peak:.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
