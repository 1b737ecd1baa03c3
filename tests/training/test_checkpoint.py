"""Checkpoints: whole or not at all wherever a kill falls; damage is named, old ones go."""

from __future__ import annotations

import json
import logging
import multiprocessing
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from curation.errors import ConfigError
from tests.training.saving import (
    groups_of,
    same,
    save,
    save_and_die,
    save_for_ever,
    save_within,
)
from training.checkpoint import (
    FOLDER,
    LATEST,
    MANIFEST,
    has_checkpoint,
    latest_checkpoint,
    open_checkpoint,
    save_checkpoint,
)


def names(out: Path) -> list[str]:
    return sorted(path.name for path in (out / FOLDER).iterdir())


def holds(out: Path, step: int, size: int = 64) -> bool:
    found = latest_checkpoint(out)
    assert found is not None
    groups = {name: found.group(name) for name in found.groups}
    return found.step == step and same(groups, groups_of(step, size))


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None and not has_checkpoint(tmp_path)
    folder = save(tmp_path, 7)
    assert folder == tmp_path / FOLDER / "step-00000007" and has_checkpoint(tmp_path)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.folder, found.about) == (7, folder, {"next": 8, "name": "é"})
    assert same({name: found.group(name) for name in found.groups}, groups_of(7))
    assert open_checkpoint(folder).about == found.about
    assert json.loads((tmp_path / LATEST).read_text())["checkpoint"] == f"{FOLDER}/{folder.name}"
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["empty.safetensors", "model.safetensors", "optimizer.safetensors", MANIFEST]
    )
    assert all(p.stat().st_mode & 0o044 == 0o044 for p in folder.iterdir())


def test_a_group_outlives_its_file(tmp_path: Path) -> None:
    found = open_checkpoint(save(tmp_path, 3))
    model = found.group("model")
    for path in found.folder.iterdir():
        path.write_bytes(b"\xff" * path.stat().st_size)
    assert same({"model": model}, {"model": groups_of(3)["model"]})


def test_keys_that_are_numbers_become_text(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, groups_of(1), {"seen": {n: n for n in (2, 10)}})
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.about == {"seen": {"2": 2, "10": 10}}


@pytest.mark.parametrize(
    ("keep", "keep_every", "left"),
    [(1, None, [50]), (2, None, [40, 50]), (9, None, [10, 20, 30, 40, 50]), (1, 20, [20, 40, 50])],
)
def test_retention(tmp_path: Path, keep: int, keep_every: int | None, left: list[int]) -> None:
    for step in (10, 20, 30, 40, 50):
        save(tmp_path, step, keep=keep, keep_every=keep_every)
    assert names(tmp_path) == [f"step-{step:08d}" for step in left]
    assert holds(tmp_path, 50)


def test_saved_twice_is_there_once(tmp_path: Path) -> None:
    first = save(tmp_path, 5)
    inode = (first / MANIFEST).stat().st_ino
    assert save(tmp_path, 5) == first and (first / MANIFEST).stat().st_ino == inode
    assert names(tmp_path) == [first.name]


def test_another_of_the_same_step_takes_its_place(tmp_path: Path) -> None:
    save(tmp_path, 4)
    first = save(tmp_path, 5)
    second = save_checkpoint(tmp_path, 5, groups_of(6), {}, keep=2)
    assert second != first and names(tmp_path) == ["step-00000004", second.name]
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.folder == second and found.step == 5
    assert same({"model": found.group("model")}, {"model": groups_of(6)["model"]})


def damage_flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


def damage_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def damage_missing(folder: Path) -> None:
    (folder / "optimizer.safetensors").unlink()


def damage_manifest(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"name": "', '"name": "x'))


def damage_cut_manifest(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(path.read_text()[:50])


def damage_no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


DAMAGES = {
    damage_flip: "other bytes",
    damage_short: "instead of",
    damage_missing: "optimizer.safetensors is missing",
    damage_manifest: "sum differs",
    damage_cut_manifest: "is damaged",
    damage_no_manifest: "checkpoint.json is missing",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_a_damaged_one_is_named_and_the_one_before_taken(
    tmp_path: Path,
    damage: Any,  # noqa: ANN401
    caplog: pytest.LogCaptureFixture,
) -> None:
    save(tmp_path, 10)
    damage(save(tmp_path, 20))
    with caplog.at_level(logging.WARNING):
        assert holds(tmp_path, 10)
    assert "step-00000020" in caplog.text and DAMAGES[damage] in caplog.text
    # The run comes by here again: the damaged one makes room, and nothing older is lost for it.
    save(tmp_path, 15)
    assert names(tmp_path) == ["step-00000010", "step-00000015"]
    damage(save(tmp_path, 20))
    assert save(tmp_path, 20).name == "step-00000020.1"
    assert holds(tmp_path, 20) and names(tmp_path) == ["step-00000015", "step-00000020.1"]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_all_damaged(tmp_path: Path, damage: Any) -> None:  # noqa: ANN401
    for step in (10, 20):
        damage(save(tmp_path, step))
    with pytest.raises(
        ConfigError, match=r"no checkpoint is whole: step-00000020 .*; step-0"
    ) as told:
        latest_checkpoint(tmp_path)
    assert told.value.mend


def test_a_pointer_is_not_needed(tmp_path: Path) -> None:
    save(tmp_path, 10)
    stale = (tmp_path / LATEST).read_text()
    save(tmp_path, 20)
    for text in (stale, "", "{}", "[]"):
        (tmp_path / LATEST).write_text(text)
        assert holds(tmp_path, 20)
    (tmp_path / LATEST).unlink()
    assert holds(tmp_path, 20)


def test_a_pointer_to_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 10)
    shutil.rmtree(save(tmp_path, 20))
    with caplog.at_level(logging.WARNING):
        assert holds(tmp_path, 10)
    assert "names step-00000020, which is not there" in caplog.text
    shutil.rmtree(tmp_path / FOLDER)
    assert has_checkpoint(tmp_path)
    with pytest.raises(ConfigError, match="not there"):
        latest_checkpoint(tmp_path)


def test_leftovers_go_and_are_never_taken(tmp_path: Path) -> None:
    shutil.copytree(save(tmp_path, 10), tmp_path / FOLDER / ".step-00000030.tmp-0123abcd")
    (tmp_path / ".latest.json.tmp-0123abcd").write_text("{")
    (tmp_path / FOLDER / "notes.txt").write_text("mine")
    assert holds(tmp_path, 10)
    save(tmp_path, 20)
    assert names(tmp_path) == ["notes.txt", "step-00000010", "step-00000020"]
    assert not list(tmp_path.glob(".latest*"))


def test_opening_what_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no checkpoint"):
        open_checkpoint(tmp_path)
    folder = save(tmp_path, 1)
    with pytest.raises(ConfigError, match="has no ema, only empty, model, optimizer"):
        open_checkpoint(folder).group("ema")
    damage_flip(folder)
    with pytest.raises(ConfigError, match=r"model\.safetensors has other bytes"):
        open_checkpoint(folder).group("model")
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ConfigError, match="format 2"):
        open_checkpoint(folder)


def test_names_and_numbers_that_make_no_sense(tmp_path: Path) -> None:
    for step, groups, given in (
        (1, {"../model": {}}, {}),
        (1, {"Model": {}}, {}),
        (-1, {}, {}),
        (1, {}, {"keep": 0}),
        (1, {}, {"keep_every": 0}),
    ):
        with pytest.raises(ValueError):
            save_checkpoint(tmp_path, step, groups, {}, **given)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 1, {}, {"what": object()})
    assert names(tmp_path) == []


# Kills. Children are forked from a server that has torch loaded, and end by SIGKILL.

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pytest", "tests.training.saving"])


@pytest.mark.parametrize(
    ("keep", "again"), [(1, False), (2, True)], ids=["new", "over-a-damaged-one"]
)
def test_killed_before_each_touch_of_the_disk(
    tmp_path: Path, keep: int, again: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the kill leaves, it is the old checkpoint or the new one, and it can be gone on."""
    seed = tmp_path / "seed"
    save(seed, 1)
    save(seed, 2)
    if again:
        damage_flip(save(seed, 3))
    found, fatal = [], 0
    while not found or found[-1] != "done":
        fatal += 1
        out = tmp_path / f"run-{fatal}"
        shutil.copytree(seed, out)
        child = SERVER.Process(target=save_and_die, args=(out, 3, fatal, keep))
        child.start()
        child.join(60)
        assert child.exitcode in (0, -signal.SIGKILL)
        latest = latest_checkpoint(out)
        assert latest is not None and holds(out, latest.step)
        for name in names(out):
            if name.startswith("step-") and not again:
                open_checkpoint(out / FOLDER / name).check()  # one that is on its way out too
        found.append("done" if child.exitcode == 0 else latest.step)
        save(out, 4, keep=keep)
        assert holds(out, 4) and len(names(out)) == keep
        assert not [name for name in names(out) if name.startswith(".")]
        shutil.rmtree(out)
    assert again or not caplog.records  # a folder with the name of a checkpoint was always whole
    steps = found[:-1]
    assert len(steps) > 15 and steps == sorted(steps) and set(steps) == {2, 3}


def test_killed_at_random_again_and_again(tmp_path: Path) -> None:
    """One run killed many times loses at most the checkpoint that was being written."""
    rng, reported = random.Random(0), 0
    for _ in range(12):
        mine, theirs = SERVER.Pipe(duplex=False)
        child = SERVER.Process(target=save_for_ever, args=(tmp_path, theirs))
        child.start()
        theirs.close()
        reported = mine.recv()  # it is at work
        time.sleep(rng.uniform(0, 0.08))
        child.kill()
        child.join()
        try:
            while True:
                reported = mine.recv()
        except EOFError:
            pass
        found = latest_checkpoint(tmp_path)
        assert found is not None and found.step in (reported, reported + 1)
        assert holds(tmp_path, found.step, 300)
    assert reported > 12


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    save(tmp_path, 1)
    mine, theirs = SERVER.Pipe(duplex=False)
    child = SERVER.Process(target=save_within, args=(tmp_path, 5_000, theirs))
    child.start()
    theirs.close()
    child.join(60)
    text, mend = mine.recv()
    assert "cannot be written" in text and "room on the disk" in mend
    assert names(tmp_path) == ["step-00000001"] and holds(tmp_path, 1)
