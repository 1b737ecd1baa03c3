"""One part of a divided video in work: a stage's rows for some minutes of it, in one file."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from curation.engine.attempts import Attempt
from curation.engine.outputs import CheckedOutputs
from curation.engine.unit import StageCount
from curation.engine.unit_task import MESSAGE_CHARS, UnitTask
from curation.media.parts import Part, PartMismatch, Seams
from curation.removal.tombstones import tombstones_of
from curation.removal.withhold import withhold
from curation.stage import Failure, Stage


class PartTask(UnitTask):
    """Runs the part; what fails is told to the driver, which decides for the whole video.

    Every worker of a remote source copies it whole before its part: on a network of 500 MB/s ten
    seconds for a film of 5 GB, against half a minute and more of analysis.
    """

    _seams: Seams | None = None

    @property
    def publishable(self) -> bool:
        """True when the part is done."""
        return self._seams is not None

    def header(self) -> dict[str, Any]:
        """What whoever joins the parts has to know."""
        assert self._seams is not None
        busy_s = sum(c.busy_s for c in self._result.counts.values())
        return {
            "seams": asdict(self._seams),
            "busy_s": round(busy_s, 6),
            "run_id": self._spec.run_id,
        }

    def work(self, attempt: Attempt) -> None:
        """Do the part under a label of its own: a crash is blamed on it, not on the stage."""
        (stage,), part = self._stages, self._unit.part
        assert part is not None
        self._stage_name = f"{stage.name} {part.index + 1}/{part.num_parts}"
        self._check_blame(attempt, self._stage_name)
        attempt.enter(self._stage_name)
        started = time.perf_counter()
        try:
            self._seams = self._do(stage, part, attempt)
        except PartMismatch as exc:
            self._result.mismatch = str(exc)
        busy_s = time.perf_counter() - started
        self._result.counts[stage.name] = StageCount(busy_s=busy_s)

    def fail(self, code: str, message: str) -> None:
        """No row yet: the video ends with one error row, whatever fails in how many parts."""
        self._result.error, self._result.message = str(code), message[:MESSAGE_CHARS]
        self._result.stage = self._stage_name

    def _do(self, stage: Stage, part: Part, attempt: Attempt) -> Seams:
        inputs = self._open_inputs(attempt.beat)
        checked = CheckedOutputs(
            stage, inputs.video_id, self._around.prints[stage.name], self._around.schemas
        )
        hidden = tombstones_of(self._around.catalog).of(inputs.video_id)
        seams: Seams | None = None
        for output in stage.process_part(inputs.video_row(stage).to_pylist()[0], part):
            if isinstance(output, Seams):
                seams = output
                continue
            for conformed in withhold(hidden, [checked.conform(output)]):
                if isinstance(conformed, Failure):
                    raise TypeError(f"stage {stage.name!r} sees whole videos, and fails a clip")
                self.writer.add(*conformed)
            attempt.beat()
        if seams is None:
            raise ValueError(f"stage {stage.name!r} does not tell what it saw at its seams")
        return seams
