"""The VAE's training: it learns, goes on after a kill with the same bits, and refuses nonsense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from curation.errors import BudgetError, ConfigError
from tests.training.vae.footage import small_training, write_footage
from training.log import LOG
from training.models.vae import about_vae, open_vae
from training.presets import training_presets
from training.settings_file import read_training, training_of
from training.vae.settings import VaeTraining
from training.vae.state import load_state
from training.vae.trainer import CHECKPOINT, WEIGHTS, VaeTrainer


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_footage(tmp_path_factory.mktemp("footage"))


def trainer(root: str, out: Path, told: Any = lambda _: None, **given: Any) -> VaeTrainer:  # noqa: ANN401
    return VaeTrainer(VaeTraining.model_validate(small_training(root, **given)), out, told)


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LOG).read_text().splitlines()]


def same(one: Path, other: Path) -> bool:
    a, b = (load_state(out / CHECKPOINT)[0] for out in (one, other))
    return a.keys() == b.keys() and all(
        a[group].keys() == b[group].keys()
        and all(torch.equal(a[group][name], b[group][name]) for name in a[group])
        for group in a
    )


def test_it_begins_as_the_best_linear_codec_and_gets_better(root: str, tmp_path: Path) -> None:
    report = trainer(root, tmp_path, steps=60, save_every=100).run()
    assert report.finished and report.steps == 60 and not report.skipped
    told = rows(tmp_path)
    first, last = told[0]["val_psnr_db"], told[-1]["val_psnr_db"]
    assert first > 20
    assert last > first + 0.1
    assert report.validation["val_psnr_db"] == pytest.approx(last, abs=1e-3)
    vae = open_vae(tmp_path / WEIGHTS)
    assert vae.spec.latent_channels == 8 and len(vae.spec.shift) == 8
    about = about_vae(tmp_path / WEIGHTS)
    assert about["steps"] == 60
    (footage,) = about["footage"]
    assert footage["clips"] == 6


def test_latents_have_unit_variance(root: str, tmp_path: Path) -> None:
    made = trainer(root, tmp_path, steps=2)
    made.run()
    vae = open_vae(tmp_path / WEIGHTS)
    means = torch.cat(
        [vae.encode(x).mean.transpose(0, 1).flatten(1) for x in made._first_crops()], 1
    )
    assert means.mean(1).abs().max() < 0.1
    assert (means.std(1) - 1).abs().max() < 0.1


@pytest.mark.parametrize("more", [{}, {"loss": {"adversarial": 0.1, "adversarial_from": 4}}])
def test_stopped_and_gone_on_gives_the_same_bits(
    root: str, tmp_path: Path, more: dict[str, Any]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer(root, whole, **more).run()
    assert trainer(root, parts, **more).run(steps=2).steps == 2
    first = trainer(root, parts, **more).run(steps=3)
    assert (first.steps, first.finished) == (5, False)
    killed = trainer(root, parts, **more)
    killed.save = lambda: None  # a kill at step 8: nothing of it is kept
    assert killed.run(steps=3).steps == 8
    with (parts / LOG).open("a") as log:
        log.write('{"step": 8, "l1"')
    last = trainer(root, parts, **more).run()
    assert (last.steps, last.done_here, last.finished) == (12, 7, True)
    assert same(whole, parts)
    assert (whole / WEIGHTS).read_bytes() == (parts / WEIGHTS).read_bytes()


def test_a_signal_ends_it_with_a_checkpoint(root: str, tmp_path: Path) -> None:
    told: list[int] = []
    settings = VaeTraining.model_validate(small_training(root))
    made = VaeTrainer(settings, tmp_path, lambda row: told.append(row["step"]), lambda: 4 in told)
    report = made.run()
    assert (report.steps, report.finished) == (4, False)
    assert load_state(tmp_path / CHECKPOINT)[1]["step"] == 4


def test_finished_again_says_the_same(root: str, tmp_path: Path) -> None:
    trainer(root, tmp_path, steps=3).run()
    before = (tmp_path / WEIGHTS).read_bytes()
    again = trainer(root, tmp_path, steps=3).run()
    assert again.finished and again.done_here == 0 and again.validation
    assert (tmp_path / WEIGHTS).read_bytes() == before


def test_other_settings_are_refused(root: str, tmp_path: Path) -> None:
    trainer(root, tmp_path, steps=3).run()
    with pytest.raises(ConfigError, match="other settings"):
        trainer(root, tmp_path, steps=4)
    trainer(root, tmp_path, steps=3, threads=2).close()  # bits may differ, the training is the same


def test_steps_without_a_finite_loss(root: str, tmp_path: Path) -> None:
    trainer(root, tmp_path, steps=40).run(steps=1)
    again = trainer(root, tmp_path, steps=40)
    again._begin()
    with torch.no_grad():
        again.network.decoder_out.weight.fill_(float("nan"))
    kept = {name: value.clone() for name, value in again.average.items()}
    weights = again.network.encoder_in.weight.clone()
    crops = next(again._first_crops())
    again._one_step(crops, 0.0)
    assert again.skipped == 1
    assert all(torch.equal(kept[name], value) for name, value in again.average.items())
    assert torch.equal(weights, again.network.encoder_in.weight)
    with pytest.raises(BudgetError, match="no finite loss"):
        for _ in range(20):
            again._one_step(crops, 0.0)


def test_a_damaged_checkpoint(root: str, tmp_path: Path) -> None:
    trainer(root, tmp_path).run(steps=1)
    (tmp_path / CHECKPOINT).write_bytes(b"\x10" * 40)
    with pytest.raises(ConfigError, match="no checkpoint"):
        trainer(root, tmp_path).run()


def test_presets_are_read_and_mistakes_are_told() -> None:
    assert "vae-small" in training_presets()
    read = read_training("vae-small", ["steps=7", "data.sources.0.root=elsewhere"])
    assert read.steps == 7 and read.data.sources[0].root == "elsewhere"
    with pytest.raises(ConfigError, match=r"optimizer\.rl"):
        read_training("vae-small", ["optimizer.rl=1"])
    with pytest.raises(ConfigError, match="vae-small"):
        read_training("nothing.yaml")
    with pytest.raises(ConfigError, match="kind 'unet'"):
        training_of({"kind": "unet"}, "file")
    with pytest.raises(ConfigError, match="microbatches"):
        read_training("vae-small", ["data.order.microbatches=2"])
    with pytest.raises(ConfigError, match="temporal_stride"):
        read_training(
            "vae-small", ["data.buckets.temporal_stride=2", "data.buckets.spatial_stride=8"]
        )
    with pytest.raises(ConfigError, match="does not fit into"):
        read_training("vae-small", ["crops.size_px=512"])
    with pytest.raises(ConfigError, match="betas"):
        read_training("vae-small", ["optimizer.betas=[1, 2]"])


def test_one_run_at_a_time_and_no_file_for_a_folder(root: str, tmp_path: Path) -> None:
    first = trainer(root, tmp_path / "run")
    with pytest.raises(ConfigError, match="another run"):
        trainer(root, tmp_path / "run")
    first.run(steps=1)
    (tmp_path / "run" / "settings.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        trainer(root, tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        trainer(root, tmp_path / "file")


def test_held_out_clips_are_counted_once(root: str, tmp_path: Path) -> None:
    made = trainer(root, tmp_path, validation={"root": root, "samples": 50})
    assert len(made._held_out.clips) == 6
    made.close()


def test_it_may_begin_with_weights_at_hand(root: str, tmp_path: Path) -> None:
    trainer(root, tmp_path / "first", steps=6).run()
    weights = str(tmp_path / "first" / WEIGHTS)
    model = small_training(root)["model"]
    more = trainer(root, tmp_path / "more", steps=6, init=weights, model=model | {"frame_width": 8})
    more.run()
    end, begin = rows(tmp_path / "first")[-1], rows(tmp_path / "more")[0]
    assert begin["val_psnr_db"] == pytest.approx(end["val_psnr_db"], abs=0.02)  # float16 on disk
    vae = open_vae(tmp_path / "more" / WEIGHTS)
    assert vae.network.frames_leave is not None and vae.network.frames_leave.weight.abs().max() > 0
    with pytest.raises(ConfigError, match="other sizes"):
        trainer(root, tmp_path / "other", init=weights, model=model | {"width": 24}).run()
