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
    if not 0 <= draw < 1:
        raise ValueError(f"draw must be in [0, 1), got {draw!r}")
    entries = [e for e in record.get("captions", ()) if e["weight"] > 0]
    if not entries:
        text = record.get("caption") or ""
        return (record.get("caption_kind") or "given", text) if text else ("", "")
    left = draw * math.fsum(e["weight"] for e in entries)
    for entry in entries:
        left -= entry["weight"]
        if left < 0:
            return entry["kind"], entry["text"]
    return entries[-1]["kind"], entries[-1]["text"]  # the sum was rounded up


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
