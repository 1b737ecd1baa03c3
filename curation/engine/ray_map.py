"""Pieces of work over files on a Ray cluster: a function applied to items, results in order.

For work that is no unit of a plan, such as comparing clusters of clips. Items and results are
small and name files that every node sees; what is large stays in the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from curation.engine.ray_data import RayCluster

PER_CORE = 2
"""Pieces handed out for each core: one at work, one waiting."""


class RayMap:
    """What ``map`` does, on a started cluster.

    Args:
        cluster: Where.
        num_cpus: Cores that a piece takes.
    """

    def __init__(self, cluster: RayCluster, *, num_cpus: float = 1.0) -> None:
        self._cluster, self._num_cpus = cluster, num_cpus

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Apply a function to each item; yields the results in the items' order.

        A piece whose worker died is done again by Ray; an exception of the function is raised here.
        """
        import ray

        self._cluster.wait()
        task = ray.remote(function).options(num_cpus=self._num_cpus)
        cores = self._cluster.resources().get("CPU", 1.0)
        left = iter(items)
        waiting = [task.remote(i) for i in islice(left, max(1, int(PER_CORE * cores)))]
        while waiting:
            first = waiting.pop(0)
            yield ray.get(first)
            waiting += [task.remote(i) for i in islice(left, 1)]
