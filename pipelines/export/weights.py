"""A trained denoiser as a folder that needs nothing of its training."""

from __future__ import annotations

import math
from typing import Any

from safetensors import safe_open

from curation.errors import ConfigError
from curation.models.registry import file_sha256
from pipelines.export.target import appearing
from training.denoiser import CONFIG, WEIGHTS, About, Weights, export_denoiser

README = """# {name}

The denoiser of a latent video diffusion model (rectified flow), {millions:.1f} million weights,
float32, trained for {steps} steps by clipmill. {kind}

- `{weights}`: the weights, sha256 `{sha256}`
- `{config}`: sizes, flow, autoencoder, text encoder and the shapes of its training
- autoencoder `{vae}`, fingerprint `{vae_fingerprint}`
- text encoder `{text_encoder}`, fingerprint `{text_fingerprint}`

Videos: `clipmill sample FOLDER --prompt "..." --out FILE.mp4`. In plain PyTorch, in this folder:

```python
import json, torch
from safetensors.torch import load_file
from training.models.dit import Dit, DitConfig  # dit.py and rope.py import torch alone

sizes = json.load(open("{config}"))["model"]
denoiser = Dit(DitConfig(**sizes | {{"patch": tuple(sizes["patch"])}})).eval()
denoiser.load_state_dict(load_file("{weights}"))
x = torch.randn(1, {channels}, {t}, {h}, {w})  # noised latents of {shape}: (B, C, t, h, w)
velocity = denoiser(  # noise - data
    x, torch.ones(1),
    given_BCthw=torch.zeros_like(x), mask_BSthw=torch.zeros(1, {stride}, {t}, {h}, {w}),
    text_BLD=torch.zeros(1, 1, {text_dim}), text_mask_BL=torch.ones(1, 1, dtype=torch.bool),
    fps_B=torch.tensor([{fps}]), times_Bt=torch.arange({t})[None] * {stride} / {fps})
```
"""
KINDS = {"ema": "These are their averages (EMA).", "model": "These are those of the last step."}


def write_weights(run: str, to: str, weights: Weights | None = None) -> dict[str, Any]:
    """Write ``model.safetensors``, ``config.json`` and ``README.md`` in a folder.

    Args:
        run: Folder of a run, of one of its checkpoints, or of an export.
        to: Folder; must not be there.
        weights: The average, or those of the last step; None: the average, or what is there.

    Returns:
        What was written, plain JSON.

    Raises:
        ConfigError: There is no denoiser, or the folder is there.
    """
    with appearing(to) as beside:
        try:
            export_denoiser(run, beside, weights=weights)
            about = About.model_validate_json((beside / CONFIG).read_text())
            with safe_open(beside / WEIGHTS, "pt") as stored:
                sizes = [stored.get_slice(name).get_shape() for name in stored.keys()]  # noqa: SIM118
            told = {
                "format": "weights",
                "to": to,
                "weights": about.weights,
                "steps": about.steps,
                "parameters": sum(map(math.prod, sizes)),
                "sha256": file_sha256(beside / WEIGHTS),
            }
            (beside / "README.md").write_text(_readme(about, told))
        except OSError as exc:
            raise ConfigError(f"cannot be written: {exc.strerror}", where=f"--to {to}") from exc
    return told


def _readme(about: About, told: dict[str, Any]) -> str:
    shape = max(about.shapes, key=lambda s: s.frames * s.height_px * s.width_px)
    config = about.model_config_of()
    return README.format(
        name=about.name,
        millions=told["parameters"] / 1e6,
        steps=about.steps,
        kind=KINDS[told["weights"]],
        weights=WEIGHTS,
        config=CONFIG,
        sha256=told["sha256"],
        vae=about.vae,
        vae_fingerprint=about.vae_fingerprint,
        text_encoder=about.text_encoder,
        text_fingerprint=about.text_fingerprint,
        channels=config.latent_channels,
        stride=about.temporal_stride,
        t=(shape.frames - 1) // about.temporal_stride + 1,
        h=shape.height_px // about.spatial_stride,
        w=shape.width_px // about.spatial_stride,
        shape=f"{shape.frames} frames of {shape.height_px} x {shape.width_px} pixels",
        text_dim=config.text_dim,
        fps=float(shape.fps),
    )
