"""One writer per root: a live holder is named, a dead one replaced, an orphan publishes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from curation.catalog import lease as lease_module
from curation.catalog.lease import NAME, STALE_AFTER_S, Lease, holds
from curation.engine.inline import group_specs
from curation.engine.parts import PARTS
from curation.engine.unit import Limits, Unit, UnitResult
from curation.engine.worker import LostLeaseError, Worker
from curation.errors import CatalogError
from curation.ids import source_id
from curation.storage import Storage
from tests.catalog.parts import default_plan, new_catalog
from tests.faults.helpers import make_video, make_videos, run


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "root")


def hold(storage: Storage, **changes: Any) -> None:  # noqa: ANN401 - JSON
    """A lease as another run would write it."""
    me = psutil.Process()
    holder = {
        "run_id": "other",
        "host": lease_module.host_name(),
        "pid": me.pid,
        "pid_started": me.create_time(),
        "renewed": time.time(),
    }
    storage.write_json(NAME, holder | changes)


def test_a_live_run_is_named_and_left_alone(storage: Storage) -> None:
    with Lease(storage, "first"):
        with pytest.raises(CatalogError) as caught, Lease(storage, "second"):
            pass
        text = str(caught.value)
        assert "first" in text and str(os.getpid()) in text and lease_module.host_name() in text
        assert holds(storage, "first")
    assert not storage.exists(NAME)


def test_a_second_curate_is_refused_while_the_first_process_lives(tmp_path: Path) -> None:
    make_videos(tmp_path / "in", 1)
    out = tmp_path / "out"
    script = (
        "import sys, time; from curation.storage import Storage; "
        "from curation.catalog.lease import Lease\n"
        f"with Lease(Storage({str(out)!r}), 'holder'): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(CatalogError, match=f"holder.*process {holder.pid}"):
            run(tmp_path / "in", out)
        assert not (out / "catalog").exists(), "it was refused before it wrote anything"
    finally:
        holder.kill()
        holder.wait()
    began = time.monotonic()
    assert run(tmp_path / "in", out).balanced, "a dead holder is taken over"
    assert time.monotonic() - began < STALE_AFTER_S / 2, "and at once"


@pytest.mark.parametrize(
    ("changes", "alive"),
    [
        ({}, True),
        ({"pid": 2**22 + 1}, False),  # no such process
        ({"pid_started": 1.0}, False),  # another process has that number now
        ({"host": "elsewhere"}, True),  # renewed just now
        ({"host": "elsewhere", "renewed": time.time() - STALE_AFTER_S - 1}, False),
        ({"pid": None}, False),
    ],
)
def test_who_counts_as_alive(storage: Storage, changes: dict[str, Any], alive: bool) -> None:
    hold(storage, **changes)
    if alive:
        with pytest.raises(CatalogError), Lease(storage, "mine"):
            pass
    else:
        with Lease(storage, "mine"):
            assert holds(storage, "mine")


def test_a_zombie_does_not_hold(storage: Storage) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    process = psutil.Process(child.pid)
    started = process.create_time()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    hold(storage, pid=child.pid, pid_started=started)
    with Lease(storage, "mine"):
        assert holds(storage, "mine")
    child.wait()


def test_of_many_that_start_at_once_one_gets_it(storage: Storage) -> None:
    hold(storage, pid=2**22 + 1)  # a dead holder: the hard case, a file to be replaced
    ready, won, done = threading.Barrier(8), [], threading.Event()

    def contend(name: str) -> None:
        ready.wait()
        try:
            with Lease(storage, name):
                won.append(name)
                done.wait(5)
        except CatalogError:
            pass

    threads = [threading.Thread(target=contend, args=(f"r{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    done.set()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_run_that_slept_too_long_does_not_take_the_lease_back(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "RENEW_EVERY_S", 0.02)
    with Lease(storage, "sleeper"):
        before = storage.read_json(NAME)["renewed"]
        time.sleep(0.2)
        assert storage.read_json(NAME)["renewed"] > before
        hold(storage)
        time.sleep(0.2)
        assert holds(storage, "other")
    assert holds(storage, "other"), "leaving does not remove the other run's lease"


def test_an_orphan_publishes_nothing_and_leaves_no_armed_timer(tmp_path: Path) -> None:
    plan = default_plan()
    root = tmp_path / "root"
    catalog = new_catalog(root, plan)
    video = str(make_video(tmp_path / "v.mp4", [(1.0, 1)]))
    (spec,) = group_specs(plan, catalog.storage, "dead", Limits(stall_timeout_s=1.0))
    names = tuple(s.name for s in plan.stages)
    unit = Unit(source_id=source_id(video), uri=video, etag="", video_id=None, todo=names)
    hold(catalog.storage)
    with pytest.raises(LostLeaseError):
        Worker(spec).run(UnitResult(unit=unit))
    assert catalog.storage.list(PARTS) == []
    time.sleep(1.5)  # an armed watchdog would end this process now
    assert json.loads((root / NAME).read_text())["run_id"] == "other"
