"""The loss by noise and by bucket: an even mean hides which part of the data is not learnt.

Sums stay on the losses' device until they are asked for, so that a GPU is not waited for in each
step.
"""

from __future__ import annotations

import torch
from torch import Tensor


class StepMetrics:
    """Weighted means of the samples' losses, since they were last asked for.

    Args:
        sigma_parts: Equal parts of [0, 1] by which sigmas are told apart.

    Raises:
        ValueError: There is no part.
    """

    def __init__(self, sigma_parts: int = 4) -> None:
        if sigma_parts < 1:
            raise ValueError(f"sigma_parts is a whole number from 1, not {sigma_parts}")
        self._parts = sigma_parts
        self._by_sigma: Tensor | None = None
        self._by_bucket: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, *, bucket: str, sigmas_B: Tensor, losses_B: Tensor, weights_B: Tensor) -> None:
        """Count a microbatch.

        A sample whose loss is not finite, or that weighs nothing, is left out.

        Args:
            bucket: Name of the samples' shape.
            sigmas_B: Share of noise, 0 to 1.
            losses_B: Mean over the unknown positions of each sample.
            weights_B: Of each sample in the loss, at least 0.
        """
        losses, sigmas = losses_B.detach().double(), sigmas_B.to(losses_B.device).double()
        weights = weights_B.to(losses_B.device).double()
        weights = torch.where(losses.isfinite(), weights, 0.0)
        sums = torch.stack([torch.where(weights > 0, losses, 0.0) * weights, weights])
        part_of = (sigmas * self._parts).long().clamp(0, self._parts - 1)
        parts = torch.arange(self._parts, device=losses.device)
        by_sigma = sums @ (part_of[:, None] == parts).double()
        self._by_sigma = by_sigma if self._by_sigma is None else self._by_sigma + by_sigma
        own = sums.sum(1)
        self._by_bucket[bucket] = (
            self._by_bucket[bucket] + own if bucket in self._by_bucket else own
        )

    def rows(self) -> dict[str, float]:
        """Means by name, and begin anew; what no sample fell into is left out.

        ``loss_sigma_0.25_0.50`` is of sigmas in [0.25, 0.5), the last with its end;
        ``loss_bucket_NAME`` is of one bucket.
        """
        named: list[tuple[str, Tensor]] = []
        if self._by_sigma is not None:
            for part, sums in enumerate(self._by_sigma.unbind(1)):
                low, high = part / self._parts, (part + 1) / self._parts
                named.append((f"loss_sigma_{low:.2f}_{high:.2f}", sums))
        named += [
            (f"loss_bucket_{name}", self._by_bucket[name]) for name in sorted(self._by_bucket)
        ]
        self._by_sigma, self._by_bucket = None, {}
        if not named:
            return {}
        losses, weights = torch.stack([sums for _, sums in named]).cpu().unbind(1)
        both = zip(losses.tolist(), weights.tolist(), strict=True)
        return {
            name: loss / weight
            for (name, _), (loss, weight) in zip(named, both, strict=True)
            if weight > 0
        }
