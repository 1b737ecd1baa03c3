"""Datasets of prints and digests: a real catalog with as much of it as those levels look at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.dedup.perceptual_path import Film
from curation.schema import FIXED_TABLES, FLOAT64, RUNS, STRING, schema, with_keys
from curation.stages.packets import Packets
from curation.stages.prints import Prints
from curation.storage import Storage
from tests.dedup.catalogs import print_of

TABLES = {
    "clips": with_keys(schema(clip_id=STRING, duration_s=FLOAT64)),
    **{name: with_keys(columns) for name, columns in {**Packets.adds, **Prints.adds}.items()},
}


@dataclass(frozen=True)
class PrintCatalog:
    """A dataset to add rows to."""

    catalog: Catalog

    def add(self, tables: dict[str, list[dict[str, Any]]], clip_ids: list[str]) -> None:
        """Append rows; every clip is of a video of its own."""
        videos = {c: f"v{c}" for c in clip_ids}
        tables = {"clips": [{"clip_id": c, "duration_s": 5.0} for c in clip_ids]} | tables
        for name, rows in tables.items():
            full = [
                {"video_id": videos[r["clip_id"]], "fingerprint": print_of(name)} | r for r in rows
            ]
            self.catalog.append(name, pa.Table.from_pylist(full, schema=TABLES[name]))
        given = [
            {"source_id": c, "uri": f"in/{c}.mp4", "etag": "e", "video_id": v}
            for c, v in videos.items()
        ]
        for name in ("sources", "identities"):
            self.catalog.append(name, pa.Table.from_pylist(given, schema=FIXED_TABLES[name]))

    def add_films(self, films: dict[str, Film]) -> None:
        """Append clips with their prints."""
        rows = [
            {
                "clip_id": clip,
                "print_times_s": film.time_s.tolist(),
                "print_luma": np.round(film.pictures).astype(np.uint8).tobytes(),
            }
            for clip, film in films.items()
        ]
        lengths = [{"clip_id": c, "duration_s": f.length_s} for c, f in films.items()]
        self.add({"clips": lengths, "print_pictures": rows}, list(films))


def new_print_catalog(root: Path) -> PrintCatalog:
    """A dataset without rows."""
    catalog = Catalog(Storage(root))
    catalog.create({**FIXED_TABLES, **TABLES})
    record = {"tables": {t: print_of(t) for t in TABLES}, "stages": {}}
    run = {
        "run_id": "1",
        "event": "started",
        "recorded_at": datetime.now(UTC),
        "config": "{}",
        "fingerprints": json.dumps(record | {"detail_tables": ["print_pictures"]}),
        "versions": "{}",
    }
    catalog.append("runs", pa.Table.from_pylist([run], schema=RUNS))
    return PrintCatalog(catalog)
