"""Asking a captioner on GPUs about all videos at once, before its stage runs.

    units ─▶ pending clips ─▶ questions without an answer ─▶ Ray's LLM processor ─▶ ledger
             (a Ray task each)                               (ray_llm.py)

The stage then finds the answers in the ledger. An answer that was of no use, and the joining of
windows, lead to more questions: another pass, until there are none or the attempts are used up.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

from curation.captions.backends.vllm_ray import VllmSettings
from curation.engine.ray_data import MAX_BLOCKS, RayCluster
from curation.engine.ray_llm import Prefilled, Row, prefill, to_row, vllm_processor
from curation.engine.unit import Unit, UnitResult, WorkerSpec
from curation.engine.worker import Worker
from curation.errors import PlanError
from curation.ids import digest
from curation.stage import Stage
from curation.stages.caption import CaptionClips
from curation.stages.rewrite import Rewrite

PASSES_PER_ATTEMPT = 2
"""The joining of windows has attempts of its own, after those of the last window."""
QUESTION_CPUS = 0.25
"""Cores of a task that makes questions: the processor's actors hold theirs all the time, and with a
whole one asked for nothing would ever start on one core."""
_workers: dict[str, tuple[Worker, Stage]] = {}


def ask_ahead(
    cluster: RayCluster,
    spec: WorkerSpec,
    units: list[Unit],
    *,
    make_processor: Callable[[], Callable[[Any], Any]] | None = None,
    beat: Callable[[Prefilled], None] = lambda done: None,
) -> list[Prefilled]:
    """Answer all that the stage will ask about the pending clips of some units.

    Args:
        cluster: A started cluster, with GPUs where the processor needs them.
        spec: Of a worker with the stage alone: ``caption`` or ``rewrite``.
        units: Videos whose clips may have to be captioned.
        make_processor: What answers; None: vLLM, as the stage's backend says.
        beat: Called with the counts of the pass in work.

    Returns:
        What each pass did.
    """
    import ray.data

    (stage,) = spec.stages
    assert isinstance(stage, CaptionClips | Rewrite)
    backend, pictures = stage.backend, isinstance(stage, CaptionClips)
    cluster.wait()
    if make_processor is None:
        assert isinstance(backend, VllmSettings), "only vllm is asked ahead"
        make_processor = functools.partial(vllm_processor, backend, pictures=pictures)
        _check_gpus(cluster, backend)
    passes: list[Prefilled] = []
    while len(passes) < stage.attempts * PASSES_PER_ATTEMPT:
        dataset = ray.data.from_items(
            [{"unit": json.dumps(UnitResult(unit=u).as_row())} for u in units],
            override_num_blocks=min(len(units), MAX_BLOCKS),
        )
        questions = dataset.flat_map(
            functools.partial(_questions, spec=spec), num_cpus=QUESTION_CPUS
        )
        done = prefill(questions, make_processor, spec.storage, beat=beat)
        passes.append(done)
        if done.num_stored == 0:  # nothing was asked, or all of it failed: another pass is no use
            break
    return passes


def _check_gpus(cluster: RayCluster, backend: VllmSettings) -> None:
    """Refuse what would wait for ever.

    Raises:
        PlanError: The cluster has fewer GPUs than one copy of the model needs.
    """
    copies = backend.concurrency if isinstance(backend.concurrency, int) else backend.concurrency[0]
    needed = copies * backend.tensor_parallel_size * backend.pipeline_parallel_size
    here = cluster.resources().get("GPU", 0.0)
    if needed > here:
        raise PlanError(
            f"asks for {needed} GPUs, the cluster has {here:g}",
            where="backend vllm",
            mend="fewer copies (concurrency) or GPUs per copy, another cluster, or kind: openai",
        )


def _questions(row: dict[str, Any], *, spec: WorkerSpec) -> Iterator[Row]:
    """A Ray task: the rows of one unit, a batch of clips at a time."""
    unit = UnitResult.from_row(json.loads(row["unit"])).unit
    for request, key in questions(spec, unit):
        yield to_row(request, key)


def questions(spec: WorkerSpec, unit: Unit) -> Iterator[tuple[Any, str]]:
    """What the stage would ask about a unit and has no answer to yet, with the ledger's keys."""
    name = digest(spec.run_id, spec.stages[0].name)
    if name not in _workers:  # the stage that was set up, not its twin of another task
        _workers[name] = Worker(spec), spec.stages[0]
    worker, stage = _workers[name]
    assert isinstance(stage, CaptionClips | Rewrite)
    for batch in worker.batches(unit, stage):
        yield from stage.wanted(batch)
