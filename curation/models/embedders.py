"""Embedders: pictures, and with some models texts, to unit vectors that can be compared.

The models, what each is fed, and which class runs it. Networks are imported when they are loaded:
importing torch takes longer than a short video.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

import numpy as np

from curation.models.registry import file_sha256, require_weights
from curation.models.weights import (
    CLIP_VIT_B_32,
    CLIP_VIT_L_14,
    EFFICIENTNET_LITE0,
    SIGLIP_SO400M,
    Weights,
)

EmbedderName = Literal["efficientnet-lite0", "clip-vit-b-32", "clip-vit-l-14", "siglip-so400m"]
"""Keys of the models, cheapest first."""
SHA_DIGITS = 12
"""Of a weights file's sha256, in the names that are stored beside vectors."""


class Embedder(ABC):
    """A loaded model.

    Attributes:
        dim: Length of its vectors.
        joint_text: True when texts and pictures share one space.
    """

    dim: int
    joint_text: bool

    @abstractmethod
    def pictures(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """Embed uint8 RGB pictures [h, w, 3] of any sizes: float32 [n, dim] of length 1."""

    @abstractmethod
    def texts(self, texts: list[str]) -> np.ndarray:
        """Embed texts: float32 [n, dim] of length 1.

        Raises:
            ConfigError: The model knows no texts, or a file that it needs for them is missing.
        """


@dataclass(frozen=True, kw_only=True)
class EmbeddingModel:
    """A model that pictures can be embedded with.

    Attributes:
        weights: Its file; the key is the model's name in configs.
        dim: Length of its vectors.
        joint_text: True when it embeds texts too.
        side_px: Side of the square that it is fed.
        resize_px: ``crop``: the picture's short side becomes this long, and the middle square of
            ``side_px`` is taken. None: the whole picture is squeezed into the square.
        mean: Subtracted from RGB in 0-1.
        std: Divided by afterwards.
        loader: ``module:Class`` that runs it.
        architecture: What the loader calls it.
    """

    weights: Weights
    dim: int
    joint_text: bool
    side_px: int
    resize_px: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    loader: str
    architecture: str

    @property
    def table(self) -> str:
        """Name of the table of its vectors: vectors of two models are not to be compared."""
        return f"embeddings_{self.weights.key.replace('-', '_')}"


_CLIP = {
    "joint_text": True,
    "side_px": 224,
    "resize_px": 224,
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "loader": "curation.models.embedders_clip:ClipEmbedder",
}
MODELS: dict[str, EmbeddingModel] = {
    m.weights.key: m
    for m in (
        EmbeddingModel(
            weights=EFFICIENTNET_LITE0,
            dim=1280,
            joint_text=False,
            side_px=224,
            resize_px=256,  # as published: the middle 0.875 of the short side
            mean=(127 / 255, 127 / 255, 127 / 255),
            std=(128 / 255, 128 / 255, 128 / 255),
            loader="curation.models.embedders_efficientnet:EfficientNetEmbedder",
            architecture="efficientnet-lite0",
        ),
        # OpenAI's weights were trained with the approximation of GELU that "quickgelu" stands for.
        EmbeddingModel(weights=CLIP_VIT_B_32, dim=512, architecture="ViT-B-32-quickgelu", **_CLIP),
        EmbeddingModel(weights=CLIP_VIT_L_14, dim=768, architecture="ViT-L-14-quickgelu", **_CLIP),
        EmbeddingModel(
            weights=SIGLIP_SO400M,
            dim=1152,
            joint_text=True,
            side_px=384,
            resize_px=None,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            loader="curation.models.embedders_siglip:SiglipEmbedder",
            architecture="so400m-patch14-384",
        ),
    )
}
assert set(MODELS) == set(get_args(EmbedderName))


class _Loader(Protocol):
    def __call__(self, model: EmbeddingModel, *, on_gpu: bool) -> Embedder: ...


def load_embedder(key: str, *, on_gpu: bool = False) -> Embedder:
    """Load a model.

    Args:
        key: One of ``MODELS``.
        on_gpu: The worker was given a GPU.

    Raises:
        ConfigError: Its weights are not on this machine, or are not what they should be.
    """
    model = MODELS[key]
    require_weights(model.weights)
    module, _, name = model.loader.partition(":")
    return cast(_Loader, getattr(importlib.import_module(module), name))(model, on_gpu=on_gpu)


def model_label(weights: Weights) -> str:
    """What stands beside a vector or score: the model's key and the beginning of its sha256."""
    return f"{weights.key}@{file_sha256(require_weights(weights))[:SHA_DIGITS]}"
