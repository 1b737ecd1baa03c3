"""What the tests of catalog, engines, shards and faults share: tiny videos, runs, comparisons."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
import pyarrow as pa
import pytest

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.shards.index import read_index
from curation.storage import Storage
from pipelines.config import CurateConfig
from pipelines.curate import curate
from pipelines.run_report import RunReport

REPO = Path(__file__).resolve().parents[2]
VOLATILE = {"busy_s", "caption_busy_s", "rewrite_busy_s", "run_id", "recorded_at"}
"""Columns that may differ between two runs of the same work."""
Shot = tuple[float, int]
"""Length in seconds and seed of one generated shot."""


def assets() -> Path:
    """The folder of real footage; skips the test when there is none."""
    folder = Path(os.environ.get("CLIPMILL_ASSETS", REPO.parent / "shared" / "assets"))
    if not folder.is_dir():
        pytest.skip("no folder of real footage")
    return folder


def make_video(
    path: Path, shots: list[Shot], *, fps: int = 10, size: tuple[int, int] = (96, 64)
) -> Path:
    """A small H.264 file: per shot one texture that pans, hard cuts between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "24"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for seconds, seed in shots:
            texture = _texture(seed, width + 256, height)
            for i in range(round(seconds * fps)):
                at = 2 * i % 256
                picture = np.ascontiguousarray(texture[:, at : at + width])
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def _texture(seed: int, width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return small.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]


def make_videos(folder: Path, count: int = 3) -> list[Path]:
    """Videos ``v0.mp4 ...`` of two shots (3 s and 2.5 s) each."""
    return [
        make_video(folder / f"v{i}.mp4", [(3.0, 10 * i + 1), (2.5, 10 * i + 2)])
        for i in range(count)
    ]


def settings(**sections: Any) -> CurateConfig:  # noqa: ANN401 - sections of the config
    """A configuration for tiny videos, inline unless told otherwise."""
    base: dict[str, Any] = {
        # TransNetV2 costs 50 ms a frame, and what it finds is not asked here.
        "signals": {"transnet": "off"},
        "retest": {"transnet": "off", "confidence": 1.0},
        # Drawn textures are no footage for the shot network.
        "split": {"detector": "adaptive", "min_s": 0.5, "max_s": 1.0, "edge_trim_s": 0.1},
        "judge": {"rules": {"luma_mean": {"min": 0.02}}},
        "cut": {"preset": "ultrafast"},
        "run": {"engine": "inline"},
    }
    for name, values in sections.items():
        old = base.get(name)
        if isinstance(old, dict) and isinstance(values, dict) and name != "judge":
            base[name] = {**old, **values}
        else:
            base[name] = values
    return CurateConfig.model_validate(base)


def run(
    inputs: list[Path] | Path,
    out: Path,
    *,
    address: str | None = None,
    **sections: Any,  # noqa: ANN401
) -> RunReport:
    """``curate`` in this process, without the report page: that has tests of its own."""
    paths = [inputs] if isinstance(inputs, Path) else inputs
    with mock.patch("pipelines.curate.write_page", return_value=""):
        return curate([str(p) for p in paths], str(out), settings(**sections), address=address)


def catalog_of(out: Path) -> Catalog:
    """The catalog of a dataset root."""
    return Catalog(Storage(str(out)))


def query(out: Path, sql: str) -> list[dict[str, Any]]:
    """Rows of a query over the views."""
    return Views(catalog_of(out)).query(sql).to_pylist()


def rows_of(table: pa.Table, drop: set[str] | None = None) -> list[str]:
    """Rows as sorted text, for comparison without regard to order."""
    names = [n for n in table.column_names if n not in (drop or VOLATILE)]
    return sorted(repr(sorted(r.items())) for r in table.select(names).to_pylist())


def dump(out: Path, *, skip: set[str] | None = None) -> dict[str, list[str]]:
    """All rows of every table, without volatile columns; ``runs`` is left out."""
    catalog = catalog_of(out)
    names = set(catalog.tables()) - {"runs"} - (skip or set())
    return {n: rows_of(catalog.dataset(n).to_table()) for n in sorted(names)}


def keys_of(out: Path) -> list[str]:
    """Keys of all samples in shards, sorted."""
    index = read_index(Storage(str(out)), ["clip_id"])
    assert index is not None
    return sorted(index.column("clip_id").to_pylist())


def shard_bytes(out: Path) -> dict[str, str]:
    """sha256 of every file below ``shards/``."""
    folder = out / "shards"
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
