"""A small dataset of generated scenes that move, for the training of a VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.media import Camera, Recording, write_video
from tests.training.shards import Clip, write_dataset

SHAPE = {"frames": 9, "height_px": 48, "width_px": 64, "fps": 12, "samples": 2}


def write_footage(folder: Path, count: int = 6) -> str:
    """A dataset root with some clips of 12 frames, 48 x 64 pixels."""
    clips = []
    for number in range(count):
        camera = Camera(pan_per_s=0.1 + 0.05 * number, tilt_per_s=0.04 * number, seed=number)
        pictures = camera.shoot(64, 48, np.arange(12) / 12)
        media = write_video(folder / f"{number}.mp4", pictures, Recording(fps=12)).read_bytes()
        clips.append(Clip(f"scene-{number}", media, 12, 48, 64, 12.0))
    write_dataset(folder / "data", clips)
    return str(folder / "data")


def small_training(root: str, **given: Any) -> dict[str, Any]:  # noqa: ANN401
    """Settings of a training that takes a second."""
    data = {
        "sources": [{"root": root}],
        "order": {"microbatches": 1, "seed": 3},
        "read": {"num_workers": 0, "flip": 0.5},
        "buckets": {"shapes": [SHAPE], "microbatch_tokens": 400},
    }
    return {
        "kind": "vae",
        "data": data,
        "model": {
            "latent_channels": 8,
            "width": 16,
            "encoder_depth": 1,
            "decoder_depth": 1,
            "pixel_width": 8,
        },
        "crops": {"size_px": 32, "per_sample": 2, "scales": [1.0, 0.7]},
        "validation": {"root": root, "samples": 2, "every_steps": 6},
        "optimizer": {"warmup_steps": 2, "lr": 2e-3},
        "steps": 12,
        "basis_steps": 3,
        "threads": 1,
        "log_every": 2,
        "save_every": 3,
    } | given
