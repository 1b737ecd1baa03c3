"""Small encoders and datasets for the tests of latents: real classes, random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipelines.encode.account import Report
from pipelines.encode.job import encode
from pipelines.encode.settings import read_encode_settings
from tests.media import Recording
from tests.training.shards import Clip, numbered
from training.models.vae import save_vae
from training.models.vae_network import VaeConfig, VaeNetwork

BUCKETS = """
microbatch_tokens: 24
max_crop: 0.3
cost_tolerance: 0.6
temporal_stride: 4
spatial_stride: 8
patch: [1, 2, 2]
shapes:
  - {frames: 5, height_px: 32, width_px: 48, fps: 8, samples: 2}
  - {frames: 9, height_px: 32, width_px: 32, fps: 8, samples: 1}
"""
TEXTS = (
    {"kind": "given", "text": "one", "weight": 1.0},
    {"kind": "speech", "text": "never drawn", "weight": 0.0},
    {"kind": "long", "text": "two dogs run over a meadow", "weight": 1.0},
)


def tiny_vae(folder: Path) -> str:
    """Our own autoencoder with a few thousand random weights: strides 4 and 8, 4 channels."""
    torch.manual_seed(0)
    network = VaeNetwork(
        VaeConfig(latent_channels=4, width=16, encoder_depth=1, decoder_depth=1, pixel_width=8)
    )
    with torch.no_grad():
        for weights in network.parameters():
            weights.normal_(0, 0.05)
    path = folder / "tiny.safetensors"
    save_vae(path, network, (0.1,), (2.0,), {"of": "a test"})
    return str(path)


def buckets_file(folder: Path, text: str = BUCKETS) -> str:
    path = folder / "buckets.yaml"
    path.write_text(text)
    return str(path)


def some_clips(folder: Path) -> list[Clip]:
    """Twelve in two shapes with captions or none, two of which fit no bucket."""
    wide = numbered(folder, 30, Recording(fps=24), (48, 32))
    square = numbered(folder, 36, Recording(fps=24), (40, 40))
    short = numbered(folder, 6, Recording(fps=24), (48, 32))
    return [
        *(Clip(f"w{n}", wide, 30, 32, 48, 24.0, captions=TEXTS) for n in range(6)),
        *(Clip(f"s{n}", square, 36, 40, 40, 24.0) for n in range(4)),
        *(Clip(f"x{n}", short, 6, 32, 48, 24.0, captions=TEXTS) for n in range(2)),
    ]


def encoded(
    root: Path | str,
    vae: str,
    buckets: str | None,
    *overrides: str,
    text_encoder: str = "minilm",
    windows: int | None = None,
    **more: Any,  # noqa: ANN401 - of encode
) -> Report:
    """Run the job."""
    options: dict[str, Any] = {
        "vae": vae,
        "text_encoder": text_encoder,
        "device": "cpu",
        "windows": windows,
    }
    settings, data = read_encode_settings(buckets, overrides, options)
    arguments: dict[str, Any] = {"engine": "inline"} | more
    return encode(str(root), settings, data, **arguments)
