"""Judging the whole catalog: seconds, no pixels, one new version of the ``verdicts`` table.

First every clip by itself, by the rules; then, of those that pass, what stays: one of each group of
duplicates, no more than the caps allow. What stays gets its split. The verdict holds the reasons of
both.

    quantiles -> numbers    rules -> reasons    edges -> duplicates    caps    splits
    thresholds              verdicts            edges, duplicates      verdicts
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.choosing import Chooser, Comparing
from curation.catalog.views import Views
from curation.judging.choice import Choice
from curation.judging.quantiles import resolve
from curation.plan import Plan
from curation.schema import DUPLICATES, THRESHOLDS, VERDICTS

JUDGED = "judged"
"""Verdicts by the rules alone, in the session."""
FINAL = "final_verdicts"
SERIAL = Comparing()


@dataclass
class Judgement:
    """What judging did.

    Attributes:
        num_clips: Clips judged.
        edges: What was found out of duplicates, see ``EdgeReport``; empty without dedup.
        remarks: What could not be done as wished, in words.
    """

    num_clips: int = 0
    edges: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def judge_catalog(catalog: Catalog, plan: Plan, comparing: Comparing = SERIAL) -> Judgement:
    """Write a verdict for every current clip. The caller holds the lease."""
    if "clips" not in catalog.current().tables:
        return Judgement()
    views = Views(catalog)
    if plan.choice == Choice():
        made = Judgement()
        thresholds, judged = _judged(views, plan)
        rows = _counted(_stamped(judged, plan.verdict_fingerprint()), made)
        # The view reads the old verdicts, which the replacement only drops once it is complete.
        catalog.replace("verdicts", pa.RecordBatchReader.from_batches(VERDICTS, rows))
        _replace_small(catalog, "thresholds", thresholds)
        _replace_small(catalog, "duplicates", DUPLICATES.empty_table())
        return made
    made, chooser = _choose(catalog, views, plan, comparing)
    rows = _counted(views.reader(f"SELECT {', '.join(VERDICTS.names)} FROM {FINAL}"), made)
    batches = (pa.RecordBatch.from_arrays(b.columns, schema=VERDICTS) for b in rows)
    catalog.replace("verdicts", pa.RecordBatchReader.from_batches(VERDICTS, batches))
    _replace_small(catalog, "thresholds", chooser.thresholds)
    _replace_small(catalog, "duplicates", chooser.duplicates)
    return made


def preview(catalog: Catalog, plan: Plan, comparing: Comparing = SERIAL) -> tuple[Views, Judgement]:
    """Judge without writing a verdict: a session with the table ``final_verdicts``.

    Edges that are missing are found and kept, as they are when judging in earnest. The caller holds
    the lease.
    """
    defaults = {str(name): value for name, value in plan.rules.rights.defaults.items()}
    views = Views(catalog, defaults=defaults)
    made, _ = _choose(catalog, views, plan, replace(comparing, keep=True))
    return views, made


def _choose(
    catalog: Catalog, views: Views, plan: Plan, comparing: Comparing
) -> tuple[Judgement, Chooser]:
    """Judge and choose; leaves the table ``final_verdicts`` in the session."""
    thresholds, judged = _judged(views, plan)
    schema = pa.schema([VERDICTS.field(n) for n in VERDICTS.names if n != "split"])
    fingerprint = plan.verdict_fingerprint()
    rows = _stamped(judged, fingerprint)
    views.keep_rows(
        JUDGED,
        pa.RecordBatchReader.from_batches(schema, (b.select(schema.names) for b in rows)),
    )
    chooser = Chooser(catalog, views, plan.choice, JUDGED, fingerprint, comparing)
    chooser.thresholds = thresholds
    chooser.choose()
    views.keep(FINAL, chooser.final_sql())
    made = Judgement(edges=chooser.edges, remarks=chooser.remarks)
    return made, chooser


def _judged(views: Views, plan: Plan) -> tuple[pa.Table, Iterator[pa.Table]]:
    """The numbers of quantiles, and all clips judged by the rules, batch by batch."""
    tables = plan.late_tables(plan.rules)
    late = {column: f"reached {table}" for column, table in tables.items()}
    rules, thresholds = resolve(plan.rules, views)
    stamp = pa.repeat(pa.scalar(plan.verdict_fingerprint(), pa.string()), thresholds.num_rows)
    place = THRESHOLDS.names.index("fingerprint")
    thresholds = thresholds.select([n for n in THRESHOLDS.names if n != "fingerprint"])
    thresholds = thresholds.add_column(place, "fingerprint", stamp).cast(THRESHOLDS)
    columns = [f'"{c}"' for c in ["clip_id", "video_id", *rules.columns()]]
    columns += [
        f'clip_id IN (SELECT clip_id FROM "current_{table}") AS "reached {table}"'
        for table in sorted(set(tables.values()))
    ]
    clips = views.clips(["clip_id", "video_id", *rules.columns()])
    query = f"SELECT {', '.join(columns)} FROM ({clips}) ORDER BY video_id, clip_id"
    source = views.reader(query)
    return thresholds, (rules.judge(pa.Table.from_batches([b]), late) for b in source)


def _stamped(judged: Iterator[pa.Table], fingerprint: str) -> Iterator[pa.RecordBatch]:
    """Rows of ``verdicts``, no clip of which has a split."""
    for rows in judged:
        count = rows.num_rows
        rows = rows.append_column("split", pa.nulls(count, pa.string()))
        rows = rows.append_column("fingerprint", pa.repeat(fingerprint, count))
        yield from rows.select(VERDICTS.names).cast(VERDICTS).to_batches()


def _counted(rows: Any, made: Judgement) -> Iterator[pa.RecordBatch]:  # noqa: ANN401 - batches
    for batch in rows:
        made.num_clips += batch.num_rows
        yield batch


def _replace_small(catalog: Catalog, table: str, rows: pa.Table) -> None:
    """Replace a table's rows unless they are the same: no version for nothing."""
    if not catalog.has(table):
        return
    old = catalog.dataset(table).to_table() if not rows.num_rows else None
    if old is None or old.num_rows:
        catalog.replace(table, rows)
