"""A trained denoiser and what must be known of it: of a run, a checkpoint or an export."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from curation.errors import ConfigError
from training.checkpoint import MANIFEST, Checkpoint, latest_checkpoint, open_checkpoint
from training.diffusion.flow import FlowConfig
from training.files import write_text
from training.models.dit import Dit, DitConfig

CONFIG, WEIGHTS = "config.json", "model.safetensors"
Weights = Literal["ema", "model"]


class Shape(BaseModel):
    """A shape that a denoiser was trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int
    height_px: int
    width_px: int
    fps: float


class About(BaseModel):
    """What must be known of a denoiser, beside its weights.

    Attributes:
        kind: Of file.
        name: For people.
        model: Fields of :class:`training.models.dit.DitConfig`.
        flow: Fields of :class:`training.diffusion.flow.FlowConfig`.
        modes: Of given frames that it was trained for, ``text`` among them.
        vae: Autoencoder of its latents, as ``open_autoencoder`` takes it.
        vae_fingerprint: Of that autoencoder: another one's latents are another language.
        text_encoder: As ``open_text_encoder`` takes it.
        text_fingerprint: Of that.
        vae_dtype: Precision of the autoencoder's network.
        vae_tiling: Large pictures went through it in tiles.
        text_dtype: Precision of the text encoder's.
        max_tokens: Longer texts were cut; None: what the text encoder takes.
        temporal_stride: Of the autoencoder.
        spatial_stride: Of the autoencoder.
        shapes: It was trained on.
        steps: It was trained for.
        weights: Of an export, which those are; None: there are both.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["clipmill denoiser"] = "clipmill denoiser"
    name: str
    model: dict[str, Any]
    flow: dict[str, Any]
    modes: tuple[str, ...] = ("text",)
    vae: str
    vae_fingerprint: str
    text_encoder: str
    text_fingerprint: str
    vae_dtype: str = "float32"
    vae_tiling: bool = False
    text_dtype: str = "float32"
    max_tokens: int | None = None
    temporal_stride: int
    spatial_stride: int
    shapes: tuple[Shape, ...]
    steps: int = 0
    weights: Weights | None = None

    def model_config_of(self) -> DitConfig:
        """Sizes of the network.

        Raises:
            ConfigError: They are not such.
        """
        try:
            sizes: dict[str, Any] = self.model | {"patch": tuple(self.model["patch"])}
            return DitConfig(**sizes)
        except (TypeError, ValueError, KeyError) as exc:
            raise ConfigError(f"sizes of the network cannot be read: {exc}") from exc

    def flow_config(self) -> FlowConfig:
        """Noise times of its training."""
        return FlowConfig(**self.flow)


def fields_of(config: DitConfig) -> dict[str, Any]:
    """Sizes as plain JSON."""
    return asdict(config) | {"patch": list(config.patch)}


def open_denoiser(
    path: str | Path, *, device: torch.device | str = "cpu", weights: Weights | None = None
) -> tuple[Dit, About]:
    """Open a denoiser for sampling, float32, in evaluation.

    Args:
        path: Folder of a run (its latest checkpoint is taken), of a checkpoint, or of an export.
        device: Where its weights go.
        weights: The average, or those of the last step; None: the average, or what an export has.

    Raises:
        ConfigError: It is none of these, or damaged.
    """
    tensors, about = read_denoiser(Path(path), weights)
    with torch.device("meta"):
        network = Dit(about.model_config_of())
    try:
        network.load_state_dict({n: t.float() for n, t in tensors.items()}, assign=True)
    except RuntimeError as exc:
        raise ConfigError(f"its weights do not fit: {exc}", where=str(path)) from exc
    return network.to(device).eval().requires_grad_(False), about


def read_denoiser(path: Path, weights: Weights | None = None) -> tuple[dict[str, Tensor], About]:
    """Weights by name, and what must be known of them.

    Args:
        path: As of :func:`open_denoiser`.
        weights: Likewise.

    Raises:
        ConfigError: There is no denoiser here, it is damaged, or has no such weights.
    """
    if (path / CONFIG).is_file():
        return _read_export(path, weights)
    found = checkpoint_in(path)
    try:
        about = About.model_validate(found.about["denoiser"])
    except (KeyError, TypeError, ValidationError) as exc:
        raise ConfigError(f"is no checkpoint of a denoiser: {exc}", where=str(path)) from exc
    kind = weights or "ema"
    return found.group(kind), about.model_copy(update={"steps": found.step, "weights": kind})


def _read_export(path: Path, weights: Weights | None) -> tuple[dict[str, Tensor], About]:
    try:
        about = About.model_validate_json((path / CONFIG).read_text())
        tensors = load_file(path / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as exc:
        raise ConfigError(f"is no exported denoiser: {exc}", where=str(path)) from exc
    if weights not in (None, about.weights):
        raise ConfigError(
            f"has the weights {about.weights} alone, not {weights}",
            where=str(path),
            mend="export those of the run, or leave --weights out",
        )
    return tensors, about


def checkpoint_in(path: Path) -> Checkpoint:
    """The checkpoint of a folder, or the latest of a run's.

    Raises:
        ConfigError: There is none.
    """
    found = open_checkpoint(path) if (path / MANIFEST).is_file() else latest_checkpoint(path)
    if found is None:
        raise ConfigError(
            "there is no checkpoint here",
            where=str(path),
            mend="the folder of a run (`clipmill train --out`), of a checkpoint, or of an export",
        )
    return found


def export_denoiser(path: str | Path, to: str | Path, *, weights: Weights | None = None) -> Path:
    """Write a denoiser as ``model.safetensors`` and ``config.json`` in a folder that appears whole.

    Args:
        path: As of :func:`open_denoiser`.
        to: Folder; must not be there.
        weights: Which, as of :func:`open_denoiser`.

    Raises:
        ConfigError: There is no denoiser, or the folder is there.
    """
    tensors, about = read_denoiser(Path(path), weights)
    target = Path(to)
    if target.exists():
        raise ConfigError("is there already", where=str(target), mend="another folder")
    beside = target.with_name(f".{target.name}.tmp-{uuid.uuid4().hex[:8]}")
    beside.mkdir(parents=True)
    save_file({n: t.contiguous() for n, t in tensors.items()}, beside / WEIGHTS)
    (beside / WEIGHTS).chmod(0o644)
    told = json.loads(about.model_dump_json())
    write_text(beside / CONFIG, json.dumps(told, indent=2, sort_keys=True) + "\n")
    beside.rename(target)
    return target
