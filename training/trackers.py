"""Curves and pictures of a training, for TensorBoard and Weights & Biases.

Both show what the log holds anyway: a run is the same without them. A run that is gone on with
behind its last checkpoint does some steps a second time. TensorBoard is told to forget their first
time; W&B is given the step as an axis, and has them twice, with the same values.
"""

from __future__ import annotations

import importlib
import json
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import ConfigError
from training.files import write_text

EVENTS, WANDB_RUN = "tensorboard", "wandb-run.json"


class Trackers:
    """Where the figures of a run go beside its log.

    Args:
        folder: Of the run; events go into ``tensorboard`` in it, W&B's files into ``wandb``.
        tensorboard: Write events for ``tensorboard --logdir FOLDER``.
        wandb: Project there; None: not used. ``WANDB_MODE=offline`` keeps all of it in the folder.
        config: All settings, plain JSON.
        step: Steps done before this process; later ones of an earlier process are forgotten.

    Raises:
        ConfigError: A package that is asked for is not installed, or W&B refuses.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tensorboard: bool,
        wandb: str | None,
        config: Mapping[str, Any],
        step: int = 0,
    ) -> None:
        self._events = _open_tensorboard(folder, config, step) if tensorboard else None
        self._wandb = self._run = None
        if wandb is not None:
            self._wandb, self._run = _open_wandb(folder, wandb, config)

    def row(self, step: int, row: Mapping[str, Any]) -> None:
        """Figures of a step, on the disk when this returns; what is no finite number is left out.

        Args:
            step: Done when they were taken.
            row: By name.
        """
        numbers = {name: float(value) for name, value in row.items() if _is_number(value)}
        if self._events is not None:
            for name, value in numbers.items():
                self._events.add_scalar(name, value, step)
            self._events.flush()
        if self._run is not None:
            self._run.log(numbers | {"step": step})

    def picture(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        """A picture of a step.

        Args:
            step: Done when it was made.
            name: The same for those that follow one another.
            picture: uint8 (H, W, 3), RGB.

        Raises:
            ValueError: It is no such array.
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"no RGB picture: {picture.dtype} {picture.shape}")
        if self._events is not None:
            self._events.add_image(name, picture, step, dataformats="HWC")
            self._events.flush()
        if self._run is not None and self._wandb is not None:
            self._run.log({name: self._wandb.Image(picture), "step": step})

    def close(self) -> None:
        """Finish; a second time does nothing."""
        if self._events is not None:
            self._events.close()
        if self._run is not None:
            self._run.finish()
        self._events = self._run = None


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _open_tensorboard(folder: Path, config: Mapping[str, Any], step: int) -> Any:  # noqa: ANN401
    try:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import
    except ImportError as exc:
        raise ConfigError(
            f"TensorBoard's writer is not installed ({exc})",
            where="tensorboard",
            mend="pip install 'clipmill[train]', or tensorboard=false",
        ) from exc
    writer = SummaryWriter(str(folder / EVENTS), purge_step=step + 1)
    lines = json.dumps(config, indent=2, sort_keys=True).splitlines()
    writer.add_text("config", "\n".join("    " + line for line in lines), step)
    writer.flush()
    return writer


def _open_wandb(folder: Path, project: str, config: Mapping[str, Any]) -> tuple[Any, Any]:
    """The package and its run: one for the whole training, by an id that the folder keeps."""
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as exc:
        raise ConfigError(
            f"Weights & Biases is not installed ({exc})",
            where="wandb",
            mend="pip install wandb, or leave the setting out",
        ) from exc
    path = folder / WANDB_RUN
    if not path.exists():
        write_text(path, json.dumps({"id": uuid.uuid4().hex[:16]}) + "\n")
    try:
        run = wandb.init(
            project=project,
            id=json.loads(path.read_text())["id"],
            resume="allow",
            name=folder.name,
            dir=str(folder),
            config=dict(config),
            settings=wandb.Settings(console="off", silent=True),
        )
    except (wandb.Error, ValueError, KeyError) as exc:
        raise ConfigError(
            f"Weights & Biases refuses: {exc}",
            where=project,
            mend="`wandb login`, or WANDB_MODE=offline, or leave the setting out",
        ) from exc
    run.define_metric("*", step_metric="step")
    return wandb, run
