"""What the settings of every backend share: who it is, what it costs, what it lacks here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from curation.captions.request import Backend


class Price(BaseModel):
    """What a backend's owner charges. Free backends have none.

    Attributes:
        input_per_mtok: Per million tokens read.
        output_per_mtok: Per million tokens written.
        currency: ISO code.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_per_mtok: float = Field(ge=0)
    output_per_mtok: float = Field(ge=0)
    currency: str = "USD"

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """The price of so many tokens."""
        return (input_tokens * self.input_per_mtok + output_tokens * self.output_per_mtok) / 1e6


class BackendSettings(BaseModel, ABC):
    """Base of the settings of all backends.

    Class attributes:
        operational: Fields that do not change the answers; left out of :meth:`identity`.
        paid: Each answer costs money or long waiting: answers are stored one by one as they come,
            and a killed run asks for none of them again.
        prompted: False for a backend that writes from measurements and reads no prompt.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    operational: ClassVar[frozenset[str]] = frozenset({"price"})
    paid: ClassVar[bool] = False
    prompted: ClassVar[bool] = True

    price: Price | None = None

    @property
    @abstractmethod
    def model_name(self) -> str:
        """What the rows say wrote the captions, e.g. ``openai:some-model``."""

    @abstractmethod
    def make(self) -> Backend:
        """The backend, loaded and ready; called once per worker process."""

    def identity(self) -> dict[str, Any]:
        """The fields that decide an answer, JSON-able; part of the stage's fingerprint."""
        return self.model_dump(mode="json", exclude=set(self.operational))

    def problems(self) -> list[str]:
        """What is missing on this machine, with the mend; a run with any must not start."""
        return []

    def fallbacks(self) -> list[str]:
        """What runs in place of something better that this machine lacks."""
        return []

    def checksums(self) -> Mapping[str, str]:
        """sha256 of local weights in use; part of the stage's fingerprint."""
        return {}
