"""Datasets for the audit: a curated one, widened by rows that a small run does not come by."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.schema import DUPLICATES, RUNS, THRESHOLDS, TOMBSTONES, VERDICTS
from tests.pipelines.page_parts import EVIL, EVIL_FILE, real_clip, run, write_video

QUANTILE, QUANTILE_VALUE = 0.25, 0.0123
REFERENCE = "s3://bench/test-set"
WHERE = {"source": ["film archive*"]}


def curated(folder: Path) -> Catalog:
    """Kept, rejected and failed things with hostile names, real footage among them."""
    shutil.copy(real_clip("carphone_pristine.mp4"), folder / EVIL_FILE)
    write_video(folder / "bikes.mp4", num_frames=60, bright=255)
    write_video(folder / "black.mp4", num_frames=30, bright=0)
    (folder / "broken.mp4").write_text("no video")
    rows = [
        {"uri": EVIL_FILE, "title": EVIL, "license": EVIL, "source": EVIL},
        {"uri": "bikes.mp4", "title": "Bikes </script>", "source": "stock"},
        {"uri": "black.mp4"},
        {"uri": "broken.mp4", "title": EVIL},
    ]
    return run(
        folder,
        rows,
        "split.min_s=0.3",
        "split.max_s=0.6",
        "signals.transnet=off",
        "retest.transnet=off",
    )[0]


def widen(catalog: Catalog) -> dict[str, str]:
    """Duplicates, held-out clips, rights, sampling, splits, a quantile, an override, a removal.

    Returns:
        What was made -> clip id.
    """
    fingerprint = catalog.current().tables["verdicts"]
    verdicts = catalog.dataset("verdicts").to_table().to_pylist()
    kept = [v for v in verdicts if v["verdict"] == "kept" and v["fingerprint"] == fingerprint]
    kept.sort(key=lambda v: v["clip_id"])
    names = ("stays", "duplicate", "held_out", "unlicensed", "capped")
    made: dict[str, dict[str, Any]] = dict(zip(names, kept, strict=False))
    assert len(made) == len(names), f"only {len(kept)} kept clips"
    for name, reasons, margins in (
        ("duplicate", ["duplicate_perceptual"], [0.021]),
        ("held_out", ["held_out_semantic"], [0.04]),
        ("unlicensed", ["rights_missing_license"], [None]),
        ("capped", ["over_source_cap"], [None]),
    ):
        made[name] |= {"verdict": "rejected", "reasons": reasons, "margins": margins}
    for i, verdict in enumerate(v for v in kept if v["verdict"] == "kept"):
        verdict["split"] = "val" if i % 4 == 0 else "train"
    catalog.replace("verdicts", pa.Table.from_pylist(verdicts, schema=VERDICTS))
    catalog.append("duplicates", _duplicates(made, fingerprint))
    threshold: dict[str, Any] = {
        "column": "saturation",
        "bound": "min",
        "quantile": QUANTILE,
        "value": QUANTILE_VALUE,
        "fingerprint": fingerprint,
    }
    catalog.append("thresholds", pa.Table.from_pylist([threshold], schema=THRESHOLDS))
    removal = {
        "kind": "clip",
        "video_id": "v" * 64,
        "clip_id": "c" * 32,
        "start_s": 1.0,
        "end_s": 4.5,
        "reason": EVIL,
        "removed_at": datetime(2026, 1, 2, tzinfo=UTC),
        "run_id": "r",
    }
    catalog.append("tombstones", pa.Table.from_pylist([removal], schema=TOMBSTONES))
    _change_config(catalog)
    return {name: v["clip_id"] for name, v in made.items()}


def _duplicates(made: dict[str, dict[str, Any]], fingerprint: str) -> pa.Table:
    stays = made["stays"]
    rows = [
        {"clip_id": stays["clip_id"], "group_id": stays["clip_id"], "representative": True},
        {
            "clip_id": made["duplicate"]["clip_id"],
            "group_id": stays["clip_id"],
            "representative": False,
            "level": "perceptual",
            "similarity": 0.961,
            "offset_s": 1.25,
            "speed": 1.0,
            "mirrored": True,
            "overlap_s": 2.0,
        },
        {
            "clip_id": made["held_out"]["clip_id"],
            "group_id": "e" * 32,
            "representative": False,
            "level": "semantic",
            "similarity": 0.97,
            "reference": REFERENCE,
        },
    ]
    ids = {v["clip_id"]: v["video_id"] for v in made.values()}
    rows = [r | {"video_id": ids[r["clip_id"]], "fingerprint": fingerprint} for r in rows]
    return pa.Table.from_pylist(rows, schema=DUPLICATES)


def _change_config(catalog: Catalog) -> None:
    """A new run whose settings have a quantile, an override and rights; its rows are the same."""
    row = catalog.last_run()
    assert row is not None
    config = row["config"]
    judge = config["judge"]
    judge["rules"]["saturation"] = {"min_quantile": QUANTILE, "if_null": "keep"}
    judge["overrides"] = [{"where": WHERE, "rules": {"sharpness": {"min": 0.3}}}]
    config["rights"] = {"require": ["license"], "deny": {"license": ["*NC*"]}}
    again = {
        "run_id": "z" + row["run_id"],
        "event": "started",
        "recorded_at": datetime.now(UTC),
        "command": "judge",
        "config": json.dumps(config),
        "fingerprints": json.dumps(row["fingerprints"]),
        "versions": json.dumps(row["versions"]),
    }
    catalog.append("runs", pa.Table.from_pylist([again], schema=RUNS))
