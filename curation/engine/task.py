"""A video in work: its stages in order, its rows, and the one row that a failure costs."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace

import pyarrow as pa

from curation.engine.attempts import Attempt
from curation.engine.inputs import UnitInputs
from curation.engine.locate import hash_source
from curation.engine.outputs import CheckedOutputs
from curation.engine.segments import Segments
from curation.engine.unit import StageCount
from curation.engine.unit_task import IDENTIFY, MESSAGE_CHARS, UnitTask
from curation.errors import RETRYABLE, ErrorCode, MediaError
from curation.judging.rules import KEPT
from curation.media.parts import PartMismatch
from curation.removal.tombstones import tombstones_of
from curation.removal.withhold import withhold
from curation.stage import Failure, Output, Stage

CLAIMS = "attempts/claims"


class Task(UnitTask):
    """A video's stages, one after the other, up to one that wants it divided."""

    @property
    def publishable(self) -> bool:
        """False for a unit that ends where it is divided and brought nothing new."""
        return not self._result.divided or bool(self.writer.num_rows)

    def work(self, attempt: Attempt) -> None:
        """Know the bytes, then run the stages in order."""
        if self._unit.video_id is None:
            self._check_blame(attempt, IDENTIFY)
            attempt.enter(IDENTIFY)
            self._identify(attempt)
            if self._result.duplicate:
                return
        inputs = self._open_inputs(attempt.beat)
        for stage in self._stages:
            if stage.name not in self._unit.todo:
                continue
            self._stage_name = stage.name
            if stage.name == self._unit.todo[0] and self._unit.failure is not None:
                raise MediaError(*self._unit.failure)
            self._check_blame(attempt, stage.name)
            attempt.enter(stage.name)
            if self._divide(stage, inputs) or self._share(stage, inputs):
                return
            self._run_stage(stage, inputs, attempt)

    def batches(self, stage: Stage, beat: Callable[[], None]) -> Iterator[pa.Table]:
        """What a clip-grain stage would be given now, for who wants to look ahead."""
        inputs = self._open_inputs(beat)
        yield from inputs.clip_batches(stage, self._pending_clips(stage, inputs))

    def fail(self, code: str, message: str) -> None:
        """Drop the stage's rows, and write its error row."""
        stage = self._stage_name
        self._result.error, self._result.message = str(code), message[:MESSAGE_CHARS]
        self._result.stage = stage
        for table in next((s.adds for s in self._stages if s.name == stage), ()):
            self.writer.discard(table)  # rows of a stage count whole or not at all
        # What is known of a source's state holds until the state changes.
        fingerprint = self._around.prints.get(stage, self._unit.etag)
        self._error(stage, fingerprint, code, message, None)

    def _identify(self, attempt: Attempt) -> None:
        """Read the source whole, once, to learn which bytes it holds."""
        self._given, video_id = hash_source(self._unit.uri, self._scratch, attempt.beat)
        self._learn(video_id, int(self._given["size_bytes"]))

    def _learn(self, video_id: str, size_bytes: int) -> None:
        """Record a source's new identity, and drop what an equal source has or is doing."""
        unit = self._unit
        identity = {
            "source_id": unit.source_id,
            "etag": unit.etag,
            "video_id": video_id,
            "size_bytes": size_bytes,
        }
        self.writer.add("identities", pa.Table.from_pylist([identity]))
        claim = f"{CLAIMS}/{self._spec.run_id}/{video_id}"
        storage, owner = self._spec.storage, unit.source_id.encode()
        # An empty claim is that of a worker which died while claiming: who comes next goes on.
        if not storage.create_exclusive(claim, owner):
            self._result.duplicate = storage.read_bytes(claim) not in (owner, b"")
        done = self._done_stages(video_id)
        hidden = tombstones_of(self._around.catalog).of(video_id)
        removed = hidden is not None and hidden.whole  # known again, perhaps under another name
        todo = tuple(name for name in unit.todo if name not in done and not removed)
        self._unit = self._result.unit = replace(unit, video_id=video_id, todo=todo)

    def _done_stages(self, video_id: str) -> set[str]:
        """Video-grain stages that an earlier run finished for these bytes."""
        prints = self._around.prints
        done = self._around.catalog.dataset("done").to_table(
            columns=["stage", "fingerprint"], filter=f"video_id = '{video_id}' AND once"
        )
        return {r["stage"] for r in done.to_pylist() if prints.get(r["stage"]) == r["fingerprint"]}

    def _divide(self, stage: Stage, inputs: UnitInputs) -> bool:
        """Lay a long video's parts; True when the unit has to wait for them."""
        unit, part_s = self._unit, self._spec.part_s
        settled = stage.name == unit.todo[0] and (unit.whole or unit.done_parts)
        if not stage.divisible or part_s is None or settled:
            return False
        started = time.perf_counter()
        self._result.division = stage.lay_parts(inputs.video_row(stage).to_pylist()[0], part_s)
        if not self._result.division:
            return False
        self._result.stage = stage.name
        self._result.counts[stage.name] = StageCount(busy_s=time.perf_counter() - started)
        return True

    def _share(self, stage: Stage, inputs: UnitInputs) -> bool:
        """Share out the clips of a long video; True when other units go on with them.

        Rows of clips come in clip by clip anyway, so shares need no joining.
        """
        size, unit = self._spec.part_clips, self._unit
        later = unit.todo[unit.todo.index(stage.name) :]
        of_clips = {s.name for s in self._spec.plan.stages if s.grain == "clip"}
        if size is None or unit.clips is not None or not of_clips.issuperset(later):
            return False
        end = inputs.clips().num_rows
        if end < 2 * size or len(self._pending_clips(stage, inputs)) < 2 * size:
            return False
        self._result.shares = [(at, min(at + size, end)) for at in range(0, end, size)]
        self._result.stage = stage.name
        return True

    def _run_stage(self, stage: Stage, inputs: UnitInputs, attempt: Attempt) -> None:
        started = time.perf_counter()
        count = self._result.counts.setdefault(stage.name, StageCount())
        checked = CheckedOutputs(
            stage, inputs.video_id, self._around.prints[stage.name], self._around.schemas
        )
        earlier_s = self._join(stage, inputs, checked, attempt, count)
        if earlier_s is None:
            earlier_s = 0.0
            if stage.grain == "video":
                batches: Iterator[pa.Table] = iter([inputs.video_row(stage)])
            else:
                pending = self._pending_clips(stage, inputs)
                count.clips, count.media_s = len(pending), _length_s(inputs.clips(), pending)
                batches = inputs.clip_batches(stage, pending)
            hidden = tombstones_of(self._around.catalog).of(inputs.video_id)
            for batch in batches:
                for output in withhold(hidden, checked.of(batch)):
                    self._take(stage, output, inputs, count)
                    attempt.beat()
        inputs.ran(stage)
        count.busy_s = time.perf_counter() - started
        self._done(stage, inputs.video_id, count, earlier_s)
        if "decodes" in stage.adds:
            self._result.video_s = inputs.table("decodes").column("video_duration_s")[0].as_py()
            count.media_s = self._result.video_s or 0.0

    def _join(
        self,
        stage: Stage,
        inputs: UnitInputs,
        checked: CheckedOutputs,
        attempt: Attempt,
        count: StageCount,
    ) -> float | None:
        """Take a stage's rows from the files of its parts.

        Returns:
            Seconds of work in the parts; None: there are no parts, or they do not fit together
            and nothing was taken.
        """
        names = self._unit.done_parts if stage.name == self._unit.todo[0] else ()
        if not names:
            return None
        try:
            segments = Segments(self._spec.storage, names, self._scratch)
            for output in segments.rows():
                self._take(stage, output, inputs, count)
                attempt.beat()
        except (PartMismatch, zipfile.BadZipFile, pa.ArrowInvalid) as exc:
            self._result.mismatch = str(exc)
            count.rows = 0
            for table in stage.adds:
                self.writer.discard(table)
            return None
        row = inputs.video_row(stage, located=False).to_pylist()[0]
        batches = self.writer.read(next(iter(stage.adds)))
        for output in stage.join_parts(row, (pa.Table.from_batches([b]) for b in batches)):
            self._take(stage, checked.conform(output), inputs, count)
            attempt.beat()
        return segments.busy_s

    def _pending_clips(self, stage: Stage, inputs: UnitInputs) -> list[str]:
        """Clips a clip-grain stage still has to do.

        They were neither done nor given up by an earlier run, and are kept if the stage is gated.
        """
        clips = inputs.clips()
        if self._unit.clips is not None:
            first, end = self._unit.clips
            clips = clips.slice(first, end - first)
        wanted = clips.column("clip_id").to_pylist()
        if stage.gated:
            rules = self._spec.plan.gate(stage)
            judged = inputs.clip_columns(clips, rules.columns())
            late = self._spec.plan.late_tables(rules)
            for table in sorted(set(late.values())):
                judged = judged.append_column(f"reached {table}", inputs.reached(table, clips))
            verdicts = rules.judge(judged, {c: f"reached {t}" for c, t in late.items()})
            kept = verdicts.column("verdict").to_pylist()
            wanted = [c for c, v in zip(wanted, kept, strict=True) if v == KEPT]
            if self._spec.plan.after_choice(stage.name):
                chosen = inputs.chosen_clips()
                wanted = [c for c in wanted if c in chosen]
        wanted = self._with_inputs(stage, inputs, clips, wanted)
        settled = inputs.settled_clips(stage) if wanted else set()
        return [c for c in wanted if c not in settled]

    def _with_inputs(
        self, stage: Stage, inputs: UnitInputs, clips: pa.Table, wanted: list[str]
    ) -> list[str]:
        """Of some clips those that have a row of every gated stage before, whose columns it reads.

        A clip without one failed there, in this run or an earlier one, in this worker or another.
        """
        known = self._spec.plan.columns()
        tables = {c.table for f in stage.reads if (c := known.get(f.name)) and c.gated}
        there = set(wanted)
        for table in tables:
            reached = inputs.reached(table, clips).to_pylist()
            ids = clips.column("clip_id").to_pylist()
            there &= {c for c, here in zip(ids, reached, strict=True) if here}
        return [c for c in wanted if c in there]

    def _take(self, stage: Stage, output: Output, inputs: UnitInputs, count: StageCount) -> None:
        if isinstance(output, Failure):
            count.failed += 1
            inputs.failed_clips.add(output.clip_id)
            fingerprint = self._around.prints[stage.name]
            self._error(stage.name, fingerprint, output.code, output.message, output.clip_id)
            return
        table, rows = output
        if table not in stage.details:
            count.rows += rows.num_rows
        self.writer.add(table, rows)

    def _done(self, stage: Stage, video_id: str, count: StageCount, earlier_s: float) -> None:
        row = {
            "video_id": video_id,
            "source_id": self._unit.source_id,
            "stage": stage.name,
            "fingerprint": self._around.prints[stage.name],
            "once": stage.grain == "video",
            "num_rows": count.rows,
            "busy_s": round(earlier_s + count.busy_s, 6),
            "run_id": self._spec.run_id,
        }
        self.writer.add("done", pa.Table.from_pylist([row], schema=self._around.schemas["done"]))

    def _error(
        self, stage: str, fingerprint: str, code: str, message: str, clip_id: str | None
    ) -> None:
        self._result.internal_errors += str(code) == ErrorCode.INTERNAL_ERROR
        if str(code) == ErrorCode.CAPTION_GATE:
            self._result.distrusted = message
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
        schema = self._around.schemas["errors"]
        self.writer.add("errors", pa.Table.from_pylist([row], schema=schema))


def _length_s(clips: pa.Table, clip_ids: list[str]) -> float:
    """Seconds of the named clips; 0 where the plan's clips have no length."""
    if "duration_s" not in clips.column_names:
        return 0.0
    wanted = set(clip_ids)
    pairs = zip(
        clips.column("clip_id").to_pylist(), clips.column("duration_s").to_pylist(), strict=True
    )
    return sum(length_s or 0.0 for clip_id, length_s in pairs if clip_id in wanted)
