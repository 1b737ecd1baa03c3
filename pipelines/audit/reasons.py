"""Reasons in words: the name of a step of the funnel, and where it stands in the order of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipelines.audit.thresholds import Threshold

Kind = Literal["bound", "null", "text", "rights", "duplicate", "held_out", "sample", "other"]
ORDER: tuple[Kind, ...] = (
    *("rights", "bound", "text", "null", "other", "duplicate", "held_out", "sample"),
)
"""Rights come first and what is decided over all clips last; rules lie between, all at once."""
LEVELS = {
    "exact": "the very same frames",
    "perceptual": "looks the same",
    "semantic": "shows the same",
}
SAMPLE_WORDS = {
    "over_source_cap": "its source has had its share",
    "over_video_cap": "its video has had its share",
    "over_duration_mix": "enough clips of this length",
    "over_cluster_cap": "enough clips that look like this",
    "over_total": "the dataset is as large as was asked for",
}


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A reason taken apart.

    Attributes:
        code: As in the catalog.
        kind: Which part of the judgement gave it.
        about: The column, the field of the rights, the level, or the code itself.
        word: ``low``, ``high``, ``missing``, ``denied``, ``unlisted``, or empty.
    """

    code: str
    kind: Kind
    about: str
    word: str = ""


def parse(code: str) -> Parsed:
    """Take a reason apart; an error code is ``other``."""
    head, _, rest = code.partition("_")
    if rest and head in ("low", "high"):
        return Parsed(code=code, kind="bound", about=rest, word=head)
    if rest and head == "null":
        return Parsed(code=code, kind="null", about=rest)
    if rest and head == "not":
        return Parsed(code=code, kind="text", about=rest)
    word, _, field = rest.partition("_")
    if head == "rights" and field and word in ("missing", "denied", "unlisted"):
        return Parsed(code=code, kind="rights", about=field, word=word)
    if head == "duplicate" and rest in LEVELS:
        return Parsed(code=code, kind="duplicate", about=rest)
    if code.startswith("held_out_") and code.removeprefix("held_out_") in LEVELS:
        return Parsed(code=code, kind="held_out", about=code.removeprefix("held_out_"))
    if code in SAMPLE_WORDS or head == "over":
        return Parsed(code=code, kind="sample", about=code)
    return Parsed(code=code, kind="other", about=code)


def label(code: str, thresholds: Mapping[str, Threshold]) -> str:
    """A reason as the name of a step: ``sharpness below 0.06``.

    Args:
        code: The reason.
        thresholds: The general thresholds by reason.
    """
    found = parse(code)
    if found.kind == "bound":
        side = "below" if found.word == "low" else "above"
        known = thresholds.get(code)
        bound = "its bound" if known is None or known.value is None else f"{known.value:g}"
        return f"{found.about} {side} {bound}"
    if found.kind == "null":
        return f"{found.about} is missing"
    if found.kind == "text":
        return f"{found.about} is not a wanted value"
    if found.kind == "rights":
        words = {"missing": "is not known", "denied": "is refused", "unlisted": "is not allowed"}
        return f"rights: {found.about.replace('_', ' ')} {words[found.word]}"
    if found.kind == "duplicate":
        return f"duplicate: {LEVELS[found.about]}"
    if found.kind == "held_out":
        return f"held out: {LEVELS[found.about]} as a reference"
    if found.kind == "sample":
        return f"sampling: {SAMPLE_WORDS.get(code, code.replace('_', ' '))}"
    return code.replace("_", " ")


def place(code: str, columns: Mapping[str, int]) -> tuple[int, int, str]:
    """Where a reason stands in the order of steps.

    Args:
        code: The reason.
        columns: Column -> its place in the plan.
    """
    found = parse(code)
    return ORDER.index(found.kind), columns.get(found.about, len(columns)), code
