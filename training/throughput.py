"""What a denoiser's step needs, and what the machine could give at most.

Operations are those of matrix products and of attention, a multiplication and an addition counted
as two; norms, activations and rotations are left out, as is usual for the share of the peak that a
model uses (MFU; PaLM, Chowdhery et al. 2022, arXiv 2204.02311, appendix B). A training step needs
three times the forward pass: backward has two products for each of forward. What is computed anew
with activation checkpointing does not count, being no need of the model's.
"""

from __future__ import annotations

import functools
import re
import resource
import sys
import time

import torch

from training.models.dit import FREQUENCIES, PARTS, DitConfig

TERA = 10**12
GPUS: dict[str, tuple[float, float, float]] = {
    "GB200": (2500, 1250, 80),
    "B200": (2250, 1125, 75),
    "GH200": (989.4, 494.7, 66.9),
    "H200": (989.4, 494.7, 66.9),
    "H200 NVL": (835.5, 417.5, 60),
    "H100": (989.4, 494.7, 66.9),
    "H100 NVL": (835.5, 417.5, 60),
    "H100 PCIe": (756, 378, 51.2),
    "A100": (312, 156, 19.5),
    "A40": (149.7, 74.8, 37.4),
    "A10": (125, 62.5, 31.2),
    "L40S": (362, 183, 91.6),
    "L40": (181, 90.5, 90.5),
    "L4": (121, 60, 30.3),
    "RTX 6000 Ada": (364.2, 182.1, 91.1),
    "RTX A6000": (154.8, 77.4, 38.7),
    "RTX 5090": (209.5, 104.8, 104.8),
    "RTX 4090": (165.2, 82.6, 82.6),
    "RTX 3090": (71, 35.6, 35.6),
    "MI300X": (1307.4, 653.7, 163.4),
}
"""Words of a GPU's name to its peak in 1e12 operations a second: bfloat16 or float16 (with sums in
float32), TF32, float32. Dense, without the factor of two for sparse weights; from the makers' data
sheets and white papers. Without a further word H100 and H200 are the SXM boards."""
FIRST_SIDE, LAST_SIDE = 1024, 8192
"""Of the square matrices by which a processor is measured."""
LONG_ENOUGH_S = 0.02
"""A product of this length hides what it costs to begin one."""
REPEATS = 5


def forward_flops(
    config: DitConfig,
    *,
    latent_frames: int,
    height_tokens: int,
    width_tokens: int,
    text_tokens: int,
) -> int:
    """Operations of one sample's forward pass.

    With t latent frames of P = height x width tokens, N = t P, L tokens of text, width D, inner
    width M of the feed-forward layers, c cells of a patch, E width of the text, F = 256 sines::

        in and out   2 N c (2 C + S) D  +  2 N D c C
        told         2 (2 F D + 2 D D)  +  12 D D            noise time and frame rate
        text         2 L E D  +  2 L D D
        a block      8 N D D  +  4 N n D                     to one another: n tokens are seen
                     4 N D D  +  4 L D D  +  4 N L D         to the text
                     4 N D M                                 each alone

    n is N in full attention; in factorised attention P in even blocks and t in odd ones.

    Args:
        config: Of the network.
        latent_frames: t.
        height_tokens: Tokens of a column.
        width_tokens: Tokens of a row.
        text_tokens: L, padding counted: it is computed.
    """
    width, inner = config.width, int(config.width * config.mlp_ratio)
    places, length = height_tokens * width_tokens, text_tokens
    tokens = latent_frames * places
    enters = config.cells * (2 * config.latent_channels + config.mask_channels)
    leaves = config.cells * config.latent_channels
    once = 2 * tokens * width * (enters + leaves)
    once += 4 * width * (FREQUENCIES + width) + 2 * PARTS * width * width
    once += 2 * length * width * (config.text_dim + width)
    block = (8 + 4) * tokens * width * width + 4 * length * width * width
    block += 4 * tokens * length * width + 4 * tokens * width * inner
    seen = config.depth * tokens
    if config.attention == "factorised":
        odd = config.depth // 2
        seen = (config.depth - odd) * places + odd * latent_frames
    return once + config.depth * block + 4 * tokens * width * seen


def peak_flops(device: torch.device | str, dtype: torch.dtype) -> float | None:
    """Most operations a second of a device in matrix products of a type.

    Of a GPU as its maker tells; float32 on CUDA is TF32 where torch may use it. Of a processor
    measured once per process, number of threads and type, in less than a second: what a large
    product of torch reaches, lower while others compute beside.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``.
        dtype: float32, bfloat16 or float16.

    Returns:
        None: the device is not known here, or is a part of a GPU (MIG).
    """
    device = torch.device(device)
    if device.type == "cpu":
        return _measured(torch.get_num_threads(), dtype)
    if device.type != "cuda":
        return None
    tf32 = torch.get_float32_matmul_precision() != "highest"
    return gpu_peak(torch.cuda.get_device_name(device), dtype, tf32=tf32)


def gpu_peak(name: str, dtype: torch.dtype, *, tf32: bool = False) -> float | None:
    """Most operations a second of a GPU, by the name that its driver tells.

    Args:
        name: Such as ``NVIDIA A100-SXM4-80GB``.
        dtype: float32, bfloat16 or float16.
        tf32: Products of float32 may be computed in TF32.
    """
    words = set(re.split(r"[^A-Za-z0-9]+", name))
    known = [key for key in GPUS if words.issuperset(key.split())]
    if not known or "MIG" in words:
        return None
    half, tensor, single = GPUS[max(known, key=lambda key: len(key.split()))]
    if dtype in (torch.bfloat16, torch.float16):
        return half * TERA
    if dtype == torch.float32:
        return (tensor if tf32 else single) * TERA
    return None


def memory_bytes(device: torch.device | str) -> int:
    """Most memory that this process held so far: of tensors on a GPU, else resident in all."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@functools.cache
def _measured(threads: int, dtype: torch.dtype) -> float:
    """Best rate of products of growing matrices, operations a second; torch has ``threads``."""
    best, side, took = 0.0, FIRST_SIDE, 0.0
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        while took < LONG_ENOUGH_S and side <= LAST_SIDE:
            a = torch.full((side, side), 0.5, dtype=dtype)  # draws nothing from a generator
            torch.mm(a, a)
            times = []
            for _ in range(REPEATS):
                began = time.perf_counter()
                torch.mm(a, a)
                times.append(time.perf_counter() - began)
            took = min(times)
            best, side = max(best, 2 * side**3 / took), 2 * side
    return best
