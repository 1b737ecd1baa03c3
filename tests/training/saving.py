"""Processes that save checkpoints and are killed, without what their tests import."""

from __future__ import annotations

import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curation.errors import ConfigError
from training.checkpoint import latest_checkpoint, save_checkpoint

Groups = dict[str, dict[str, Tensor]]


def groups_of(step: int, size: int = 64) -> Groups:
    generator = torch.Generator().manual_seed(step)
    model = {
        "weight": torch.randn(size, size, generator=generator),
        "half": torch.randn(size, generator=generator).bfloat16(),
    }
    return {"model": model, "optimizer": {"0.step": torch.tensor(float(step))}, "empty": {}}


def save(out: Path, step: int, **given: Any) -> Path:  # noqa: ANN401
    return save_checkpoint(out, step, groups_of(step), {"next": step + 1, "name": "é"}, **given)


def same(one: Groups, other: Groups) -> bool:
    return one.keys() == other.keys() and all(
        one[g].keys() == other[g].keys()
        and all(
            torch.equal(one[g][n], other[g][n]) and one[g][n].dtype == other[g][n].dtype
            for n in one[g]
        )
        for g in one
    )


def save_and_die(out: Path, step: int, fatal: int, keep: int) -> None:
    """Save, killed before the ``fatal``-th time that a file or folder is touched."""
    seen = 0

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal seen
        if event.startswith(("open", "os.", "shutil.")) and str(out) in str(given):
            seen += 1
            if seen == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    save(out, step, keep=keep)
    os._exit(0)


def save_for_ever(out: Path, told: Connection) -> None:
    found = latest_checkpoint(out)
    step = 0 if found is None else found.step
    while True:
        step += 1
        save_checkpoint(out, step, groups_of(step, 300), {}, keep=2)
        told.send(step)


def save_within(out: Path, limit_bytes: int, told: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    try:
        save(out, 2)
    except ConfigError as exc:
        told.send((str(exc), exc.mend))
