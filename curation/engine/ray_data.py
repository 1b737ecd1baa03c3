"""The Ray engine: units through Ray Data, one operator per group of fused stages.

Ray is the scheduler, not the data channel: rows that cross processes are unit references and
results (a few hundred bytes); tables travel as part files in the dataset root. CPU groups run as
tasks (8 s sooner to the first row than actors on two cores), groups with a GPU as actors that
load their weights once.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa

from curation.engine.unit import Unit, UnitResult, WorkerSpec
from curation.engine.worker import Worker
from curation.errors import ClipmillError, PlanError
from curation.ids import digest

MAX_BLOCKS = 4096
"""Blocks of one execution: more units share a block (a retried block skips finished units)."""
OBJECT_STORE_BYTES = 128 * 2**20
"""Only references and results pass through the object store,"""
PICTURE_STORE_BYTES = 2 * 2**30
"""unless pictures go to a model on GPUs: see ``ask_ahead.py``."""
RESULT = pa.schema([pa.field("result", pa.string())])
log = logging.getLogger(__name__)


@dataclass
class RayCluster:
    """A Ray cluster: one that is there, or a local one started in the background.

    Attributes:
        address: ``auto`` or ``ray://...`` for an existing cluster; None: start a local one.
        num_cpus: Cores of a local cluster; None: all.
        carries_pictures: A local cluster's object store has room for pictures.
        start_s: Time from the request to a usable cluster, once it is up.
    """

    address: str | None = None
    num_cpus: int | None = None
    carries_pictures: bool = False
    start_s: float = 0.0
    _error: list[BaseException] = field(default_factory=list)
    _ready: threading.Event = field(default_factory=threading.Event)
    _leave: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _warming: list[Any] = field(default_factory=list)
    _ours: bool = False

    def start(self) -> None:
        """Begin starting; returns at once, so the plan can be checked meanwhile."""
        self._thread = threading.Thread(target=self._live, name="ray", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the cluster is usable.

        Raises:
            ClipmillError: It could not be started or reached.
        """
        if self._thread is None:
            self.start()
        self._ready.wait()
        if self._error:
            raise ClipmillError(
                f"Ray did not start: {self._error[0]}",
                where=self.address or "local cluster",
                mend="try --engine inline, or check `ray status`",
            ) from self._error[0]

    def stop(self) -> None:
        """Leave the cluster; a local one ends."""
        self._leave.set()
        if self._thread is not None:
            self._thread.join()

    def resources(self) -> dict[str, float]:
        """What the cluster has in all, by Ray's names."""
        import ray

        return {str(k): float(v) for k, v in ray.cluster_resources().items()}

    def check_shared(self, specs: list[WorkerSpec]) -> None:
        """Check that every node sees the dataset root.

        Raises:
            ClipmillError: A node does not see a file this process wrote there.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [n for n in ray.nodes() if n["Alive"]]
        if len(nodes) < 2:
            return
        storage, probe = specs[0].storage, f"attempts/shared-{specs[0].run_id}"
        storage.write_bytes(probe, b"shared")

        @ray.remote(num_cpus=0)
        def sees() -> bool:
            return storage.exists(probe)

        try:
            for node in nodes:
                place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                if not ray.get(sees.options(scheduling_strategy=place).remote()):
                    raise ClipmillError(
                        f"node {node['NodeManagerHostname']} does not see it",
                        where=storage.url,
                        mend="put --out on a file system or object store that all nodes share",
                    )
        finally:
            storage.remove(probe)

    def _live(self) -> None:
        """Start Ray, and stay until told to leave.

        Ray's processes die with the thread that started them (Linux's parent-death signal), so
        this thread has to outlive the run.
        """
        self._start()
        self._ready.set()
        self._leave.wait()
        if self._ours:  # a session that the caller had opened stays open
            import ray

            ray.shutdown()

    def _start(self) -> None:
        began = time.perf_counter()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            preload = threading.Thread(target=_import_ray_data)
            preload.start()
            import ray

            # Ray forks and at once replaces its helper processes: nothing of Lance runs in them.
            warnings.filterwarnings("ignore", message="lance is not fork-safe")
            local: dict[str, Any] = {}
            if self.address is None:
                cpus = self.num_cpus or os.cpu_count() or 1
                local = {
                    "num_cpus": cpus,
                    "include_dashboard": False,
                    "object_store_memory": (
                        PICTURE_STORE_BYTES if self.carries_pictures else OBJECT_STORE_BYTES
                    ),
                }
            self._ours = not ray.is_initialized()
            ray.init(
                # Without "local" Ray would join any cluster that runs on this machine.
                address=self.address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                ignore_reinit_error=True,
                **local,
            )
            self._warm_up()
            preload.join()
            _quiet()
        except BaseException as exc:  # handed to the main thread by wait()
            self._error.append(exc)
        self.start_s = time.perf_counter() - began

    def _warm_up(self) -> None:
        """Let the waiting worker processes import what they will need, while we go on."""
        import ray

        if self.address is None:

            @ray.remote(num_cpus=1)
            def warm() -> None:
                import ray.data  # noqa: F401

                import curation.engine.worker
                import curation.stages.cut
                import curation.stages.split  # noqa: F401

            self._warming = [warm.remote() for _ in range(int(self.resources().get("CPU", 1.0)))]


def run_ray(
    cluster: RayCluster, specs: list[WorkerSpec], units: list[Unit], *, num_workers: int | None
) -> Iterator[UnitResult]:
    """Run units on a cluster; yields each result as it is ready, in any order.

    Args:
        cluster: A started cluster.
        specs: One per group of fused stages.
        units: The work.
        num_workers: Most units in work at a time per group; None: as many as fit.
    """
    import ray.data

    cluster.wait()
    cluster.check_shared(specs)
    resources = cluster.resources()
    # from_items describes its blocks here; from_arrow would start a worker just for that (3 s).
    dataset = ray.data.from_items(
        [{"result": _pack(UnitResult(unit=u))} for u in units],
        override_num_blocks=min(len(units), MAX_BLOCKS),
    )
    for spec in specs:
        dataset = dataset.map_batches(
            _operator(spec),  # pyright: ignore[reportArgumentType]
            **operator_arguments(spec, resources, num_workers),
        )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in cast(pa.Table, batch).column("result").to_pylist():
            yield _unpack(row)


def operator_arguments(
    spec: WorkerSpec, cluster: dict[str, float], num_workers: int | None
) -> dict[str, Any]:
    """Arguments of ``map_batches`` for a group, fitted to what the cluster has.

    A request larger than the cluster would wait for ever, so cores and memory are cut down to it.

    Args:
        spec: The group.
        cluster: Ray's resources of the whole cluster.
        num_workers: Most units in work at a time; None: as many as fit.

    Raises:
        PlanError: The group needs a GPU and there is none.
    """
    import ray.data

    needs = spec.stages[0].resources
    arguments: dict[str, Any] = {
        "batch_size": 1,
        "batch_format": "pyarrow",
        "num_cpus": min(needs.num_cpus, cluster.get("CPU", 1.0)),
    }
    if needs.memory_bytes:
        arguments["memory"] = min(needs.memory_bytes, cluster.get("memory", needs.memory_bytes))
    if needs.num_gpus > 0:
        if needs.num_gpus > cluster.get("GPU", 0.0):
            raise PlanError(
                f"asks for {needs.num_gpus:g} GPUs, the cluster has {cluster.get('GPU', 0.0):g}",
                where=f"stage {spec.stages[0].name!r}",
                mend="set the stage's resources.num_gpus to 0, or use another cluster",
            )
        arguments["fn_constructor_args"] = (spec,)
        arguments["num_gpus"] = needs.num_gpus
        arguments["compute"] = ray.data.ActorPoolStrategy(min_size=1, max_size=num_workers or 1)
    elif num_workers is not None:
        arguments["compute"] = ray.data.TaskPoolStrategy(num_workers)
    return arguments


class _GpuOperator:
    """Actor form of a group: the worker is built once."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._worker = Worker(spec)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        yield from _run_batch(self._worker, batch)


_workers: dict[str, Worker] = {}


def _run_task(batch: pa.Table, *, spec: WorkerSpec) -> Iterator[pa.Table]:
    """Task form of a group: processes are reused, so the stages are set up once in each.

    A function of this module travels by name. A nested one would travel by value, with an empty
    copy of ``_workers``, and set everything up for every unit.
    """
    key = digest(spec.run_id, *(s.name for s in spec.stages))
    if key not in _workers:
        _workers[key] = Worker(spec)
    yield from _run_batch(_workers[key], batch)


def _operator(spec: WorkerSpec) -> Any:  # noqa: ANN401 - a function or a class, as Ray wants
    """What ``map_batches`` calls for a group."""
    if spec.stages[0].resources.num_gpus > 0:
        return _GpuOperator
    return functools.partial(_run_task, spec=spec)


def _run_batch(worker: Worker, batch: pa.Table) -> Iterator[pa.Table]:
    for text in batch.column("result").to_pylist():
        yield pa.table({"result": [_pack(worker.run(_unpack(text)))]}, RESULT)


def _pack(result: UnitResult) -> str:
    return json.dumps(result.as_row())


def _unpack(text: str) -> UnitResult:
    return UnitResult.from_row(json.loads(text))


def _import_ray_data() -> None:
    import ray.data  # noqa: F401 - takes seconds: overlap it with the cluster's start


def _quiet() -> None:
    """No wall of logs: our own progress bars say what goes on."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_operator_progress_bars = False
    for name in ("ray", "ray.data", "ray.data._internal"):
        logging.getLogger(name).setLevel(logging.ERROR)
