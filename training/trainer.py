"""Training of a denoiser in one process, from shards to weights; it reads from top to bottom.

    ClipLoader ─ K batches ─ InputMaker ─▶ weighted_loss ─ backward, K times ─▶ AdamW ─▶ Ema

A step is K microbatches. What it shows, draws and computes depends on its number alone, and a
checkpoint is taken between steps: killed anywhere, also between two microbatches, the training goes
on behind its last checkpoint and ends with the same bits, on one machine and number of threads.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from curation.errors import ClipmillError
from training.checkpoint import has_checkpoint, latest_checkpoint, save_checkpoint
from training.compute import autocast_of, device_of, dtype_of
from training.data.batch import Batch
from training.denoiser import About
from training.ema import Ema
from training.encoders import Encoders, same_encoder
from training.folder import take_folder
from training.guards import Guards
from training.log import LOG, Told, TrainingLog
from training.meter import Meter
from training.metrics import StepMetrics
from training.optimizer import (
    fill_optimizer,
    learning_rate,
    make_adamw,
    optimizer_tensors,
    set_rate,
)
from training.parts import about_of, loader_of, maker_of, network_of
from training.sampling import SampleMaker
from training.settings import DenoiserTraining
from training.step import weighted_loss
from training.trackers import Trackers
from training.validation import Validation

READING = ("decoder", "num_workers", "worker_kind", "prefetch_bytes", "pin_memory", "max_failures")
NOT_OF_THE_RUN: Any = {
    **dict.fromkeys(("threads", "device", "autocast", "compile", "checkpointing"), True),
    **dict.fromkeys(("vae", "text_encoder", "guards", "validation", "samples"), True),
    **dict.fromkeys(("save_every", "keep", "keep_every", "log_every", "tensorboard"), True),
    "wandb": True,
    "data": {"sources": {"__all__": {"root"}}, "read": set(READING)},
}
"""Settings that may differ when a run is gone on with: where and how it computes, and what is
looked at on the way. Which latents and texts are meant is told by their fingerprints."""


@dataclass
class DenoiserReport:
    """What a run did.

    Attributes:
        kind: Of training.
        steps: Done in all, of the whole training.
        done_here: Of those in this process.
        finished: The training is complete.
        seconds: Of this process.
        skipped: Steps without an update.
        validation: Last figures.
        checkpoint: Folder of the last one.
        samples: Videos of the last step.
        parameters: Of the network.
    """

    kind: Literal["denoiser"] = "denoiser"
    steps: int = 0
    done_here: int = 0
    finished: bool = False
    seconds: float = 0.0
    skipped: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    checkpoint: str | None = None
    samples: list[str] = field(default_factory=list)
    parameters: int = 0


class DenoiserTrainer:
    """A training in a folder.

    Args:
        settings: All of it.
        out: Folder of the run; one with a checkpoint is gone on with.
        told: Given a row of numbers every ``log_every`` steps and after each validation.
        stopped: Asked before each step; True ends the run with a checkpoint.

    Raises:
        ConfigError: The folder is in use, or holds a run of other settings, or the data does not
            fit.
    """

    def __init__(
        self,
        settings: DenoiserTraining,
        out: Path,
        told: Told = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings, self.out, self._stopped = settings, out, stopped
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.device = device_of(settings.device)
        self._autocast = autocast_of(settings.autocast, self.device)
        self.loader = loader_of(settings)
        self.encoders = Encoders(
            settings.vae, settings.text_encoder, self.loader.latent_set, self.device
        )
        self.encoders.check_buckets(self.loader.plan.bucket_settings)
        self.network = network_of(settings, self.encoders)
        self.ema = Ema(dict(self.network.named_parameters()), settings.optimizer.ema_decay)
        self._optimizer = make_adamw(self.network, settings.optimizer)
        self._guards = Guards(settings.guards, where=str(out))
        self._maker = maker_of(settings, self.network.config, self.loader, self.encoders)
        buckets = self.loader.plan.bucket_settings
        self._validation = Validation(settings.validation, settings.data, buckets, self._maker)
        self._samples = SampleMaker(settings.samples, self.encoders, settings.autocast)
        self._open_what_is_needed_later()
        self._metrics = StepMetrics()
        self._meter = Meter(
            self.network.config, self.device, dtype_of(settings.autocast, self.device)
        )
        self.step = self._saved = 0
        self._row: dict[str, Any] = {}
        self._figures: dict[str, float] = {}
        mine = settings.model_dump(mode="json", exclude=NOT_OF_THE_RUN)
        self._lock = take_folder(out, mine, holds_a_run=has_checkpoint(out))
        self._log = TrainingLog(out / LOG, told)
        self._trackers: Trackers | None = None

    def run(self, *, steps: int | None = None) -> DenoiserReport:
        """Train to the end.

        Args:
            steps: Most steps of this call; None: all that are left.

        Raises:
            BudgetError: Too many steps in a row were skipped, or samples cannot be read.
        """
        began, report = time.monotonic(), DenoiserReport()
        report.parameters = sum(p.numel() for p in self.network.parameters())
        try:
            self._begin()
            first, wanted = self.step, self.settings.steps
            self._train(wanted if steps is None else min(wanted, first + steps))
            report.steps, report.done_here = self.step, self.step - first
            report.finished, report.skipped = self.step >= wanted, self._guards.skipped
            report.checkpoint = self._save_what_is_new(first)
            if report.finished:
                report.validation = self._figures or self._validated()
                report.samples = self._make_samples()
        except ClipmillError:
            with contextlib.suppress(ClipmillError):
                self._save_what_is_new(self._saved)
            raise
        finally:
            self.close()
        report.seconds = time.monotonic() - began
        return report

    def _train(self, last: int) -> None:
        """Step after step, from where the state stands."""
        steps = self._steps()
        while self.step < last and not self._stopped():
            waited = time.monotonic()
            batches = next(steps)
            row = self._one_step(batches, time.monotonic() - waited)
            self.step += 1
            self._after_step(row)

    def _steps(self) -> Iterator[list[Batch]]:
        """The microbatches of one step after another."""
        gathered: list[Batch] = []
        for batch in self.loader:
            gathered.append(batch)
            if batch.last:
                yield gathered
                gathered = []

    def _one_step(self, batches: list[Batch], wait_s: float) -> dict[str, Any]:
        """One update from the microbatches of a step; its figures."""
        began = time.monotonic()
        rate = learning_rate(self.settings.optimizer, self.step, self.settings.steps)
        set_rate(self._optimizer, rate)
        self._optimizer.zero_grad()
        drawn = [self._maker.drawn(batch) for batch in batches]
        denominator = sum(one.numbers for one in drawn)
        loss = torch.zeros((), device=self.device)
        for one in drawn:
            if not one.numbers:
                continue  # all of it is repeats, or given
            inputs = self._maker.inputs(one)
            with self._autocast:
                part, losses_B = weighted_loss(self.network, inputs, denominator)
            part.backward()
            loss += part.detach()
            self._metrics.add(
                bucket=one.batch.bucket.name,
                sigmas_B=inputs.sigma_B,
                losses_B=losses_B,
                weights_B=inputs.weights_B * inputs.unknown_Bt.any(1),
            )
            self._meter.add(inputs)
        norm = self._clip()
        if self._guards.verdict(loss.item(), norm) == "ok":
            self._optimizer.step()
            self.ema.update(dict(self.network.named_parameters()), self._guards.counts["ok"])
        seconds = time.monotonic() - began
        row = {
            "step": self.step + 1,
            "lr": rate,
            "loss": loss.item(),
            "norm": norm,
            "wait_s": wait_s,
        }
        return row | {"step_s": seconds} | self._meter.row(seconds + wait_s)

    def _clip(self) -> float:
        """Bound the gradient; the norm that it had."""
        weights, most = self.network.parameters(), self.settings.optimizer.clip_norm
        return torch.nn.utils.clip_grad_norm_(weights, most).item()

    def _after_step(self, row: dict[str, Any]) -> None:
        """Look at fixed samples, write the log, save, make videos: each when it is due."""
        settings, step = self.settings, self.step
        over = step == settings.steps
        self._row = row
        if step % settings.validation.every_steps == 0 or over:
            self._figures = self._validated()
            row |= self._figures
        self._log.note(row)
        saves = step % settings.save_every == 0 and not over
        # Before a checkpoint too: a run that goes on from it has nothing left to tell of before.
        if saves or step % settings.log_every == 0 or over or "val_loss" in row:
            self._tell(row)
        if saves:
            self.save()
        if step % settings.samples.every_steps == 0 and not over:
            self._make_samples()

    def _tell(self, row: dict[str, Any]) -> None:
        told = self._log.tell(row | self._metrics.rows() | {"skipped": self._guards.skipped})
        if self._trackers is not None:
            self._trackers.row(self.step, {k: v for k, v in told.items() if k != "step"})

    def _validated(self) -> dict[str, float]:
        """Figures of the averaged weights."""
        with self._averaged():
            return self._validation.figures(self.network, self._autocast)

    def _save_what_is_new(self, since: int) -> str | None:
        """A checkpoint with the log up to it, if there are steps behind one; its folder."""
        if self.step == since or self._guards.in_a_row:
            return None
        if self._log.is_waiting:
            self._tell(self._row)
        return self.save()

    def save(self) -> str:
        """Write a checkpoint; its folder."""
        self._saved = self.step
        groups = {
            "model": dict(self.network.named_parameters()),
            "ema": self.ema.state_dict(),
            "optimizer": optimizer_tensors(self._optimizer),
        }
        about = {
            "loader": self.loader.state_dict(),
            "guards": self._guards.state_dict(),
            "denoiser": self.about.model_dump(mode="json"),
        }
        settings = self.settings
        return str(
            save_checkpoint(
                self.out,
                self.step,
                groups,
                about,
                keep=settings.keep,
                keep_every=settings.keep_every,
            )
        )

    @property
    def about(self) -> About:
        """What must be known of the denoiser to use it."""
        config = self.network.config
        return about_of(self.settings, config, self.loader, self.encoders, self.step)

    def close(self) -> None:
        """End the loader's workers and let go of the folder; :meth:`run` does so at its end."""
        self.loader.close()
        if self._trackers is not None:
            self._trackers.close()
        self._lock.close()

    def _begin(self) -> None:
        """Take up the latest checkpoint, if there is one."""
        settings = self.settings
        found = latest_checkpoint(self.out)
        if found is None:
            self._log.begin()
        else:
            self.network.load_state_dict(found.group("model"))
            self.ema.load_state_dict(found.group("ema"))
            fill_optimizer(self._optimizer, found.group("optimizer"))
            self._guards.load_state_dict(found.about["guards"])
            self.loader.load_state_dict(found.about["loader"])
            self._check_encoders(found.about["denoiser"])
            self.step = self._saved = found.step
            self._log.go_on(self.step)
        self._trackers = Trackers(
            self.out,
            tensorboard=settings.tensorboard,
            wandb=settings.wandb,
            config=settings.model_dump(mode="json"),
            step=self.step,
        )

    def _check_encoders(self, denoiser: dict[str, Any]) -> None:
        """Refuse latents or texts of other encoders than before.

        Raises:
            ConfigError: They are.
        """
        before, now = About.model_validate(denoiser), self.about
        same_encoder(now.vae, now.vae_fingerprint, before.vae_fingerprint, "vae")
        texts = now.text_fingerprint, before.text_fingerprint
        same_encoder(now.text_encoder, *texts, "text_encoder")

    def _open_what_is_needed_later(self) -> None:
        """Find now, and not after hours, that an encoder or the validation's data is missing.

        Raises:
            ConfigError: It is.
        """
        if self.settings.samples.prompts:
            _ = self.encoders.autoencoder, self.encoders.text_encoder
        _ = self._validation.batches

    def _averaged(self) -> Any:  # noqa: ANN401 - a context manager
        return self.ema.applied(self.network)

    def _make_samples(self) -> list[str]:
        """Videos of the prompts, by the averaged weights."""
        if not self.settings.samples.prompts:
            return []
        with self._averaged():
            made = self._samples.make(self.network, self.about, self.out)
        if self._trackers is not None:
            self._trackers.picture(self.step, "samples", made.strip)
        return [str(path) for path in made.files]
