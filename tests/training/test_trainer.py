"""The trainer: the same bits after kills, what counts, what is skipped, what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from curation.errors import BudgetError, ClipmillError, ConfigError
from pipelines.train.show import train_progress
from tests.training.denoising import SHAPE, Encoded, encoded_footage, small_denoiser
from training.checkpoint import latest_checkpoint
from training.denoiser import open_denoiser
from training.log import LOG
from training.optimizer import learning_rate
from training.settings import DenoiserTraining
from training.settings_file import training_of
from training.step import Inputs
from training.trainer import DenoiserTrainer

ALL_MODES = {
    "mixture": dict.fromkeys(
        ("text", "first", "last", "first_last", "keyframes", "interpolation", "extension"), 1.0
    )
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    return encoded_footage(tmp_path_factory.mktemp("denoiser"))


def settings(made: Encoded, /, **given: Any) -> DenoiserTraining:  # noqa: ANN401
    found = training_of(small_denoiser(made, **given), "test")
    assert isinstance(found, DenoiserTraining)
    return found


def train(out: Path, made: Encoded, /, **given: Any) -> DenoiserTrainer:  # noqa: ANN401
    trainer = DenoiserTrainer(settings(made, **given), out)
    trainer.run()
    return trainer


def state(out: Path) -> dict[str, Tensor]:
    found = latest_checkpoint(out)
    assert found is not None
    groups = ("model", "ema", "optimizer")
    return {f"{group}/{n}": t for group in groups for n, t in found.group(group).items()}


def same(one: Path, other: Path) -> bool:
    a, b = state(one), state(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LOG).read_text().splitlines()]


KILLED = """
import os, signal, sys, yaml
import training.trainer as trainer
from pathlib import Path
from training.settings_file import training_of
from training.step import Inputs
real, calls = trainer.weighted_loss, 0
def counted(*given):
    global calls
    calls += 1
    if calls == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given)
trainer.weighted_loss = counted
settings = training_of(yaml.safe_load(Path(sys.argv[1]).read_text()), "test")
trainer.DenoiserTrainer(settings, Path(sys.argv[2])).run()
"""


def killed(config: Path, out: Path, call: int) -> None:
    """Train until the n-th microbatch of this process, in the midst of its step."""
    code = [sys.executable, "-c", KILLED, str(config), str(out), str(call)]
    done = subprocess.run(code, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_killed_twice_mid_epoch_and_mid_accumulation_gives_the_same_bits(
    data: Encoded, tmp_path: Path
) -> None:
    """An epoch fills 4 of the 6 microbatches of two steps: every other step has 3 that count."""
    given = {"conditioning": ALL_MODES, "steps": 10}
    train(tmp_path / "whole", data, **given)
    config, out = tmp_path / "config.yaml", tmp_path / "killed"
    config.write_text(yaml.safe_dump(small_denoiser(data, **given)))
    killed(config, out, 4 * 3 + 2)  # in step 7, behind the checkpoint of step 4
    found = latest_checkpoint(out)
    assert found is not None and found.step == 4
    killed(config, out, 4 * 2 + 3)  # in step 9, behind that of step 8
    last = train(out, data, **given)
    assert last.step == 10 and same(tmp_path / "whole", out)
    told = [
        [{k: row[k] for k in ("step", "loss", "norm", "lr")} for row in lines(folder)]
        for folder in (tmp_path / "whole", out)
    ]
    assert told[0] == told[1] and [row["step"] for row in told[0]] == [2, 4, 6, 8, 10]


def test_it_learns(data: Encoded, tmp_path: Path) -> None:
    """Of means: the variances of a random autoencoder drown everything."""
    fixed = {"root": data.root, "samples": 7, "every_steps": 40}
    optimizer = {"lr": 5e-3, "warmup_steps": 5, "ema_decay": 0.9}
    means = {"posterior": "mean"}
    given = settings(
        data, steps=80, save_every=80, optimizer=optimizer, validation=fixed, conditioning=means
    )
    trainer = DenoiserTrainer(given, tmp_path)
    first = trainer._validation.figures(trainer.network, trainer._autocast)["val_loss"]
    last = trainer.run().validation["val_loss"]
    assert last < 0.8 * first


def lines_of_loss(trainer: DenoiserTrainer) -> list[float]:
    return [row["loss"] for row in lines(trainer.out)]


def test_rate_and_average_move_once_a_step(data: Encoded, tmp_path: Path) -> None:
    """Not once a microbatch, of which a step has three."""
    given = settings(data, log_every=1)
    trainer = DenoiserTrainer(given, tmp_path)
    first = {n: p.detach().clone() for n, p in trainer.network.named_parameters()}
    trainer.run(steps=1)
    decay = 2 / 11  # (1 + n) / (10 + n) after the first update
    for name, weights in trainer.network.named_parameters():
        wanted = first[name] * decay + weights * (1 - decay)
        torch.testing.assert_close(trainer.ema.average[name], wanted, rtol=0, atol=1e-7)
    train(tmp_path, data, log_every=1)
    rates = [learning_rate(given.optimizer, step, given.steps) for step in range(given.steps)]
    assert [row["lr"] for row in lines(tmp_path)] == pytest.approx(rates, rel=1e-5)


def test_the_denominator_counts_what_counts_in_the_whole_step(
    data: Encoded, tmp_path: Path
) -> None:
    """Known before anything is encoded; repeats of weight 0 add nothing."""
    trainer = DenoiserTrainer(settings(data), tmp_path)
    batches = next(trainer._steps())
    drawn = [trainer._maker.drawn(batch) for batch in batches]
    a_sample = 4 * 3 * 4 * 6
    weights = sum(float(batch.weights.sum()) for batch in batches)
    assert len(batches) == 3 and sum(one.numbers for one in drawn) == a_sample * weights
    trainer.close()


def test_bfloat16_and_checkpointing_stopped_and_gone_on_with(data: Encoded, tmp_path: Path) -> None:
    given = {"autocast": "bfloat16", "checkpointing": True, "steps": 6}
    train(tmp_path / "whole", data, **given)
    DenoiserTrainer(settings(data, **given), tmp_path / "two").run(steps=3)
    train(tmp_path / "two", data, **given)
    assert same(tmp_path / "whole", tmp_path / "two")
    train(tmp_path / "plain", data, steps=6)
    assert not same(tmp_path / "whole", tmp_path / "plain")


def test_a_stop_loses_no_line_of_the_log(data: Encoded, tmp_path: Path) -> None:
    DenoiserTrainer(settings(data, log_every=4), tmp_path).run(steps=3)
    assert [row["step"] for row in lines(tmp_path)] == [3]
    train(tmp_path, data, log_every=4)
    assert [row["step"] for row in lines(tmp_path)] == [3, 4, 8, 12]


def test_an_error_on_the_way_loses_no_step(
    data: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = DenoiserTrainer(settings(data), tmp_path)
    real = trainer._one_step

    def failing(*given: Any) -> dict[str, Any]:  # noqa: ANN401
        if trainer.step == 6:
            raise BudgetError("17 samples cannot be read")
        return real(*given)

    monkeypatch.setattr(trainer, "_one_step", failing)
    with pytest.raises(BudgetError, match="17 samples"):
        trainer.run()
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 6


def test_a_step_that_is_skipped_is_told_and_gone_on_from(
    data: Encoded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its loss is no number: lines and progress must live with that."""
    given = settings(data, steps=5, log_every=1)
    with train_progress(5, quiet=False) as told:
        trainer = DenoiserTrainer(given, tmp_path, told)
        real = trainer._maker.inputs

        def poisoned(*arguments: Any) -> Inputs:  # noqa: ANN401
            found = real(*arguments)
            bad = torch.full_like(found.x0_BCthw, torch.nan)
            return replace(found, x0_BCthw=bad) if trainer.step == 2 else found

        trainer._maker.inputs = poisoned  # type: ignore[method-assign]
        report = trainer.run()
    assert report.finished and report.skipped == 1
    assert [row["loss"] is None for row in lines(tmp_path)] == [False, False, True, False, False]
    assert "1 skipped" in capsys.readouterr().err


def test_a_misnamed_encoder_is_found_before_the_first_step(data: Encoded, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        train(tmp_path, data, vae="/nowhere", samples={"prompts": ["a dog"]})
    with pytest.raises(ClipmillError, match="nowhere"):
        train(tmp_path, data, validation={"root": "/nowhere"})
    assert not (tmp_path / LOG).exists()


def test_texts_and_latents_of_the_set_need_no_encoder(data: Encoded, tmp_path: Path) -> None:
    train(tmp_path, data, vae="/nowhere", text_encoder="/nowhere", steps=2)


def test_latents_of_another_autoencoder_are_refused(data: Encoded, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fingerprint"):
        train(tmp_path, data, vae="clipmill-small", conditioning=ALL_MODES)


def test_encoding_on_the_way_is_the_same_training(data: Encoded, tmp_path: Path) -> None:
    """As near as float16 latents are to float32 ones."""
    plain = small_denoiser(data)["data"] | {"latents": None}
    plain["read"] = {"num_workers": 0, "window": "start"}
    stored = small_denoiser(data)["data"] | {"read": plain["read"]}
    given = {"steps": 4, "conditioning": {"text_dropout": 0.3}}
    on_the_way = train(tmp_path / "a", data, data=plain, **given)
    read = train(tmp_path / "b", data, data=stored, **given)
    assert lines_of_loss(on_the_way) == pytest.approx(lines_of_loss(read), rel=2e-3)


def test_single_frames_among_videos(data: Encoded, tmp_path: Path) -> None:
    """Pictures are videos of one frame, in one training with videos."""
    own = small_denoiser(data)["data"] | {"latents": None}
    own["order"] = {"microbatches": 3, "seed": 5, "image_ratio": 0.34}
    picture = {"frames": 1, "height_px": 32, "width_px": 48, "samples": 6}
    own["buckets"] = own["buckets"] | {"shapes": [SHAPE, picture]}
    trainer = train(tmp_path, data, data=own, conditioning=ALL_MODES, steps=6, log_every=6)
    row = lines(tmp_path)[-1]
    assert trainer.step == 6
    assert row["loss_bucket_1x32x48@8"] > 0 and row["loss_bucket_9x32x48@12"] > 0


def test_steps_that_are_not_finite_change_nothing_and_end_the_run(
    data: Encoded, tmp_path: Path
) -> None:
    trainer = DenoiserTrainer(settings(data, guards={"max_in_a_row": 3}), tmp_path)
    with torch.no_grad():
        trainer.network.enter.weight[0, 0] = float("inf")
    before = {n: p.detach().clone() for n, p in trainer.network.named_parameters()}
    with pytest.raises(BudgetError, match="3 steps in a row"):
        trainer.run()
    assert all(torch.equal(before[n], p) for n, p in trainer.network.named_parameters())


def test_validation_is_of_fixed_noise(data: Encoded, tmp_path: Path) -> None:
    given = {"validation": {"root": data.root, "samples": 3, "every_steps": 2}, "steps": 4}
    trainer = DenoiserTrainer(settings(data, **given), tmp_path)
    first = trainer._validation.figures(trainer.network, trainer._autocast)
    torch.rand(7)
    assert trainer._validation.figures(trainer.network, trainer._autocast) == first
    assert set(first) == {"val_loss", *(f"val_loss_{s:.2f}" for s in (0.1, 0.3, 0.5, 0.7, 0.9))}
    samples = sum(int((one.batch.weights > 0).sum()) for one in trainer._validation.batches)
    assert samples == 3
    report = trainer.run()
    assert report.validation["val_loss"] < first["val_loss"]
    assert ["val_loss" in row for row in lines(tmp_path)] == [True, True]


def test_another_training_in_the_folder_is_refused(data: Encoded, tmp_path: Path) -> None:
    train(tmp_path, data, steps=2)
    with pytest.raises(ConfigError, match="other settings"):
        train(tmp_path, data, optimizer={"lr": 1e-5})
    train(tmp_path, data, steps=2, threads=2, keep=1, log_every=1)  # that is no other training


def test_the_average_is_what_is_opened(data: Encoded, tmp_path: Path) -> None:
    trainer = train(tmp_path, data)
    network, about = open_denoiser(tmp_path)
    assert all(torch.equal(p, trainer.ema.average[n]) for n, p in network.named_parameters())
    assert about.steps == 12 and about.vae == data.vae
    assert about.shapes[0].model_dump() == {k: v for k, v in SHAPE.items() if k != "samples"}
    last, _ = open_denoiser(tmp_path, weights="model")
    own = dict(trainer.network.named_parameters())
    assert all(torch.equal(p, own[n]) for n, p in last.named_parameters())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model": {"preset": "huge"}}, "huge"),
        ({"model": {"preset": "debug", "heads": 5}}, "not divisible by 5 heads"),
        ({"conditioning": {"mixture": {"middle": 1}}}, "middle"),
        ({"conditioning": {"mixture": {"first": 0}}}, "no mode has a weight"),
        ({"validation": {"sigmas": [0.0]}}, "between 0 and 1"),
        ({"optimizer": {"rl": 1}}, "rl"),
        ({"flow": {"shift_low": 4}}, "shift_low"),
    ],
)
def test_mistakes_are_told(data: Encoded, given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        settings(data, **given)


def test_given_frames_need_pixels(data: Encoded) -> None:
    own = small_denoiser(data)["data"] | {"pixels": False}
    with pytest.raises(ConfigError, match="pixels: true"):
        settings(data, data=own, conditioning=ALL_MODES)
