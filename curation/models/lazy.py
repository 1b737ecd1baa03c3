"""TransNetV2, loaded when it is first asked: importing torch takes longer than a short video."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curation.models.registry import TRANSNET_V2, require_weights

if TYPE_CHECKING:
    from curation.models.transnet import TransNet


class LazyTransNet:
    """Stands for TransNetV2 until the first window comes.

    Args:
        threads: CPU threads that torch may use in this process.
        on_gpu: The worker was given a GPU.
    """

    def __init__(self, *, threads: int, on_gpu: bool) -> None:
        self._threads, self._on_gpu = threads, on_gpu
        self._net: TransNet | None = None

    def windows(self, thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities; see :meth:`curation.models.transnet.TransNet.windows`."""
        if self._net is None:
            import torch

            from curation.models.transnet import TransNet

            torch.set_num_threads(self._threads)
            device = "cuda" if self._on_gpu and torch.cuda.is_available() else "cpu"
            self._net = TransNet(require_weights(TRANSNET_V2), device)
        return self._net.windows(thumbs)
