"""Steps that would harm the weights: not finite, or a gradient far above the usual.

Such a step is skipped, counted, and said by name; too many in a row end the training, since a run
whose every step is skipped only looks as if it were training.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from curation.errors import BudgetError

Verdict = Literal["ok", "non_finite", "spike"]


class GuardSettings(BaseModel):
    """When a step is skipped, and when the training stops.

    Attributes:
        max_in_a_row: Skipped steps in a row that end the training.
        spike_factor: A step is skipped whose gradient norm, before clipping, is above this many
            times its running mean; 0: never.
        spike_after: Steps that enter the mean before it judges.
        decay: Of the running mean, per step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_in_a_row: int = Field(default=20, ge=1)
    spike_factor: float = Field(default=0.0, ge=0)
    spike_after: int = Field(default=50, ge=1)
    decay: float = Field(default=0.98, ge=0, lt=1)

    @field_validator("spike_factor")
    @classmethod
    def _above_the_mean(cls, value: float) -> float:
        if 0 < value <= 1:
            raise ValueError("is 0 (off) or above 1: half of all steps are below their mean")
        return value


class Guards:
    """Judges the steps of a training, one after the other.

    Args:
        settings: Limits.
        where: The run, for the error.

    Attributes:
        counts: Steps by verdict.
        in_a_row: Steps skipped since the last that was not.
    """

    def __init__(self, settings: GuardSettings, where: str = "") -> None:
        self.settings, self._where = settings, where
        self.counts: dict[Verdict, int] = {"ok": 0, "non_finite": 0, "spike": 0}
        self.in_a_row = 0
        self._sum = 0.0

    @property
    def skipped(self) -> int:
        """Steps without an update, in all."""
        return self.counts["non_finite"] + self.counts["spike"]

    @property
    def mean_norm(self) -> float | None:
        """Running mean of the gradient norms of steps that were not skipped; None before any.

        It is sum(decay^i * norm_i) over sum(decay^i), i steps ago: not drawn to zero at first (as
        Adam's means, Kingma and Ba 2015).
        """
        seen, decay = self.counts["ok"], self.settings.decay
        return self._sum / (1 - decay**seen) if seen else None

    def verdict(self, loss: float, norm: float) -> Verdict:
        """Judge a step before its update; anything but ``ok`` means to leave the update out.

        Args:
            loss: Of the whole step.
            norm: Of the whole gradient, before clipping.

        Raises:
            BudgetError: This is the last of ``max_in_a_row`` skipped steps.
        """
        found = self._judge(loss, norm)
        self.counts[found] += 1
        if found == "ok":
            self.in_a_row = 0
            self._sum = self.settings.decay * self._sum + (1 - self.settings.decay) * norm
            return found
        self.in_a_row += 1
        if self.in_a_row >= self.settings.max_in_a_row:
            what, mend = _TOLD[found]
            raise BudgetError(
                f"{self.in_a_row} steps in a row were skipped, the last since its {what}"
                f" (loss {loss:.4g}, norm {norm:.4g})",
                where=self._where,
                mend=mend,
            )
        return found

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON; floats come back the same."""
        return {"counts": dict(self.counts), "in_a_row": self.in_a_row, "sum": self._sum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.counts = {name: int(state["counts"][name]) for name in self.counts}
        self.in_a_row, self._sum = int(state["in_a_row"]), float(state["sum"])

    def _judge(self, loss: float, norm: float) -> Verdict:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return "non_finite"
        settings, mean = self.settings, self.mean_norm
        judging = settings.spike_factor and self.counts["ok"] >= settings.spike_after
        if judging and mean is not None and norm > settings.spike_factor * mean:
            return "spike"
        return "ok"


_TOLD: dict[Verdict, tuple[str, str]] = {
    "non_finite": (
        "loss or gradient is not finite",
        "another --out with a smaller optimizer.lr, or float32",
    ),
    "spike": (
        "gradient is far above the mean",
        "a larger guards.spike_factor, or another --out with a smaller optimizer.lr",
    ),
}
