"""A training loop of one's own around the loader: the five lines of ``train``, and a checkpoint.

    python -m training.examples.own_loop data/clips --folder run --steps 8

Ended at any moment and started again, it goes on behind the last step that was saved, with the
batches that would have come. Under ``torchrun`` each rank is given its own batches; wrap the model
as usual. The model here removes noise with one convolution: small enough for any machine.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from training.data.batch import Batch
from training.data.loader import ClipLoader
from training.data.settings import DataSettings


def train(root: str, folder: Path, settings: DataSettings, *, stop_step: int) -> list[float]:
    """Train up to a step, from where the folder's checkpoint stands.

    Args:
        root: Dataset root.
        folder: For the checkpoint.
        settings: The data.
        stop_step: First step that is not done.

    Returns:
        The loss of each step, over its samples of weight 1.
    """
    torch.manual_seed(0)
    model, losses, parts = nn.Conv3d(3, 3, 3, padding=1), [], []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ClipLoader(root, settings, stop_step=stop_step) as loader:
        resume(folder / "last.safetensors", model, loader)
        for batch in loader:
            loss = denoising_loss(model, batch)
            (loss / loader.plan.order.num_microbatches).backward()
            parts += [loss.item()] * bool(batch.weights.any())  # the rest fills up the last step
            if batch.last:
                losses.append(sum(parts) / max(1, len(parts)))
                parts = []
                optimizer.step()
                optimizer.zero_grad()
                save(folder / "last.safetensors", model, loader)
    return losses


def denoising_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Mean squared error of the clips without noise; a repeat, of weight 0, does not count.

    The noise is drawn from the place in the run, so that a resumed run draws the same.
    """
    assert batch.video is not None
    clean = batch.video.float() / 127.5 - 1
    generator = torch.Generator().manual_seed(batch.step * 1_000_000 + batch.microbatch)
    noisy = clean + 0.5 * torch.randn(clean.shape, generator=generator)
    errors = (model(noisy) - clean).square().mean(dim=(1, 2, 3, 4))
    return (errors * batch.weights).sum() / batch.weights.sum().clamp(min=1)


def save(path: Path, model: nn.Module, loader: ClipLoader) -> None:
    """Write weights and the loader's state as one file, under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(model.state_dict(), temporary, {"loader": json.dumps(loader.state_dict())})
    os.replace(temporary, path)


def resume(path: Path, model: nn.Module, loader: ClipLoader) -> None:
    """Take up what :func:`save` wrote, if there is such a file."""
    if not path.exists():
        return
    with safe_open(path, "pt") as saved:
        model.load_state_dict({name: saved.get_tensor(name) for name in saved.keys()})  # noqa: SIM118
        loader.load_state_dict(json.loads(saved.metadata()["loader"]))


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", help="dataset root, with shards")
    parser.add_argument("--folder", type=Path, default=Path("run"), help="for the checkpoint")
    parser.add_argument("--steps", type=int, default=8, help="train up to this step")
    parser.add_argument("--settings", type=Path, help="YAML of training.data.settings.DataSettings")
    given = parser.parse_args()
    text = given.settings.read_text() if given.settings else "{}"
    settings = DataSettings.model_validate(yaml.safe_load(text))
    losses = train(given.root, given.folder, settings, stop_step=given.steps)
    print(f"{len(losses)} steps, losses", *(f"{loss:.4f}" for loss in losses[-5:]))


if __name__ == "__main__":
    main()
