"""When to ask a server again: back-off with jitter, ``Retry-After``, and a pause for all.

The waits double from ``first_s`` up to a limit, each with "equal jitter": between half of it and
all of it, so that clients that failed together do not come back together (Brooker, "Exponential
Backoff and Jitter", AWS Architecture Blog, 2015). ``Retry-After`` is read as RFC 9110, 10.2.3 has
it, and as the ``retry-after-ms`` of OpenAI's servers.
"""

from __future__ import annotations

import email.utils
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """How often to try again, and how long to wait before.

    Attributes:
        max_retries: Tries after the first.
        max_wait_s: Longest wait between two tries.
        first_s: Wait before the first retry, before jitter.
    """

    max_retries: int
    max_wait_s: float
    first_s: float = 1.0

    def delay_s(self, retry: int, rng: random.Random) -> float:
        """Seconds to wait before a retry.

        Args:
            retry: 0 for the first.
            rng: Where the jitter comes from.
        """
        whole = min(self.max_wait_s, self.first_s * 2.0 ** min(retry, 60))
        return whole * rng.uniform(0.5, 1.0)


def retry_after_s(headers: Mapping[str, str], now_s: float | None = None) -> float | None:
    """Seconds that a server asks to wait; None when it says nothing usable.

    Args:
        headers: Of its response; names are looked up as given here, in lower case.
        now_s: Unix time, for dates; None: the clock's.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            asked_s = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(asked_s):
            return max(0.0, asked_s)
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError, TypeError):
        return None
    return max(0.0, date.timestamp() - (time.time() if now_s is None else now_s))


class Pause:
    """A time before which nobody asks: what one request was told holds for all."""

    def __init__(self) -> None:
        self._until_s = 0.0

    def extend(self, seconds: float) -> None:
        """Nobody asks for so long from now."""
        self._until_s = max(self._until_s, time.monotonic() + seconds)

    def left_s(self) -> float:
        """Seconds until asking is allowed; 0 when it is."""
        return max(0.0, self._until_s - time.monotonic())
