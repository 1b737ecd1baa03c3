"""SigLIP SO400M/14 at 384 px (Zhai et al. 2023, arXiv 2303.15343), run by transformers.

Pictures and texts in one space; finer than CLIP and dearer: 670 GFLOP a picture. The architecture
is written out here, so that one local file of weights is enough for pictures. Texts need the
tokenizer's file beside it.
"""

from __future__ import annotations

import string

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import SiglipConfig, SiglipModel

from curation.models.embedders import EmbeddingModel
from curation.models.embedders_torch import TorchEmbedder, load_state
from curation.models.registry import require_weights
from curation.models.weights import SIGLIP_TOKENIZER

TOWER = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
TEXT_TOKENS = 64
"""SigLIP was trained on texts of exactly this many tokens."""
PAD_ID = END_ID = 1
"""``</s>`` ends a text and fills the rest."""


class SiglipEmbedder(TorchEmbedder):
    """Both towers of SigLIP, from one local file."""

    def __init__(self, model: EmbeddingModel, *, on_gpu: bool) -> None:
        network = SiglipModel(siglip_config(model.side_px))
        path = require_weights(model.weights)
        load_state(network, load_file(path), model, path)
        self._tokenizer: Tokenizer | None = None
        super().__init__(model, network, on_gpu=on_gpu)

    def _picture_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._network.vision_model(pixel_values=pixels).pooler_output

    def _text_features(self, texts: list[str]) -> torch.Tensor:
        if self._tokenizer is None:
            self._tokenizer = Tokenizer.from_file(str(require_weights(SIGLIP_TOKENIZER)))
        ids = torch.tensor([text_ids(self._tokenizer, text) for text in texts])
        return self._network.text_model(input_ids=ids.to(self.device)).pooler_output


def siglip_config(side_px: int) -> SiglipConfig:
    """The architecture of SO400M/14."""
    return SiglipConfig(
        vision_config={**TOWER, "image_size": side_px, "patch_size": 14},
        text_config={
            **TOWER,
            "vocab_size": 32000,
            "max_position_embeddings": TEXT_TOKENS,
            "pad_token_id": PAD_ID,
            "bos_token_id": None,
            "eos_token_id": END_ID,
        },
    )


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ``TEXT_TOKENS`` token ids of a text, in lower case and without punctuation."""
    bare = " ".join(text.lower().translate(str.maketrans("", "", string.punctuation)).split())
    ids = [i for i in tokenizer.encode(bare, add_special_tokens=False).ids if i != END_ID]
    ids = [*ids[: TEXT_TOKENS - 1], END_ID]
    return ids + [PAD_ID] * (TEXT_TOKENS - len(ids))
