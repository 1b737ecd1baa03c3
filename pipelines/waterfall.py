"""The waterfall on a terminal: one line per reason, with what is left drawn to scale."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from curation.judging.waterfall import Amount, Step, Waterfall

BAR_CHARS = 10
SECONDS_PER_HOUR = 3600
EIGHTHS = " ▏▎▍▌▋▊▉"


def print_waterfall(fall: Waterfall, console: Console | None = None) -> None:
    """Print what each step removes, in clips and hours.

    Args:
        fall: Counted by ``curation.judging.waterfall``.
        console: Where to; standard output by default.
    """
    console = console or Console()
    console.print(waterfall_table(fall))
    if fall.steps:
        console.print(
            "removed: gone at this step; all: clips that fail it; alone: clips that fail nothing "
            "else, which would pass the rules without it",
            style="dim",
            highlight=False,
        )


def waterfall_table(fall: Waterfall) -> Table:
    """The waterfall as a table of ``rich``; of less than an hour in seconds."""
    unit, scale = ("hours", 1) if fall.total.hours >= 1 else ("seconds", SECONDS_PER_HOUR)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("step", no_wrap=True)
    for name in ("removed", unit, "all", "alone", "left", f"{unit} left"):
        table.add_column(name, justify="right")
    table.add_column("", no_wrap=True)

    def add(name: Text, left: Amount, gone: Step | Amount | None = None) -> None:
        removed = gone.removed if isinstance(gone, Step) else gone
        counts = ("", "")
        if isinstance(gone, Step):
            counts = (f"{gone.at_all.clips:,}", f"{gone.alone.clips:,}")
        share = left.hours / fall.total.hours if fall.total.hours else 0.0
        table.add_row(
            *(
                name,
                *_both(removed, scale),
                *counts,
                *_both(left, scale),
                Text(_bar(share), "green"),
            )
        )

    add(Text("all clips"), fall.total)
    left = fall.total
    for name, gone in (("failed", fall.failed), ("not judged", fall.unjudged)):
        if gone.clips:
            left = Amount(left.clips - gone.clips, left.hours - gone.hours)
            add(Text(name, "red"), left, gone)
    for step in fall.steps:
        add(Text(step.reason), step.after, step)
    add(Text("kept", "bold green"), fall.kept)
    return table


def _bar(share: float) -> str:
    """A bar of ``BAR_CHARS``, drawn to an eighth of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * BAR_CHARS * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (EIGHTHS[rest] if rest else "")).ljust(BAR_CHARS)


def _both(amount: Amount | None, scale: int) -> tuple[str, str]:
    return ("", "") if amount is None else (f"{amount.clips:,}", f"{amount.hours * scale:,.1f}")
