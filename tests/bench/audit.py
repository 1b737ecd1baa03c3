"""The audit page of a synthetic catalog: time, memory and size, part by part.

    python -m tests.bench.audit OUT [--clips 1000000] [--memory 6]

Writes the catalog of ``million.py`` into OUT unless it is there, judges it, adds duplicates and one
small stored frame per clip, and makes the page in a process of its own, whose peak memory is told.
``--memory`` (GiB) makes that process believe in a machine of that size: DuckDB takes 40 % of it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import cv2
import lance
import numpy as np
import psutil
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.verdicts import judge_catalog
from curation.schema import DUPLICATES
from pipelines.audit.page import make_audit
from pipelines.config import CurateConfig
from tests.bench.million import CLIP_S, CLIPS_PER_VIDEO, make_catalog

BATCH_VIDEOS = 5_000
DUPLICATE_EVERY = 20
NUM_PICTURES = 32


def prepare(out: Path, num_clips: int) -> None:
    """Write the catalog, judge it, add duplicates and frames."""
    catalog = make_catalog(out, num_clips, vectors=False)
    run = catalog.last_run()
    assert run is not None
    plan = CurateConfig.model_validate(run["config"]).plan()
    judge_catalog(catalog, plan)
    schema = plan.table_schemas()["frames"]
    _append(catalog, "frames", _frames(num_clips, plan.table_fingerprints()["frames"], schema))
    _append(catalog, "duplicates", _duplicates(catalog, plan.table_fingerprints()["verdicts"]))
    catalog.compact()


def _append(catalog: Catalog, table: str, batches: Iterator[pa.Table]) -> None:
    for rows in batches:
        lance.write_dataset(rows, catalog.uri(table), mode="append")


def _frames(num_clips: int, fingerprint: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """One frame in the middle of every clip, one of a few pictures."""
    rng = np.random.default_rng(0)
    jpegs = []
    for _ in range(NUM_PICTURES):
        small = rng.integers(0, 255, (6, 8, 3), np.uint8)
        picture = cv2.resize(small, (96, 54), interpolation=cv2.INTER_CUBIC)
        jpegs.append(cv2.imencode(".jpg", picture)[1].tobytes())
    pictures = pa.array(jpegs, pa.binary())
    for first in range(0, num_clips // CLIPS_PER_VIDEO, BATCH_VIDEOS):
        videos = range(first, min(first + BATCH_VIDEOS, num_clips // CLIPS_PER_VIDEO))
        index = np.tile(np.arange(CLIPS_PER_VIDEO), len(videos))
        count = len(index)
        given = {
            "sample_frame_index": index * 180 + 90,
            "sample_pts": index * 180 + 90,
            "sample_time_s": index * CLIP_S + CLIP_S / 2,
            "sample_width_px": np.full(count, 96),
            "sample_height_px": np.full(count, 54),
            "jpeg": pictures.take(pa.array(rng.integers(0, NUM_PICTURES, count))),
            "video_id": pa.array([f"{v:064x}" for v in videos]).take(
                pa.array(np.repeat(np.arange(len(videos)), CLIPS_PER_VIDEO))
            ),
            "fingerprint": pa.repeat(fingerprint, count),
        }
        yield pa.table({f.name: pa.array(given[f.name]) for f in schema}).cast(schema)


def _duplicates(catalog: Catalog, fingerprint: str) -> Iterator[pa.Table]:
    """Pairs of clips that are said to show the same; one in a hundred is like a reference."""
    rng = np.random.default_rng(1)
    for batch in catalog.dataset("clips").to_batches(columns=["clip_id", "video_id"]):
        rows = pa.Table.from_batches([batch])
        stays = rows.slice(0, rows.num_rows // DUPLICATE_EVERY)
        goes = rows.slice(stays.num_rows, stays.num_rows)
        count = goes.num_rows
        similarity = rng.uniform(0.9, 1, count).round(4)
        pairs = pa.table(
            {
                "clip_id": goes.column("clip_id"),
                "video_id": goes.column("video_id"),
                "group_id": stays.column("clip_id"),
                "representative": pa.repeat(False, count),
                "level": pa.array(np.where(similarity > 0.97, "perceptual", "semantic")),
                "similarity": similarity,
                "offset_s": rng.uniform(-3, 3, count).round(2),
                "speed": np.ones(count),
                "mirrored": rng.random(count) < 0.1,
                "overlap_s": np.full(count, 3.0),
                "reference": pa.array(
                    ["s3://test-set" if x < 0.01 else None for x in rng.random(count)], pa.string()
                ),
                "fingerprint": pa.repeat(fingerprint, count),
            }
        )
        yield pairs.select(DUPLICATES.names).cast(DUPLICATES)


def measure(out: Path, memory_gib: float | None) -> dict[str, object]:
    """Make the page in this process."""
    machine = psutil.virtual_memory()
    if memory_gib:
        machine = machine._replace(total=int(memory_gib * 2**30))
    began = time.perf_counter()
    with mock.patch.object(psutil, "virtual_memory", return_value=machine):
        report = make_audit(str(out))
    return {
        "wall_s": round(time.perf_counter() - began, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **report.as_dict(),
    }


def main() -> None:
    """Prepare, and measure in a new process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--memory", type=float, default=None, help="GiB the process believes in")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.out, args.memory)))
        return
    if not (args.out / "catalog").exists():
        began = time.perf_counter()
        prepare(args.out, args.clips)
        print(f"catalog written in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    memory = ["--memory", str(args.memory)] if args.memory else []
    subprocess.run([sys.executable, "-m", "tests.bench.audit", str(args.out), "--here", *memory])


if __name__ == "__main__":
    main()
