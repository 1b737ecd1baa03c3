"""Training of the small video VAE, in one process, from shards to a file of weights.

    shards ─ ClipLoader ─ crops ─▶ encode ─ noise ─▶ decode ─▶ loss ─▶ AdamW ─▶ average of weights

Every draw is keyed by (seed, step or sample), and a checkpoint holds all that a step depends on: a
run that was killed goes on behind its last checkpoint and ends with the same bits, on one machine
and number of threads. Out come ``vae.safetensors``, ``log.jsonl`` and ``checkpoint.safetensors``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from curation.errors import BudgetError, ConfigError
from training.compute import autocast_of, device_of
from training.data.keys import MASK, draw64
from training.data.loader import ClipLoader
from training.folder import take_folder
from training.log import LOG, Told, TrainingLog
from training.models.autoencoder import Posterior
from training.models.vae import Vae, open_vae, save_vae
from training.models.vae_network import VaeConfig, VaeNetwork
from training.optimizer import (
    fill_optimizer,
    learning_rate,
    make_adamw,
    optimizer_tensors,
    set_rate,
)
from training.vae.basis import begin_with, fit_basis
from training.vae.crops import crops_of
from training.vae.footage import footage_of
from training.vae.held_out import HeldOut
from training.vae.losses import Discriminator, Features, efficientnet_features, vae_loss
from training.vae.scale import latent_scale
from training.vae.settings import VaeTraining
from training.vae.state import load_state, save_state

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "vae.safetensors"
MAX_SKIPPED = 20
"""Steps in a row whose loss or gradient is not finite, before the training stops."""


@dataclass
class VaeReport:
    """What a run did.

    Attributes:
        kind: Of training.
        steps: Done in all, of the whole training.
        done_here: Of those in this process.
        finished: The training is complete, and the weights are written.
        seconds: Of this process.
        skipped: Steps without an update.
        validation: Last figures.
        weights: File; None before the end.
        parameters: Of the network.
    """

    kind: Literal["vae"] = "vae"
    steps: int = 0
    done_here: int = 0
    finished: bool = False
    seconds: float = 0.0
    skipped: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    weights: str | None = None
    parameters: int = 0


class VaeTrainer:
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
        settings: VaeTraining,
        out: Path,
        told: Told = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings, self.out = settings, out
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.device = device_of(settings.device)
        self._autocast = autocast_of(settings.autocast, self.device)
        self._loader = ClipLoader(settings=settings.data, rank=0, world_size=1)
        self._held_out = HeldOut(settings.validation, settings.data)
        mine = settings.model_dump(mode="json", exclude={"threads", "device", "autocast"})
        self._lock = take_folder(out, mine, holds_a_run=(out / CHECKPOINT).exists())
        torch.manual_seed(settings.data.order.seed)
        self.network = VaeNetwork(VaeConfig(**settings.model.model_dump())).to(self.device)
        self.average = {n: p.detach().clone() for n, p in self.network.state_dict().items()}
        self._optimizer = make_adamw(self.network, settings.optimizer)
        self._features: Features | None = None
        if settings.loss.perceptual:
            self._features = efficientnet_features(self.device)
        self._judge = Discriminator().to(self.device) if settings.loss.adversarial else None
        self._judge_optimizer = make_adamw(self._judge, settings.optimizer) if self._judge else None
        self.step = self.skipped = 0
        self._stopped = stopped
        self._in_a_row = 0
        self._log = TrainingLog(out / LOG, told)

    def run(self, *, steps: int | None = None) -> VaeReport:
        """Train to the end.

        Args:
            steps: Most steps of this call; None: all that are left.

        Raises:
            BudgetError: Too many steps in a row are not finite, or samples cannot be read.
        """
        began, report = time.monotonic(), VaeReport()
        report.parameters = sum(p.numel() for p in self.network.parameters())
        try:
            self._begin()
            first = self.step
            self._train(min(self.settings.steps, math.inf if steps is None else first + steps))
            report.steps, report.done_here = self.step, self.step - first
            report.skipped, report.finished = self.skipped, self.step >= self.settings.steps
            if report.finished:
                report.validation = self._held_out.figures(self._averaged())
                report.weights = str(self._finish(report))
            elif report.done_here:
                self.save()
        finally:
            self.close()
        report.seconds = time.monotonic() - began
        return report

    def _train(self, last: float) -> None:
        batches = iter(self._loader)
        while self.step < last and not self._stopped():
            waited = time.monotonic()
            batch = next(batches)
            crops = crops_of(batch, self.settings.crops, self.settings.data.order.seed)
            row = self._one_step(crops, time.monotonic() - waited)
            self.step += 1
            self._after_step(row)

    def close(self) -> None:
        """End the loader's workers and let go of the folder; :meth:`run` does so at its end."""
        self._loader.close()
        self._lock.close()

    def save(self) -> None:
        """Write the checkpoint."""
        groups = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizer": optimizer_tensors(self._optimizer),
        }
        if self._judge is not None and self._judge_optimizer is not None:
            groups["judge"] = self._judge.state_dict()
            groups["judge-optimizer"] = optimizer_tensors(self._judge_optimizer)
        about = {"step": self.step, "skipped": self.skipped, "loader": self._loader.state_dict()}
        save_state(self.out / CHECKPOINT, groups, about)

    def _begin(self) -> None:
        """Take up the checkpoint, or make the first transform."""
        if not (self.out / CHECKPOINT).exists():
            self._log.begin()
            row = {"step": 0} | self._first_weights()
            self.average = {n: p.detach().clone() for n, p in self.network.state_dict().items()}
            self._log.tell(row | self._held_out.figures(self._averaged()))
            return
        groups, about = load_state(self.out / CHECKPOINT)
        self.network.load_state_dict(groups["network"])
        self.average = {n: t.to(self.device) for n, t in groups["average"].items()}
        fill_optimizer(self._optimizer, groups.get("optimizer", {}))
        if self._judge is not None and self._judge_optimizer is not None:
            self._judge.load_state_dict(groups["judge"])
            fill_optimizer(self._judge_optimizer, groups.get("judge-optimizer", {}))
        self.step, self.skipped = about["step"], about["skipped"]
        self._loader.load_state_dict(about["loader"])
        self._log.go_on(self.step)

    def _first_weights(self) -> dict[str, Any]:
        """Make the first weights; what the log tells of it."""
        if self.settings.init is not None:
            begin_with(self.network, self.settings.init)
            return {}
        try:
            return {"basis_share": fit_basis(self.network, self._first_crops())}
        except ValueError as exc:
            raise ConfigError(
                f"the footage is too uniform: {exc}",
                where="data",
                mend="more footage, more basis_steps, or fewer model.latent_channels",
            ) from exc

    def _first_crops(self) -> Iterator[Tensor]:
        """Crops of the first steps, once more from the beginning."""
        settings = self.settings
        with ClipLoader(
            settings=settings.data, rank=0, world_size=1, stop_step=settings.basis_steps
        ) as loader:
            for batch in loader:
                yield crops_of(batch, settings.crops, settings.data.order.seed)

    def _one_step(self, crops: Tensor, waited_s: float) -> dict[str, Any]:
        """One update; the figures of the step."""
        began = time.monotonic()
        rate = learning_rate(self.settings.optimizer, self.step, self.settings.steps)
        set_rate(self._optimizer, rate)
        row: dict[str, Any] = {"step": self.step + 1, "lr": rate, "wait_s": waited_s}
        if not len(crops):
            return row
        video = crops.to(self.device)
        with self._autocast:
            mean, logvar = self.network.encode(video)
            posterior = Posterior(mean.float(), logvar.float())
            made = self.network.decode(posterior.sample(self._noise(mean))).float()
            judging = self.step >= self.settings.loss.adversarial_from and self._judge is not None
            loss, terms = vae_loss(
                video,
                made,
                posterior,
                self.settings.loss,
                features=self._features,
                verdict=self._judge if judging else None,
            )
        self._optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), self.settings.optimizer.clip_norm
        )
        if math.isfinite(loss.item()) and math.isfinite(norm.item()):
            self._optimizer.step()
            self._update_average()
            self._in_a_row = 0
            if judging:
                row["judge"] = self._judge_step(video, made, rate)
        else:
            self._skip()
        row |= {name: value.item() for name, value in terms.items()}
        return row | {"loss": loss.item(), "norm": norm.item(), "step_s": time.monotonic() - began}

    def _skip(self) -> None:
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= MAX_SKIPPED:
            raise BudgetError(
                f"{MAX_SKIPPED} steps in a row have no finite loss",
                where=str(self.out),
                mend="a smaller optimizer.lr",
            )

    def _judge_step(self, video: Tensor, made: Tensor, rate: float) -> float:
        assert self._judge is not None and self._judge_optimizer is not None
        loss = self._judge.loss(video, made)
        set_rate(self._judge_optimizer, rate)
        self._judge_optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            self._judge.parameters(), self.settings.optimizer.clip_norm
        )
        if math.isfinite(loss.item()) and math.isfinite(norm.item()):
            self._judge_optimizer.step()
        return loss.item()

    def _after_step(self, row: dict[str, Any]) -> None:
        settings, step = self.settings, self.step
        if step % settings.validation.every_steps == 0 or step == settings.steps:
            row |= self._held_out.figures(self._averaged())
        self._log.note(row)
        # Before a checkpoint too: a run that goes on from it has nothing left to tell of before.
        saves, tells = step % settings.save_every == 0, step % settings.log_every == 0
        if saves or tells or step == settings.steps or "val_psnr_db" in row:
            self._log.tell(row)
        if saves or step == settings.steps:
            self.save()

    def _noise(self, like: Tensor) -> Tensor:
        seed = draw64(self.settings.data.order.seed, 0, "vae-noise", self.step) & (MASK >> 1)
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(like.shape, generator=generator).to(like.device)

    @torch.no_grad()
    def _update_average(self) -> None:
        done = self.step + 1
        decay = min(self.settings.optimizer.ema_decay, (1 + done) / (10 + done))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def _averaged(self) -> VaeNetwork:
        network = VaeNetwork(self.network.config).to(self.device)
        network.load_state_dict(self.average)
        return network.eval()

    def _finish(self, report: VaeReport) -> Path:
        """Write the averaged weights, with the scale of their latents over the first steps."""
        network = self._averaged()
        sums = []
        for crops in self._first_crops():
            with torch.inference_mode():
                mean = network.encode(crops.to(self.device))[0].double().transpose(0, 1).flatten(1)
            count = torch.full_like(mean[:, 0], mean.shape[1])
            sums.append(torch.stack([count, mean.sum(1), mean.square().sum(1)]))
        shift, scale = latent_scale(sums)
        path = self.out / WEIGHTS
        about = {
            "name": self.settings.name,
            "steps": self.step,
            "settings": self.settings.model_dump(mode="json", exclude={"data", "validation"}),
            "torch": torch.__version__,
            "validation": report.validation,
            "footage": footage_of(self.settings.data, self.step),
        }
        save_vae(path, network.cpu(), shift, scale, about)
        return path


def trained_vae(out: Path) -> Vae:
    """The VAE that a finished run wrote.

    Raises:
        ConfigError: It is not finished.
    """
    return open_vae(out / WEIGHTS)
