"""Hand-made parts of the default plan, for tests of the committer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.engine.parts import PartWriter
from curation.plan import Plan
from curation.storage import Storage
from tests.faults.helpers import settings

RUN = "20260101T000000000000-aaaaaa"


def default_plan() -> Plan:
    """The plan of the default stages."""
    return settings().plan()


def new_catalog(root: Path, plan: Plan) -> Catalog:
    """An empty root with the plan's tables, and the plan recorded as the current one."""
    catalog = Catalog(Storage(root))
    catalog.create(plan.table_schemas())
    catalog.start_run(RUN, "test", {}, plan)
    return catalog


def register(catalog: Catalog, *names: str) -> None:
    """Source rows, one per name."""
    rows = [{"source_id": n, "uri": f"/in/{n}.mp4", "etag": "e"} for n in names]
    schema = catalog.dataset("sources").schema
    catalog.upsert("sources", "source_id", pa.Table.from_pylist(rows, schema=schema))


def write_part(
    catalog: Catalog,
    plan: Plan,
    name: str,
    *,
    source: str,
    video: str,
    num_clips: int = 2,
    run_id: str = RUN,
    failed_stage: str | None = None,
) -> str:
    """Publish a part as a worker does: all stages of one video, or up to the one that failed."""
    prints = plan.fingerprints()
    schemas = plan.table_schemas()
    scratch = Path(catalog.storage.root).parent / f"scratch-{name}"
    scratch.mkdir()
    writer = PartWriter(scratch, schemas)

    def add(table: str, rows: list[dict[str, Any]], stage: str | None = None) -> None:
        keys = {} if stage is None else {"video_id": video, "fingerprint": prints[stage]}
        full = [keys | r for r in rows]
        columns = [c for c in schemas[table].names if any(c in r for r in full)]
        some = pa.schema([schemas[table].field(c) for c in columns])
        writer.add(table, pa.Table.from_pylist(full, schema=some))

    clips = [f"{video}-clip{i}" for i in range(num_clips)]
    add("identities", [{"source_id": source, "etag": "e", "video_id": video, "size_bytes": 1}])
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {
        "probe": {"videos": [{"width_px": 8}]},
        "signals": {
            "segments": [{"segment_start_frame": 0}],
            "frames": [{"sample_frame_index": i} for i in range(3)],
            "decodes": [{"video_duration_s": float(num_clips), "missing_s": 0.0}],
        },
        "split": {
            "clips": [
                {"clip_id": c, "clip_index": i, "start_s": float(i), "end_s": i + 1.0}
                for i, c in enumerate(clips)
            ],
        },
        "score": {"scores": [{"clip_id": c, "luma_mean": 0.5} for c in clips]},
        "technical": {"scores_technical": [{"clip_id": c, "noise": 0.01} for c in clips]},
        "camera": {"scores_camera": [{"clip_id": c, "camera_shake": 0.0} for c in clips]},
        "cut": {"media": [{"clip_id": c, "media_path": f"media/{c}.mp4"} for c in clips]},
        "retest": {"retests": [{"clip_id": c, "residual_cut": False} for c in clips]},
        "caption": {"captions": [{"clip_id": c, "caption_short": f"Of {c}."} for c in clips]},
        "check": {
            "caption_checks": [{"clip_id": c, "caption_num_flags": 0} for c in clips],
            "caption_vectors": [{"clip_id": c, "text_vector": [0.6, 0.8]} for c in clips],
        },
    }
    for stage in plan.stages:
        keys = {"source_id": source, "stage": stage.name, "run_id": run_id}
        if stage.name == failed_stage:
            failure = {"code": "timed_out", "message": "m", "retryable": True}
            add("errors", [keys | failure], stage.name)
            break
        for table, members in rows[stage.name].items():
            add(table, members, stage.name)
        add("done", [keys | {"once": stage.grain == "video", "num_rows": 1}], stage.name)
    part = f"{name}.part"
    writer.publish(catalog.storage, part, {"num_rows": writer.num_rows, "result": {}})
    return part
