"""A limit on calls and money that concurrent requests cannot run past.

Before a call its highest likely price is set aside; afterwards what it did cost takes the place of
that. The first call goes alone: how many tokens this model takes for a picture is learned from the
server's own count, and later estimates follow it. Used from one event loop; no locks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from curation.captions.backends.settings import Price


class BudgetSpent(Exception):
    """No further call fits into the budget."""


@dataclass
class Hold:
    """Money set aside for one call.

    Attributes:
        input_tokens: Estimated, before what was learned.
        money: Set aside.
    """

    input_tokens: float
    money: float


class Budget:
    """Counts calls and money.

    Args:
        price: Of the tokens; None: money is not counted.
        max_calls: Most HTTP requests, retries included; None: no limit.
        max_spend: Most money, in the price's currency; None: no limit.

    Attributes:
        calls: HTTP requests so far.
        spent: Money so far, by the server's counts; what may have been charged counts as charged.
    """

    def __init__(
        self, price: Price | None, max_calls: int | None = None, max_spend: float | None = None
    ) -> None:
        self._price, self._max_calls, self._max_spend = price, max_calls, max_spend
        self.calls, self.spent = 0, 0.0
        self._held = 0.0
        self._num_held = 0
        self._ratio: float | None = None
        self._changed = asyncio.Condition()

    @property
    def counts_money(self) -> bool:
        """True when calls need an estimate."""
        return self._max_spend is not None

    async def hold(self, input_tokens: float, max_output_tokens: int) -> Hold:
        """Set aside what a call may cost; waits while others still have to settle.

        Raises:
            BudgetSpent: It does not fit.
        """
        async with self._changed:
            while True:
                if self._max_calls is not None and self.calls >= self._max_calls:
                    raise BudgetSpent(f"max_calls_per_run of {self._max_calls} is reached")
                money = self._worst(input_tokens, max_output_tokens)
                if self._fits(money):
                    break
                if self._num_held == 0:
                    raise BudgetSpent(
                        f"{self.spent:.4f} of max_spend {self._max_spend:g} are spent, and the"
                        f" next call may cost {money:.4f}"
                    )
                await self._changed.wait()
            self.calls += 1
            self._held += money
            self._num_held += 1
            return Hold(input_tokens, money)

    async def settle(
        self, hold: Hold, used: tuple[int | None, int | None] | None, *, charged: bool = True
    ) -> None:
        """Replace a hold by what the call did cost.

        Args:
            hold: Of the call.
            used: Input and output tokens; None: the server gave no count.
            charged: False for calls that no server charges for.
        """
        input_tokens, output_tokens = used or (None, None)
        async with self._changed:
            self._held -= hold.money
            self._num_held -= 1
            if input_tokens is None:
                self._ratio = self._ratio or (1.0 if charged else None)
            elif hold.input_tokens > 0:
                self._ratio = max(self._ratio or 0.0, input_tokens / hold.input_tokens)
            if charged and self._price is not None:
                if input_tokens is None or output_tokens is None:
                    self.spent += hold.money
                else:
                    self.spent += self._price.of(input_tokens, output_tokens)
            self._changed.notify_all()

    def _fits(self, money: float) -> bool:
        if self._max_spend is None:
            return True
        if self._ratio is None and self._num_held:
            return False  # the first call goes alone
        return self.spent + self._held + money <= self._max_spend

    def _worst(self, input_tokens: float, max_output_tokens: int) -> float:
        if self._price is None or self._max_spend is None:
            return 0.0
        return self._price.of(round(input_tokens * (self._ratio or 1.0)), max_output_tokens)
