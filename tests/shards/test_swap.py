"""Killed at any call on files, and run again: the old shards, or those of a run without a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.shards.index import INDEX
from curation.shards.swap import STAGING
from curation.shards.tar import Sample
from curation.storage import Storage
from tests.shards.samples import bytes_of, in_order, make_samples, pack
from tests.shards.test_generations import shard_of, sound, with_text


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "root")


Change = Callable[[list[Sample]], list[Sample]]
CHANGES: dict[str, tuple[Change, bool]] = {
    "added": (lambda s: s, False),
    "dropped and added": (lambda s: s[1:12] + s[14:], False),
    "changed": (lambda s: [with_text(s[0]), *s[1:12]], False),
    "all of it": (lambda s: [with_text(s[2]), *s[3:9], *s[10:]], False),
    "repacked": (lambda s: s, True),
}


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.mark.parametrize("name", list(CHANGES))
def test_killed_at_any_call_and_run_again(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    change, repack = CHANGES[name]
    samples = make_samples(storage, 18)
    pack(storage, samples[:8], 32_000)
    pack(storage, samples[:12], 32_000)
    after = in_order(change(samples))
    whole = Storage(shutil.copytree(storage.root, tmp_path / "whole"))
    pack(whole, after, 32_000, repack=repack)
    expected, untouched = bytes_of(whole), bytes_of(storage)
    moments, was_readable = 0, 0
    while True:
        root = Storage(shutil.copytree(storage.root, tmp_path / f"killed{moments}"))
        with monkeypatch.context() as patch:
            kill_after(patch, moments)
            try:
                pack(root, after, 32_000, repack=repack)
                break
            except Killed:
                pass
        if root.exists(INDEX):  # then every shard it names is whole
            was_readable += 1
            index = bytes_of(root)[INDEX]
            assert index in (untouched[INDEX], expected[INDEX])
            wanted = untouched if index == untouched[INDEX] else expected
            here = bytes_of(root)
            assert all(here[n] == wanted[n] for n in wanted)
        pack(root, after, 32_000, repack=repack)
        assert bytes_of(root) == expected, f"killed at {moments}"
        assert root.walk(STAGING) == []
        moments += 1
    assert moments >= 6
    if name == "added":
        assert was_readable == moments, "what is only added to can be read all the time"


def kill_after(patch: pytest.MonkeyPatch, count: int) -> None:
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


def test_killed_and_then_other_clips_are_kept(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run wants something else than the killed one: nothing of that stays."""
    samples = make_samples(storage, 18)
    pack(storage, samples[:10], 32_000)
    before = bytes_of(storage)
    moment = 0
    for moment in range(100):
        root = Storage(shutil.copytree(storage.root, tmp_path / f"killed{moment}"))
        with monkeypatch.context() as patch:
            kill_after(patch, moment)
            try:
                pack(root, samples, 32_000)
                break
            except Killed:
                pass
        pack(root, samples[:10], 32_000)
        assert bytes_of(root) == before or set(shard_of(root)) == {s.clip_id for s in samples[:10]}
        sound(root, samples[:10])
    assert moment > 8
