"""What every unit in work needs: its scratch, its inputs, and a result when it fails."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.engine.attempts import Attempt
from curation.engine.inputs import UnitInputs
from curation.engine.locate import hash_source, local_path_if_unchanged
from curation.engine.outputs import short_trace
from curation.engine.parts import PartReader, PartWriter
from curation.engine.unit import UnitResult, WorkerSpec
from curation.errors import ErrorCode, MediaError
from curation.stage import Stage

IDENTIFY = "identify"
MESSAGE_CHARS = 500
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all tasks of a worker share.

    Attributes:
        spec: The worker's group.
        catalog: Rows of earlier runs.
        prints: Stage name -> fingerprint.
        schemas: Stored schema of every table.
    """

    spec: WorkerSpec
    catalog: Catalog
    prints: dict[str, str]
    schemas: dict[str, pa.Schema]


class UnitTask(ABC):
    """A unit in work in one worker.

    Args:
        around: What the worker knows.
        result: The unit's result so far; filled in.
        stages: Those of the group that the unit needs.
        scratch: An empty local folder.
    """

    def __init__(
        self, around: Surroundings, result: UnitResult, stages: list[Stage], scratch: Path
    ) -> None:
        self._around, self._spec = around, around.spec
        self._result, self._unit, self._stages = result, result.unit, stages
        self._scratch = scratch
        rows = scratch / "rows"
        rows.mkdir()
        self.writer = PartWriter(rows, around.schemas)
        self._given: dict[str, Any] = {}
        self._stage_name = IDENTIFY

    @property
    def publishable(self) -> bool:
        """True when what there is should be published."""
        return True

    def header(self) -> dict[str, Any]:
        """Further entries of the part file's header."""
        return {}

    def run(self, attempt: Attempt) -> None:
        """Do the work; a failure becomes part of the result."""
        try:
            self.work(attempt)
        except MediaError as exc:
            self.fail(exc.code, exc.message)
        except MemoryError as exc:
            self.fail(ErrorCode.OUT_OF_MEMORY, str(exc))
        except Exception as exc:  # a bug costs one row, and counts against the run's budget
            log.debug("unexpected failure", exc_info=exc)
            self.fail(ErrorCode.INTERNAL_ERROR, short_trace(exc))

    @abstractmethod
    def work(self, attempt: Attempt) -> None:
        """The stages; ``_stage_name`` says which one is to blame."""

    @abstractmethod
    def fail(self, code: str, message: str) -> None:
        """Note how the unit ended."""

    def _check_blame(self, attempt: Attempt, stage: str) -> None:
        """Stop before the stage in which the worker died too often."""
        if attempt.exhausted and attempt.blamed == stage:
            limit_s = self._spec.limits.stall_timeout_s
            how = {
                ErrorCode.TIMED_OUT: f"no progress for {limit_s:g} s",
                ErrorCode.OUT_OF_MEMORY: "the worker outgrew its memory limit",
            }.get(ErrorCode(attempt.code), "the worker process died")
            raise MediaError(attempt.code, f"{how}, {attempt.number - 1} times")

    def _open_inputs(self, beat: Callable[[], None]) -> UnitInputs:
        """The unit's rows; its bytes are looked for when a stage asks for them."""
        unit = self._unit
        assert unit.video_id is not None
        parts = self._result.parts
        return UnitInputs(
            plan=self._spec.plan,
            catalog=self._around.catalog,
            writer=self.writer,
            earlier=[PartReader(self._spec.storage, p, self._scratch) for p in parts],
            video_id=unit.video_id,
            source_id=unit.source_id,
            given=self._given or {"uri": unit.uri},
            locate=lambda: self._locate(unit.video_id or "", beat),
        )

    def _locate(self, video_id: str, beat: Callable[[], None]) -> dict[str, Any]:
        """Where the bytes of a known video lie on this machine.

        Raises:
            MediaError: They are gone, or others are in their place (``missing_input``).
        """
        unit = self._unit
        given = local_path_if_unchanged(unit.uri, unit.etag)
        if given is None:
            given, found = hash_source(unit.uri, self._scratch, beat)
            if found != video_id:
                raise MediaError(
                    ErrorCode.MISSING_INPUT,
                    "the source holds other bytes than when it was analysed: name it as an input "
                    "again",
                )
        return given
