"""A stage's input, assembled: the columns it reads, from this unit's rows or from the catalog.

Rows of one video live in several tables. What this worker has just computed is read from the part
being built; what an earlier operator computed, from its part; what an earlier run computed, from
the catalog. A stage sees one Arrow table with the columns it asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.catalog import Catalog
from curation.engine.parts import PartReader, PartWriter
from curation.errors import ErrorCode, MediaError
from curation.plan import SAMPLE_TABLE, Column, Plan
from curation.schema import VIRTUAL
from curation.stage import Stage

SIGNAL_TABLE = "segments"
CLIP_TABLE = "clips"


@dataclass
class UnitInputs:
    """The rows of one unit, wherever they lie.

    Attributes:
        plan: For the origin of columns.
        catalog: Rows of earlier runs.
        writer: Rows of this worker.
        earlier: Parts that earlier operators of this run published for the unit.
        video_id: The unit's video.
        source_id: The source it was read from.
        given: Values of the virtual source columns that are known.
        locate: Finds the values of all of them: reads a remote source.
        failed_clips: Clips that a stage of this unit failed on; later stages skip them.
    """

    plan: Plan
    catalog: Catalog
    writer: PartWriter
    earlier: list[PartReader]
    video_id: str
    source_id: str
    given: dict[str, Any]
    locate: Callable[[], dict[str, Any]]
    failed_clips: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._columns = self.plan.columns()
        self._prints = self.plan.table_fingerprints()
        self._fresh: set[str] = set()
        self._cache: dict[str, pa.Table] = {}
        self._facts: dict[str, Any] | None = None
        clip_tables = {
            t for s in self.plan.stages for t, cols in s.adds.items() if "clip_id" in cols.names
        }
        self._clip_tables = clip_tables - {CLIP_TABLE}

    def ran(self, stage: Stage) -> None:
        """Note that this worker ran a stage: its tables are now read from the part."""
        self._fresh |= set(stage.adds)
        for table in stage.adds:
            self._cache.pop(table, None)

    def table(self, name: str) -> pa.Table:
        """All rows of a table for this video (not for ``frames``, which can be large)."""
        if name not in self._cache:
            schema = self.plan.table_schemas()[name]
            batches = [b for b in self._batches(name) if b.num_rows]
            self._cache[name] = pa.Table.from_batches(batches, schema).combine_chunks()
        return self._cache[name]

    def video_row(self, stage: Stage, *, located: bool = True) -> pa.Table:
        """The one input row of a video-grain stage.

        Args:
            stage: Whose ``reads`` to fill.
            located: False leaves null where the bytes lie: no need to look for them.
        """
        row = {}
        for f in stage.reads:
            given = located or f.name not in VIRTUAL["source"].names
            row[f.name] = self._video_value(self._columns[f.name]) if given else pa.nulls(1, f.type)
        schema = pa.schema([*stage.reads, pa.field("video_id", pa.string())])
        row["video_id"] = pa.array([self.video_id], pa.string())
        return pa.table([row[f.name].cast(f.type) for f in schema], schema=schema)

    def clip_batches(self, stage: Stage, clip_ids: list[str] | None = None) -> Iterator[pa.Table]:
        """Input batches of a clip-grain stage, in clip order.

        Args:
            stage: Whose ``reads`` to fill.
            clip_ids: Only these clips; None: all that did not fail.
        """
        clips = self.clips()
        wanted = set(clips.column("clip_id").to_pylist()) if clip_ids is None else set(clip_ids)
        mask = [
            c in wanted and c not in self.failed_clips for c in clips.column("clip_id").to_pylist()
        ]
        clips = clips.filter(pa.array(mask, pa.bool_()))
        for start in range(0, clips.num_rows, stage.batch_size):
            yield self._clip_input(stage, clips.slice(start, stage.batch_size))

    def clips(self) -> pa.Table:
        """The video's clips in order."""
        table = self.table(CLIP_TABLE)
        return table.sort_by("clip_index") if table.num_rows else table

    def clip_columns(self, clips: pa.Table, names: list[str]) -> pa.Table:
        """Clips with further clip- and video-grain columns joined on (for the judge)."""
        data = {"clip_id": clips.column("clip_id"), "video_id": clips.column("video_id")}
        for name in names:
            data[name] = self._clip_value(self._columns[name], clips)
        return pa.table(data)

    def reached(self, table: str, clips: pa.Table) -> pa.Array | pa.ChunkedArray:
        """For each clip whether the table has its row."""
        rows = self.table(table).column("clip_id").combine_chunks()
        options = pc.SetLookupOptions(value_set=rows)
        return pc.call_function("is_in", [clips.column("clip_id")], options)

    def chosen_clips(self) -> set[str]:
        """Clips that stay after the choice over all clips, by the catalog's verdicts."""
        rows = self.catalog.rows_of(
            *("verdicts", self.video_id, self._prints["verdicts"], ["clip_id"]),
            where="verdict = 'kept'",
        )
        return {c for batch in rows for c in batch.column("clip_id").to_pylist()}

    def settled_clips(self, stage: Stage) -> set[str]:
        """Clips of which the catalog has this stage's row, or its final error."""
        table, fingerprint = next(iter(stage.adds)), self._prints[next(iter(stage.adds))]
        rows = self.catalog.rows_of(table, self.video_id, fingerprint, ["clip_id"])
        done = {c for b in rows for c in b.column("clip_id").to_pylist()}
        names = ["clip_id", "retryable"]
        for batch in self.catalog.rows_of("errors", self.video_id, fingerprint, names):
            done |= {r["clip_id"] for r in batch.to_pylist() if not r["retryable"]}
        return done

    def _batches(self, name: str, where: str = "true") -> Iterator[pa.RecordBatch]:
        if name in self._fresh:
            # A clip-grain stage may run for some clips while others were done before.
            yield from self.writer.read(name)
            if name not in self._clip_tables:
                return
        for part in self.earlier:
            if name in part.tables():
                yield from part.read(name)
        schema = self.plan.table_schemas()[name]
        rows = self.catalog.rows_of(name, self.video_id, self._prints[name], where=where)
        for batch in rows:
            yield pa.RecordBatch.from_arrays([batch.column(n) for n in schema.names], schema=schema)

    def _clip_input(self, stage: Stage, clips: pa.Table) -> pa.Table:
        names = [f.name for f in stage.reads]
        fields = list(stage.reads)
        for key in ("clip_id", "video_id"):
            if key not in names:
                fields.append(pa.field(key, pa.string()))
        schema = pa.schema(fields)
        sampled = self._samples(clips) if {"sample_jpegs", "sample_pts_s"} & set(names) else {}
        columns = []
        for f in schema:
            if f.name in sampled:
                values: Any = pa.array(sampled[f.name], f.type)
            else:
                origin = self._columns.get(f.name, Column(f.name, f.type, CLIP_TABLE, None))
                values = self._clip_value(origin, clips)
            columns.append(values.cast(f.type))
        return pa.table(columns, schema=schema)

    def _video_value(self, column: Column) -> pa.Array:
        if column.name == "video_id":
            return pa.array([self.video_id], pa.string())
        if column.name in VIRTUAL["source"].names:
            if column.name not in self.given:
                self.given |= self.locate()
            return pa.array([self.given[column.name]], column.type)
        if column.name in VIRTUAL["given"].names:
            return pa.array([self._source()[column.name]], column.type)
        if column.table == SAMPLE_TABLE:
            return pa.array([self._video_samples()[column.name]], column.type)
        rows = self.table(column.table)
        if column.table == SIGNAL_TABLE:
            return self._whole_signal(rows, column)
        if rows.num_rows != 1:
            raise MediaError(
                ErrorCode.MISSING_INPUT, f"{rows.num_rows} rows in {column.table} for this video"
            )
        return rows.column(column.name).combine_chunks()

    def _source(self) -> dict[str, Any]:
        """What was given with the source; nulls when it is not registered (any more)."""
        if self._facts is None:
            names = VIRTUAL["given"].names
            rows = self.catalog.dataset("sources").to_table(
                columns=names, filter=f"source_id = '{self.source_id}'"
            )
            self._facts = (rows.to_pylist() or [dict.fromkeys(names)])[0]
        return self._facts

    def _whole_signal(self, segments: pa.Table, column: Column) -> pa.Array:
        """A per-frame list over the whole video; other columns of segments as first value."""
        if not pa.types.is_list(column.type):
            return segments.column(column.name).combine_chunks().slice(0, 1)
        segments = segments.sort_by("segment_start_frame")
        values = segments.column(column.name).combine_chunks().flatten()
        return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)

    def _clip_value(self, column: Column, clips: pa.Table) -> pa.Array | pa.ChunkedArray:
        if column.name in clips.column_names:
            return clips.column(column.name)
        if column.table == SIGNAL_TABLE and pa.types.is_list(column.type):
            return self._slices(self._video_value(column), clips)
        if column.table in self._clip_tables:
            rows = self.table(column.table)
            ids = rows.column("clip_id").combine_chunks()
            at = pc.call_function(
                "index_in", [clips.column("clip_id")], pc.SetLookupOptions(value_set=ids)
            )
            return rows.column(column.name).take(at)
        value = self._video_value(column)
        return value.take(pa.array(np.zeros(clips.num_rows, np.int64)))

    def _slices(self, whole: pa.Array, clips: pa.Table) -> pa.Array:
        """Per-clip lists cut from a per-video list at the clips' frames."""
        values = whole.flatten()
        spans = zip(
            clips.column("start_frame").to_pylist(),
            clips.column("end_frame").to_pylist(),
            strict=True,
        )
        pieces = [values.slice(a, b - a) for a, b in spans]
        offsets = np.cumsum([0, *(len(p) for p in pieces)]).astype(np.int32)
        joined = pa.concat_arrays(pieces) if pieces else values.slice(0, 0)
        return pa.ListArray.from_arrays(pa.array(offsets), joined)

    def _samples(self, clips: pa.Table) -> dict[str, list[list[Any]]]:
        """Sampled frames inside each clip: times relative to the clip's start."""
        spans = [(r["start_s"], r["end_s"]) for r in clips.select(["start_s", "end_s"]).to_pylist()]
        times: list[list[float]] = [[] for _ in spans]
        jpegs: list[list[bytes]] = [[] for _ in spans]
        # Of a long video's pictures only those of this batch are fetched from the catalog.
        first, last = min((a for a, _ in spans), default=0), max((b for _, b in spans), default=0)
        where = f"sample_time_s >= {first!r} AND sample_time_s < {last!r}"
        for batch in self._batches(SAMPLE_TABLE, where):
            for row in batch.select(["sample_time_s", "jpeg"]).to_pylist():
                for i, (start, end) in enumerate(spans):
                    if start <= row["sample_time_s"] < end:
                        times[i].append(row["sample_time_s"] - start)
                        jpegs[i].append(row["jpeg"])
        return {"sample_pts_s": times, "sample_jpegs": jpegs}

    def _video_samples(self) -> dict[str, list[Any]]:
        rows = [r for b in self._batches(SAMPLE_TABLE) for r in b.to_pylist()]
        return {
            "sample_pts_s": [r["sample_time_s"] for r in rows],
            "sample_jpegs": [r["jpeg"] for r in rows],
        }
