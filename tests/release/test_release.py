"""Making releases: what is in them, what keeps them whole, when they are refused."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError, ConfigError
from pipelines.config import load_config
from pipelines.redo import rejudge, reshard, stored_config
from pipelines.release.checking import check_release
from pipelines.release.freeze import delete_release, list_releases, make_release
from pipelines.release.tables import TABLES
from tests.faults.helpers import query


def manifest_of(root: Path, tag: str = "v1") -> dict[str, Any]:
    return json.loads((root / "releases" / tag / "manifest.json").read_text())


def rows(root: Path, table: str, tag: str = "v1") -> list[dict[str, Any]]:
    return pq.read_table(root / "releases" / tag / "data" / f"{table}.parquet").to_pylist()


def strings_of(folder: Path) -> str:
    """All text of a release: files of text as they are, tables decoded."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.append(str(path.relative_to(folder)))
        if path.suffix == ".parquet":
            found.append(repr(pq.read_table(path).to_pylist()))
        elif path.suffix in (".md", ".json"):
            found.append(path.read_text())
    return "\n".join(found)


def test_everything_is_there_and_summed(frozen_root: Path) -> None:
    folder, manifest = frozen_root / "releases/v1", manifest_of(frozen_root)
    here = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert here == {*manifest["files"], "manifest.json"}
    tables = {f"data/{t}.parquet" for t in TABLES}
    assert tables | {"dataset_card.md", "croissant.json", "shards/index.parquet"} <= here
    for name, about in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (about["sha256"], about["bytes"])
    assert manifest["counts"]["shards"] == sum(n.endswith(".tar") for n in here)
    assert manifest["note"] == "first | release" and manifest["revision"] == 1
    assert manifest["croissant"].startswith("validated with mlcroissant")
    assert manifest["fingerprints"]["tables"]["verdicts"]
    assert manifest["versions"]["pyarrow"] and manifest["config"]["split"]["max_s"] == 1.0
    found = check_release(str(frozen_root), "v1")
    assert not found.problems and found.num_files == len(manifest["files"])


def test_tables_hold_what_the_catalog_holds(frozen_root: Path) -> None:
    clips = {c["clip_id"]: c for c in query(frozen_root, "SELECT * FROM clips")}
    kept = {k: c for k, c in clips.items() if c["verdict"] == "kept"}
    released = {c["clip_id"]: c for c in rows(frozen_root, "clips")}
    assert released.keys() == kept.keys() and len(kept) >= 12
    for clip_id, clip in released.items():
        for name in ("sharpness", "start_s", "media_sha256", "license", "camera_class"):
            assert clip[name] == kept[clip_id][name]
        assert clip["file"] == Path(kept[clip_id]["uri"]).name
    verdicts = {c["clip_id"]: c for c in rows(frozen_root, "verdicts")}
    assert verdicts.keys() == clips.keys()
    rejected = [v for v in verdicts.values() if v["verdict"] == "rejected"]
    assert rejected and all("low_width_px" in v["reasons"] for v in rejected)
    assert all(v["margins"] == [-16.0] for v in rejected)
    sources = {s["file"]: s for s in rows(frozen_root, "sources")}
    assert len(sources) == 7 and sources["broken.mp4"]["code"] == "not_a_video"
    assert [s["is_duplicate"] for s in (sources["w0.mp4"], sources["v0.mp4"])].count(True) == 1
    assert json.loads(sources["v2.mp4"]["metadata"]) == {"place": "v2.mp4"}
    defaults = [c for c in rows(frozen_root, "captions") if c["is_default"]]
    assert sorted(c["clip_id"] for c in defaults) == sorted(kept)
    assert {c["text"] for c in defaults if c["kind"] == "given"} == {"a given text"}


def test_no_place_of_this_machine_leaves_it(frozen_root: Path) -> None:
    text = strings_of(frozen_root / "releases/v1")
    assert "v2.mp4" in text
    assert str(frozen_root.parent) not in text and "/in/v2.mp4" not in text
    assert os.path.expanduser("~") + "/" not in text


def test_shards_are_links_that_later_runs_leave_alone(root: Path) -> None:
    manifest = make_release(str(root), "v1")
    shards = [n for n in manifest["files"] if n.endswith(".tar")]
    assert all(os.path.samefile(root / n, root / "releases/v1" / n) for n in shards)
    before = {n: (root / n).read_bytes() for n in shards}
    config = load_config(
        None,
        ["shard.seed=7", "judge.rules.luma_mean.min=0.48"],
        base=stored_config(Catalog.open(str(root))),
    )
    rejudge(str(root), config)
    reshard(str(root), config)
    now = {str(p.relative_to(root)): p.read_bytes() for p in (root / "shards").rglob("*.tar")}
    assert now != before and any(now.get(n) != data for n, data in before.items())
    assert check_release(str(root), "v1").problems == []
    assert {n: (root / "releases/v1" / n).read_bytes() for n in shards} == before


def test_versions_of_the_tables_are_tagged_until_it_is_deleted(root: Path) -> None:
    manifest = make_release(str(root), "v1")
    catalog = Catalog.open(str(root))
    for table in catalog.tables():
        tags = catalog.dataset(table).tags.list()
        assert tags["v1"]["version"] == manifest["catalog_versions"][table]
    old = catalog.dataset("verdicts").count_rows()
    catalog.replace("verdicts", catalog.dataset("verdicts").to_table().slice(0, 1))
    assert catalog.dataset("verdicts").checkout_version("v1").count_rows() == old
    delete_release(str(root), "v1")
    assert not (root / "releases/v1").exists()
    assert all("v1" not in catalog.dataset(t).tags.list() for t in catalog.tables())
    assert list_releases(str(root)) == []


@pytest.mark.parametrize(
    "tag", ["", "../v1", "a/b", ".v1", "v 1", "a..b", "v1.", "-x", "é", "x" * 101]
)
def test_tags_that_are_no_names(root: Path, tag: str) -> None:
    with pytest.raises(ConfigError, match="no name for a release"):
        make_release(str(root), tag)
    assert not (root / "releases").exists()


def test_a_tag_is_taken_once(released: Path) -> None:
    before = manifest_of(released)
    with pytest.raises(CatalogError, match="there is a release of this name"):
        make_release(str(released), "v1")
    make_release(str(released), "v1.1_b-2")
    assert [r["tag"] for r in list_releases(str(released))] == ["v1", "v1.1_b-2"]
    assert manifest_of(released) == before


def test_refused_when_it_does_not_balance_or_the_shards_are_stale(root: Path) -> None:
    def judge(setting: str) -> None:
        base = stored_config(Catalog.open(str(root)))
        rejudge(str(root), load_config(None, [f"judge.rules.{setting}"], base=base))

    judge("width_px.min=16")
    with pytest.raises(CatalogError, match="does not balance"):
        make_release(str(root), "v1")
    judge("width_px.min=80")
    judge("luma_mean.min=0.48")
    with pytest.raises(CatalogError, match="the shards are not well"):
        make_release(str(root), "v1")
    judge("luma_mean.min=0.99")
    with pytest.raises(CatalogError, match="keeps no clip"):
        make_release(str(root), "v1")
    assert list_releases(str(root)) == []


def test_refused_when_a_shard_is_damaged(root: Path) -> None:
    shard = next((root / "shards").rglob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CatalogError, match="bytes differ from the index"):
        make_release(str(root), "v1")


def test_refused_when_captions_changed_since_packing(root: Path) -> None:
    catalog = Catalog.open(str(root))
    catalog.dataset("captions").update({"caption_medium": "'another text'"})
    with pytest.raises(CatalogError, match="older scores or captions"):
        make_release(str(root), "v1")


def test_refused_when_the_manifest_held_a_password(root: Path) -> None:
    catalog = Catalog.open(str(root))
    catalog.dataset("sources").update(
        {"metadata": """'{"apiKey": "x"}'"""}, where="uri LIKE '%broken.mp4'"
    )
    with pytest.raises(CatalogError, match="apiKey"):
        make_release(str(root), "v1")


def test_a_release_that_was_cut_short_is_none_and_the_next_try_makes_it(root: Path) -> None:
    with (
        mock.patch("pipelines.release.freeze.publish", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        make_release(str(root), "v1")
    assert (root / "releases/.making-v1/manifest.json").exists()
    assert list_releases(str(root)) == []
    with pytest.raises(CatalogError, match="there is no release"):
        check_release(str(root), "v1")
    make_release(str(root), "v2")
    assert sorted(p.name for p in (root / "releases").iterdir()) == ["v2"]
    catalog = Catalog.open(str(root))
    assert all(set(catalog.dataset(t).tags.list()) == {"v2"} for t in catalog.tables())
    make_release(str(root), "v1")
    assert not check_release(str(root), "v1").problems


def test_a_folder_without_its_manifest_is_no_release(released: Path) -> None:
    (released / "releases/v1/manifest.json").unlink()  # as a deletion leaves it when it is killed
    assert list_releases(str(released)) == []
    make_release(str(released), "v1")
    assert not check_release(str(released), "v1").problems


@pytest.mark.parametrize("harm", ["change", "remove", "add"])
def test_the_check_finds(released: Path, harm: str) -> None:
    file = released / "releases/v1/data/captions.parquet"
    if harm == "change":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    elif harm == "remove":
        file.unlink()
    else:
        file = file.with_name("more.bin")
        file.write_bytes(b"x")
    (problem,) = check_release(str(released), "v1").problems
    assert problem.startswith(f"data/{file.name}: ")


def test_without_links_shards_are_copied(root: Path) -> None:
    with mock.patch("pipelines.release.copying.os.link", side_effect=OSError("no links here")):
        manifest = make_release(str(root), "v1")
    shard = next(n for n in manifest["files"] if n.endswith(".tar"))
    assert not os.path.samefile(root / shard, root / "releases/v1" / shard)
    assert not check_release(str(root), "v1").problems


def test_a_table_of_an_older_version_may_be_missing(root: Path) -> None:
    import shutil

    for table in ("duplicates", "thresholds", "tombstones"):
        shutil.rmtree(root / f"catalog/{table}.lance", ignore_errors=True)
    make_release(str(root), "v1")
    assert (
        pq.read_table(root / "releases/v1/data/duplicates.parquet").schema.field("group_id").type
        == pa.string()
    )
    assert rows(root, "duplicates") == []
