"""What the parts of the embedded captioner hand over: sentences, and when they hold."""

from __future__ import annotations

from dataclasses import dataclass

AT_ONCE_S = 1.0
"""A shorter event is told by one time, a longer one by two."""
AT_THE_EDGE_S = 0.5
"""What begins or ends so near to the clip's ends begins or ends with it, as far as anyone sees."""


@dataclass(frozen=True)
class Said:
    """One statement.

    Attributes:
        sentence: A whole sentence; empty for what is told as an event alone.
        span_s: When it happens, in the clip's time; None: all along.
        event: The same for the list of events, without the times.
    """

    sentence: str
    span_s: tuple[float, float] | None = None
    event: str = ""


def seconds(start_s: float, end_s: float, duration_s: float) -> str:
    """When something happens, in words: ``from 2 s to 4 s``, ``at about 3 s``, ``at the start``."""
    first, last = start_s <= AT_THE_EDGE_S, end_s >= duration_s - AT_THE_EDGE_S
    if end_s - start_s <= AT_ONCE_S:
        if first:
            return "at the start"
        return "at the end" if last else f"at about {number((start_s + end_s) / 2)} s"
    if first:
        return "all along" if last else f"until about {number(end_s)} s"
    return (
        f"from about {number(start_s)} s on"
        if last
        else f"from about {number(start_s)} s to {number(end_s)} s"
    )


def between(start_s: float, end_s: float) -> str:
    """When something happened that was not seen itself: somewhere between two looks."""
    if end_s - start_s <= AT_ONCE_S + 0.1:
        return f"at about {number((start_s + end_s) / 2)} s"
    return f"between about {number(start_s)} s and {number(end_s)} s"


def number(value: float) -> str:
    """Seconds with at most one digit, as a person would give them."""
    return f"{round(value, 1):g}" if value < 10 else f"{round(value):d}"


def listed(words: tuple[str, ...] | list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
