"""Which caption of a sample is shown, and whether a caption forbids to mirror the pictures.

A sample's ``.json`` holds every usable text under ``captions`` with a relative weight; weight 0
stores a text that is never drawn. A draw divides by the sum over the texts that the clip really
has, so a clip without one kind needs no care.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

SIDES = re.compile(r"\b(left|right)", re.IGNORECASE)
"""Words that begin so: left, leftmost, right-hand, rightwards; not bright or upright."""


def choose_caption(record: Mapping[str, Any], draw: float) -> tuple[str, str]:
    """Draw a caption of a sample by weight.

    Args:
        record: The content of its ``.json``.
        draw: Uniform in [0, 1); the same number gives the same caption.

    Returns:
        Kind and text. When no text has a weight, the default caption; empty strings when there is
        none either.

    Raises:
        ValueError: The number is outside of [0, 1).
    """
    kind, text, _ = _drawable(record)[caption_number(record, draw)]
    return kind, text


def caption_number(record: Mapping[str, Any], draw: float) -> int:
    """Which of :func:`texts_of` is drawn.

    Raises:
        ValueError: The number is outside of [0, 1).
    """
    if not 0 <= draw < 1:
        raise ValueError(f"draw must be in [0, 1), got {draw!r}")
    weights = [weight for _, _, weight in _drawable(record)]
    left = draw * math.fsum(weights)
    for number, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return number
    return len(weights) - 1  # the sum was rounded up


def texts_of(record: Mapping[str, Any]) -> list[str]:
    """All texts that may be drawn, in the record's order; one empty text when there is none."""
    return [text for _, text, _ in _drawable(record)]


def _drawable(record: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Kind, text and weight of what may be drawn; without any, the default caption or none."""
    entries = [e for e in record.get("captions", ()) if e["weight"] > 0]
    if entries:
        return [(e["kind"], e["text"], e["weight"]) for e in entries]
    text = record.get("caption") or ""
    return [((record.get("caption_kind") or "given") if text else "", text, 1.0)]


def may_flip(record: Mapping[str, Any]) -> bool:
    """True when a sample may be mirrored: it would still be what its captions say.

    Refused where any caption, drawn or not, has a word that begins with left or right; where text
    is laid over the picture, or may be; and where nobody looked for such text: scores without
    ``overlay_text_fraction`` and ``unclear_text_fraction`` (stage ``text``), or without a value.
    Captions in other languages than English are not understood.

    Args:
        record: The content of its ``.json``.
    """
    scores = record.get("scores") or {}
    shown = (scores.get("overlay_text_fraction"), scores.get("unclear_text_fraction"))
    if any(fraction is None or fraction > 0 for fraction in shown):
        return False
    return not any(SIDES.search(text) for text in _texts(record))


def _texts(record: Mapping[str, Any]) -> Iterator[str]:
    yield record.get("caption") or ""
    for entry in record.get("captions") or ():
        yield entry.get("text") or ""
