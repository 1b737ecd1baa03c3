"""One Ray cluster for all tests of a session: starting one costs 8-10 s."""

from __future__ import annotations

import atexit
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.run_report import RunReport
from tests.faults.helpers import REPO, run

NUM_CPUS = 1
"""A single core is the hard case: operators that wait for each other's core would hang."""


@lru_cache(maxsize=1)
def address() -> str:
    """The address of the shared cluster; its workers can import the tests' stages."""
    os.environ["PYTHONPATH"] = str(REPO)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": NUM_CPUS, "object_store_memory": 128 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    atexit.register(cluster.shutdown)
    return str(cluster.address)


def run_ray(inputs: list[Path] | Path, out: Path, **sections: Any) -> RunReport:  # noqa: ANN401
    """``curate`` on the shared cluster."""
    sections["run"] = {"engine": "ray", **sections.get("run", {})}
    return run(inputs, out, address=address(), **sections)
