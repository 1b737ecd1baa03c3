"""Guards the stages' versions: the same footage and settings must give the same rows.

If this fails because a stage was changed on purpose, raise that stage's `version` (so that existing
datasets recompute it) and write the golden file anew:

    python -m tests.pipelines.test_golden
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from curation.catalog.catalog import Catalog
from curation.storage import Storage
from pipelines.config import CurateConfig, load_config
from pipelines.curate import curate
from pipelines.demo import demo_footage

GOLDEN = Path(__file__).with_name("golden.json")
TOLERANCE = 2e-3
"""Of means and spreads: another CPU's rounding stays within it, a changed stage hardly does."""
NOT_COMPARED = {
    *("video_id", "fingerprint", "jpeg", "media_sha256", "media_bytes", "media_path"),
    *("caption_busy_s", "frame_print", "print_luma"),
}
"""Ids of runs, bytes that belong to the encoder's build, and times."""


def observed(folder: Path) -> dict[str, Any]:
    """`stage@version` -> table -> column -> what stands in it, for bikes.mp4."""
    settings = ["run.engine=inline", "split.min_s=1", "dedup={exact: {}, perceptual: {}}"]
    config: CurateConfig = load_config(None, settings)
    curate([str(demo_footage() / "bikes.mp4")], str(folder), config)
    catalog = Catalog(Storage(folder))
    told: dict[str, Any] = {}
    for stage in config.plan().stages:
        tables = {t: _table(catalog, t) for t in sorted(stage.adds)}
        told[f"{stage.name}@{stage.version}"] = tables
    return told


def _table(catalog: Catalog, name: str) -> dict[str, Any]:
    rows = catalog.dataset(name).to_table()
    columns = [c for c in rows.column_names if c not in NOT_COMPARED]
    return {c: _summary(rows.column(c).to_pylist()) for c in columns}


def _summary(values: list[Any]) -> list[Any]:
    """Count and text digest, or counts, mean, deviation and range of the numbers."""
    flat = [x for v in values for x in (v if isinstance(v, list) else [v])]
    numbers = np.array([float(x) for x in flat if isinstance(x, int | float)])
    if len(numbers) + flat.count(None) == len(flat) and len(numbers):
        spread = (numbers.mean(), numbers.std(), numbers.min(), numbers.max())
        return [len(flat), len(numbers), *(round(float(x), 5) for x in spread)]
    text = json.dumps(sorted(map(str, flat)))
    return [len(flat), hashlib.sha256(text.encode()).hexdigest()[:16]]


def _same(ours: list[Any], golden: list[Any]) -> bool:
    if len(ours) != len(golden) or ours[0] != golden[0]:
        return False
    return all(
        a == b
        or (
            isinstance(a, float)
            and isinstance(b, float)
            and abs(a - b) <= TOLERANCE * max(1.0, abs(b))
        )
        for a, b in zip(ours, golden, strict=True)
    )


def test_stages_give_what_their_versions_promise(tmp_path: Path) -> None:
    golden, ours = json.loads(GOLDEN.read_text()), observed(tmp_path)
    assert ours.keys() == golden.keys(), "a version changed: write the golden file anew"
    changed = [
        f"{stage}: {table}.{column}: {golden[stage][table].get(column)} -> {value}"
        for stage, tables in ours.items()
        for table, columns in tables.items()
        for column, value in columns.items()
        if not _same(value, golden[stage][table].get(column, []))
    ]
    assert not changed, "raise the version of the stage, or mend it"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(json.dumps(observed(Path(scratch)), indent=1, sort_keys=True) + "\n")
