"""``plan`` and ``order``: every clip is accounted for, and the order is the loader's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from curation.errors import ConfigError
from pipelines.files import write_bytes
from pipelines.loader import order as order_room
from tests.pipelines.conftest import REPO, clipmill
from tests.training.synthetic import Row, some_rows, write_index
from training.data.buckets import assign
from training.data.index import load_index
from training.data.plan import open_plan
from training.data.settings_file import read_settings
from training.presets import bucket_presets

SHAPES = """
microbatch_tokens: 300
cost_tolerance: 0.5
max_crop: 0.3
shapes:
  - {frames: 9, height_px: 64, width_px: 96, fps: 8, samples: 4}
  - {frames: 17, height_px: 64, width_px: 96, fps: 8}
"""


def rows() -> list[Row]:
    """Twelve that fit, in train and val; and some of each kind that does not."""
    found = [some(f"fits{n}", frames=48 + 24 * (n % 2)) for n in range(12)]
    found += [some(f"val{n}", split="val") for n in range(3)]
    found += [some(f"short{n}", frames=18) for n in range(4)]
    found += [some(f"small{n}", height_px=48, width_px=72) for n in range(5)]
    found += [some("slow", fps=5.0)]
    found += [some(f"tall{n}", height_px=320, width_px=240) for n in range(2)]
    return found


def some(
    clip: str,
    *,
    frames: int = 48,
    height_px: int = 240,
    width_px: int = 320,
    fps: float = 24.0,
    split: str = "train",
) -> Row:
    """A clip of 2 s in the training split, unless told otherwise."""
    return Row(
        clip=clip, frames=frames, height_px=height_px, width_px=width_px, fps=fps, split=split
    )


@pytest.fixture
def root(tmp_path: Path) -> str:
    return write_index(tmp_path / "data", rows())


@pytest.fixture
def buckets(tmp_path: Path) -> str:
    path = tmp_path / "buckets.yaml"
    path.write_text(SHAPES)
    return str(path)


def planned(*arguments: str) -> dict[str, Any]:
    done = clipmill("plan", *arguments, "--json")
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def test_every_clip_is_accounted_for(root: str, buckets: str) -> None:
    plan = planned(root, "--buckets", buckets)
    (source,) = plan["sources"]
    assert plan["balanced"] and plan["trainable"] and not plan["proposed"]
    assert (source["index_clips"], source["other_clips"], source["clips"]) == (27, 3, 24)
    assert source["split"] == "train"
    assert {d["reason"]: d["clips"] for d in source["dropped"]} == {
        "too_short": 4,
        "too_small": 5,
        "too_slow": 1,
        "too_cropped": 2,
    }
    short, long = source["buckets"]
    assert (short["name"], long["name"]) == ("9x64x96@8", "17x64x96@8")
    assert (short["clips"], long["clips"]) == (6, 6)  # 2 s and 3 s: 17 frames span 2 s
    assert short["clips"] + long["clips"] + source["dropped_clips"] == source["clips"]


def test_figures_of_a_bucket(root: str, buckets: str) -> None:
    plan = planned(root, "--buckets", buckets, "order.microbatches=2")
    (source,) = plan["sources"]
    short, long = source["buckets"]
    # 9 frames: 3 latents x 4 x 6 cells; a microbatch of 4. 17 frames: 5 latents, 2 fit.
    assert (short["sample_tokens"], short["samples"], short["microbatch_tokens"]) == (72, 4, 288)
    assert (long["sample_tokens"], long["samples"], long["microbatch_tokens"]) == (120, 2, 240)
    assert short["below_dearest"] == 0 and long["below_dearest"] == pytest.approx(1 - 240 / 288)
    assert (short["microbatches"], short["repeats"]) == (2, 2)
    assert (long["microbatches"], long["repeats"]) == (3, 0)
    # 240 x 320 covers 64 x 96 at a scale of 0.3: 72 x 96, of which 8 lines go.
    assert long["crop_mean"] == pytest.approx(8 / 72, abs=1e-6)
    assert long["scale_min"] == long["scale_max"] == pytest.approx(0.3)
    assert long["hours"] == pytest.approx(6 * 3 / 3600)
    assert long["seen_hours"] == pytest.approx(6 * 17 / 8 / 3600)
    # 5 microbatches fill 3 steps of 2.
    assert (source["microbatches"], source["epoch_steps"]) == (6, 3)
    used, cost = 6 * 72 + 6 * 120, (2 * 288 + 3 * 240) * 6 / 5
    assert source["repeat_share"] == pytest.approx(1 - used / cost)
    assert plan["world_sizes"] == [1, 2]


def test_what_is_said_to_take_clips_in_does(root: str, buckets: str) -> None:
    (source,) = planned(root, "--buckets", buckets)["sources"]
    changes = {taker["change"]: taker["clips"] for taker in source["takers"]}
    assert changes["max_upscale=1.34"] == 5
    assert changes["max_rate=1.6"] == 1
    assert changes["max_crop=0.5"] == 2
    for change, clips in changes.items():
        if "=" in change:
            (now,) = planned(root, "--buckets", buckets, change)["sources"]
            assert now["bucket_clips"] == source["bucket_clips"] + clips, change
    (shape,) = [change for change in changes if change.startswith("a shape ")]
    assert changes[shape] == 4
    settings = yaml.safe_load(SHAPES)
    settings["shapes"].append(yaml.safe_load(shape.removeprefix("a shape ")))
    Path(buckets).write_text(yaml.safe_dump(settings))
    (now,) = planned(root, "--buckets", buckets)["sources"]
    assert now["bucket_clips"] == source["bucket_clips"] + 4


def test_the_plan_agrees_with_the_order(root: str, buckets: str) -> None:
    (source,) = planned(root, "--buckets", buckets)["sources"]
    plan = open_plan(read_settings(buckets), root)
    assert plan.sources[0].phases[0].order.num_microbatches == source["microbatches"]
    assert plan.steps_per_epoch == source["epoch_steps"]


def test_for_people(root: str, buckets: str) -> None:
    done = clipmill("plan", root, "--buckets", buckets)
    assert done.returncode == 0
    assert "12 clips in buckets + 12 dropped + 3 of other splits or sources = 27" in done.stdout
    assert "17x64x96@8" in done.stdout and "…" not in done.stdout
    assert "5 of 48x72 at 24 per second" in done.stdout
    assert "max_upscale=1.34: 5 clips" in done.stdout
    assert "50% of the clips are dropped" in done.stdout


def test_nothing_fits(root: str, buckets: str) -> None:
    plan = planned(root, "--buckets", buckets, "shapes.0.fps=60", "shapes.1.fps=60")
    assert plan["balanced"] and not plan["trainable"]
    done = clipmill("plan", root, "--buckets", buckets, "shapes.0.fps=60", "shapes.1.fps=60")
    assert done.returncode == 1 and "nothing to train on" in done.stdout


def test_single_frames_are_planned_beside_the_clips(root: str) -> None:
    plan = planned(root, "--buckets", "laptop", "order.image_ratio=0.25", "max_upscale=2")
    clips, pictures = plan["sources"]
    assert (clips["weight"], pictures["weight"]) == (0.75, 0.25)
    assert not clips["pictures"] and pictures["pictures"]
    assert {b["name"].split("x")[0] for b in pictures["buckets"]} == {"1"}
    assert pictures["bucket_clips"] == 24 and pictures["seen_share"] is None


def test_proposed_buckets_are_a_file_that_gives_the_same_plan(root: str, tmp_path: Path) -> None:
    path = tmp_path / "made.yaml"
    saved = planned(root, "microbatch_tokens=512", "--propose", "--write", str(path))
    assert saved["proposed"] and saved["buckets_file"] == str(path)
    again = planned(root, "--buckets", str(path))
    assert not again["proposed"]
    assert again["sources"] == saved["sources"]
    printed = clipmill("plan", root, "microbatch_tokens=512", "--propose").stdout
    assert printed == path.read_text()
    # A file's own shapes are put aside, its budget is kept.
    (tmp_path / "own.yaml").write_text(SHAPES)
    other = planned(root, "--buckets", str(tmp_path / "own.yaml"), "--propose")
    assert other["proposed"] and other["settings"]["buckets"]["microbatch_tokens"] == 300
    assert {b["name"] for b in other["sources"][0]["buckets"]} != {"9x64x96@8", "17x64x96@8"}


def test_presets_hold_together() -> None:
    assert bucket_presets() == ["256px", "laptop"]
    for name in bucket_presets():
        settings = read_settings(name).buckets
        buckets = settings.buckets()
        assert min(b.cost for b in buckets) >= 0.8 * settings.microbatch_tokens
        assert {b.frames == 1 for b in buckets} == {True, False}
        written = (REPO / "configs/train" / f"buckets-{name}.yaml").read_text()
        assert "\nmicrobatch_tokens: " in written and "order.image_ratio" in written


@pytest.mark.parametrize("form", ["data", "sections", "beside"])
def test_forms_of_a_file(form: str, tmp_path: Path) -> None:
    flat = yaml.safe_load(SHAPES)
    forms = {
        "data": {"model": {"width": 3}, "data": {"buckets": flat, "order": {"seed": 7}}},
        "sections": {"buckets": flat, "order": {"seed": 7}},
        "beside": flat | {"order": {"seed": 7}},
    }
    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump(forms[form]))
    settings = read_settings(str(path), ["order.microbatches=6", "max_crop=0.2"])
    assert (settings.order.seed, settings.order.microbatches) == (7, 6)
    assert settings.buckets.max_crop == 0.2 and len(settings.buckets.shapes) == 2


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        (SHAPES, ["shapes.0.frames=8"], "8 frames are not k * 4 + 1; nearest: 5 and 9"),
        (SHAPES, ["shapes.1.height_px=72"], "72 is not divisible by 16"),
        (SHAPES, ["shapes.1.height_px=72"], "nearest: 64 and 80"),
        (SHAPES, ["shapes.0.samples=1"], "72 tokens costs 70% less than the dearest (240)"),
        (SHAPES, ["shapes.0.heigth_px=64"], "did you mean 'height_px'?"),
        (SHAPES, ["microbatch_tokns=64"], "did you mean 'microbatch_tokens'?"),
        (SHAPES, ["order.microbatch=64"], "did you mean 'microbatches'?"),
        (SHAPES, ["max_crop=much"], "buckets.max_crop: Input should be a valid number"),
        (SHAPES + "shape: 3", [], "unknown key 'shape' mend: did you mean 'shapes'?"),
        ("data: 3", [], "data: must be a mapping"),
        ("[1, 2]", [], "must be a mapping"),
        ("a: b: c", [], "is not YAML"),
        (SHAPES + "buckets: {max_crop: 0.1}", [], "beside a section buckets"),
        ("microbatch_tokens: 1", [], "the smallest budget that works is 2"),
    ],
)
def test_mistakes_are_explained(
    text: str, overrides: list[str], words: str, root: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    done = clipmill("plan", root, "--buckets", str(path), *overrides)
    assert done.returncode == 2 and not done.stdout
    assert words in " ".join(done.stderr.split())
    assert "Value error" not in done.stderr and "Traceback" not in done.stderr


def test_no_such_file_or_dataset(root: str, tmp_path: Path) -> None:
    done = clipmill("plan", root, "--buckets", "nowhere.yaml")
    assert done.returncode == 2 and "256px, laptop" in done.stderr
    done = clipmill("plan", str(tmp_path))
    assert done.returncode == 2 and "no shard index here" in done.stderr


# order ------------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> str:
    return write_index(tmp_path / "many", some_rows(10, 23), rows_per_group=50)


def lines(*arguments: str) -> list[dict[str, Any]]:
    done = clipmill("order", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SET = ("order.microbatches=4", "max_crop=0.6")


def test_order_is_the_loader_s(many: str, buckets: str) -> None:
    found = lines(many, *SET, "-b", buckets, "--steps", "3:9", "--world", "2")
    plan = open_plan(read_settings(buckets, SET), many)
    ids = load_index(many).clip_ids(range(230))
    assert [(f["step"], f["microbatch"]) for f in found] == [
        (step, k) for step in range(3, 9) for k in range(4)
    ]
    for line in found:
        assert set(line) == {"step", "microbatch", "rank", "bucket", "keys", "weights"}
        wanted = plan.order.microbatch(line["step"], line["microbatch"])
        assert line["rank"] == line["microbatch"] % 2
        assert line["bucket"] == wanted.bucket.name
        assert line["keys"] == [ids[n] for n in wanted.samples]
        assert line["weights"] == wanted.weights.tolist()


def test_ranks_together_are_the_whole_and_an_epoch_shows_each_clip_once(
    many: str, buckets: str
) -> None:
    steps = open_plan(read_settings(buckets, SET), many).steps_per_epoch
    whole = lines(many, *SET, "-b", buckets, "--steps", f"0:{steps}", "--world", "4")
    parts = [
        lines(many, *SET, "-b", buckets, "--steps", f"0:{steps}", "--world", "4", "--rank", str(r))
        for r in range(4)
    ]
    assert all({line["rank"] for line in part} == {r} for r, part in enumerate(parts))
    together = sorted((p for part in parts for p in part), key=lambda p: (p["step"], p["rank"]))
    assert together == whole
    counted = [
        key
        for line in whole
        for key, weight in zip(line["keys"], line["weights"], strict=True)
        if weight
    ]
    index, settings = load_index(many), read_settings(buckets, SET).buckets
    fitting = np.flatnonzero(assign(index, settings.buckets(), settings).bucket >= 0)
    assert sorted(counted) == sorted(index.clip_ids(fitting))


def test_other_world_sizes_change_only_the_rank(many: str, buckets: str) -> None:
    one, two = (
        lines(many, *SET, "-b", buckets, "--steps", "0:5", "--world", world) for world in "12"
    )
    assert [line | {"rank": 0} for line in two] == one


def test_keys_are_read_in_pieces(many: str, buckets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (many, *SET, "-b", buckets, "--steps", "0:20")
    whole = lines(*arguments)
    monkeypatch.setattr(order_room, "SAMPLES_AT_ONCE", 7)
    assert lines(*arguments) == whole


def test_order_writes_as_it_goes(many: str, buckets: str) -> None:
    """A million steps are not gathered first: the reader of the pipe gets the first at once."""
    command = [sys.executable, "-m", "pipelines.cli", "order", many, *SET, "-b", buckets]
    run = subprocess.Popen(
        [*command, "--steps", "0:10000000", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPO,
    )
    assert run.stdout is not None and run.stderr is not None
    assert run.stdout.readline() == b"[\n"
    assert json.loads(run.stdout.readline().rstrip(b",\n"))["step"] == 0
    run.stdout.close()
    assert run.wait(60) == 0
    assert run.stderr.read() == b""


def test_steps(many: str, buckets: str) -> None:
    given = (many, *SET, "-b", buckets, "--steps")
    assert [line["step"] for line in lines(*given, "7")] == [7] * 4
    assert lines(*given, "7:7") == []
    last = lines(*given, str(10**12))
    assert [line["step"] for line in last] == [10**12] * 4
    absurd = ("0:" + "9" * 20, "9" * 20, "1" * 5000, str(10**12 + 1))
    for wrong in ("7:", ":3", "3:1", "-1:2", "a:b", "1:2:3", "1.5", "", *absurd):
        done = clipmill("order", *given[:-1], f"--steps={wrong}")
        assert done.returncode == 2 and "--steps" in done.stderr and not done.stdout


def test_wrong_ranks_are_refused_with_the_right_ones(many: str, buckets: str) -> None:
    done = clipmill("order", many, *SET, "-b", buckets, "--world", "3", "--json")
    assert done.returncode == 2 and not done.stdout
    assert "use 1, 2, 4 ranks" in " ".join(done.stderr.split())
    done = clipmill("order", many, *SET, "-b", buckets, "--world", "2", "--rank", "2")
    assert done.returncode == 2 and "rank 2 is none of 0 to 1" in done.stderr


def test_order_for_people(many: str, buckets: str) -> None:
    done = clipmill("order", many, *SET, "-b", buckets, "--steps", "2")
    assert done.returncode == 0
    head, *rest = done.stdout.splitlines()
    assert head.split()[:4] == ["step", "k", "rank", "bucket"]
    assert len(rest) == 4 and all(line.split()[0] == "2" for line in rest)


def test_planning_needs_no_torch(many: str, buckets: str) -> None:
    """A planner's machine may have no PyTorch: any import of it fails here."""
    blocked = (
        "import sys; sys.modules['torch'] = None; from pipelines.cli import main; "
        "sys.argv = ['clipmill', *sys.argv[1:]]; main()"
    )
    for command in (("plan", many), ("order", many, "--steps", "0:2", "--json")):
        done = subprocess.run(
            [sys.executable, "-c", blocked, *command, *SET, "-b", buckets],
            capture_output=True,
            text=True,
            cwd=REPO,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
    done = subprocess.run(
        [sys.executable, "-c", blocked, "loader-bench", many, *SET, "-b", buckets],
        capture_output=True,
        text=True,
        cwd=REPO,
        check=False,
    )
    assert done.returncode == 2 and "needs PyTorch" in done.stderr


@pytest.mark.parametrize("name", ["", ".", "/", "no/such/folder/x", "x" * 250])
def test_a_file_that_cannot_be_written_is_told(many: str, name: str) -> None:
    done = clipmill("plan", many, *SET, f"--write={name}")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    told = " ".join(done.stderr.split())
    assert "is no name of a file" in told or "cannot be written" in told


def test_a_name_for_the_sheet_is_needed() -> None:
    for name in ("", ".", "a\0b"):
        with pytest.raises(ConfigError, match="is no name of a file"):
            write_bytes(name, b"")


def test_a_damaged_index_is_told(many: str) -> None:
    path = Path(many) / "shards" / "index.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    for command in (("plan", many), ("order", many, "--steps", "0:2"), ("inspect", many)):
        done = clipmill(*command)
        assert done.returncode == 2 and "damaged" in done.stderr
        assert "clipmill shard" in done.stderr and "Traceback" not in done.stderr
