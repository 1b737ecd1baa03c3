"""What reaches Ray, seen by a recording fake of its dataset: no cluster."""

from __future__ import annotations

import functools
import importlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray.data

from curation.engine import ray_data
from curation.engine.inline import group_specs
from curation.engine.ray_data import RayCluster, operator_arguments, run_ray
from curation.engine.unit import Limits, Unit, UnitResult, WorkerSpec
from curation.errors import PlanError
from curation.plan import Plan
from curation.stage import Resources
from curation.storage import Storage
from tests.faults.bad_stages import BadClip
from tests.faults.helpers import settings

CLUSTER = {"CPU": 4.0, "memory": 8e9}


class RecordingDataset:
    """Records the arguments of ``map_batches`` and gives back the units it was made from."""

    def __init__(self, items: list[dict[str, Any]], **made_with: Any) -> None:  # noqa: ANN401
        self.items, self.made_with = items, made_with
        self.operators: list[tuple[Any, dict[str, Any]]] = []

    def map_batches(self, fn: Any, **arguments: Any) -> RecordingDataset:  # noqa: ANN401
        self.operators.append((fn, arguments))
        return self

    def iter_batches(self, **_: Any) -> Iterator[pa.Table]:  # noqa: ANN401
        yield pa.Table.from_pylist(self.items)


class FakeCluster(RayCluster):
    """A cluster that is there at once."""

    def wait(self) -> None:
        pass

    def check_shared(self, specs: list[WorkerSpec]) -> None:
        pass

    def resources(self) -> dict[str, float]:
        return dict(CLUSTER)


def plan_of(*needs: Resources) -> Plan:
    """The default plan with a further clip-grain stage per given resources before the cut."""
    stages = settings().plan().stages
    at = [s.name for s in stages].index("cut")
    own = []
    for i, need in enumerate(needs):
        table = {f"t{i}": pa.schema([("clip_id", pa.string()), (f"c{i}", pa.float64())])}
        cls = type(f"Own{i}", (BadClip,), {"name": f"own{i}", "adds": table})
        own.append(cls.model_validate({"resources": need}))
    return Plan(stages=(*stages[:at], *own, *stages[at:]))


def needing(**values: float) -> Resources:
    return Resources.model_validate(values)


def specs_of(plan: Plan, tmp_path: Path) -> list[WorkerSpec]:
    plan.check()
    return group_specs(plan, Storage(tmp_path), "run", Limits())


def units(count: int) -> list[Unit]:
    return [
        Unit(source_id=f"s{i}", uri=f"/{i}.mp4", etag="", video_id=None, todo=("probe",))
        for i in range(count)
    ]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[RecordingDataset]:
    made: list[RecordingDataset] = []

    def from_items(items: list[dict[str, Any]], **made_with: Any) -> RecordingDataset:  # noqa: ANN401
        made.append(RecordingDataset(items, **made_with))
        return made[-1]

    monkeypatch.setattr(ray.data, "from_items", from_items)
    return made


def test_a_plan_of_cpu_stages_is_one_operator(
    recorded: list[RecordingDataset], tmp_path: Path
) -> None:
    specs = specs_of(settings().plan(), tmp_path)
    results = list(run_ray(FakeCluster(), specs, units(3), num_workers=None))
    assert [r.unit.source_id for r in results] == ["s0", "s1", "s2"]
    (dataset,) = recorded
    ((fn, arguments),) = dataset.operators
    assert arguments == {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": 1.0}
    assert fn.keywords["spec"].stages == settings().plan().stages and fn.keywords["spec"].last
    assert dataset.made_with == {"override_num_blocks": 3}


def test_a_change_of_resources_starts_an_operator(
    recorded: list[RecordingDataset], tmp_path: Path
) -> None:
    plan = plan_of(needing(num_cpus=2.0), needing(num_cpus=2.0))
    specs = specs_of(plan, tmp_path)
    list(run_ray(FakeCluster(), specs, units(1), num_workers=None))
    operators = recorded[0].operators
    assert [a["num_cpus"] for _, a in operators] == [1.0, 2.0, 1.0]
    names = [[s.name for s in fn.keywords["spec"].stages] for fn, _ in operators]
    cheap = ["probe", "signals", "split", "score", "technical", "camera"]
    assert names == [cheap, ["own0", "own1"], ["cut", "retest", "caption", "check"]]
    assert [fn.keywords["spec"].last for fn, _ in operators] == [False, False, True]


def test_many_units_share_blocks(
    recorded: list[RecordingDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_data, "MAX_BLOCKS", 4)
    specs = specs_of(settings().plan(), tmp_path)
    assert len(list(run_ray(FakeCluster(), specs, units(10), num_workers=None))) == 10
    assert recorded[0].made_with == {"override_num_blocks": 4}


def test_units_and_results_survive_the_journey(
    recorded: list[RecordingDataset], tmp_path: Path
) -> None:
    unit = Unit(source_id="s", uri="/ä.mp4", etag="e", video_id="v", todo=("probe", "cut"))
    specs = specs_of(settings().plan(), tmp_path)
    (result,) = run_ray(FakeCluster(), specs, [unit], num_workers=None)
    assert result == UnitResult(unit=unit)


@pytest.mark.parametrize(
    ("needs", "cluster", "wanted"),
    [
        (needing(num_cpus=1.0), {"CPU": 4.0}, {"num_cpus": 1.0}),
        (needing(num_cpus=8.0), {"CPU": 4.0}, {"num_cpus": 4.0}),
        (needing(num_cpus=2.0), {"CPU": 1.0}, {"num_cpus": 1.0}),
        (needing(num_cpus=0.25), {"CPU": 1.0}, {"num_cpus": 0.25}),
        (needing(memory_bytes=2**30), {"CPU": 1.0, "memory": 2.0**33}, {"memory": 2**30}),
        (needing(memory_bytes=2**40), {"CPU": 1.0, "memory": 2.0**33}, {"memory": 2.0**33}),
    ],
)
def test_requests_are_fitted_to_the_cluster(
    needs: Resources, cluster: dict[str, float], wanted: dict[str, float], tmp_path: Path
) -> None:
    spec = specs_of(plan_of(needs), tmp_path)[-2 if needs != needing() else 0]
    arguments = operator_arguments(spec, cluster, None)
    assert {k: arguments[k] for k in wanted} == wanted
    assert "compute" not in arguments and "num_gpus" not in arguments


def test_the_number_of_workers_bounds_the_tasks(tmp_path: Path) -> None:
    (spec,) = specs_of(settings().plan(), tmp_path)
    compute = operator_arguments(spec, CLUSTER, 3)["compute"]
    assert isinstance(compute, ray.data.TaskPoolStrategy) and compute.size == 3


def test_a_gpu_group_runs_in_actors_that_are_built_once(tmp_path: Path) -> None:
    spec = specs_of(plan_of(needing(num_gpus=1.0)), tmp_path)[1]
    arguments = operator_arguments(spec, CLUSTER | {"GPU": 2.0}, 2)
    compute = arguments["compute"]
    assert isinstance(compute, ray.data.ActorPoolStrategy)
    assert (compute.min_size, compute.max_size) == (1, 2)
    assert arguments["num_gpus"] == 1.0 and arguments["fn_constructor_args"] == (spec,)
    assert ray_data._operator(spec) is ray_data._GpuOperator


def test_a_gpu_that_is_not_there_is_told_instead_of_waited_for(tmp_path: Path) -> None:
    spec = specs_of(plan_of(needing(num_gpus=1.0)), tmp_path)[1]
    with pytest.raises(PlanError, match=r"asks for 1 GPUs, the cluster has 0") as caught:
        operator_arguments(spec, CLUSTER, None)
    assert "own0" in str(caught.value)


def test_a_task_sets_its_stages_up_once_per_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray unpickles the operator for every task: what it keeps has to lie in the module."""
    built: list[WorkerSpec] = []

    class Counted:
        def __init__(self, spec: WorkerSpec) -> None:
            built.append(spec)

        def run(self, result: UnitResult) -> UnitResult:
            return result

    monkeypatch.setattr(ray_data, "Worker", Counted)
    monkeypatch.setattr(ray_data, "_workers", {})
    (spec,) = specs_of(settings().plan(), tmp_path)
    operator = ray_data._operator(spec)
    assert isinstance(operator, functools.partial)
    batch = pa.table({"result": [ray_data._pack(UnitResult(unit=units(1)[0]))]})
    for _ in range(3):
        arrived = pickle.loads(importlib.import_module("ray.cloudpickle").dumps(operator))
        (table,) = arrived(batch)
        assert table.num_rows == 1
    assert len(built) == 1
