"""Colours of the strip, after Okabe and Ito, and after lightness where two are alike."""

from __future__ import annotations

from pipelines.strip.canvas import Color, rgb

KINDS = {
    "cut": rgb("#d55e00"),
    "dissolve": rgb("#0072b2"),
    "fade": rgb("#24292f"),
    "wipe": rgb("#009e73"),
}
OTHER_KIND = rgb("#a0528a")
CLIP_COLOR = rgb("#9fd0ee")
REASONS = {
    "transition": rgb("#6e7781"),
    "edge_trim": rgb("#e69f00"),
    "too_short": rgb("#f0e442"),
    "remainder": rgb("#cc79a7"),
    "surplus": rgb("#d9c6e8"),
    "damaged": rgb("#000000"),
}
OTHER_REASON = rgb("#c7ccd1")


def kind_color(kind: str) -> Color:
    """The colour of a kind of transition."""
    return KINDS.get(kind, OTHER_KIND)


def reason_color(reason: str) -> Color:
    """The colour of time that is in no clip."""
    return REASONS.get(reason, OTHER_REASON)
