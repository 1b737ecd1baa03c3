"""How fast a training is: tokens a second, and the share of the machine's peak that it uses.

Model FLOPs utilisation (PaLM, Chowdhery et al. 2022, arXiv 2204.02311, appendix B): the operations
that the model needs, forward and twice that backward, whatever is computed anew by checkpointing,
over the seconds of a step times the peak of the device in that type of numbers.
"""

from __future__ import annotations

import torch

from training.models.dit import DitConfig
from training.step import Inputs
from training.throughput import forward_flops, memory_bytes, peak_flops

FORWARD_AND_BACKWARD = 3


class Meter:
    """Counts what a step computes.

    Args:
        config: Of the network.
        device: Where it runs.
        dtype: Of its matrix products.
    """

    def __init__(self, config: DitConfig, device: torch.device, dtype: torch.dtype) -> None:
        self._config, self._device, self._dtype = config, device, dtype
        self._tokens = self._flops = 0

    def add(self, inputs: Inputs) -> None:
        """Count a microbatch."""
        samples, _, frames, high, wide = inputs.x0_BCthw.shape
        rows, columns = high // self._config.patch[1], wide // self._config.patch[2]
        self._tokens += samples * frames * rows * columns
        self._flops += samples * forward_flops(
            self._config,
            latent_frames=frames,
            height_tokens=rows,
            width_tokens=columns,
            text_tokens=inputs.text_BLD.shape[1],
        )

    def row(self, seconds: float) -> dict[str, float]:
        """Figures of a step that took so long; begins anew.

        ``tokens_per_s``, ``tflops`` (model operations a second, 1e12), ``mfu`` (share of the peak,
        where it is known), ``memory_gb`` (1e9 bytes at most so far).
        """
        speed = FORWARD_AND_BACKWARD * self._flops / seconds
        peak = peak_flops(self._device, self._dtype)
        found = {
            "tokens_per_s": self._tokens / seconds,
            "tflops": speed / 1e12,
            "memory_gb": memory_bytes(self._device) / 1e9,
        }
        self._tokens = self._flops = 0
        return found | ({"mfu": speed / peak} if peak else {})
