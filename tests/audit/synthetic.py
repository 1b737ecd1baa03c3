"""A synthetic catalog with verdicts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.judging.rules import Rules
from curation.schema import VERDICTS
from pipelines.config import CurateConfig
from tests.bench.million import make_catalog


def make_judged(folder: Path, num_clips: int) -> Catalog:
    """A catalog of the benchmark's builder, judged by its rules."""
    catalog = make_catalog(folder, num_clips, vectors=False)
    catalog.replace("verdicts", judge(catalog, rules_of(catalog)))
    return catalog


def rules_of(catalog: Catalog) -> Rules:
    """The rules of the latest run."""
    run = catalog.last_run()
    assert run is not None
    return CurateConfig.model_validate(run["config"]).plan().rules


def judge(catalog: Catalog, rules: Rules) -> pa.Table:
    """Verdicts of all clips under some rules, as they stand in the catalog."""
    views = Views(catalog)
    columns = ["clip_id", "video_id", *rules.columns()]
    rows = rules.judge(views.query(views.clips(columns)))
    count = rows.num_rows
    stamp = catalog.current().tables["verdicts"]
    rows = rows.append_column("split", pa.nulls(count, pa.string()))
    rows = rows.append_column("fingerprint", pa.array([stamp] * count))
    return rows.select(VERDICTS.names).cast(VERDICTS)
