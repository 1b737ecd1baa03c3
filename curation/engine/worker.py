"""The worker: runs one group of fused stages over one unit and publishes one part.

Both engines use it, so an inline run and a Ray run give the same rows by construction.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.lease import holds
from curation.engine.attempts import Attempt, MemoryGuard
from curation.engine.inputs import UnitInputs
from curation.engine.parts import PARTS, PartReader, PartWriter
from curation.engine.unit import StageCount, Unit, UnitResult, WorkerSpec
from curation.errors import RETRYABLE, ErrorCode, MediaError
from curation.ids import digest
from curation.judge import KEPT
from curation.schema import STRING
from curation.stage import Failure, Output, Stage, StageContext
from curation.storage import fetch

IDENTIFY = "identify"
CLAIMS = "attempts/claims"
MESSAGE_CHARS = 500
log = logging.getLogger(__name__)


class LostLeaseError(RuntimeError):
    """Another run holds the root now: this worker is an orphan and must not publish."""


class Worker:
    """Runs a group's stages; one per process and group.

    Args:
        spec: The group and its surroundings.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec, self._storage = spec, spec.storage
        self._catalog = Catalog(spec.storage)
        self._prints = spec.plan.fingerprints()
        self._schemas = spec.plan.table_schemas()
        self._guard = MemoryGuard(spec.limits)
        self._attempt: Attempt | None = None
        names = ",".join(s.name for s in spec.stages)
        self._group = digest(names, *(self._prints[s.name] for s in spec.stages))[:12]
        for stage in spec.stages:
            stage.setup(
                StageContext(
                    storage=spec.storage, fingerprint=self._prints[stage.name], beat=self._beat
                )
            )

    def run(self, result: UnitResult) -> UnitResult:
        """Run the group's share of a unit; publishes a part and returns the filled-in result."""
        mine = [s for s in self._spec.stages if s.name in result.unit.todo]
        if result.error or result.duplicate or not mine:
            return result
        started = time.perf_counter()
        part = f"{result.unit.source_id}-{self._group}.part"
        if self._storage.exists(f"{PARTS}/{part}"):
            return self._already_published(result, part)
        with tempfile.TemporaryDirectory(prefix="clipmill-unit-") as scratch:
            task = _Task(self, result, mine, Path(scratch))
            attempt = Attempt(
                self._storage, result.unit.source_id, self._spec.run_id, self._spec.limits
            )
            self._attempt = self._guard.attempt = attempt
            try:
                task.run(attempt)
                result.wall_s += time.perf_counter() - started
                self._publish(task, result, part)
            finally:
                self._attempt = self._guard.attempt = None
            attempt.close()
        return result

    def _publish(self, task: _Task, result: UnitResult, part: str) -> None:
        if not holds(self._storage, self._spec.run_id):
            raise LostLeaseError(f"run {self._spec.run_id} no longer holds the dataset root")
        header = {"num_rows": task.writer.num_rows, "result": result.as_row()}
        task.writer.publish(self._storage, part, header)
        result.parts.append(part)

    def _already_published(self, result: UnitResult, part: str) -> UnitResult:
        """The unit was done by a worker that died before it could say so."""
        with tempfile.TemporaryDirectory() as scratch:
            header = PartReader(self._storage, part, Path(scratch)).header()
        told = UnitResult.from_row(header["result"])
        told.parts = [*result.parts, part]
        return told

    def _beat(self) -> None:
        if self._attempt is not None:
            self._attempt.beat()


class _Task:
    """One unit in work."""

    def __init__(
        self, worker: Worker, result: UnitResult, stages: list[Stage], scratch: Path
    ) -> None:
        self._worker, self._spec = worker, worker._spec
        self._result, self._unit, self._stages = result, result.unit, stages
        self._scratch = scratch
        rows = scratch / "rows"
        rows.mkdir()
        self.writer = PartWriter(rows, worker._schemas)
        self._inputs: UnitInputs | None = None

    def run(self, attempt: Attempt) -> None:
        """Fetch the bytes if a stage needs them, then run the stages in order."""
        stage_name = IDENTIFY
        try:
            self._check_blame(attempt, IDENTIFY)
            attempt.enter(IDENTIFY)
            inputs = self._inputs = self._identify(attempt)
            if inputs is None:
                return
            for stage in self._stages:
                if stage.name not in self._unit.todo:
                    continue
                stage_name = stage.name
                self._check_blame(attempt, stage.name)
                attempt.enter(stage.name)
                self._run_stage(stage, inputs)
        except MediaError as exc:
            self._fail(stage_name, exc.code, exc.message)
        except MemoryError as exc:
            self._fail(stage_name, ErrorCode.OUT_OF_MEMORY, str(exc))
        except Exception as exc:  # a bug costs one row, and counts against the run's budget
            log.debug("unexpected failure", exc_info=exc)
            self._fail(stage_name, ErrorCode.INTERNAL_ERROR, _short_trace(exc))

    def _check_blame(self, attempt: Attempt, stage: str) -> None:
        """Stop before the stage in which the worker died too often."""
        if attempt.exhausted and attempt.blamed == stage:
            limit_s = self._spec.limits.stall_timeout_s
            how = {
                ErrorCode.TIMED_OUT: f"no progress for {limit_s:g} s",
                ErrorCode.OUT_OF_MEMORY: "the worker outgrew its memory limit",
            }.get(ErrorCode(attempt.code), "the worker process died")
            raise MediaError(attempt.code, f"{how}, {attempt.number - 1} times")

    def _identify(self, attempt: Attempt) -> UnitInputs | None:
        """Know the bytes; None when another source with the same bytes has the work."""
        unit = self._unit
        given: dict[str, str | int] = {"uri": unit.uri}
        needs_bytes = any("local_path" in s.reads.names for s in self._stages)
        video_id = unit.video_id
        if video_id is None or needs_bytes:
            sha, size = hashlib.sha256(), 0

            def on_chunk(chunk: bytes) -> None:
                nonlocal size
                size += len(chunk)
                sha.update(chunk)
                attempt.beat()

            suffix = PurePosixPath(unit.uri).suffix[:8]
            if unit.video_id is not None and "://" not in unit.uri:
                given |= _local_file(unit.uri)  # hashed in an earlier run, read in place
            else:
                given["local_path"] = fetch(unit.uri, self._scratch, on_chunk, suffix=suffix)
                given["size_bytes"] = size
                video_id = sha.hexdigest()
        assert video_id is not None
        if unit.video_id is None:
            self._learn(video_id, int(given.get("size_bytes", 0)))
            if self._result.duplicate or not self._unit.todo:
                return None
        return UnitInputs(
            plan=self._spec.plan,
            catalog=self._worker._catalog,
            writer=self.writer,
            earlier=[PartReader(self._spec.storage, p, self._scratch) for p in self._result.parts],
            video_id=video_id,
            given=given,
        )

    def _learn(self, video_id: str, size_bytes: int) -> None:
        """Record a source's new identity, and drop what an equal source has or is doing."""
        unit = self._unit
        self.writer.add(
            "identities",
            pa.Table.from_pylist(
                [
                    {
                        "source_id": unit.source_id,
                        "etag": unit.etag,
                        "video_id": video_id,
                        "size_bytes": size_bytes,
                    }
                ]
            ),
        )
        claim = f"{CLAIMS}/{self._spec.run_id}/{video_id}"
        storage, owner = self._spec.storage, unit.source_id.encode()
        if not storage.create_exclusive(claim, owner) and storage.read_bytes(claim) != owner:
            self._result.duplicate = True
        done = self._done_stages(video_id)
        todo = tuple(name for name in unit.todo if name not in done)
        self._unit = self._result.unit = Unit(
            source_id=unit.source_id, uri=unit.uri, etag=unit.etag, video_id=video_id, todo=todo
        )

    def _done_stages(self, video_id: str) -> set[str]:
        """Video-grain stages that an earlier run finished for these bytes."""
        prints = self._worker._prints
        done = self._worker._catalog.dataset("done").to_table(
            columns=["stage", "fingerprint"], filter=f"video_id = '{video_id}' AND once"
        )
        return {r["stage"] for r in done.to_pylist() if prints.get(r["stage"]) == r["fingerprint"]}

    def _run_stage(self, stage: Stage, inputs: UnitInputs) -> None:
        started = time.perf_counter()
        count = self._result.counts.setdefault(stage.name, StageCount())
        if stage.grain == "video":
            batches: Iterator[pa.Table] = iter([inputs.video_row(stage)])
        else:
            batches = inputs.clip_batches(stage, self._pending_clips(stage, inputs))
        for batch in batches:
            for output in self._outputs(stage, batch):
                self._take(stage, output, inputs, count)
        inputs.ran(stage)
        count.busy_s = time.perf_counter() - started
        self._done(stage, inputs.video_id, count)
        if "decodes" in stage.adds:
            self._result.video_s = inputs.table("decodes").column("video_duration_s")[0].as_py()

    def _pending_clips(self, stage: Stage, inputs: UnitInputs) -> list[str]:
        """Clips a clip-grain stage still has to do: not done before, and kept if it is gated."""
        clips = inputs.clips()
        wanted = clips.column("clip_id").to_pylist()
        if stage.gated:
            rules = self._spec.plan.rules
            verdicts = rules.judge(inputs.clip_columns(clips, rules.columns()))
            kept = verdicts.column("verdict").to_pylist()
            wanted = [c for c, v in zip(wanted, kept, strict=True) if v == KEPT]
        done = inputs.done_clips(stage) if wanted else set()
        return [c for c in wanted if c not in done]

    def _outputs(self, stage: Stage, batch: pa.Table) -> Iterator[Output]:
        """A batch's outputs; when a batch of several clips fails, clip by clip."""
        if stage.grain == "video":
            yield from stage.process(batch)
            return
        try:
            yield from list(stage.process(batch))
            return
        except Exception as exc:
            if batch.num_rows == 1:
                yield _failure(batch, exc)
                return
        for i in range(batch.num_rows):
            row = batch.slice(i, 1)
            try:
                yield from list(stage.process(row))
            except Exception as exc:
                yield _failure(row, exc)

    def _take(self, stage: Stage, output: Output, inputs: UnitInputs, count: StageCount) -> None:
        fingerprint = self._worker._prints[stage.name]
        if isinstance(output, Failure):
            count.failed += 1
            inputs.failed_clips.add(output.clip_id)
            self._error(stage.name, fingerprint, output.code, output.message, output.clip_id)
            return
        table, rows = output
        if table not in stage.adds:
            raise ValueError(f"stage {stage.name!r} yields undeclared table {table!r}")
        if table not in stage.details:
            count.rows += rows.num_rows
        keys = {"video_id": inputs.video_id, "fingerprint": fingerprint}
        for name, value in keys.items():
            if name not in rows.column_names:
                rows = rows.append_column(name, pa.array([value] * rows.num_rows, STRING))
        self.writer.add(table, rows)

    def _done(self, stage: Stage, video_id: str, count: StageCount) -> None:
        row = {
            "video_id": video_id,
            "source_id": self._unit.source_id,
            "stage": stage.name,
            "fingerprint": self._worker._prints[stage.name],
            "once": stage.grain == "video",
            "num_rows": count.rows,
            "busy_s": round(count.busy_s, 6),
            "run_id": self._spec.run_id,
        }
        self.writer.add("done", pa.Table.from_pylist([row], schema=self._worker._schemas["done"]))

    def _fail(self, stage: str, code: str, message: str) -> None:
        self._result.error, self._result.message = str(code), message[:MESSAGE_CHARS]
        self._result.stage = stage
        self._error(stage, self._worker._prints.get(stage, IDENTIFY), code, message, None)

    def _error(
        self, stage: str, fingerprint: str, code: str, message: str, clip_id: str | None
    ) -> None:
        row = {
            "source_id": self._unit.source_id,
            "video_id": self._unit.video_id,
            "clip_id": clip_id,
            "stage": stage,
            "fingerprint": fingerprint,
            "code": str(code),
            "message": message[:MESSAGE_CHARS],
            "retryable": str(code) in RETRYABLE,
            "run_id": self._spec.run_id,
        }
        schema = self._worker._schemas["errors"]
        self.writer.add("errors", pa.Table.from_pylist([row], schema=schema))


def _local_file(path: str) -> dict[str, str | int]:
    """Path and size of a local source.

    Raises:
        MediaError: ``not_found``.
    """
    try:
        return {"local_path": path, "size_bytes": Path(path).stat().st_size}
    except OSError as exc:
        raise MediaError(ErrorCode.NOT_FOUND, str(exc)) from exc


def _failure(row: pa.Table, exc: Exception) -> Failure:
    """The failure of a single clip."""
    clip_id = row.column("clip_id")[0].as_py()
    if isinstance(exc, MediaError):
        return Failure(clip_id=clip_id, code=exc.code, message=exc.message)
    return Failure(clip_id=clip_id, code=ErrorCode.INTERNAL_ERROR, message=_short_trace(exc))


def _short_trace(exc: Exception) -> str:
    """Exception and the innermost lines, short enough for a table cell."""
    where = traceback.extract_tb(exc.__traceback__)[-1:]
    place = "; ".join(f"{PurePosixPath(f.filename).name}:{f.lineno} in {f.name}" for f in where)
    return f"{type(exc).__name__}: {exc} ({place})"
