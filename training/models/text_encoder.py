"""What every text encoder here does, whoever made it: texts to the states of their tokens.

    ["a dog runs", ""] ─ encode ─▶ [(5, dim), (2, dim)]    float32, one row a token that counts

No padding is handed out: who packs texts of several lengths pads and makes the mask. A text's
states depend on that text alone, so that what is stored for a clip does not change with the batch
it went through in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """What a text encoder hands out.

    Attributes:
        name: For people.
        fingerprint: 16 hex digits of its weights, tokenizer, configuration, precision and
            ``max_tokens``: other states, another number.
        dim: Numbers of a token's state.
        max_tokens: Longer texts are cut; marks of begin and end are tokens too.
    """

    name: str
    fingerprint: str
    dim: int
    max_tokens: int


class TextEncoder(ABC):
    """A text encoder that is loaded, in evaluation.

    Attributes:
        spec: Of its states.
        device: Where its weights are, and where states are handed out.
    """

    spec: TextSpec
    device: torch.device

    def encode(self, texts: list[str]) -> list[Tensor]:
        """States of texts, in their order.

        Args:
            texts: Any; ``""`` too, which guidance needs.

        Returns:
            Of each text float32 (L, ``spec.dim``), 1 <= L <= ``spec.max_tokens``: only tokens that
            count. One text goes through at a time, so neighbours never move a digit.

        Raises:
            ValueError: The network gave another shape, or numbers that are not finite.
        """
        found: list[Tensor] = []
        for text in texts:
            with torch.no_grad():  # inference tensors could not be trained on
                states = self._encode(text).float()
            num_tokens, dim = states.shape
            if not 1 <= num_tokens <= self.spec.max_tokens or dim != self.spec.dim:
                raise ValueError(
                    f"{self.spec.name} gave states of {(num_tokens, dim)} where (1 to "
                    f"{self.spec.max_tokens}, {self.spec.dim}) is due"
                )
            if not states.isfinite().all():
                raise ValueError(f"{self.spec.name} gave states that are not finite: {text[:80]!r}")
            found.append(states)
        return found

    @abstractmethod
    def _encode(self, text: str) -> Tensor:
        """States of one text, float (L, dim)."""
