"""Exactly once: a crash at every step of a commit, then recovery, then the same tables."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lance
import pytest

from curation.catalog.catalog import Catalog
from curation.catalog.commit import MANIFEST, Committer
from curation.engine.parts import PARTS
from curation.storage import Storage
from tests.catalog.parts import default_plan, new_catalog, register, write_part
from tests.faults.helpers import dump

VOLATILE_NOTHING: set[str] = set()


class Crash(BaseException):
    """The process dies here: nothing may catch it."""


@contextmanager
def crash_at(step: int, *, after: bool) -> Iterator[list[str]]:
    """Die at the ``step``-th write, before or after it takes effect; yields the steps seen."""
    seen: list[str] = []
    patch = pytest.MonkeyPatch()

    def wrap(owner: Any, name: str, label: Callable[..., str]) -> None:  # noqa: ANN401
        real = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            seen.append(label(*args))
            now = len(seen) == step
            if now and not after:
                raise Crash
            result = real(*args, **kwargs)
            if now:
                raise Crash
            return result

        patch.setattr(owner, name, wrapped)

    wrap(lance, "write_dataset", lambda _, uri: f"append {Path(uri).stem}")
    wrap(Storage, "write_json", lambda _, name, value: f"write {name}")
    wrap(Storage, "remove", lambda _, name: f"remove {name}")
    try:
        yield seen
    finally:
        patch.undo()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with parts to commit: two videos, a source with equal bytes, and a failure."""
    root = tmp_path_factory.mktemp("commit") / "root"
    plan = default_plan()
    catalog = new_catalog(root, plan)
    register(catalog, "s1", "s2", "s3", "s4")
    write_part(catalog, plan, "a", source="s1", video="v1")
    write_part(catalog, plan, "b", source="s2", video="v2", num_clips=3)
    write_part(catalog, plan, "c", source="s3", video="v1")
    write_part(catalog, plan, "d", source="s4", video="v4", failed_stage="split")
    return root


def commit(root: Path) -> None:
    """What a run does with the parts it finds."""
    Committer(Catalog(Storage(root))).recover()


def fresh(prepared: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(prepared, to)
    return to


@pytest.fixture(scope="module")
def expected(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    root = fresh(prepared, tmp_path_factory.mktemp("whole") / "root")
    commit(root)
    return dump(root)


@pytest.fixture(scope="module")
def steps(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = fresh(prepared, tmp_path_factory.mktemp("steps") / "root")
    with crash_at(0, after=False) as seen:
        commit(root)
    return seen


def test_the_uninterrupted_commit_takes_equal_bytes_once(expected: dict[str, list[str]]) -> None:
    sizes = {table: len(rows) for table, rows in expected.items()}
    assert sizes["clips"] == 5 and sizes["scores"] == 5 and sizes["media"] == 5
    assert {sizes[t] for t in ("captions", "caption_checks", "caption_vectors")} == {5}
    assert sizes["videos"] == 3  # v1, v2, and v4 whose split failed
    assert sizes["frames"] == 9
    assert sizes["identities"] == 4
    assert sizes["errors"] == 1


def test_done_is_appended_last_and_files_go_after_it(steps: list[str]) -> None:
    appends = [s for s in steps if s.startswith("append")]
    assert appends[-1] == "append done"
    assert len(appends) == len(set(appends)) >= 9
    assert steps[0] == f"write {MANIFEST}"
    first_removal = next(i for i, s in enumerate(steps) if s.startswith("remove"))
    assert first_removal > steps.index("append done")
    assert steps[-1] == f"remove {MANIFEST}"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_step_loses_and_doubles_nothing(
    prepared: Path, expected: dict[str, list[str]], steps: list[str], tmp_path: Path, after: bool
) -> None:
    for step in range(1, len(steps) + 1):
        root = fresh(prepared, tmp_path / "root")
        with crash_at(step, after=after), pytest.raises(Crash):
            commit(root)
        commit(root)
        assert dump(root) == expected, f"crash {'after' if after else 'before'} {steps[step - 1]}"
        assert not [p for p in (root / PARTS).iterdir() if p.is_file()]


def test_a_crash_during_recovery_is_recovered_from(
    prepared: Path, expected: dict[str, list[str]], steps: list[str], tmp_path: Path
) -> None:
    middle = steps.index("append media") + 1
    for second in range(1, len(steps) + 1):
        root = fresh(prepared, tmp_path / "root")
        with crash_at(middle, after=True), pytest.raises(Crash):
            commit(root)
        try:
            with crash_at(second, after=True):
                commit(root)
        except Crash:
            commit(root)
        assert dump(root) == expected, f"second crash at {second}"


def test_a_manifest_is_replayed_after_other_tables_moved_on(
    prepared: Path, expected: dict[str, list[str]], steps: list[str], tmp_path: Path
) -> None:
    root = fresh(prepared, tmp_path / "root")
    with crash_at(steps.index("append scores") + 1, after=True), pytest.raises(Crash):
        commit(root)
    catalog = Catalog(Storage(root))
    for _ in range(3):  # what an impatient user's runs append before the replay
        catalog.finish_run("x", {})
    register(catalog, "s1", "s2")
    commit(root)
    assert dump(root) == expected
