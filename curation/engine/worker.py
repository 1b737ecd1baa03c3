"""The worker: runs one group of fused stages over one unit and publishes one part.

Both engines use it, so an inline run and a Ray run give the same rows by construction.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.lease import holds
from curation.engine.attempts import Attempt, MemoryGuard
from curation.engine.inputs import UnitInputs
from curation.engine.locate import hash_source, local_path_if_unchanged, scratch_folder
from curation.engine.outputs import CheckedOutputs, short_trace
from curation.engine.parts import PARTS, PartReader, PartWriter
from curation.engine.unit import StageCount, Unit, UnitResult, WorkerSpec
from curation.errors import RETRYABLE, ErrorCode, MediaError
from curation.ids import digest
from curation.judge import KEPT
from curation.stage import Failure, Output, Stage, StageContext

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
        with scratch_folder(self._storage, result.unit.source_id) as scratch:
            task = _Task(self, result, mine, scratch)
            attempt = Attempt(
                self._storage, result.unit.source_id, self._spec.run_id, self._spec.limits
            )
            self._attempt = self._guard.attempt = attempt
            try:
                task.run(attempt)
                attempt.beat()
                result.wall_s += time.perf_counter() - started
                self._publish(task, result, part)
                attempt.close()
            finally:
                self._attempt = self._guard.attempt = None
                attempt.disarm()  # an armed timer would end this process long after
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
        self._tables = {s.name: tuple(s.adds) for s in stages}
        self._given: dict[str, Any] = {}

    def run(self, attempt: Attempt) -> None:
        """Know the bytes, then run the stages in order."""
        stage_name = IDENTIFY
        try:
            if self._unit.video_id is None:
                self._check_blame(attempt, IDENTIFY)
                attempt.enter(IDENTIFY)
                self._identify(attempt)
                if self._result.duplicate:
                    return
            inputs = self._open_inputs(attempt)
            for stage in self._stages:
                if stage.name not in self._unit.todo:
                    continue
                stage_name = stage.name
                self._check_blame(attempt, stage.name)
                attempt.enter(stage.name)
                self._run_stage(stage, inputs, attempt)
        except MediaError as exc:
            self._fail(stage_name, exc.code, exc.message)
        except MemoryError as exc:
            self._fail(stage_name, ErrorCode.OUT_OF_MEMORY, str(exc))
        except Exception as exc:  # a bug costs one row, and counts against the run's budget
            log.debug("unexpected failure", exc_info=exc)
            self._fail(stage_name, ErrorCode.INTERNAL_ERROR, short_trace(exc))

    def _check_blame(self, attempt: Attempt, stage: str) -> None:
        """Stop before the stage in which the worker died too often."""
        if attempt.exhausted and attempt.blamed == stage:
            limit_s = self._spec.limits.stall_timeout_s
            how = {
                ErrorCode.TIMED_OUT: f"no progress for {limit_s:g} s",
                ErrorCode.OUT_OF_MEMORY: "the worker outgrew its memory limit",
            }.get(ErrorCode(attempt.code), "the worker process died")
            raise MediaError(attempt.code, f"{how}, {attempt.number - 1} times")

    def _identify(self, attempt: Attempt) -> None:
        """Read the source whole, once, to learn which bytes it holds."""
        self._given, video_id = hash_source(self._unit.uri, self._scratch, attempt.beat)
        self._learn(video_id, int(self._given["size_bytes"]))

    def _open_inputs(self, attempt: Attempt) -> UnitInputs:
        """The unit's rows; its bytes are looked for when a stage asks for them."""
        unit = self._unit
        assert unit.video_id is not None
        parts = self._result.parts
        return UnitInputs(
            plan=self._spec.plan,
            catalog=self._worker._catalog,
            writer=self.writer,
            earlier=[PartReader(self._spec.storage, p, self._scratch) for p in parts],
            video_id=unit.video_id,
            given=self._given or {"uri": unit.uri},
            locate=lambda: self._locate(unit.video_id or "", attempt),
        )

    def _locate(self, video_id: str, attempt: Attempt) -> dict[str, Any]:
        """Where the bytes of a known video lie on this machine.

        Raises:
            MediaError: They are gone, or others are in their place (``missing_input``).
        """
        unit = self._unit
        given = local_path_if_unchanged(unit.uri, unit.etag)
        if given is None:
            given, found = hash_source(unit.uri, self._scratch, attempt.beat)
            if found != video_id:
                raise MediaError(
                    ErrorCode.MISSING_INPUT,
                    "the source holds other bytes than when it was analysed: name it as an input "
                    "again",
                )
        return given

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
        # An empty claim is that of a worker which died while claiming: who comes next goes on.
        if not storage.create_exclusive(claim, owner):
            self._result.duplicate = storage.read_bytes(claim) not in (owner, b"")
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

    def _run_stage(self, stage: Stage, inputs: UnitInputs, attempt: Attempt) -> None:
        started = time.perf_counter()
        count = self._result.counts.setdefault(stage.name, StageCount())
        checked = CheckedOutputs(
            stage, inputs.video_id, self._worker._prints[stage.name], self._worker._schemas
        )
        if stage.grain == "video":
            batches: Iterator[pa.Table] = iter([inputs.video_row(stage)])
        else:
            batches = inputs.clip_batches(stage, self._pending_clips(stage, inputs))
        for batch in batches:
            for output in checked.of(batch):
                self._take(stage, output, inputs, count)
                attempt.beat()
        inputs.ran(stage)
        count.busy_s = time.perf_counter() - started
        self._done(stage, inputs.video_id, count)
        if "decodes" in stage.adds:
            self._result.video_s = inputs.table("decodes").column("video_duration_s")[0].as_py()

    def _pending_clips(self, stage: Stage, inputs: UnitInputs) -> list[str]:
        """Clips a clip-grain stage still has to do.

        They were neither done nor given up by an earlier run, and are kept if the stage is gated.
        """
        clips = inputs.clips()
        wanted = clips.column("clip_id").to_pylist()
        if stage.gated:
            rules = self._spec.plan.rules
            verdicts = rules.judge(inputs.clip_columns(clips, rules.columns()))
            kept = verdicts.column("verdict").to_pylist()
            wanted = [c for c, v in zip(wanted, kept, strict=True) if v == KEPT]
        settled = inputs.settled_clips(stage) if wanted else set()
        return [c for c in wanted if c not in settled]

    def _take(self, stage: Stage, output: Output, inputs: UnitInputs, count: StageCount) -> None:
        if isinstance(output, Failure):
            count.failed += 1
            inputs.failed_clips.add(output.clip_id)
            fingerprint = self._worker._prints[stage.name]
            self._error(stage.name, fingerprint, output.code, output.message, output.clip_id)
            return
        table, rows = output
        if table not in stage.details:
            count.rows += rows.num_rows
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
        for table in self._tables.get(stage, ()):
            self.writer.discard(table)  # rows of a stage count whole or not at all
        # What is known of a source's state holds until the state changes.
        fingerprint = self._worker._prints.get(stage, self._unit.etag)
        self._error(stage, fingerprint, code, message, None)

    def _error(
        self, stage: str, fingerprint: str, code: str, message: str, clip_id: str | None
    ) -> None:
        self._result.internal_errors += str(code) == ErrorCode.INTERNAL_ERROR
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
