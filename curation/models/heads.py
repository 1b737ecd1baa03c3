"""Aesthetic heads: a stored picture embedding to a score of 1 to 10, in NumPy.

Every head is a chain of linear layers: the published multi-layer head has dropout between its
layers, which does nothing outside training, and no activations (MLP 768-1024-128-64-16-1 of
github.com/christophschuhmann/improved-aesthetic-predictor; one layer in LAION-AI's).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from curation.errors import ConfigError
from curation.models.embedders import MODELS, EmbeddingModel
from curation.models.registry import require_weights
from curation.models.weights import (
    AESTHETIC_LINEAR_B32,
    AESTHETIC_LINEAR_L14,
    AESTHETIC_MLP_L14,
    AESTHETIC_V2_5_SIGLIP,
    CLIP_VIT_B_32,
    CLIP_VIT_L_14,
    SIGLIP_SO400M,
    Weights,
)

HeadName = Literal[
    "aesthetic-mlp-l-14", "aesthetic-linear-l-14", "aesthetic-linear-b-32", "aesthetic-v2-5-siglip"
]


@dataclass(frozen=True)
class HeadModel:
    """A head and the model whose embeddings it was trained on.

    Attributes:
        weights: The head's file.
        embeds: The embedding model that it fits.
    """

    weights: Weights
    embeds: EmbeddingModel


HEADS: dict[str, HeadModel] = {
    w.key: HeadModel(w, MODELS[tower.key])
    for w, tower in (
        (AESTHETIC_MLP_L14, CLIP_VIT_L_14),
        (AESTHETIC_LINEAR_L14, CLIP_VIT_L_14),
        (AESTHETIC_LINEAR_B32, CLIP_VIT_B_32),
        (AESTHETIC_V2_5_SIGLIP, SIGLIP_SO400M),
    )
}


class Head:
    """A loaded head.

    Args:
        layers: (weight [out, in], bias [out]) of each layer in order; the last has one output.
    """

    def __init__(self, layers: list[tuple[np.ndarray, np.ndarray]]) -> None:
        # Linear layers in a row are one: a single product for each vector.
        (weight, bias), *rest = [(w.astype(np.float64), b.astype(np.float64)) for w, b in layers]
        for after, shift in rest:
            weight, bias = after @ weight, after @ bias + shift
        self._weight, self._bias = weight[0], float(bias[0])

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Scores float64 [n], about 1 to 10, of unit vectors [n, dim]."""
        return (vectors.astype(np.float64) * self._weight).sum(axis=1) + self._bias


def load_head(key: str) -> Head:
    """Read a head's file.

    Raises:
        ConfigError: It is not on this machine, or is no chain of layers from the embedding to one
            number.
    """
    import torch

    head = HEADS[key]
    path = require_weights(head.weights)
    state = torch.load(path, map_location="cpu", weights_only=True)
    arrays = {name: value.float().numpy() for name, value in state.items()}
    layers = [
        (arrays[name], arrays[f"{name.removesuffix('weight')}bias"])
        for name in sorted(arrays, key=_numbers)
        if name.endswith("weight") and f"{name.removesuffix('weight')}bias" in arrays
    ]
    sizes = [head.embeds.dim, *(len(bias) for _, bias in layers)]
    chained = all(
        weight.shape == (after, before)
        for (weight, _), (before, after) in zip(layers, pairwise(sizes), strict=True)
    )
    if not layers or not chained or sizes[-1] != 1 or 2 * len(layers) != len(arrays):
        raise ConfigError(
            f"{path} is no head for embeddings of {head.embeds.weights.name}",
            mend=f"get the file of {head.weights.source}",
        )
    return Head(layers)


def _numbers(name: str) -> list[int]:
    """The numbers in a parameter's name: layers come in their order."""
    return [int(n) for n in re.findall(r"\d+", name)]
