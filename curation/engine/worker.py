"""The worker: runs one group of fused stages over one unit and publishes one part file.

Both engines use it, so an inline run and a Ray run give the same rows by construction.
"""

from __future__ import annotations

import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.lease import holds
from curation.engine.attempts import Attempt, MemoryGuard
from curation.engine.locate import scratch_folder
from curation.engine.part_task import PartTask
from curation.engine.parts import PARTS, PartReader
from curation.engine.segments import give_up, given_up, segment_name
from curation.engine.task import Task
from curation.engine.unit import Unit, UnitResult, WorkerSpec
from curation.engine.unit_task import Surroundings, UnitTask
from curation.errors import ClipmillError
from curation.ids import digest
from curation.stage import Stage, StageContext
from curation.storage import host_name


class LostLeaseError(RuntimeError):
    """Another run holds the root now: this worker is an orphan and must not publish."""


class Worker:
    """Runs a group's stages; one per process and group.

    Args:
        spec: The group and its surroundings.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec, self._storage = spec, spec.storage
        self._around = Surroundings(
            spec=spec,
            catalog=Catalog(spec.storage),
            prints=_same_prints(spec),
            schemas=spec.plan.table_schemas(),
        )
        self._guard = MemoryGuard(spec.limits)
        self._attempt: Attempt | None = None
        names = ",".join(s.name for s in spec.stages)
        prints = self._around.prints
        self._group = digest(names, *(prints[s.name] for s in spec.stages))[:12]
        for stage in spec.stages:
            stage.setup(
                StageContext(storage=spec.storage, fingerprint=prints[stage.name], beat=self._beat)
            )

    def run(self, result: UnitResult) -> UnitResult:
        """Run the group's share of a unit; publishes a part and returns the filled-in result."""
        unit = result.unit
        mine = [s for s in self._spec.stages if s.name in unit.todo]
        if result.ended or not mine:
            return result
        name = self._file_name(unit)
        told = self._already_published(result, name)
        if told is not None:
            return told
        if unit.part is not None and given_up(self._storage, self._spec.run_id, unit):
            result.mismatch = "another part of the video was given up"
            return result
        with scratch_folder(self._storage, unit.key) as scratch:
            kind = Task if unit.part is None else PartTask
            task = kind(self._around, result, mine, scratch)
            self._attend(task, result, name)
        return result

    def batches(self, unit: Unit, stage: Stage) -> Iterator[pa.Table]:
        """What a stage of clips would be given for a unit; nothing is run and nothing written."""
        with scratch_folder(self._storage, f"{unit.key}-ahead") as scratch:
            task = Task(self._around, UnitResult(unit=unit), [stage], scratch)
            yield from task.batches(stage, self._beat)

    def _attend(self, task: UnitTask, result: UnitResult, name: str) -> None:
        """Run a task under its marker and the watchdog, and publish what it made."""
        started = time.perf_counter()
        key = result.unit.key
        attempt = Attempt(self._storage, key, self._spec.run_id, self._spec.limits)
        self._attempt = self._guard.attempt = attempt
        try:
            task.run(attempt)
            attempt.beat()
            result.wall_s += time.perf_counter() - started
            if task.publishable:
                self._publish(task, result, name)
            elif result.unit.part is not None:
                give_up(self._storage, self._spec.run_id, result.unit)
            attempt.close()
        finally:
            self._attempt = self._guard.attempt = None
            attempt.disarm()  # an armed timer would end this process long after

    def _file_name(self, unit: Unit) -> str:
        """Deterministic, below ``parts/``."""
        if unit.part is not None:
            return segment_name(unit, self._around.prints[unit.todo[0]])
        return f"{unit.key}-{self._group}.part"

    def _publish(self, task: UnitTask, result: UnitResult, name: str) -> None:
        if not holds(self._storage, self._spec.run_id):
            raise LostLeaseError(f"run {self._spec.run_id} no longer holds the dataset root")
        result.parts.append(name)
        header = {"num_rows": task.writer.num_rows, "result": result.as_row()}
        task.writer.publish(self._storage, name, header | task.header())
        for used in result.unit.done_parts:
            self._storage.remove(f"{PARTS}/{used}")

    def _already_published(self, result: UnitResult, name: str) -> UnitResult | None:
        """The unit was done by a worker that died before it could say so, or by an earlier run."""
        if not self._storage.exists(f"{PARTS}/{name}"):
            return None
        try:
            with tempfile.TemporaryDirectory() as scratch:
                header = PartReader(self._storage, name, Path(scratch)).header()
        except zipfile.BadZipFile:  # the machine went down before the bytes reached the disk
            self._storage.remove(f"{PARTS}/{name}")
            return None
        if header.get("run_id") not in (None, self._spec.run_id):
            return UnitResult(unit=result.unit, parts=[name], reused=True)
        told = UnitResult.from_row(header["result"])
        told.parts = [*result.parts, name]
        return told

    def _beat(self) -> None:
        if self._attempt is not None:
            self._attempt.beat()


def _same_prints(spec: WorkerSpec) -> dict[str, str]:
    """The fingerprints of the plan, which are the driver's.

    Raises:
        ClipmillError: Weights or packages of this machine differ, so its rows would be others.
    """
    prints = spec.plan.fingerprints()
    differ = [s for s, p in prints.items() if spec.prints is not None and spec.prints.get(s) != p]
    if differ:
        raise ClipmillError(
            f"weights or packages of {', '.join(differ)} differ from those of the driver",
            where=f"node {host_name()}",
            mend="give all nodes the same models folder and packages (`clipmill models list`)",
        )
    return prints
