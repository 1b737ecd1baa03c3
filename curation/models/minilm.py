"""all-MiniLM-L6-v2: texts to unit vectors that are near when the texts mean alike things.

A BERT of 6 layers and 384 channels (Wang et al. 2020, MiniLM, arXiv 2002.10957), trained by
sentence-transformers on a billion pairs of sentences; the mean of its tokens' states, brought to
length 1. The architecture is written out here, so two local files are enough: no code of
sentence-transformers, no network. English only. Cost: 2 to 10 ms a text on one core.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.errors import ConfigError
from curation.models.registry import require_weights
from curation.models.weights import MINILM_L6, MINILM_TOKENIZER

if TYPE_CHECKING:
    import torch

DIM = 384
MAX_TOKENS = 256
"""Longer texts are cut, as by its authors: about 190 words."""
THREADS = 1
"""CPU threads of torch: a worker is one core, and sums do not depend on how many there are."""


class MiniLM:
    """The loaded model, on the CPU.

    Attributes:
        files: Weights and tokenizer that were loaded.

    Args:
        folder: With ``model.safetensors`` and ``tokenizer.json``; None: the files that the registry
            finds, see ``curation/models/weights.py``.

    Raises:
        ConfigError: A file is missing, or is not what it should be.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        if folder is None:
            weights, words = require_weights(MINILM_L6), require_weights(MINILM_TOKENIZER)
        else:
            weights, words = Path(folder) / "model.safetensors", Path(folder) / "tokenizer.json"
        for path in (weights, words):
            if not path.is_file():
                raise ConfigError("there is no such file", where=str(path))
        config = BertConfig(
            hidden_size=DIM,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
            vocab_size=30522,
        )
        network = BertModel(config, add_pooling_layer=False)
        # Position numbers are a constant of the code, and the pooler is not part of the sentence
        # vector: older files carry both.
        state = {
            name: value
            for name, value in load_file(weights).items()
            if not name.startswith("pooler.") and not name.endswith("position_ids")
        }
        try:
            network.load_state_dict(state)
        except RuntimeError as exc:
            raise ConfigError(
                f"does not hold the weights of {MINILM_L6.name}: "
                f"{str(exc).splitlines()[-1].strip()[:200]}",
                where=str(weights),
            ) from exc
        self.files = (weights, words)
        self._network: Any = network.eval().requires_grad_(False)
        self._tokenizer = Tokenizer.from_file(str(words))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def embed(self, texts: list[str]) -> np.ndarray:
        """Vectors of texts, float32 [n, ``DIM``] of length 1.

        One text at a time: a text's vector does not depend on what else is asked.
        """
        rows = [self._states_mean([text]) for text in texts]
        return np.concatenate([np.empty((0, DIM), np.float32), *rows])

    def embed_list(self, texts: list[str]) -> np.ndarray:
        """The same for a list that is always the same, four times as fast.

        Texts of equal length go through together, which moves the last digits of a vector.
        """
        lengths = np.array([len(self._tokenizer.encode(text).ids) for text in texts])
        vectors = np.empty((len(texts), DIM), np.float32)
        for length in np.unique(lengths):
            at = np.flatnonzero(lengths == length)
            vectors[at] = self._states_mean([texts[i] for i in at])
        return vectors

    def to(self, device: torch.device, dtype: torch.dtype) -> MiniLM:
        """Move the network, for :meth:`states`; the other methods want it on the CPU."""
        self._network.to(device, dtype)
        return self

    def states(self, texts: list[str], max_tokens: int = MAX_TOKENS) -> torch.Tensor:
        """States of the tokens of texts of one length, (n, L, ``DIM``), marks of both ends too."""
        import torch

        self._tokenizer.enable_truncation(max_tokens)
        try:
            ids = [self._tokenizer.encode(text).ids for text in texts]
        finally:
            self._tokenizer.enable_truncation(MAX_TOKENS)
        with torch.inference_mode():
            given = torch.tensor(ids, device=self._network.device)
            return self._network(input_ids=given).last_hidden_state  # no padding

    def _states_mean(self, texts: list[str]) -> np.ndarray:
        """Vectors of texts of one length in tokens."""
        import torch

        torch.set_num_threads(THREADS)
        with torch.inference_mode():
            mean = self.states(texts).mean(dim=1)
            return torch.nn.functional.normalize(mean, dim=-1).numpy()
