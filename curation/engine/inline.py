"""The inline engine: the same plan in this process, for tests, debugging and tiny jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from curation.engine.unit import Limits, Unit, UnitResult, WorkerSpec
from curation.engine.worker import Worker
from curation.plan import Plan
from curation.storage import Storage


def group_specs(
    plan: Plan,
    storage: Storage,
    run_id: str,
    limits: Limits,
    *,
    part_s: float | None = None,
    part_clips: int | None = None,
) -> list[WorkerSpec]:
    """One worker spec per group of fused stages, in order."""
    groups, prints = plan.groups(), plan.fingerprints()
    return [
        WorkerSpec(
            storage=storage,
            plan=plan,
            stages=stages,
            run_id=run_id,
            limits=limits,
            last=i == len(groups) - 1,
            part_s=part_s,
            part_clips=part_clips,
            prints=prints,
        )
        for i, stages in enumerate(groups)
    ]


def run_inline(specs: list[WorkerSpec], units: Iterable[Unit]) -> Iterator[UnitResult]:
    """Run units one after another in this process; yields each result as it is ready."""
    workers = [Worker(spec) for spec in specs]
    for unit in units:
        result = UnitResult(unit=unit)
        for worker in workers:
            result = worker.run(result)
        yield result
