"""What is left behind is found: by the proof with its needles, and by verify without them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.catalog.catalog import Catalog
from curation.removal.carry_out import Surroundings, begin, carry_out
from curation.removal.choose import Selection, choose
from curation.removal.gone import Gone
from curation.removal.needles import Needles, read_needles
from curation.removal.proof import prove
from curation.shards.writer import ShardSettings
from pipelines.release import freeze
from pipelines.remove import remove
from tests.faults.helpers import query
from tests.removal.parts import SHARDS, Made


class Removal:
    """A clip that was removed, with what is needed to plant it back."""

    def __init__(self, made: Made, aside: Path) -> None:
        self.made, self.aside = made, aside
        self.clip = made.clips()[1]
        shutil.copytree(made.out, aside)
        catalog = Catalog.open(str(made.out))
        removal = choose(
            catalog,
            Selection(clips=[self.clip["clip_id"]]),
            run_id="r",
            reason="a test",
            settings=ShardSettings(**SHARDS),
        )
        begin(catalog, removal, Surroundings())
        self.gone: Gone = removal.gone
        self.needles: Needles = read_needles(catalog.storage)
        removed = carry_out(catalog, Surroundings())
        assert removed is not None and removed.proof.found == []
        assert made.problems() == []

    def proof(self) -> list[str]:
        return prove(Catalog.open(str(self.made.out)), self.gone, self.needles).found


@pytest.fixture(scope="module")
def removed(original: Made, tmp_path_factory: pytest.TempPathFactory) -> Removal:
    folder = tmp_path_factory.mktemp("proof")
    return Removal(original.copy(folder), folder / "aside")


@pytest.fixture
def planted(removed: Removal, tmp_path: Path) -> Removal:
    """A copy in which something may be planted."""
    made = removed.made.copy(tmp_path)
    other = object.__new__(Removal)
    other.__dict__ = removed.__dict__ | {"made": made}
    return other


def test_a_media_file_under_its_own_name(planted: Removal) -> None:
    name = planted.clip["media_path"]
    shutil.copy(planted.aside / name, planted.made.out / name)
    assert any(name in text and "named" in text for text in planted.proof())
    assert any(name in text for text in planted.made.problems())


def test_a_media_file_under_another_name(planted: Removal) -> None:
    shutil.copy(planted.aside / planted.clip["media_path"], planted.made.out / "media" / "x.mp4")
    assert planted.proof() == ["media/x.mp4: holds a media of what was removed"]


def test_an_old_version_of_a_table(planted: Removal) -> None:
    for table in ("frames.lance", "captions.lance"):
        shutil.rmtree(planted.made.out / "catalog" / table)
        shutil.copytree(planted.aside / "catalog" / table, planted.made.out / "catalog" / table)
    # The rows are deleted again, and nothing more: their bytes and old versions are still there.
    clip, catalog = planted.clip, Catalog.open(str(planted.made.out))
    catalog.dataset("captions").delete(f"clip_id = '{clip['clip_id']}'")
    inside = f"sample_pts >= {clip['start_pts']} AND sample_pts < {clip['end_pts']}"
    catalog.dataset("frames").delete(f"video_id = '{clip['video_id']}' AND {inside}")
    assert (
        query(planted.made.out, f"SELECT 1 FROM captions WHERE clip_id = '{clip['clip_id']}'") == []
    )
    found = "\n".join(planted.proof())
    assert "catalog/frames.lance/data/" in found and "holds a picture" in found
    assert "table captions, version 2: has rows" in found
    latest = catalog.dataset("captions").version
    assert f"table captions, version {latest}: has rows" in found, "deleted rows count"
    problems = "\n".join(planted.made.problems())
    assert f"table frames, version {catalog.dataset('frames').version}: has rows" in problems
    assert "table captions, version 2: has rows" in problems


def test_a_tar_that_was_put_back(planted: Removal) -> None:
    clip = planted.clip["clip_id"]
    rows = pq.read_table(planted.aside / "shards" / "index.parquet").to_pylist()
    shard = next(r["shard"] for r in rows if r["clip_id"] == clip)
    shutil.copy(planted.aside / shard, planted.made.out / shard)
    found = planted.proof()
    assert f"{shard}: holds a media of what was removed" in found
    assert f"{shard}: holds a clip id of what was removed" in found
    assert any(f"member {clip}.mp4" in text for text in planted.made.problems())


def test_what_a_compressed_table_of_a_release_holds(planted: Removal) -> None:
    folder = planted.made.out / "releases" / "v0" / "data"
    folder.mkdir(parents=True)
    table = pa.table({"clip_id": [planted.clip["clip_id"]] * 2000, "n": list(range(2000))})
    pq.write_table(table, folder / "clips.parquet", compression="zstd")
    name = "releases/v0/data/clips.parquet"
    assert f"{name}: holds a clip id of what was removed" in planted.proof()
    assert any(name in text for text in planted.made.problems())


def test_another_clip_of_the_same_time(planted: Removal) -> None:
    catalog, clip = Catalog.open(str(planted.made.out)), planted.clip
    rows = (
        Catalog.open(str(planted.aside))
        .dataset("clips")
        .to_table(filter=f"clip_id = '{clip['clip_id']}'")
        .to_pylist()
    )
    other = rows[0] | {"clip_id": "0" * 32, "start_pts": rows[0]["start_pts"] + 1}
    catalog.append("clips", pa.Table.from_pylist([other], schema=catalog.dataset("clips").schema))
    assert any("table clips" in text for text in planted.made.problems())


def test_tags_half_files_and_pages_that_hold_it_go(made: Made) -> None:
    catalog = Catalog.open(str(made.out))
    for table in ("frames", "done", "scores"):
        dataset = catalog.dataset(table)
        dataset.tags.create("pinned", dataset.version)
        dataset.update_config({"a": "b"})  # the tag is on the latest version no more
    clip = made.clips()[0]
    half = made.out / "shards" / "10x64x96" / "000-000009.tar.tmp-0123abcd"
    half.parent.mkdir(exist_ok=True)
    half.write_bytes((made.out / clip["media_path"]).read_bytes())
    page = made.out / "report" / "audit.html"
    page.parent.mkdir(exist_ok=True)
    page.write_text(clip["clip_id"])

    removed = remove(str(made.out), Selection(clips=[clip["clip_id"]]), "a test")

    assert removed.proof.found == []
    assert removed.untagged == ["frames:pinned", "scores:pinned"]
    assert catalog.dataset("done").tags.list().keys() == {"pinned"}
    assert len(catalog.dataset("frames").versions()) == 1
    assert not half.exists() and not page.exists()
    index = (made.out / "report" / "index.html").read_text()
    assert "Removed" in index and clip["clip_id"] not in index
    assert made.problems() == []


def test_a_release_is_rebuilt_or_withdrawn(made: Made) -> None:
    freeze.make_release(str(made.out), "v1")
    first, second = made.clips()[1:3]
    frozen = made.out / "releases" / "v1"
    shard = made.index()[first["clip_id"]]
    # Linked, not copied: taking the clip out of one of them must not leave it in the other.
    assert os.path.samefile(frozen / shard, made.out / shard)

    removed = made.remove(clips=[first["clip_id"]])
    assert removed.removal.releases == ["v1"] and removed.proof.found == []
    assert "clips:v1" in removed.untagged and "done:v1" in removed.untagged
    assert made.problems() == []
    left = {c for p in frozen.rglob("*.parquet") for c in _clips(p)}
    assert left == {c["clip_id"] for c in made.clips()}

    selection = Selection(clips=[second["clip_id"]])
    removed = remove(str(made.out), selection, "a test", withdraw=True)
    assert removed.removal.releases == ["v1"] and removed.proof.found == []
    assert made.problems() == []
    assert [p.name for p in frozen.rglob("*") if p.is_file()] == ["manifest.json"]


def _clips(path: Path) -> list[str]:
    table = pq.read_table(path)
    return table.column("clip_id").to_pylist() if "clip_id" in table.column_names else []
