"""``clipmill train`` as a person uses it: curves, going on, refusals, exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import yaml

from pipelines.train.curves import draw_curves, read_series
from tests.training.denoising import encoded_footage, small_denoiser
from tests.training.vae.footage import small_training, write_footage


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(small_training(write_footage(folder))))
    return path


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("denoiser")
    path = folder / "denoiser.yaml"
    given = {"samples": {"prompts": ["a <b>dog</b>"], "num_steps": 2}, "tensorboard": True}
    path.write_text(yaml.safe_dump(small_denoiser(encoded_footage(folder), **given)))
    return path


def clipmill(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(*args), capture_output=True, text=True)


def _command(*args: object) -> list[str]:
    code = "from pipelines.cli import main; main()"
    return [sys.executable, "-c", code, *(str(arg) for arg in args)]


def test_a_training_in_two_runs(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = clipmill("train", config, "--out", out, "--max-steps", 4)
    assert first.returncode == 1, first.stderr
    assert "4 steps, 4 of them here" in first.stdout and "to go on" in first.stdout
    last = clipmill("train", config, "--out", out, "--json")
    assert last.returncode == 0, last.stderr
    told = json.loads(last.stdout)
    assert told["finished"] and (told["steps"], told["done_here"]) == (12, 8)
    assert Path(told["weights"]).is_file() and told["validation"]["val_psnr_db"] > 15
    picture = cv2.imread(told["curves"])
    assert picture is not None and picture.std() > 5


def test_sigterm_saves_and_says_so(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = _command("train", config, "steps=100000", "validation.every_steps=100000")
    with subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        log = out / "log.jsonl"
        while not (log.exists() and '"step": 2' in log.read_text()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said, complaints = process.communicate(timeout=60)
    assert process.returncode == 1, complaints
    assert "stopped; run the same command again" in said and "Traceback" not in complaints
    assert (out / "checkpoint.safetensors").is_file()


def test_a_denoiser_from_its_settings_to_a_video(denoiser: Path, tmp_path: Path) -> None:
    """Stopped by SIGTERM, gone on with, looked at, sampled, exported, sampled again."""
    run, video, model = tmp_path / "run", tmp_path / "video.mp4", tmp_path / "model"
    _stop_in_the_midst(denoiser, run)
    done = clipmill("train", denoiser, "--out", run, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["finished"] and told["steps"] == 12 and 0 < told["done_here"] < 12
    assert Path(told["samples"][0]).is_file() and Path(told["curves"]).is_file()
    assert list((run / "tensorboard").glob("events*"))
    prompt = ("--prompt", "a dog", "--steps", "3")
    done = clipmill("sample", run, *prompt, "--out", video)
    assert done.returncode == 0 and video.is_file(), done.stderr
    done = clipmill("export", run, "--format", "weights", "--to", model)
    assert done.returncode == 0, done.stderr
    done = clipmill("sample", model, *prompt, "--out", tmp_path / "again.mp4")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.mp4").read_bytes() == video.read_bytes()


def _stop_in_the_midst(config: Path, out: Path) -> None:
    command = _command("train", config, "log_every=1", "--out", out)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (out / "log.jsonl").exists() or not (out / "log.jsonl").read_text():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("train", "nothing.yaml"), "vae-small"),
        (("train", "vae-small", "steps=none"), "steps"),
        (("train", "vae-small", "optimizer.rl=1"), "optimizer.rl"),
        (("train", "vae-small", "data.sources.0.root=/nowhere/at/all"), "/nowhere/at/all"),
    ],
)
def test_what_cannot_be_done_is_said(args: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = clipmill(*args, "--out", tmp_path / "run")
    assert done.returncode == 2 and told in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_another_training_in_the_folder(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert clipmill("train", config, "steps=2", "--out", out).returncode == 0
    done = clipmill("train", config, "steps=3", "--out", out)
    assert done.returncode == 2 and "other settings" in done.stderr


def test_curves_of_a_log_cut_off(tmp_path: Path) -> None:
    assert draw_curves(tmp_path) is None
    lines = [json.dumps({"step": n, "l1": 1 / n, "kl": float("nan")}) for n in range(1, 40)]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"step": 40, "l']))
    series = read_series(tmp_path / "log.jsonl")
    assert len(series["l1"]) == 39 and "kl" not in series
    drawn = draw_curves(tmp_path)
    assert drawn is not None and drawn.stat().st_size > 1000
