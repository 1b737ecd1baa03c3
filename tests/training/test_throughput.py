"""Operations by formula against torch's own count, peaks by name, and the measured one."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from training.models.dit import Dit, DitConfig
from training.throughput import GPUS, forward_flops, gpu_peak, memory_bytes, peak_flops

SMALL = DitConfig(latent_channels=5, mask_channels=3, text_dim=20, width=48, depth=3, heads=2)


def counted(config: DitConfig, size: tuple[int, int, int, int], backward: bool = False) -> int:
    """Operations that torch counts for two samples of t latent frames, tokens, tokens, L."""
    t, rows, columns, length = size
    h, w = rows * config.patch[1], columns * config.patch[2]
    network = Dit(config)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        made = network(
            torch.randn(2, config.latent_channels, t, h, w),
            torch.rand(2),
            given_BCthw=torch.zeros(2, config.latent_channels, t, h, w),
            mask_BSthw=torch.zeros(2, config.mask_channels, t, h, w),
            text_BLD=torch.randn(2, length, config.text_dim),
            text_mask_BL=torch.ones(2, length, dtype=torch.bool),
            fps_B=torch.full((2,), 8.0),
            times_Bt=torch.arange(t).float().expand(2, t) / 2,
        )
        if backward:
            made.square().sum().backward()
    return counter.get_total_flops()


def told(config: DitConfig, size: tuple[int, int, int, int]) -> int:
    t, rows, columns, length = size
    return forward_flops(
        config,
        latent_frames=t,
        height_tokens=rows,
        width_tokens=columns,
        text_tokens=length,
    )


@pytest.mark.parametrize("attention", ["full", "factorised"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("size", [(3, 2, 4, 7), (1, 3, 3, 1), (5, 1, 2, 9)])
def test_the_formula_is_what_torch_counts(
    attention: Literal["full", "factorised"], depth: int, size: tuple[int, int, int, int]
) -> None:
    config = replace(SMALL, attention=attention, depth=depth)
    assert 2 * told(config, size) == counted(config, size)


@pytest.mark.parametrize("changed", [{"patch": (1, 1, 3)}, {"mlp_ratio": 2.6}, {"heads": 4}])
def test_other_shapes_of_the_network(changed: dict[str, float]) -> None:
    config = replace(SMALL, **changed)  # type: ignore[arg-type]
    assert 2 * told(config, (2, 3, 3, 4)) == counted(config, (2, 3, 3, 4))


def test_a_step_is_three_forward_passes() -> None:
    config = replace(SMALL, width=96, depth=4)
    share = counted(config, (4, 4, 4, 8), backward=True) / (6 * told(config, (4, 4, 4, 8)))
    assert 0.98 < share <= 1  # the first layers' inputs want no gradient


def test_factorised_attention_costs_less() -> None:
    size = (9, 8, 8, 32)
    assert told(replace(SMALL, attention="factorised"), size) < 0.8 * told(SMALL, size)


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", (989.4, 494.7, 66.9)),
        ("NVIDIA H100 PCIe", (756, 378, 51.2)),
        ("NVIDIA H100 NVL", (835.5, 417.5, 60)),
        ("NVIDIA H200", (989.4, 494.7, 66.9)),
        ("NVIDIA A100-SXM4-80GB", (312, 156, 19.5)),
        ("NVIDIA A100 80GB PCIe", (312, 156, 19.5)),
        ("NVIDIA A10", (125, 62.5, 31.2)),
        ("NVIDIA L40S", (362, 183, 91.6)),
        ("NVIDIA GeForce RTX 4090", (165.2, 82.6, 82.6)),
    ],
)
def test_gpus_by_name(name: str, tera: tuple[float, float, float]) -> None:
    half, tensor, single = (1e12 * value for value in tera)
    assert gpu_peak(name, torch.bfloat16) == gpu_peak(name, torch.float16) == half
    assert gpu_peak(name, torch.float32) == single
    assert gpu_peak(name, torch.float32, tf32=True) == tensor


@pytest.mark.parametrize(
    "name", ["NVIDIA A10G", "Tesla T4", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "", "H1000"]
)
def test_others_are_not_guessed(name: str) -> None:
    assert gpu_peak(name, torch.bfloat16) is None


def test_peaks_of_half_types_are_no_sparse_ones() -> None:
    # Dense bfloat16 is at most twice TF32; the figure with sparse weights would be four times it.
    assert all(
        1.9 < half / tensor < 2.1 and tensor >= single for half, tensor, single in GPUS.values()
    )
    assert gpu_peak("NVIDIA A100", torch.float64) is None


def test_the_processor_is_measured_once() -> None:
    before = torch.random.get_rng_state()
    first = peak_flops("cpu", torch.float32)
    began = time.perf_counter()
    assert peak_flops(torch.device("cpu"), torch.float32) == first
    assert time.perf_counter() - began < 0.01
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first is not None and 1e9 < first < 1e15
    a = torch.full((512, 512), 0.5)
    began = time.perf_counter()
    torch.mm(a, a)
    assert 2 * 512**3 / (time.perf_counter() - began) < 3 * first


def test_devices_that_are_not_known() -> None:
    assert peak_flops("mps", torch.float32) is None


def test_memory_is_that_at_most() -> None:
    before = memory_bytes("cpu")
    held = torch.ones(2**27)  # 512 MiB
    after = memory_bytes("cpu")
    del held
    assert after >= before and after > 2**29
    assert memory_bytes("cpu") >= after


def test_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    held = torch.ones(2**20, device="cuda")
    assert memory_bytes("cuda") >= held.nbytes
    peak = peak_flops("cuda", torch.bfloat16)
    assert peak is None or peak > 1e13
