"""A removal reaches the sets of siblings, and verify proves it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from safetensors.numpy import save

from curation.schema import SIBLINGS_FOLDER
from curation.shards.index import shard_names
from curation.shards.siblings import SiblingSet
from curation.storage import Storage
from tests.removal.parts import Made

PRINT = "0123456789abcdef"


@pytest.fixture
def encoded(made: Made) -> Made:
    storage = Storage(made.out)
    one = SiblingSet(storage, PRINT, {"encoder": "a test"}, ["mp4", "text"])
    where = made.index()
    for shard in shard_names(storage):
        # Rows of the index are in the order of the shard.
        clips = [clip for clip, name in where.items() if name == shard]
        blobs = [save({"latent": np.full(9, i, np.float32)}) for i in range(len(clips))]
        one.write_shard(shard, iter(zip(clips, blobs, strict=True)))
    one.commit()
    assert made.problems() == []
    return made


def test_a_removed_clip_goes_from_its_siblings_too(encoded: Made) -> None:
    made = encoded
    clip = made.clips()[2]["clip_id"]
    shard = made.index()[clip]
    tar = f"{SIBLINGS_FOLDER}/{PRINT}/{shard.removeprefix('shards/')}"
    before = {p: p.stat().st_mtime_ns for p in (made.out / SIBLINGS_FOLDER).rglob("*.tar")}
    removed = made.remove(clips=[clip])
    assert removed.proof.found == [] and made.problems() == []
    assert tar in removed.removal.siblings and removed.as_dict()["siblings"]
    gone = set(removed.removal.clips)
    for path in (made.out / SIBLINGS_FOLDER).rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert not any(c.encode() in data for c in gone), path
    concerned = {str(made.out / name) for name in removed.removal.siblings}
    after = {p: p.stat().st_mtime_ns for p in before if p.exists()}
    assert all(after[p] == t for p, t in before.items() if str(p) not in concerned)


def test_a_whole_video_goes(encoded: Made) -> None:
    made = encoded
    removed = made.remove(sources=[str(made.inputs[0])])
    assert removed.proof.found == [] and made.problems() == []
    storage = Storage(made.out)
    assert SiblingSet.open(storage, PRINT).pending_shards() == []
    assert made.curate(made.inputs[1:]).shards.reused  # type: ignore[union-attr]


def test_a_sibling_that_was_put_back_is_found(encoded: Made) -> None:
    made = encoded
    clip = made.clips()[1]["clip_id"]
    shutil.copytree(made.out / SIBLINGS_FOLDER, made.out.parent / "aside")
    made.remove(clips=[clip])
    shutil.rmtree(made.out / SIBLINGS_FOLDER)
    shutil.copytree(made.out.parent / "aside", made.out / SIBLINGS_FOLDER)
    problems = made.problems()
    assert any(
        p.startswith(f"removed: {SIBLINGS_FOLDER}/{PRINT}/") and f"member {clip}.safetensors" in p
        for p in problems
    )
    assert any("index.parquet: a row of" in p for p in problems)
    assert any("are of no sample of the shards" in p for p in problems)
