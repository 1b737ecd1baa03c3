"""``inspect`` and ``loader-bench`` on real shards: what is shown is what is delivered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.loader.bench import Measured, Variant, best_of, parse_variants
from pipelines.loader.frames import as_loaded, spread, stored_frames
from pipelines.loader.look import Looked, choose, looked_at
from pipelines.loader.look_sheet import draw_sheet
from tests.media import Recording
from tests.pipelines.conftest import REPO, clipmill
from tests.training.shards import Clip, damage, number_of, numbered, write_dataset
from training.data.settings_file import read_settings

BUCKETS = """
microbatch_tokens: 120
cost_tolerance: 0.5
shapes:
  - {frames: 9, height_px: 32, width_px: 48, fps: 8}
  - {frames: 5, height_px: 48, width_px: 48, fps: 8}
order: {microbatches: 2, seed: 5}
"""
CAPTIONS = (
    {"kind": "short", "text": "grey, <b>brighter</b> and brighter", "weight": 1.0},
    {"kind": "long", "text": "a plain picture that becomes brighter " * 30, "weight": 2.0},
    {"kind": "speech", "text": "nothing is said", "weight": 0.0},
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of two stored shapes; one of val, one without captions."""
    folder = tmp_path_factory.mktemp("look")
    how = Recording(fps=24, gop_frames=12)
    wide, square = numbered(folder, 40, how, (96, 64)), numbered(folder, 24, how, (64, 64))
    clips = [
        Clip(f"w{n}", wide, 40, 64, 96, 24.0, CAPTIONS if n else (), split="train")
        for n in range(5)
    ]
    clips += [Clip(f"s{n}", square, 24, 64, 64, 24.0, CAPTIONS, split="train") for n in range(2)]
    clips += [Clip("v", square, 24, 64, 64, 24.0, CAPTIONS, split="val")]
    write_dataset(folder / "data", clips)
    (folder / "data" / "buckets.yaml").write_text(BUCKETS)
    return folder / "data"


def inspected(root: Path, *arguments: str) -> dict[str, Any]:
    done = clipmill("inspect", str(root), *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def looked(root: Path, limit: int = 50, **how: Any) -> list[Looked]:  # noqa: ANN401 - of choose
    return list(looked_at(choose(str(root), limit=limit, **how), stored_frames))


def test_the_strip_shows_the_whole_clip_as_stored(root: Path) -> None:
    found = looked(root)
    assert len(found) == 8
    for one in found:
        assert one.frames is not None
        num, height, width = (int(n) for n in one.stored.split("@")[0].split("x"))
        assert one.frames.shape == (6, height, width, 3)
        numbers = [number_of(frame) for frame in one.frames]
        assert numbers == spread(num, 6)
        assert one.times_s == pytest.approx([n / 24 for n in numbers], abs=1e-4)


def test_metadata_is_that_of_the_sample(root: Path) -> None:
    samples = inspected(root, "--limit", "50", "--png", str(root / "a.png"))["samples"]
    assert len({s["key"] for s in samples}) == 8
    for sample in samples:
        assert sample["record"]["clip_id"] == sample["key"]
        assert sample["stored"].startswith(Path(sample["shard"]).parent.name + "@24")
        kinds = [c["kind"] for c in sample["record"]["captions"]]
        assert kinds in ([], ["short", "long", "speech"])
    assert sum(not s["record"]["captions"] for s in samples) == 1


def test_samples_are_chosen_by_split_and_bucket_and_always_the_same(root: Path) -> None:
    png = ("--png", str(root / "b.png"))
    val = inspected(root, "--split", "val", *png)
    assert [s["split"] for s in val["samples"]] == ["val"] and val["num_fitting"] == 1
    square = inspected(root, "--bucket", "24x64x64", *png)
    assert square["num_fitting"] == 3
    some = [inspected(root, "--limit", "3", *png) for _ in range(2)]
    assert some[0] == some[1] and len(some[0]["samples"]) == 3 and some[0]["num_fitting"] == 8
    fewer = {s["key"] for s in inspected(root, "--limit", "2", *png)["samples"]}
    assert fewer < {s["key"] for s in some[0]["samples"]}


def test_training_view_is_what_the_loader_delivers(root: Path) -> None:
    torch = pytest.importorskip("torch")
    from training.data.loader import ClipLoader

    changes = ["read.num_workers=0", "read.crop=random", "read.flip=0.5"]
    settings = read_settings(str(root / "buckets.yaml"), changes)
    chosen = choose(str(root), limit=50, split="train", settings=settings)
    shown = {one.key: one for one in looked_at(chosen, as_loaded(settings, 0))}
    assert len(shown) == 7
    seen = set()
    with ClipLoader(str(root), settings, rank=0, world_size=1) as loader:
        steps = loader.plan.steps_per_epoch
        assert steps is not None
        loader.stop_step = steps
        for batch in loader:
            assert batch.video is not None
            for place, key in enumerate(batch.keys):
                one = shown[key]
                assert one.bucket == batch.bucket.name and one.frames is not None
                delivered = batch.video[place].permute(1, 2, 3, 0)
                assert torch.equal(torch.from_numpy(one.frames), delivered)
                assert one.times_s[0] == pytest.approx(float(batch.start_s[place]), abs=1e-3)
                drawn = f"caption drawn: {batch.caption_kinds[place]}: {batch.captions[place]}"
                assert drawn in one.notes or (not batch.captions[place] and "none" in one.notes)
                assert ("mirrored" in one.notes) == bool(batch.flipped[place])
                seen.add(key)
    assert seen == set(shown)


def test_looking_needs_no_torch(root: Path) -> None:
    blocked = (
        "import sys; sys.modules['torch'] = None; from pipelines.cli import main; "
        "sys.argv = ['clipmill', 'inspect', *sys.argv[1:]]; main()"
    )
    given = (str(root), "-b", str(root / "buckets.yaml"), "--png", str(root / "t.png"))
    done = subprocess.run(
        [sys.executable, "-c", blocked, *given], capture_output=True, cwd=REPO, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (root / "t.png").read_bytes()[:4] == b"\x89PNG"


def test_training_buckets_can_be_asked_for(root: Path) -> None:
    given = ("-b", str(root / "buckets.yaml"), "--png", str(root / "c.png"))
    found = inspected(root, *given, "--bucket", "5x48x48@8")
    assert {s["bucket"] for s in found["samples"]} == {"5x48x48@8"}
    assert all(s["shown"] == [5, 48, 48, 3] for s in found["samples"])
    first = {s["key"]: s["times_s"] for s in found["samples"]}
    other = inspected(root, *given, "--bucket", "5x48x48@8", "--epoch", "1")
    assert {s["key"]: s["times_s"] for s in other["samples"]} != first
    proposed = inspected(root, "-b", "propose", "--png", str(root / "c.png"))
    assert len({s["bucket"] for s in proposed["samples"]} - {None}) >= 1


def test_the_picture_holds_the_frames_in_order_of_time(root: Path) -> None:
    (one,) = looked(root, limit=1, bucket="40x64x96")
    picture = cv2.imdecode(
        np.frombuffer(draw_sheet("title", "told", [one]), np.uint8), cv2.IMREAD_COLOR
    )
    assert picture is not None and one.frames is not None
    centers = [picture[62 + 10 + 66, 18 + n * 180 + 88] for n in range(6)]
    assert [number_of(c[None, None]) for c in centers] == [number_of(f) for f in one.frames]


def test_long_and_odd_texts_do_not_break_the_picture(root: Path) -> None:
    record = {
        "captions": [{"kind": f"style:{n}", "text": "wörd " * 900, "weight": 1} for n in range(30)],
        "scores": {f"score_{n}": "x" * 400 for n in range(50)},
        "metadata": {"license": "CC-BY\n\x00", "source": None},
    }
    clip = Looked("k" * 300, "s" * 300, None, "1x2x3@4", 1.0, None, "too_short", record)
    picture = cv2.imdecode(np.frombuffer(draw_sheet("", "", [clip]), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape[0] < 2000
    assert draw_sheet("none", "0 of 0", [])[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bucket", "1x1x1"], "there are 24x64x64, 40x64x96"),
        (["-b", "laptop", "--bucket", "40x64x96"], "no training bucket '40x64x96'"),
        (["--split", "test"], "no sample has the split 'test'"),
        (["--png", "/nowhere/x.png"], "cannot be written"),
    ],
)
def test_mistakes_are_explained(arguments: list[str], words: str, root: Path) -> None:
    if "--png" not in arguments:
        arguments = [*arguments, "--png", str(root / "no.png")]
    done = clipmill("inspect", str(root), *arguments)
    assert done.returncode == 2 and words in " ".join(done.stderr.split())
    assert not (root / "no.png").exists()


def test_damage_is_shown_and_told(root: Path, tmp_path: Path) -> None:
    media = numbered(tmp_path, 24, Recording(fps=24, gop_frames=12), (64, 64))
    clips = [Clip(f"d{n}", media, 24, 64, 64, 24.0) for n in range(2)]
    places = write_dataset(tmp_path / "data", clips)
    damage(*places[clips[0].clip_id])
    done = clipmill("inspect", str(tmp_path / "data"), "--png", str(tmp_path / "d.png"), "--json")
    assert done.returncode == 1
    errors = {s["key"]: s["error"] for s in json.loads(done.stdout)["samples"]}
    assert errors[clips[1].clip_id] is None and "decode" in (errors[clips[0].clip_id] or "")
    tar = next((tmp_path / "data" / "shards").rglob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:600])
    done = clipmill("inspect", str(tmp_path / "data"), "--png", str(tmp_path / "e.png"))
    assert done.returncode == 2 and "not what the index says" in done.stderr


# loader-bench -----------------------------------------------------------------------------------


def test_bench_measures_every_variant(root: Path) -> None:
    pytest.importorskip("torch")
    given = ("-b", str(root / "buckets.yaml"), "--seconds", "0.5", "--step-ms", "20")
    done = clipmill(
        "loader-bench", str(root), *given, "--workers", "0,1", "--kinds", "thread", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(v["workers"], v["kind"]) for v in found["variants"]] == [(0, "thread"), (1, "thread")]
    for one in found["variants"]:
        assert one["seconds"] >= 0.5 and one["batches"] >= 1 and one["failed"] == 0
        assert 1 <= one["samples"] <= 6 * one["batches"]
        assert 5 * one["samples"] <= one["frames"] <= 9 * one["samples"]
        assert one["samples_per_s"] == pytest.approx(one["samples"] / one["seconds"])
        slept = 1 - 0.02 * one["batches"] / one["seconds"]
        assert 0 < one["waited_share"] <= slept + 0.01
        assert one["first_batch_s"] > 0 and one["read_bytes"] > 0
    assert found["best"] in found["variants"]
    done = clipmill("loader-bench", str(root), *given, "--workers", "0")
    assert "best here: read.num_workers=0" in done.stdout and "samples/s" in done.stdout


def test_bytes_and_samples_are_those_of_the_batches(root: Path) -> None:
    pytest.importorskip("torch")
    from pipelines.loader.bench import measure

    settings = read_settings(str(root / "buckets.yaml"))
    (one,) = measure(str(root), settings, [Variant(0, "thread")], seconds=0.2)
    sizes = {int(size) for size in choose(str(root), limit=9).index["mp4_bytes"]}
    assert min(sizes) * one.samples <= one.read_bytes <= max(sizes) * one.samples


def test_variants_and_the_best_of_them() -> None:
    assert parse_variants("0,2", "thread,process") == [
        Variant(0, "thread"),
        Variant(2, "thread"),
        Variant(2, "process"),
    ]

    def ran(workers: int, kind: str, speed: float) -> Measured:
        return Measured(workers, kind, 0.1, 1, 1, 1, 1, 1, 0, 1.0, speed, 1, 1, 1)

    runs = [ran(4, "thread", 100), ran(2, "process", 98), ran(2, "thread", 97), ran(0, "thread", 9)]
    assert best_of(runs) == runs[2]


@pytest.mark.parametrize("arguments", [["--workers", "two"], ["--kinds", "fork"]])
def test_wrong_variants_are_refused(arguments: list[str], root: Path) -> None:
    done = clipmill("loader-bench", str(root), *arguments)
    assert done.returncode == 2 and arguments[0] in done.stderr
