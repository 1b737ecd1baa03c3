"""A catalog with clips and scores as given, without any video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.plan import Plan
from tests.catalog.parts import default_plan, new_catalog

TABLES = ("clips", "scores", "videos", "media")


def catalog_with(root: Path, clips: list[dict[str, Any]], plan: Plan | None = None) -> Catalog:
    """A root whose clips have these columns; one video per clip unless ``video_id`` is given.

    Columns of the tables of ``TABLES`` and of ``sources`` are put where they belong.
    """
    plan = plan or default_plan()
    catalog = new_catalog(root, plan)
    prints = plan.table_fingerprints()
    rows = [{"clip_id": f"c{i:04d}", "video_id": f"v{i:04d}", **c} for i, c in enumerate(clips)]
    _append(
        catalog,
        "sources",
        [{"source_id": r["video_id"], "etag": "e", "uri": r["video_id"], **r} for r in rows],
    )
    _append(catalog, "identities", [{"source_id": r["video_id"], "etag": "e", **r} for r in rows])
    for table in TABLES:
        schema = catalog.dataset(table).schema
        own = set(schema.names) - {"clip_id", "video_id", "fingerprint"}
        mine = [
            r | {"fingerprint": prints[table]} for r in rows if table == "clips" or own & set(r)
        ]
        _append(catalog, table, mine)
    return catalog


def _append(catalog: Catalog, table: str, rows: list[dict[str, Any]]) -> None:
    schema = catalog.dataset(table).schema
    known = [{k: v for k, v in row.items() if k in schema.names} for row in rows]
    catalog.append(table, pa.Table.from_pylist(known, schema=schema))
