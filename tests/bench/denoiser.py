"""A training step of the denoiser: against its own matrix products, and against diffusers.

    python -m tests.bench.denoiser [--preset small] [--frames 17 --height 128 --width 224]
        [--samples 2] [--repeats 5] [--device auto] [--dtype float32] [--compile] [--checkpointing]

A step is forward, backward, clipping and AdamW on given inputs, without reading. *Products* is the
time that three forward passes' matrix products and attention would take at the peak: of a GPU as
its maker tells, of a processor as a large product reaches it in this run. The other is diffusers'
``WanTransformer3DModel`` of the same width, depth, heads, feed-forward layers and tokens, with the
same optimizer; both take turns, the best of each counts. Quality is not compared. ``--alone``
leaves it out, and tells the memory of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from training.compute import autocast_of, device_of
from training.models.dit import PRESETS, Dit, DitConfig
from training.optimizer import OptimizerSettings, make_adamw
from training.step import Inputs, unknown_numbers, weighted_loss
from training.throughput import forward_flops, memory_bytes, peak_flops

TEXT_TOKENS = 64
FRAMES_A_LATENT, PIXELS_A_CELL = 4, 8
Step = Callable[[], None]


def main() -> None:
    """Measure and print."""
    args = _arguments()
    device = device_of(args.device)
    dtype = getattr(torch, args.dtype)
    autocast = autocast_of("bfloat16" if dtype == torch.bfloat16 else "off", device)
    config = PRESETS[args.preset]
    inputs = _inputs(config, args, device)
    ours = Dit(config).to(device)
    ours.checkpointing = args.checkpointing
    theirs = None if args.alone else _wan(config).to(device)
    if theirs is not None and args.checkpointing:
        getattr(theirs, "enable_gradient_checkpointing")()  # noqa: B009 - of diffusers' class
    if args.compile:
        for network in (ours, theirs):
            for block in () if network is None else network.get_submodule("blocks").children():
                block.compile()
    steps = {"clipmill": _step(ours, ours, inputs, autocast, device)}
    if theirs is not None:
        steps["diffusers Wan"] = _step(theirs, _as_ours(theirs), inputs, autocast, device)
    seconds = _best(steps, args.repeats)
    _, _, frames, high, wide = inputs.x0_BCthw.shape
    forward = args.samples * forward_flops(
        config,
        latent_frames=frames,
        height_tokens=high // 2,
        width_tokens=wide // 2,
        text_tokens=TEXT_TOKENS,
    )
    tokens = args.samples * frames * (high // 2) * (wide // 2)
    peak = peak_flops(device, dtype)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "parameters_m": {n: _millions(m) for n, m in (("ours", ours), ("wan", theirs)) if m},
        "tokens": tokens,
        "step_s": seconds,
        "tokens_per_s": {name: tokens / s for name, s in seconds.items()},
        "products_s": 3 * forward / peak if peak else None,
        "mfu": {name: 3 * forward / peak / s for name, s in seconds.items()} if peak else None,
    }
    if theirs is None:
        found["memory_gb"] = memory_bytes(device) / 1e9
    if len(seconds) > 1:
        found["ours_is_faster"] = seconds["diffusers Wan"] / seconds["clipmill"]
    print(json.dumps(found, indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--preset", default="small", choices=list(PRESETS))
    for name, value in (("frames", 17), ("height", 128), ("width", 224), ("samples", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    for name in ("compile", "checkpointing", "alone"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def _inputs(config: DitConfig, args: argparse.Namespace, device: torch.device) -> Inputs:
    """Random ones."""
    torch.manual_seed(0)
    frames = (args.frames - 1) // FRAMES_A_LATENT + 1
    size = frames, args.height // PIXELS_A_CELL, args.width // PIXELS_A_CELL
    shape = (args.samples, config.latent_channels, *size)
    found = Inputs(
        x0_BCthw=torch.randn(shape),
        noise_BCthw=torch.randn(shape),
        sigma_B=torch.rand(args.samples),
        given_BCthw=torch.zeros(shape),
        mask_BSthw=torch.zeros(args.samples, config.mask_channels, *size),
        unknown_Bt=torch.ones(args.samples, frames, dtype=torch.bool),
        weights_B=torch.ones(args.samples),
        text_BLD=torch.randn(args.samples, TEXT_TOKENS, config.text_dim),
        text_mask_BL=torch.ones(args.samples, TEXT_TOKENS, dtype=torch.bool),
        fps_B=torch.full((args.samples,), 16.0),
        times_Bt=(torch.arange(frames) / 4.0).expand(args.samples, -1),
    )
    return found.to(device)


def _wan(config: DitConfig) -> nn.Module:
    """diffusers' transformer of the same sizes, told the same inputs."""
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=config.patch,
        num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads,
        in_channels=2 * config.latent_channels + config.mask_channels,
        out_channels=config.latent_channels,
        text_dim=config.text_dim,
        ffn_dim=int(config.width * config.mlp_ratio),
        num_layers=config.depth,
    )


def _as_ours(network: nn.Module) -> Callable[..., Tensor]:
    def denoise(x_BCthw: Tensor, sigma_B: Tensor, **told: Tensor) -> Tensor:
        x = torch.cat([x_BCthw, told["given_BCthw"], told["mask_BSthw"]], 1)
        return network(x, 1000 * sigma_B, told["text_BLD"], return_dict=False)[0]

    return denoise


def _step(
    network: nn.Module,
    denoise: Callable[..., Tensor],
    inputs: Inputs,
    autocast: contextlib.AbstractContextManager[Any],
    device: torch.device,
) -> Step:
    optimizer = make_adamw(network, OptimizerSettings())
    count = unknown_numbers(inputs.unknown_Bt, inputs.weights_B, inputs.x0_BCthw[0, :, 0].numel())

    def step() -> None:
        optimizer.zero_grad()
        with autocast:
            loss, _ = weighted_loss(denoise, inputs, count)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def _best(steps: dict[str, Step], repeats: int) -> dict[str, float]:
    """Shortest seconds of each; they take turns."""
    for step in steps.values():
        step()
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            found[name].append(time.perf_counter() - began)
    return {name: min(times) for name, times in found.items()}


def _millions(network: nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


if __name__ == "__main__":
    main()
