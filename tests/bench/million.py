"""A synthetic catalog of any size: rows that look like those of a real run, without any video.

    python -m tests.bench.million OUT [--clips 1000000]     write it, unless it is there
    python -m tests.bench.million OUT --measure             judge it and choose: time, memory

Every table that the default preset writes is there, so that views, verdicts, account and audit meet
what they meet in earnest: one row per video, ten clips of six seconds each, which tile it. Scores
are drawn so that the preset's rules drop about a third. Vectors have 256 dimensions, and one clip
in twenty nearly repeats the vector of another. There are no pictures, media files or vector index.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.schema import RUNS, with_keys
from curation.storage import Storage
from pipelines.config import load_config
from pipelines.redo import preview_verdicts, rejudge

CLIPS_PER_VIDEO = 10
CLIP_S = 6.0
FPS = 30
BATCH_VIDEOS = 10_000
DIM = 256
REPEATS = 20
"""One clip in so many nearly repeats an earlier one."""
VECTORS = "embeddings_synthetic"
LICENSES = ("CC-BY-4.0", "CC0-1.0", "CC-BY-SA-4.0", "proprietary", None)
SOURCES = ("archive", "stock", "partner", "crawl", None)
CAMERA = ("static", "pan_left", "pan_right", "zoom_in", "handheld")

# Mean and deviation of what the default rules look at; the rest is uniform in 0 to 1.
SHAPES = {
    "motion_per_s": (0.06, 0.05),
    "luma_mean": (0.45, 0.18),
    "sharpness": (0.12, 0.05),
    "static_fraction": (0.3, 0.25),
    "black_fraction": (0.02, 0.05),
    "dark_fraction": (0.2, 0.2),
    "bright_fraction": (0.1, 0.15),
}


def make_catalog(
    out: str | Path, num_clips: int, *, vectors: bool = True, seed: int = 0
) -> Catalog:
    """Write a catalog of ``num_clips`` clips, batch by batch.

    Args:
        out: An empty folder.
        num_clips: A multiple of ten.
        vectors: Write embeddings too.
        seed: Of all numbers.
    """
    plan = load_config("laptop", ["check=null"]).plan()
    catalog = Catalog(Storage(out))
    catalog.create(plan.table_schemas())
    prints, record = plan.table_fingerprints(), plan.record()
    if vectors:
        record["tables"][VECTORS] = "v" * 32  # pyright: ignore[reportIndexIssue]
        catalog.create({VECTORS: vector_schema()})
    for batch in _batches(num_clips // CLIPS_PER_VIDEO, seed):
        for table, schema in plan.table_schemas().items():
            if (rows := batch.rows(table, schema, prints, plan)) is not None:
                catalog.append(table, rows)
        if vectors:
            catalog.append(VECTORS, batch.vectors())
    run = {
        "run_id": "synthetic",
        "event": "started",
        "recorded_at": datetime.now(UTC),
        "command": "curate",
        "config": json.dumps(load_config("laptop", ["check=null"]).model_dump(mode="json")),
        "fingerprints": json.dumps(record),
        "versions": "{}",
    }
    catalog.append("runs", pa.Table.from_pylist([run], schema=RUNS))
    return catalog


def vector_schema() -> pa.Schema:
    """The table of embeddings, as ``embed`` writes it, with another length."""
    return with_keys(
        pa.schema(
            [
                pa.field("clip_id", pa.string()),
                pa.field("embedding", pa.list_(pa.float32(), DIM)),
                pa.field("embedding_model", pa.string()),
            ]
        )
    )


def _batches(num_videos: int, seed: int) -> Iterator[_Batch]:
    for first in range(0, num_videos, BATCH_VIDEOS):
        count = min(BATCH_VIDEOS, num_videos - first)
        yield _Batch(first, count, np.random.default_rng([seed, first]))


class _Batch:
    """The rows of some videos in all tables.

    Args:
        first: Number of the first video.
        count: Videos.
        rng: Of all their numbers.
    """

    def __init__(self, first: int, count: int, rng: np.random.Generator) -> None:
        self._count, self._rng = count, rng
        self._videos = pa.array([f"{i:064x}" for i in range(first, first + count)])
        self._sources = pa.array([f"{i:032x}" for i in range(first, first + count)])
        numbers = range(first * CLIPS_PER_VIDEO, (first + count) * CLIPS_PER_VIDEO)
        # Ids spread over the whole range, as hashes do.
        self._clips = pa.array(
            [f"{(n * 0x9E3779B97F4A7C15) % 2**64:016x}{n:016x}" for n in numbers]
        )
        self._of = np.repeat(np.arange(count), CLIPS_PER_VIDEO)
        self._index = np.tile(np.arange(CLIPS_PER_VIDEO), count)

    def rows(
        self,
        table: str,
        schema: pa.Schema,
        prints: dict[str, str],
        plan: Any,  # noqa: ANN401 - a Plan
    ) -> pa.Table | None:
        """The rows of one table; None where it stays empty."""
        if table == "sources":
            return self._table(schema, self._count, self._source_values())
        if table == "identities":
            values = {"source_id": self._sources, "etag": "1-1", "video_id": self._videos}
            return self._table(schema, self._count, values)
        if table == "done":
            stages, marks = plan.record()["video_stages"], plan.fingerprints()
            rows = [
                self._table(
                    schema,
                    self._count,
                    {
                        "video_id": self._videos,
                        "source_id": self._sources,
                        "stage": stage,
                        "fingerprint": marks[stage],
                        "once": True,
                        "run_id": "synthetic",
                    },
                )
                for stage in stages
            ]
            return pa.concat_tables(rows)
        if table in ("videos", "decodes"):
            return self._table(schema, self._count, self._video_values(prints[table]))
        clip_tables = set(plan.record()["clip_stages"].values()) | {"clips"}
        if table in clip_tables:
            return self._table(schema, len(self._clips), self._clip_values(prints[table]))
        return None

    def vectors(self) -> pa.Table:
        """Unit vectors, of which one in ``REPEATS`` nearly repeats that of the clip before."""
        count = len(self._clips)
        values = self._rng.standard_normal((count, DIM), np.float32)
        again = np.arange(REPEATS - 1, count, REPEATS)
        noise = self._rng.standard_normal((len(again), DIM), np.float32)
        values[again] = values[again - 1] + np.float32(0.1) * noise
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        given = {
            "clip_id": self._clips,
            "video_id": self._videos.take(pa.array(self._of)),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), DIM),
            "embedding_model": "synthetic@0",
            "fingerprint": "v" * 32,
        }
        return self._table(vector_schema(), count, given)

    def _source_values(self) -> dict[str, Any]:
        names = [f"archive/film-{v.as_py()[-8:]}.mp4" for v in self._videos]
        return {
            "source_id": self._sources,
            "uri": pa.array(names),
            "etag": "1-1",
            "size_bytes": self._rng.integers(10**6, 10**9, self._count),
            "license": self._pick(LICENSES, self._count),
            "source": self._pick(SOURCES, self._count),
        }

    def _video_values(self, fingerprint: str) -> dict[str, Any]:
        height = self._rng.choice([360, 480, 720, 1080], self._count)
        length_s = CLIPS_PER_VIDEO * CLIP_S
        return {
            "video_id": self._videos,
            "fingerprint": fingerprint,
            "height_px": height,
            "width_px": height * 16 // 9,
            "rotation_deg": np.zeros(self._count),
            "video_duration_s": np.full(self._count, length_s),
            "declared_duration_s": np.full(self._count, length_s),
            "missing_s": np.zeros(self._count),
            "median_fps": np.full(self._count, float(FPS)),
            "codec": "h264",
            "time_base": "1/30",
        }

    def _clip_values(self, fingerprint: str) -> dict[str, Any]:
        count, start = len(self._clips), self._index * CLIP_S
        values: dict[str, Any] = {
            "clip_id": self._clips,
            "video_id": self._videos.take(pa.array(self._of)),
            "fingerprint": fingerprint,
            "clip_index": self._index,
            "start_s": start,
            "end_s": start + CLIP_S,
            "duration_s": np.full(count, CLIP_S),
            "num_frames": np.full(count, int(CLIP_S * FPS)),
            "start_frame": (start * FPS).astype(np.int64),
            "end_frame": ((start + CLIP_S) * FPS).astype(np.int64),
            "start_pts": (start * FPS).astype(np.int64),
            "end_pts": ((start + CLIP_S) * FPS).astype(np.int64),
            "residual_cut": self._rng.random(count) < 0.01,
            "camera_class": self._pick(CAMERA, count),
            "media_path": [f"media/{clip}.mp4" for clip in self._clips.to_pylist()],
            "media_duration_s": np.full(count, CLIP_S),
            "caption_medium": [f"A synthetic clip {clip}" for clip in self._clips.to_pylist()],
        }
        for name, (mean, deviation) in SHAPES.items():
            values[name] = np.abs(self._rng.normal(mean, deviation, count))
        return values

    def _pick(self, among: tuple[str | None, ...], count: int) -> pa.Array:
        return pa.array(among, pa.string()).take(pa.array(self._rng.integers(0, len(among), count)))

    def _table(self, schema: pa.Schema, count: int, values: dict[str, Any]) -> pa.Table:
        columns = [self._column(f, count, values.get(f.name)) for f in schema]
        return pa.table(columns, schema=schema)

    def _column(self, field: pa.Field, count: int, value: Any) -> pa.Array:  # noqa: ANN401
        """A column as given, of one value throughout, or drawn by its type."""
        if value is None:
            if pa.types.is_floating(field.type):
                value = self._rng.random(count)
            elif pa.types.is_boolean(field.type):
                value = self._rng.random(count) < 0.1
            elif pa.types.is_integer(field.type):
                value = self._rng.integers(0, 1000, count)
            else:
                return pa.nulls(count, field.type)
        if isinstance(value, str | bool):
            return pa.repeat(pa.scalar(value, field.type), count)
        array = value if isinstance(value, pa.Array | pa.ChunkedArray) else pa.array(value)
        return array.cast(field.type, safe=False)


def _measure(out: str) -> None:
    """Time, and peak memory of the process so far, of what looks at all clips."""
    own = load_config("laptop", ["check=null"])
    caps = {"per_video": {"max_clips": 5}, "per_source": {"max_share": 0.3}}
    splits = {"shares": {"train": 0.98, "val": 0.02}}
    chosen = load_config(None, base=own.model_dump() | {"sample": caps, "splits": splits})
    steps = {
        "judge": lambda: rejudge(out, own),
        "judge with caps and splits": lambda: rejudge(out, chosen),
        "dry run with its waterfall": lambda: preview_verdicts(out, chosen),
    }
    for name, step in steps.items():
        began = time.perf_counter()
        step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{name}: {time.perf_counter() - began:.1f} s, peak {peak:.2f} GiB", flush=True)


def main() -> None:
    """Write a catalog."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--measure", action="store_true")
    args = parser.parse_args()
    if not Path(args.out, "catalog").exists():
        catalog = make_catalog(args.out, args.clips)
        rows = {t: lance.dataset(catalog.uri(t)).count_rows() for t in catalog.tables()}
        print(json.dumps({t: n for t, n in rows.items() if n}))
    if args.measure:
        _measure(args.out)


if __name__ == "__main__":
    main()
