"""What is decided over all clips together, after each was judged by itself."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from curation.dedup.settings import Dedup
from curation.judging.sample import Sampling
from curation.judging.splits import Splits


class Choice(BaseModel):
    """Which of the clips that pass every rule stay, and in which split.

    Attributes:
        dedup: Of clips that show the same one stays; None: all do.
        sample: Caps and balance; None: all that is left.
        splits: Train, validation, test; None: one dataset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dedup: Dedup | None = None
    sample: Sampling | None = None
    splits: Splits | None = None

    @property
    def narrows(self) -> bool:
        """True when it can take out a clip that passes every rule."""
        return self.dedup is not None or self.sample is not None

    def columns(self) -> list[str]:
        """The columns it looks at, sorted; ``cluster`` comes from the vectors."""
        wanted: set[str] = set()
        if self.dedup is not None:
            wanted |= {name.removeprefix("-") for name in self.dedup.prefer}
        if self.sample is not None:
            wanted |= set(self.sample.columns()) - {"cluster"}
        return sorted(wanted)
