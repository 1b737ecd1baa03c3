"""EfficientNet-lite0 as a classifier: the probabilities of ImageNet's 1000 classes for a picture.

The same weights that embed pictures (``embedders_efficientnet.py``), with their classifier: 75 %
of ImageNet's validation pictures get their own class (Tan and Le 2019, arXiv 1905.11946). Its
probabilities are those of a picture that shows one thing of the 1000; footage of anything else
gets one of them all the same. Cost: 20 ms a picture on one core.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

from curation.models.embedders import MODELS
from curation.models.embedders_torch import THREADS, load_state, prepare
from curation.models.registry import require_weights
from curation.models.weights import EFFICIENTNET_LITE0

NUM_CLASSES = 1000


class ImageNetClassifier:
    """Classifies single pictures on the CPU; no result depends on what else is asked."""

    def __init__(self) -> None:
        """Load the network.

        Raises:
            ConfigError: The weights are not here, or are another network's.
        """
        self._model = MODELS[EFFICIENTNET_LITE0.key]
        network = EfficientNet.from_name(self._model.architecture)
        path = require_weights(EFFICIENTNET_LITE0)
        state = torch.load(path, map_location="cpu", weights_only=True)
        load_state(network, state, self._model, path)
        self._network = network.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """Probabilities of uint8 RGB pictures [h, w, 3] of any sizes, float32 [n, 1000]."""
        torch.set_num_threads(THREADS)
        rows = [np.empty((0, NUM_CLASSES), np.float32)]
        for picture in pictures:
            pixels = torch.from_numpy(prepare(picture, self._model)[None])
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            rows.append(self._network(pixels).softmax(-1).numpy())
        return np.concatenate(rows)
