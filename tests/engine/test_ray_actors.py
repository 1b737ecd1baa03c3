"""The pool of actors: results in order, dead ones begun anew, errors as they were raised."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from curation.engine.ray_actors import ActorPool
from curation.engine.ray_data import RayCluster
from curation.errors import CatalogError, ClipmillError, PlanError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Worker:
    """Does numbers; misbehaves at those that a folder has a file for.

    Args:
        folder: ``N-kill`` with how often the process dies at N, ``N-raise``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        with (self.folder / "built").open("a") as out:
            out.write(f"{os.getpid()}\n")

    def __call__(self, item: int, note: Callable[[int], None]) -> tuple[int, int]:
        kill = self.folder / f"{item}-kill"
        if kill.exists() and (left := int(kill.read_text())):
            kill.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        if (self.folder / f"{item}-raise").exists():
            raise CatalogError("refused on purpose", where=f"item {item}", mend="do not")
        for step in range(3):
            note(step + 1)
            time.sleep(0.6 if item == 0 else 0.02)
        return item, os.getpid()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    one = RayCluster(num_cpus=2)
    one.start()
    one.wait()
    yield one
    one.stop()


def pool(
    cluster: RayCluster, folder: Path, most: int | None = 2
) -> ActorPool[int, tuple[int, int]]:
    make = functools.partial(Worker, str(folder))
    return ActorPool(cluster, make, most=most, name=lambda item: f"number {item}")


def test_results_come_in_order_from_workers_that_are_built_once(
    cluster: RayCluster, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    with pool(cluster, tmp_path) as actors:
        (first,) = actors.map([7])
        found = list(actors.map(range(9), lambda number, count: seen.append((number, count))))
        assert actors.most == 2
    assert [item for item, _ in found] == list(range(9)) and first[0] == 7
    built = (tmp_path / "built").read_text().split()
    assert len(built) == 2 and {str(pid) for _, pid in [first, *found]} <= set(built)
    counts = [count for number, count in seen if number == 0]
    assert counts == sorted(counts) and set(counts) & {1, 2, 3}, "told while it is in work"


def test_a_worker_that_dies_is_begun_anew(cluster: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "3-kill").write_text("2")
    with pool(cluster, tmp_path) as actors:
        assert [item for item, _ in actors.map(range(6))] == list(range(6))
    (tmp_path / "3-kill").write_text("99")
    with pool(cluster, tmp_path, 1) as actors, pytest.raises(ClipmillError) as info:
        list(actors.map(range(6)))
    assert info.value.where == "number 3" and "died 3 times" in info.value.what
    assert (tmp_path / "3-kill").read_text() == "96"


def test_an_error_is_raised_as_it_was(cluster: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "1-raise").touch()
    with pool(cluster, tmp_path, 1) as actors, pytest.raises(CatalogError) as info:
        list(actors.map(range(4)))
    assert (info.value.where, info.value.mend) == ("item 1", "do not")
    assert "refused on purpose" in str(info.value) and "Traceback" not in str(info.value)


def test_more_gpus_than_there_are(cluster: RayCluster, tmp_path: Path) -> None:
    actors = ActorPool(cluster, functools.partial(Worker, str(tmp_path)), num_gpus=4096)
    with pytest.raises(PlanError, match="asks for 4096 GPUs"):
        list(actors.map([1]))
