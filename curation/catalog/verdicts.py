"""Judging the whole catalog: seconds, no pixels, one new version of the ``verdicts`` table."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.plan import Plan
from curation.schema import VERDICTS


def judge_catalog(catalog: Catalog, plan: Plan) -> int:
    """Write a verdict for every current clip.

    Returns:
        Number of clips judged.
    """
    views, rules, tables = Views(catalog), plan.rules, plan.late_tables(plan.rules)
    if "clips" not in catalog.current().tables:
        return 0
    late = {column: f"reached {table}" for column, table in tables.items()}
    columns = [f'"{c}"' for c in ["clip_id", "video_id", *rules.columns()]]
    columns += [
        f'clip_id IN (SELECT clip_id FROM "current_{table}") AS "reached {table}"'
        for table in sorted(set(tables.values()))
    ]
    clips = views.clips(["clip_id", "video_id", *rules.columns()])
    query = f"SELECT {', '.join(columns)} FROM ({clips}) ORDER BY video_id, clip_id"
    source = views.reader(query)
    fingerprint = rules.fingerprint()
    count = 0

    def judged() -> Iterator[pa.RecordBatch]:
        nonlocal count
        for batch in source:
            rows = rules.judge(pa.Table.from_batches([batch]), late)
            count += rows.num_rows
            stamp = pa.array([fingerprint] * rows.num_rows, pa.string())
            rows = rows.append_column("split", pa.nulls(rows.num_rows, pa.string()))
            table = rows.append_column("fingerprint", stamp).select(VERDICTS.names).cast(VERDICTS)
            yield from table.to_batches()

    # The view reads the old verdicts, which the replacement only drops once it is complete.
    catalog.replace("verdicts", pa.RecordBatchReader.from_batches(VERDICTS, judged()))
    return count
