"""EfficientNet-lite0 (Tan and Le 2019, arXiv 1905.11946): embeddings that need no download.

Trained on ImageNet-1k's classes; its 1280 features before the classifier tell what a picture shows
and how it is composed, well enough to find near copies and similar clips. It knows no texts.
Cost: 0.4 GFLOP a picture.
"""

from __future__ import annotations

import torch
from efficientnet_lite_pytorch import EfficientNet

from curation.models.embedders import MODELS, EmbeddingModel
from curation.models.embedders_torch import TorchEmbedder, load_state
from curation.models.registry import require_weights
from curation.models.weights import EFFICIENTNET_LITE0


class EfficientNetEmbedder(TorchEmbedder):
    """Mean over the picture of the last convolution's features."""

    def __init__(self, model: EmbeddingModel, *, on_gpu: bool) -> None:
        network = load_network(model)
        super().__init__(model, network.to(memory_format=torch.channels_last), on_gpu=on_gpu)

    def _picture_features(self, pixels: torch.Tensor) -> torch.Tensor:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return self._network.extract_features(pixels).mean((2, 3))


def load_network(model: EmbeddingModel = MODELS[EFFICIENTNET_LITE0.key]) -> EfficientNet:
    """The network with its weights, in evaluation, on the CPU; takes (pixel - 127) / 128.

    Raises:
        ConfigError: The weights are missing or of another network.
    """
    network = EfficientNet.from_name(model.architecture)
    path = require_weights(model.weights)
    load_state(network, torch.load(path, map_location="cpu", weights_only=True), model, path)
    return network.eval().requires_grad_(False)
