"""A small encoded dataset and the settings of a training on it that takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.training.encoding import encoded, tiny_vae
from tests.training.vae.footage import write_footage

BUCKETS = """
microbatch_tokens: 40
cost_tolerance: 0.6
shapes:
  - {frames: 9, height_px: 32, width_px: 48, fps: 12, samples: 2}
"""
SHAPE = {"frames": 9, "height_px": 32, "width_px": 48, "fps": 12, "samples": 2}


@dataclass(frozen=True)
class Encoded:
    """A dataset with latents beside its clips.

    Attributes:
        root: Of the dataset.
        vae: File of the autoencoder.
        latents: Fingerprint of the set.
    """

    root: str
    vae: str
    latents: str


def encoded_footage(folder: Path, count: int = 7) -> Encoded:
    """Seven clips: an epoch is 4 microbatches of 2, the last with a repeat, and ends in a step."""
    root, vae = write_footage(folder, count), tiny_vae(folder)
    buckets = folder / "buckets.yaml"
    buckets.write_text(BUCKETS)
    report = encoded(root, vae, str(buckets), windows=2)
    assert report.ok
    return Encoded(root, vae, report.fingerprint)


def small_denoiser(made: Encoded, /, **given: Any) -> dict[str, Any]:  # noqa: ANN401
    """Settings of a training of 12 steps of 3 microbatches."""
    return {
        "kind": "denoiser",
        "data": {
            "sources": [{"root": made.root}],
            "order": {"microbatches": 3, "seed": 5},
            "read": {"num_workers": 0},
            "buckets": {
                "shapes": [SHAPE],
                "microbatch_tokens": 40,
                "cost_tolerance": 0.6,
            },
            "latents": made.latents,
        },
        "vae": made.vae,
        "model": {"preset": "debug", "width": 32, "depth": 2, "heads": 2},
        "optimizer": {"warmup_steps": 2, "lr": 2e-3, "ema_decay": 0.9},
        "steps": 12,
        "threads": 1,
        "log_every": 2,
        "save_every": 4,
        "tensorboard": False,
    } | given
