"""Taking clips out of what was released: nothing of them remains, and a crash loses nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.storage import Storage
from pipelines.release import rebuild, withdraw
from pipelines.release.checking import check_release
from pipelines.release.freeze import list_releases
from pipelines.release.places import recover
from pipelines.release.tables import write_parquet
from tests.release.test_release import manifest_of, rows, strings_of


def bytes_of(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())


def chosen(root: Path) -> tuple[list[str], str]:
    """A clip of the first video, and the whole last video."""
    clips = rows(root, "clips")
    return [clips[0]["clip_id"]], clips[-1]["video_id"]


def test_nothing_of_them_remains(released: Path) -> None:
    (clip,), video = chosen(released)
    before, old = rows(released, "clips"), manifest_of(released)
    gone = {clip} | {v["clip_id"] for v in rows(released, "verdicts") if v["video_id"] == video}
    name = next(s["file"] for s in rows(released, "sources") if s["video_id"] == video)
    rebuild(str(released), "v1", [clip], [video], "asked by a *person*")
    folder, manifest = released / "releases/v1", manifest_of(released)
    everything, text = bytes_of(folder), strings_of(folder)
    for one in (*gone, video, name):
        assert one.encode() not in everything and one not in text
    assert [c for c in before if c["clip_id"] not in gone] == rows(released, "clips")
    assert len(rows(released, "clips")) == manifest["counts"]["clips"] < len(before)
    assert manifest["revision"] == 2 and manifest["catalog_versions"] == {}
    (removal,) = manifest["removals"]
    num = len([c for c in before if c["clip_id"] in gone])
    assert (removal["num_clips"], removal["num_videos"]) == (num, 1)
    assert check_release(str(released), "v1").problems == []
    card = (folder / "dataset_card.md").read_text()
    assert "rebuilt" in card and "asked by a \\*person\\*" in card
    assert f"{manifest['counts']['clips']} clips" in card
    kept = set(old["files"]) & set(manifest["files"])
    same = [n for n in kept if n.endswith(".tar") and old["files"][n] == manifest["files"][n]]
    assert same  # tars that held none of them are as they were
    index = pq.read_table(folder / "shards/index.parquet").to_pylist()
    assert {r["clip_id"] for r in index} == {c["clip_id"] for c in rows(released, "clips")}
    for row in index:
        data = (folder / row["shard"]).read_bytes()[row["mp4_offset"] :][: row["mp4_bytes"]]
        assert data[4:8] == b"ftyp"
    # The dataset's own shards, links of the same files, are not touched.
    assert clip.encode() in bytes_of(released / "shards")


def test_again_or_for_nothing_it_changes_nothing(released: Path) -> None:
    clips, video = chosen(released)
    rebuild(str(released), "v1", ["f" * 32], ["e" * 64], "nobody here")
    assert manifest_of(released)["revision"] == 1
    rebuild(str(released), "v1", clips, [video], "once")
    before = bytes_of(released / "releases")
    rebuild(str(released), "v1", clips, [video], "twice")
    assert bytes_of(released / "releases") == before


class Killed(BaseException):
    """As sudden as a signal."""


@pytest.mark.parametrize("step", ["describe", 1, 3, 6, 12, 20])
def test_killed_anywhere_it_is_the_old_or_becomes_the_new(released: Path, step: int | str) -> None:
    clips, video = chosen(released)
    count = 0

    def rename(self: Storage, old: str, new: str) -> None:
        nonlocal count
        count += 1
        if count == step:
            raise Killed
        real(self, old, new)

    real = Storage.rename
    target = "pipelines.release.rebuilding.describe" if step == "describe" else ""
    patch: Any = (
        mock.patch(target, side_effect=Killed)
        if target
        else mock.patch.object(Storage, "rename", rename)
    )
    try:
        with patch:
            rebuild(str(released), "v1", clips, [video], "asked")
    except Killed:
        recover(Storage(released))
        tags = [r["tag"] for r in list_releases(str(released))]
        assert tags == ["v1"] and check_release(str(released), "v1").problems == []
        rebuild(str(released), "v1", clips, [video], "asked")
    manifest = manifest_of(released)
    assert manifest["revision"] == 2 and check_release(str(released), "v1").problems == []
    assert clips[0] not in strings_of(released / "releases")
    assert [p.name for p in (released / "releases").iterdir()] == ["v1"]


def test_a_release_of_which_nothing_is_left_is_withdrawn(released: Path) -> None:
    videos = {c["video_id"] for c in rows(released, "clips")}
    rebuild(str(released), "v1", [], sorted(videos), "all of it")
    assert manifest_of(released)["state"] == "withdrawn"


def test_withdrawn(released: Path) -> None:
    clips = rows(released, "clips")
    withdraw(str(released), "v1", "court order")
    files = [p.name for p in (released / "releases/v1").rglob("*")]
    manifest = manifest_of(released)
    assert files == ["manifest.json"]
    assert manifest["state"] == "withdrawn" and manifest["removals"][0]["reason"] == "court order"
    assert manifest["removals"][0]["num_clips"] == len(clips)
    assert check_release(str(released), "v1").problems == []
    withdraw(str(released), "v1", "again")
    rebuild(str(released), "v1", [clips[0]["clip_id"]], [], "again")
    assert manifest_of(released) == manifest


def test_a_withdrawal_that_was_cut_short_is_ended(released: Path) -> None:
    copy = Path(shutil.copytree(released / "releases/v1/data", released / "saved"))
    withdraw(str(released), "v1", "court order")
    shutil.move(copy, released / "releases/v1/data")  # as if it had been killed before that
    assert check_release(str(released), "v1").problems
    recover(Storage(released))
    assert check_release(str(released), "v1").problems == []


def test_a_group_whose_representative_goes_is_named_after_another(released: Path) -> None:
    ids = [c["clip_id"] for c in rows(released, "clips")][:5]
    video = rows(released, "clips")[0]["video_id"]
    a, b, c, d, e = ids
    table = pq.read_table(released / "releases/v1/data/duplicates.parquet")
    name = "releases/v1/data/duplicates.parquet"

    def row(clip: str, group: str) -> dict[str, Any]:
        one = {"clip_id": clip, "video_id": "x", "group_id": group}
        more = {} if clip == group else {"level": "exact", "similarity": 1.0, "speed": 1.0}
        return one | {"representative": clip == group} | more

    groups = [row(a, a), row(b, a), row(c, a), row(d, d), row(e, d)]
    made = pa.RecordBatch.from_pylist(groups, schema=table.schema)
    write_parquet(Storage(released), name, [made])
    assert video
    rebuild(str(released), "v1", [a], [], "asked")
    found = {r["clip_id"]: r for r in rows(released, "duplicates")}
    assert found.keys() == {b, c, d, e} and a not in strings_of(released / "releases")
    assert found[b]["group_id"] == found[c]["group_id"] == min(b, c)
    assert found[b]["similarity"] is None and found[e]["similarity"] == 1.0
