from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.demo import demo_footage
from tests.pipelines.conftest import Dataset, clipmill


def test_curate_reports_and_balances(dataset: Dataset) -> None:
    account = dataset.report["account"]
    assert account["balanced"] is True
    assert account["videos"] == {
        "total": 3,
        "done": 2,
        "failed": 1,
        "pending": 0,
        "duplicates": 0,
        "removed": 0,
    }
    assert account["errors_by_code"] == {"not_a_video": 1}
    assert account["clips"]["kept"] >= 4
    assert dataset.report["stages"]["signals"]["videos_run"] == 3


def test_status_json_has_the_promised_keys(dataset: Dataset) -> None:
    done = clipmill("status", str(dataset.root), "--json")
    assert done.returncode == 0
    status = json.loads(done.stdout)
    assert {"total", "done", "failed"} <= set(status["videos"])
    assert {"total", "kept", "rejected", "failed"} <= set(status["clips"])
    assert {"total", "kept", "rejected", "failed"} <= set(status["seconds"])
    assert status["balanced"] is True
    assert set(status["rejected_by_reason"]) == {"low_sharpness"}
    seconds = status["seconds"]
    parts = seconds["kept"] + seconds["rejected"] + seconds["failed"]
    assert seconds["total"] == pytest.approx(parts, abs=0.01)
    # bikes is 10 s of 25 fps, carphone 119 frames of 29.97 fps
    assert seconds["total"] == pytest.approx(10 + 119 * 1001 / 30000, abs=0.05)


def test_status_for_people(dataset: Dataset) -> None:
    done = clipmill("status", str(dataset.root))
    assert "balanced" in done.stdout and "low_sharpness" in done.stdout


def test_sql_json_csv_and_columns(dataset: Dataset) -> None:
    query = "select * from clips order by uri, start_s"
    rows = json.loads(clipmill("sql", str(dataset.root), query, "--json").stdout)
    wanted = {"clip_id", "video_id", "uri", "start_s", "end_s", "verdict", "reasons"}
    scores = {"motion_per_s", "camera_motion_per_s", "object_motion_per_s", "sharpness"}
    assert wanted | scores | {"luma_mean", "static_fraction"} <= set(rows[0])
    assert len({r["clip_id"] for r in rows}) == len(rows)
    assert {r["verdict"] for r in rows} == {"kept", "rejected"}
    assert all(bool(r["reasons"]) == (r["verdict"] == "rejected") for r in rows)
    csv = clipmill("sql", str(dataset.root), "select verdict from clips", "--csv").stdout
    assert csv.splitlines()[0] == "verdict" and len(csv.splitlines()) == len(rows) + 1


def test_sql_error_names_the_nearest_view(dataset: Dataset) -> None:
    done = clipmill("sql", str(dataset.root), "select * from clps")
    assert done.returncode == 2
    assert "did you mean 'clips'" in done.stderr


def test_shots_json(dataset: Dataset) -> None:
    done = clipmill("shots", str(demo_footage() / "bikes.mp4"), "--json")
    found = json.loads(done.stdout)
    cuts = [(t["start_frame"], t["end_frame"]) for t in found["transitions"]]
    assert cuts == [(29, 30), (75, 76), (136, 137), (186, 187), (241, 242)]
    assert [s["start_frame"] for s in found["shots"]] == [0, 30, 76, 137, 187, 242]
    assert found["shots"][-1]["end_frame"] == 250
    assert found["shots"][1]["start_s"] == pytest.approx(1.2)
    assert set(found["transitions"][0]) == {
        *("start_frame", "end_frame", "start_s", "end_s", "kind", "confidence")
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shots", "nowhere.mp4"], "no such file"),
        (["shots", "nowhere.mp4", "--detector", "magic"], "one of: auto"),
        (["status", "nowhere"], "no clipmill dataset"),
        (["curate", "x.mp4"], "--out"),
        (["curate", "x.mp4", "--out", "o", "splt.max_s=3"], "did you mean 'split'"),
        (["curate", "x.mp4", "--out", "o", "split.maxs=3"], "did you mean 'max_s'"),
        (["curate", "x.mp4", "--out", "o", "split.max_s=long"], "valid number"),
        (["curate", "x.mp4", "--out", "o", "judge.rules.sharpnes.min=1"], "'sharpness'"),
        (["curate", "x.mp4", "--out", "o", "--config", "nowhere.yaml"], "cluster, full, laptop"),
        (["curate", "--out", "nowhere"], "no clipmill dataset"),
    ],
)
def test_mistakes_are_explained(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = clipmill(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_print_config_is_a_config(tmp_path: Path) -> None:
    printed = clipmill("curate", "--print-config", "split.max_s=7", "run.engine=inline").stdout
    (tmp_path / "mine.yaml").write_text(printed)
    again = clipmill("curate", "--print-config", "--config", str(tmp_path / "mine.yaml")).stdout
    assert again == printed
    assert "max_s: 7.0" in printed


def test_judge_then_curate_cuts_only_what_is_new(dataset: Dataset, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(dataset.root, root)
    judged = clipmill("judge", str(root), "judge.rules.sharpness.min=0.05", "--json")
    assert judged.returncode == 0
    after = json.loads(judged.stdout)
    before = dataset.report["account"]["clips"]
    new = after["clips"]["kept"] - before["kept"]
    assert new > 0 and after["clips"]["uncut"] == new
    assert clipmill("status", str(root)).returncode == 1  # kept clips without media
    done = clipmill("curate", "--out", str(root), "--json")  # the dataset's own configuration
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["engine"] == "inline"
    assert report["stages"]["cut"]["rows"] == new
    assert report["stages"]["signals"]["videos_run"] == 0
    assert report["account"]["clips"]["kept"] == after["clips"]["kept"]
    assert clipmill("verify", str(root)).returncode == 0


def test_verify_finds_a_flipped_byte(dataset: Dataset, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(dataset.root, root)
    assert clipmill("verify", str(root), "--json").returncode == 0
    shard = sorted((root / "shards").rglob("*.tar"))[0]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(data)
    done = clipmill("verify", str(root), "--json")
    assert done.returncode == 1
    problems = json.loads(done.stdout)["problems"]
    assert any(shard.name in p and "bytes differ" in p for p in problems)


def test_shard_repacks_to_another_size(dataset: Dataset, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(dataset.root, root)
    done = clipmill("shard", str(root), "shard.target_bytes=4096", "--json")
    report = json.loads(done.stdout)
    kept = dataset.report["account"]["clips"]["kept"]
    assert report["num_shards"] == report["num_samples"] == kept
    assert clipmill("verify", str(root)).returncode == 0


def test_metadata_travels_to_the_shards(dataset: Dataset) -> None:
    from webdataset.compat import WebDataset

    shards = sorted(str(p) for p in (dataset.root / "shards").rglob("*.tar"))
    samples = list(WebDataset(shards, shardshuffle=False))
    records = [json.loads(s["json"]) for s in samples]
    bikes = next(i for i, r in enumerate(records) if r["file"] == "bikes.mp4")
    assert records[bikes]["metadata"] == {
        "title": 'Bikes <b>&"',
        "license": "CC-BY-3.0",
        "camera": "A7",
    }
    assert samples[bikes]["txt"] == b"people ride bikes"
    assert str(dataset.root.parent) not in json.dumps(records)


def test_doctor(dataset: Dataset) -> None:
    done = clipmill("doctor", "--json")
    found = json.loads(done.stdout)
    assert found["ok"] is True and done.returncode == 0
    names = {c["name"] for c in found["checks"]}
    assert {"cores", "memory", "gpu", "decoders", "probe encode", "ray"} <= names
