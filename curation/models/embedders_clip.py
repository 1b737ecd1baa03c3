"""CLIP (Radford et al. 2021, arXiv 2103.00020) with OpenAI's weights, run by open_clip.

Pictures and texts in one space. Cost of a picture: ViT-B/32 4.4 GFLOP, ViT-L/14 81 GFLOP.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file

from curation.models.embedders import EmbeddingModel
from curation.models.embedders_torch import TorchEmbedder, load_state
from curation.models.registry import require_weights


class ClipEmbedder(TorchEmbedder):
    """Both towers of a CLIP model, from one local file."""

    def __init__(self, model: EmbeddingModel, *, on_gpu: bool) -> None:
        with _no_warnings():  # "no pretrained weights loaded": they follow
            # Nothing is fetched: without `pretrained` open_clip builds the bare architecture.
            network = open_clip.create_model(
                model.architecture, pretrained=None, load_weights=False, pretrained_text=False
            )
        path = require_weights(model.weights)
        load_state(network, load_file(path), model, path)
        self._tokens: Any = open_clip.get_tokenizer(model.architecture)
        super().__init__(model, network, on_gpu=on_gpu)

    def _picture_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._network.encode_image(pixels)

    def _text_features(self, texts: list[str]) -> torch.Tensor:
        return self._network.encode_text(self._tokens(texts).to(self.device))


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
