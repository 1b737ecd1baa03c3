"""Text encoders behind one interface: the small one that ships, and T5, UMT5 and CLIP by name.

    open_text_encoder()                                                   all-MiniLM-L6-v2
    open_text_encoder("google/t5-v1_1-xxl", dtype="bfloat16")             a hub id
    open_text_encoder("Wan-AI/Wan2.1-T2V-1.3B-Diffusers#text_encoder")    a pipeline's part
    open_text_encoder("/models/clip-vit-large-patch14", max_tokens=77)    a folder

Handed out are the states of the last layer, with its last norm. Texts go in as they are: who needs
the cleaning that a model was trained with (Wan's mends broken Unicode) does it before. T5 and UMT5
overflow in float16, which is refused; bfloat16 is fine.
"""

# ruff: noqa: ANN401 - networks of transformers have no types

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curation.errors import ConfigError
from training.models.pretrained import (
    TOKENIZER_FILES,
    as_dtype,
    files_sha256,
    fingerprint,
    model_folder,
    read_config,
    tokenizer_folder,
    weights_files,
)
from training.models.text_encoder import TextEncoder, TextSpec

MINILM = "minilm"
USUAL_TOKENS = 512
"""``max_tokens`` where neither the tokenizer nor the network names one."""


@dataclass(frozen=True)
class _Family:
    """Text encoders of one architecture in transformers.

    Attributes:
        network: Name of the class that holds the encoder alone.
        overflows: In float16.
    """

    network: str
    overflows: bool


FAMILIES = {
    "t5": _Family("T5EncoderModel", overflows=True),
    "umt5": _Family("UMT5EncoderModel", overflows=True),
    "clip": _Family("CLIPTextModel", overflows=False),
    "clip_text_model": _Family("CLIPTextModel", overflows=False),
}
"""By ``model_type`` of the configuration."""


def open_text_encoder(
    name: str = MINILM,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    max_tokens: int | None = None,
) -> TextEncoder:
    """Load a text encoder.

    Args:
        name: ``minilm``, or T5, UMT5 or CLIP as FOLDER, FOLDER#subfolder, owner/name or
            owner/name#subfolder, see ``training/models/pretrained.py``.
        device: Where it runs.
        dtype: Precision of the network, float32 by default.
        max_tokens: Longer texts are cut; by default what the tokenizer names, at most 512.

    Raises:
        ConfigError: It is not there, is of another family, does not hold all of its weights, or
            the precision or ``max_tokens`` do not go with it.
    """
    if name == MINILM:
        return MiniLMStates(device=device, dtype=dtype, max_tokens=max_tokens)
    return PretrainedStates(name, device=device, dtype=dtype, max_tokens=max_tokens)


class MiniLMStates(TextEncoder):
    """Token states of all-MiniLM-L6-v2: English, 384 channels, without a download."""

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str | None = None,
        max_tokens: int | None = None,
    ) -> None:
        from curation.models.minilm import DIM, MAX_TOKENS, MiniLM

        self.device = torch.device(device)
        precision = as_dtype(dtype)
        tokens = _checked_tokens(MINILM, max_tokens, usual=MAX_TOKENS, most=MAX_TOKENS)
        self._model = MiniLM(folder).to(self.device, precision)
        digests = files_sha256(list(self._model.files))
        self.spec = TextSpec(
            name="all-MiniLM-L6-v2",
            fingerprint=fingerprint({"model_type": MINILM}, *digests, precision, tokens),
            dim=DIM,
            max_tokens=tokens,
        )

    def _encode(self, text: str) -> Tensor:
        return self._model.states([text], self.spec.max_tokens)[0]


class PretrainedStates(TextEncoder):
    """Token states of a T5, UMT5 or CLIP text encoder, see :func:`open_text_encoder`."""

    def __init__(
        self,
        name: str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        precision = as_dtype(dtype)
        folder = model_folder(name)
        config = read_config(folder)
        kind = str(config.get("model_type"))
        family = FAMILIES.get(kind)
        if family is None:
            raise ConfigError(
                f"a model of type {kind!r} is no text encoder that is supported",
                where=name,
                mend=f"one of: {MINILM}, or a model of type {', '.join(FAMILIES)}",
            )
        if family.overflows and precision == torch.float16:
            raise ConfigError(
                f"{kind} overflows in float16", where=name, mend="use bfloat16 or float32"
            )
        words = tokenizer_folder(name)
        self._tokenizer = _load_tokenizer(words)
        self._network = _load_network(family, folder, precision).to(self.device)
        dim, positions = _shape(self._network.config)
        tokens = _checked_tokens(
            name,
            max_tokens,
            usual=min(self._tokenizer.model_max_length, positions, USUAL_TOKENS),
            most=positions,
        )
        read = [words / file for file in TOKENIZER_FILES if (words / file).is_file()]
        digests = files_sha256(weights_files(folder) + read)
        self.spec = TextSpec(
            name=name,
            fingerprint=fingerprint(config, *digests, precision, tokens),
            dim=dim,
            max_tokens=tokens,
        )
        if not self._ids(""):
            raise ConfigError(
                "its tokenizer marks no end of a text, so the empty text has no states",
                where=str(words),
            )

    def _encode(self, text: str) -> Tensor:
        ids = torch.tensor([self._ids(text)], device=self.device)
        return self._network(input_ids=ids).last_hidden_state[0]

    def _ids(self, text: str) -> list[int]:
        cut = self._tokenizer(text, truncation=True, max_length=self.spec.max_tokens)
        return list(cut["input_ids"])


def _checked_tokens(name: str, max_tokens: int | None, *, usual: int, most: int | float) -> int:
    """``max_tokens``, at least 2: a mark of the end, and something before it."""
    if max_tokens is None:
        return int(usual)
    if not 2 <= max_tokens <= most:
        raise ConfigError(
            f"takes 2 to {most if most < math.inf else 'any number of'} tokens, not {max_tokens}",
            where=name,
            mend="change max_tokens",
        )
    return max_tokens


def _shape(config: Any) -> tuple[int, float]:
    """Channels of a state, and how many positions the network knows: T5 takes any number."""
    dim = getattr(config, "d_model", None) or config.hidden_size
    return dim, getattr(config, "max_position_embeddings", None) or math.inf


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, KeyError) as exc:
        raise ConfigError(
            f"its tokenizer cannot be loaded: {str(exc).strip().splitlines()[0][:200]}",
            where=str(folder),
            mend="a tokenizer.json is needed; sentencepiece's files alone also want that package",
        ) from exc


def _load_network(family: _Family, folder: Path, dtype: torch.dtype) -> Any:
    import transformers

    network = getattr(transformers, family.network)
    try:
        model, info = network.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=dtype,
        )
    except (OSError, ValueError, RuntimeError) as exc:
        raise ConfigError(
            f"{family.network} cannot be loaded: {str(exc).strip().splitlines()[0][:200]}",
            where=str(folder),
        ) from exc
    if lacking := sorted(info["missing_keys"]):
        # They would be random numbers.
        raise ConfigError(
            f"lacks {len(lacking)} of the weights of {family.network}: {', '.join(lacking[:3])}",
            where=str(folder),
        )
    return model.eval().requires_grad_(False)
