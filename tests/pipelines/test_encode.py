"""``clipmill encode``: every clip accounted for, the same bytes whoever works, gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load, load_file

from curation.errors import ConfigError
from curation.schema import SHARD_INDEX_NAME
from curation.shards.sibling_check import check_siblings, remove_from_siblings
from curation.shards.sibling_rows import SetRows
from curation.storage import Storage
from pipelines.encode.account import Report
from tests.pipelines.conftest import REPO, clipmill
from tests.shards.test_swap import Killed, kill_after
from tests.training.encoding import BUCKETS, TEXTS, buckets_file, encoded, some_clips, tiny_vae
from tests.training.shards import Clip, write_dataset
from training.data.latents import error_in

ORDER = [("shard", "ascending"), ("mp4_offset", "ascending")]


class Given:
    """Clips, an autoencoder and a file of buckets."""

    def __init__(self, folder: Path) -> None:
        (folder / "media").mkdir()
        self.clips: list[Clip] = some_clips(folder / "media")
        self.vae, self.buckets = tiny_vae(folder), buckets_file(folder)

    def encode(self, root: Path, *overrides: str, **more: Any) -> Report:  # noqa: ANN401
        options: dict[str, Any] = {"text_encoder": "none"} | more
        return encoded(root, self.vae, self.buckets, *overrides, **options)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return Given(tmp_path_factory.mktemp("encode"))


@pytest.fixture
def root(given: Given, tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", given.clips, per_shard=3, damaged=("w3",))
    return tmp_path / "data"


def files(root: Path) -> dict[str, bytes]:
    found = sorted(p for p in (root / "latents").rglob("*") if p.is_file())
    return {str(p.relative_to(root)): p.read_bytes() for p in found}


def in_order(root: Path) -> None:
    """An index with a second generation as the packing writes it: sorted by shard."""
    path = root / SHARD_INDEX_NAME
    table = pq.read_table(path)
    pq.write_table(
        table.take(pc.call_function("sort_indices", [table], pc.SortOptions(ORDER))), path
    )


def members(root: Path, fingerprint: str) -> dict[str, bytes]:
    rows = SetRows(Storage(str(root)), fingerprint)
    found = {}
    for _, table in rows.by_shard():
        for row in table.to_pylist():
            data = (root / row["sibling"]).read_bytes()
            found[row["clip_id"]] = data[row["data_offset"] :][: row["data_bytes"]]
    return found


def test_every_clip_is_accounted_for(given: Given, root: Path) -> None:
    before = {p: p.read_bytes() for p in (root / "shards").rglob("*") if p.is_file()}
    args = ["encode", str(root), "-b", given.buckets, "--vae", given.vae, "--engine", "inline"]
    done = clipmill(*args, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    account, fingerprint = report["account"], report["fingerprint"]
    assert report["ok"] and account["balanced"] and not report["complete"]
    assert (account["total"], account["encoded"]) == (12, 9)
    assert account["without_bucket"] == {"too_short": 2}
    assert account["failed"] == {"decode_failed": 1}
    names = {c.clip_id: c.name for c in given.clips}
    (failure,) = account["failures"]
    assert names[failure["clip_id"]] == "w3" and "\n" not in failure["message"]
    assert report["clips"] == 12 and report["frames"] == 5 * 5 + 4 * 9
    assert account["latent_bytes"] == 2 * 2 * 4 * (5 * 2 * 4 * 6 + 4 * 3 * 4 * 4)
    assert account["pixel_bytes"] == 3 * (5 * 5 * 32 * 48 + 4 * 9 * 32 * 32)
    storage = Storage(str(root))
    assert check_siblings(storage) == []
    assert {p: p.read_bytes() for p in before} == before, "no shard changes"
    for key, data in members(root, fingerprint).items():
        error, tensors, name = error_in(data), load(data), names[key]
        assert (error is not None) == (name == "w3") and (not tensors) == (name == "w3")
        if error is not None:
            continue
        assert ("mean" in tensors) == (name[0] != "x")
        if name[0] != "x":
            shape = (1, 4, 2, 4, 6) if name[0] == "w" else (1, 4, 3, 4, 4)
            assert tensors["mean"].shape == tensors["logvar"].shape == shape
            assert tensors["mean"].std() > 0.01 and tensors["start_s"].shape == (1,)
        lengths = tensors["text_lengths"].tolist()
        assert len(lengths) == (1 if name[0] == "s" else 2)
        assert tensors["text"].shape == (sum(lengths), 384)
    empty = load_file(root / "latents" / fingerprint / "empty_prompt.safetensors")
    assert empty["text"].shape[1] == 384

    again = {p: p.stat().st_mtime_ns for p in (root / "latents").rglob("*")}
    done = clipmill(*args, "--device", "cpu")
    assert done.returncode == 0 and "all 5 shards were encoded already" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in (root / "latents").rglob("*")} == again
    assert not (root / "lease.json").exists()


def test_texts_alone_need_no_buckets(given: Given, root: Path) -> None:
    report = encoded(root, "none", None, text_encoder="minilm")
    assert report.ok and report.account is not None
    assert (report.account.encoded, report.account.latent_bytes) == (12, 0)
    assert set(load(next(iter(members(root, report.fingerprint).values())))) == {
        "text",
        "text_lengths",
    }
    assert json.loads((root / "latents" / report.fingerprint / "set.json").read_text())[
        "reads"
    ] == ["text"]


def test_only_what_changed_is_encoded_again(given: Given, root: Path) -> None:
    write_dataset(root, given.clips, per_shard=3)
    first = given.encode(root, windows=2)
    assert first.account is not None and first.account.encoded == 10
    before = {p: p.stat().st_mtime_ns for p in (root / "latents").rglob("*.tar")}
    more = [replace(clip, name=f"new-{clip.name}") for clip in given.clips[:2]]
    write_dataset(root, more, generation=1)
    in_order(root)
    (problem,) = check_siblings(Storage(str(root)))
    assert "2 have none: `clipmill encode OUT` with" in problem
    dry = given.encode(root, windows=2, dry_run=True)
    assert (dry.pending, dry.complete) == (1, False) and dry.fingerprint == first.fingerprint
    second = given.encode(root, windows=2)
    assert (second.pending, second.clips, second.fingerprint) == (1, 2, first.fingerprint)
    assert second.account is not None and second.account.encoded == 12
    assert {p: p.stat().st_mtime_ns for p in before} == before
    # Another caption: of a set without texts nothing is stale; of another video one shard is.
    changed = [replace(given.clips[0], captions=TEXTS[:1]), *given.clips[1:]]
    write_dataset(root, changed, per_shard=3)
    shutil.rmtree(root / "shards" / "30x32x48", ignore_errors=False)
    write_dataset(root, changed, per_shard=3)
    assert given.encode(root, windows=2).complete
    swapped = [replace(changed[0], media=changed[0].media + b"\0" * 8), *changed[1:]]
    write_dataset(root, swapped, per_shard=3)
    third = given.encode(root, windows=2)
    assert third.pending == 1 and check_siblings(Storage(str(root))) == []


def test_failed_clips_may_be_tried_again(given: Given, root: Path) -> None:
    first = given.encode(root)
    assert first.account is not None and sum(first.account.failed.values()) == 1
    write_dataset(root, given.clips, per_shard=3)  # the shard is whole again
    same = given.encode(root)
    assert same.complete and same.account is not None and same.account.failed
    again = given.encode(root, retry_failed=True)
    assert again.pending == 1 and again.account is not None
    assert (again.account.encoded, again.account.failed) == (10, {})
    assert check_siblings(Storage(str(root))) == []


def test_the_size_of_a_batch_leaves_everything_in_its_place(
    given: Given, root: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(root, tmp_path / "other")
    one = given.encode(root, windows=3)
    many = given.encode(other, "batch_size=4", windows=3)
    assert one.fingerprint == many.fingerprint and one.frames == many.frames
    ours, theirs = members(root, one.fingerprint), members(other, many.fingerprint)
    assert ours.keys() == theirs.keys()
    for key, data in ours.items():
        mine, yours = load(data), load(theirs[key])
        assert mine.keys() == yours.keys()
        for name, tensor in mine.items():
            assert tensor.shape == yours[name].shape
            assert (tensor.float() - yours[name].float()).abs().max() < 2e-3


def test_killed_at_any_moment_and_gone_on_with(
    given: Given, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shutil.copytree(root, tmp_path / "whole")
    given.encode(whole)
    expected = files(whole)
    for moment in (0, 3, 5, 8, 11):
        copy = shutil.copytree(root, tmp_path / f"killed{moment}")
        with monkeypatch.context() as patch:
            kill_after(patch, moment)
            with pytest.raises(Killed):
                given.encode(copy)
        (copy / "lease.json").unlink(missing_ok=True)  # its process, this one, is alive
        given.encode(copy)
        assert files(copy) == expected, moment


def test_clips_are_removed_from_a_set(given: Given, root: Path) -> None:
    report = encoded(root, given.vae, given.buckets)
    storage, gone = Storage(str(root)), given.clips[0].clip_id
    assert remove_from_siblings(storage, {gone})
    assert not any(gone.encode() in data for data in files(root).values())
    (problem,) = check_siblings(storage)
    assert "1 have none" in problem, "of the sample, which the shards still hold here"
    assert (root / "latents" / report.fingerprint / "empty_prompt.safetensors").exists()


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        (
            ("temporal_stride=2", "microbatch_tokens=99"),
            {},
            r"temporal 4 and spatial 8, the buckets temporal 2 and",
        ),
        (("windos=2",), {}, "unknown key 'windos'"),
        (("windows=0",), {}, "greater than or equal to 1"),
        ((), {"text_encoder": "none", "vae": "none"}, "neither clips nor captions"),
        ((), {"buckets": None}, "buckets that stay what they are"),
        ((), {"vae": "no-such-thing"}, "no autoencoder has this name"),
    ],
)
def test_refused(
    given: Given, root: Path, overrides: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    named = {"vae": given.vae, "buckets": given.buckets, "text_encoder": "none"} | options
    with pytest.raises(ConfigError, match=message):
        encoded(
            root, named["vae"], named["buckets"], *overrides, text_encoder=named["text_encoder"]
        )
    assert not (root / "latents").exists()


def test_a_damaged_empty_prompt_is_found_and_mended(given: Given, root: Path) -> None:
    report = encoded(root, "none", None, text_encoder="minilm")
    file = root / "latents" / report.fingerprint / "empty_prompt.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"\xff")
    (problem,) = check_siblings(Storage(str(root)))
    assert f"{file.name}: bytes differ from" in problem and "clipmill encode" in problem
    encoded(root, "none", None, text_encoder="minilm")
    assert file.read_bytes() == whole and check_siblings(Storage(str(root))) == []


def in_a_process(given: Given, root: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines.cli", "encode", str(root), "-b", given.buckets]
    command += ["--vae", given.vae, "--text-encoder", "none", "--device", "cpu", "--json", *more]
    return subprocess.Popen(
        command, cwd=REPO, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [1, 2])
def test_ray_writes_the_same_bytes_also_after_a_kill(
    given: Given, root: Path, tmp_path: Path, workers: int
) -> None:
    whole = shutil.copytree(root, tmp_path / "whole")
    given.encode(whole)
    one = in_a_process(given, root, f"num_workers={workers}")
    work = root / "latents"
    while not list(work.glob("*/work/*/*.parquet")) and one.poll() is None:
        time.sleep(0.02)
    assert one.poll() is None, "it ended before it could be killed"
    os.kill(one.pid, signal.SIGKILL)
    one.wait()
    two = in_a_process(given, root, f"num_workers={workers}")
    out, _ = two.communicate()
    assert two.returncode == 0
    assert json.loads(out)["engine"] == "ray" and json.loads(out)["account"]["balanced"]
    assert files(root) == files(whole)


def test_a_buckets_file_of_strides_that_are_not_the_encoders(given: Given, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", given.clips[:3])
    other = tmp_path / "other.yaml"
    other.write_text(
        BUCKETS.replace("spatial_stride: 8", "spatial_stride: 4").replace(
            "tokens: 24", "tokens: 99"
        )
    )
    with pytest.raises(ConfigError, match="spatial 4") as info:
        encoded(tmp_path / "data", given.vae, str(other), text_encoder="none")
    assert "spatial_stride: 8" in info.value.mend
