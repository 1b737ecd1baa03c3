"""A removal that is killed anywhere ends, when a later run goes on with it, as one that was not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.catalog.catalog import Catalog
from curation.removal.carry_out import Surroundings, begin, carry_out
from curation.removal.choose import Selection, choose
from curation.shards.rewrite import rewrite_shards
from curation.shards.writer import INDEX, ShardSettings
from curation.storage import Storage
from tests.faults.helpers import dump, shard_bytes
from tests.removal.parts import SHARDS, Made

SETTINGS = ShardSettings(**SHARDS)


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def state(made: Made) -> dict[str, Any]:
    """Everything that a removal leaves, but for its moment."""
    tables = dump(made.out, skip={"tombstones"})
    catalog = Catalog.open(str(made.out))
    stones = catalog.dataset("tombstones").to_table().drop_columns(["removed_at", "run_id"])
    media = sorted(p.name for p in (made.out / "media").rglob("*.mp4"))
    versions = {t: len(catalog.dataset(t).versions()) for t in catalog.tables()}
    return {
        **{"tables": tables, "tombstones": stones.to_pylist(), "media": media},
        **{"versions": versions, "shards": shard_bytes(made.out)},
    }


def start(made: Made, selection: Selection) -> Catalog:
    """Write a removal down."""
    catalog = Catalog.open(str(made.out))
    removal = choose(catalog, selection, run_id="r", reason="a test", settings=SETTINGS)
    begin(catalog, removal, Surroundings())
    return catalog


def killed_at(number: int) -> Callable[[str], None]:
    """Dies at the beginning of a step."""
    left = number

    def on_step(_: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    return on_step


def test_killed_between_any_two_steps(original: Made, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole, made = original.copy(tmp_path / "whole"), original.copy(tmp_path)
    clip, video = whole.clips()[2], str(whole.inputs[1])
    selection = Selection(clips=[clip["clip_id"]], sources=[video])
    steps: list[str] = []
    removed = carry_out(start(whole, selection), Surroundings(on_step=steps.append))
    assert removed is not None and removed.proof.found == [] and len(steps) == 9

    start(made, selection)
    problems = []
    for number in range(len(steps)):
        # Each attempt does all steps before over again, as far as they are not done.
        with pytest.raises(Killed):
            carry_out(Catalog.open(str(made.out)), Surroundings(on_step=killed_at(number)))
        problems.append(made.problems() if number in (1, 4) else ["unknown"])
    assert all(problems), "an unfinished removal is noticed"
    # The user types the same again: this finishes it, although nothing of it can be found any more.
    finished = made.remove(clips=selection.clips, sources=selection.sources)
    assert finished.removal.run_id == "r" and finished.proof.found == []
    assert finished.proof.needles == removed.proof.needles
    assert state(made) == state(whole) and made.problems() == []
    assert made.finish() is None


def test_killed_between_tables(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = made.clips()[1]
    start(made, Selection(clips=[clip["clip_id"]]))
    tables = Catalog.tables
    # The catalog ends in the middle of the alphabet: rows, then old versions of half the tables.
    for count in (5, 12):
        with monkeypatch.context() as patch:
            patch.setattr(Catalog, "tables", lambda self, n=count: _first(tables(self), n))
            with pytest.raises(Killed):
                made.finish()
    finished = made.finish()
    assert finished is not None and finished.proof.found == [] and made.problems() == []


def _first(names: list[str], count: int) -> Any:  # noqa: ANN401 - a generator that dies
    yield from names[:count]
    raise Killed


def test_killed_at_any_moment_of_rewriting_shards(
    original: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {c["clip_id"] for c in original.clips()[:4]}  # some tars keep samples, some go
    whole = _only_shards(original, tmp_path / "whole")
    named = rewrite_shards(whole, gone, SETTINGS, current=False)
    expected = shard_bytes(Path(whole.storage.root))
    assert named and expected != shard_bytes(original.out)

    moments = 0
    while True:
        catalog = _only_shards(original, tmp_path / f"killed{moments}")
        with monkeypatch.context() as patch:
            _kill_after(patch, moments)
            try:
                rewrite_shards(catalog, gone, SETTINGS, current=False)
                break
            except Killed:
                pass
        rewrite_shards(catalog, gone, SETTINGS, current=False)
        assert shard_bytes(Path(catalog.storage.root)) == expected, moments
        assert catalog.storage.exists(INDEX)
        moments += 1
    assert moments >= 6


def _only_shards(original: Made, folder: Path) -> Catalog:
    shutil.copytree(original.out / "shards", folder / "shards")
    return Catalog(Storage(str(folder)))


def _kill_after(patch: pytest.MonkeyPatch, count: int) -> None:
    """Dies before the operation on files of that number."""
    left = count

    def before(name: str) -> None:
        real = getattr(Storage, name)

        def dying(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(*args, **kwargs)

        patch.setattr(Storage, name, dying)

    for name in ("remove", "rename", "remove_tree", "open_write"):
        before(name)
