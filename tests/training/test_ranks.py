"""Ranks that read the index at different moments follow one plan, and a loader outlives main."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPO
from tests.training.synthetic import some_rows, write_index

RANK = """
import json, sys, time
from pathlib import Path
import torch.distributed as dist
from curation.errors import ClipmillError
from tests.training.synthetic import small_settings, some_rows, write_index
from training.data.loader import ClipLoader

def here(part):  # each rank sees a root of its own, as if it had looked at another moment
    return str(Path(folder) / f"{part}")

folder, rank, case = sys.argv[1], int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/{case}", rank=rank, world_size=2)
old, new = some_rows(4, 20), some_rows(2, 20, generation=1)
told = {}
try:
    if case == "grown":  # rank 1 looks after a packing
        loader = ClipLoader(here(f"{case}{rank}"), small_settings())
        told["first"] = loader.plan.fingerprint()
        if rank == 0:
            write_index(Path(here("grown0")), [*old, *new])
        else:
            write_index(Path(here("grown1")), [*old, *new, *some_rows(1, 9, generation=2)])
        told["said"] = loader.take_new_shards()
        told["newest"] = loader.plan.newest()
        told["then"] = loader.plan.fingerprint()
    else:
        ClipLoader(here(f"{case}{rank}"), small_settings())
except ClipmillError as exc:
    told["error"] = str(exc)
print(json.dumps(told), flush=True)
dist.barrier()
dist.destroy_process_group()
"""


def run_ranks(folder: Path, case: str) -> list[dict[str, object]]:
    """What two ranks tell."""
    command = [sys.executable, "-c", RANK, str(folder)]
    ranks = [
        subprocess.Popen([*command, str(r), case], cwd=REPO, stdout=subprocess.PIPE, text=True)
        for r in range(2)
    ]
    told = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    return [json.loads(text) for text in told]


def test_all_take_what_the_first_sees(tmp_path: Path) -> None:
    old, new = some_rows(4, 20), some_rows(2, 20, generation=1)
    write_index(tmp_path / "grown0", old)
    write_index(tmp_path / "grown1", [*old, *new])
    first, second = run_ranks(tmp_path, "grown")
    # The roots have different names here; fingerprints are of samples alone.
    assert first["first"] == second["first"] and first["then"] == second["then"]
    assert first["newest"] == second["newest"] == [1]
    assert first["first"] != first["then"] and first["said"]


def test_what_differs_or_fails_is_told_on_every_rank(tmp_path: Path) -> None:
    rows = some_rows(4, 20)
    write_index(tmp_path / "other0", rows)
    write_index(tmp_path / "other1", rows[1:])
    for told in run_ranks(tmp_path, "other"):
        assert "error" in told
    write_index(tmp_path / "missing1", rows)
    first, second = run_ranks(tmp_path, "missing")
    assert "no shard index" in str(first["error"]) and "no shard index" in str(second["error"])
