"""The captions of a sample: which texts a clip has, and their weights in a trainer's draw.

A sample's ``.json`` holds every usable text under ``captions``, so one clip can be trained on with
captions of several lengths and styles. The kinds:

``given``      of the manifest, or the ``.txt`` beside the source; describes the whole video
``short`` ``medium`` ``long`` ``temporal``    by the captioner; of the clip, as all that follow
``speech``     what is said inside the clip: subtitles or a transcript
``style:NAME`` a rewrite of the caption in a style of the settings

Weights are relative and stored as they are set: a draw divides by the sum over the texts that the
clip really has, so a clip without one kind needs no care. Weight 0 stores a text that is never
drawn. Speech has 0 by default: it says what is heard, not what is seen.

The ``.txt`` and ``caption`` hold one text, the first of ``caption_default`` that a clip has. What
the user gave comes first: turning a captioner on replaces nobody's own words. For long videos of
many clips, whose given text fits no single clip, set ``[medium, short, given]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.captions.tables import CAPTIONS, CHECKS, REWRITES, SUBTITLES

if TYPE_CHECKING:  # a trainer that draws captions needs no catalog
    from curation.catalog.catalog import Catalog
    from curation.catalog.views import Views

WRITTEN = ("short", "medium", "long", "temporal")
KINDS = ("given", *WRITTEN, "speech")
STYLE = "style:"
ANY_STYLE = "style:*"
DEFAULT_WEIGHTS: dict[str, float] = {
    **{"given": 1.0, "short": 1.0, "medium": 1.0, "long": 1.0, "temporal": 0.5},
    **{"speech": 0.0, ANY_STYLE: 1.0},
}
DEFAULT_ORDER = ("given", "medium", "short", "long", "temporal")
"""Without speech and styles: a transcript describes nothing, a style is a matter of choice."""

COLUMNS = (
    *(f"caption_{kind}" for kind in WRITTEN),
    *("caption_model", "caption_prompt", "rewrite_model"),
    *("caption_flags", "caption_contradictions", "caption_num_flags"),
    *("caption_language", "caption_alignment", "caption_alignment_model"),
    *("subtitle_text", "subtitle_language", "subtitle_source"),
)
"""Read from the view ``clips`` where the plan has them."""
OWN_COLUMNS = frozenset(
    name for table in (CAPTIONS, CHECKS, REWRITES, SUBTITLES) for name in table.names
) - {"clip_id"}
"""Columns about captions: no scores, in whatever order the plan has its stages."""
REWRITE_COLUMNS = {"style", "text", "prompt", "refused"}
ALIGNMENT_DIGITS = 4


def check_kind(kind: str) -> str:
    """A kind of caption that can be asked for by name.

    Raises:
        ValueError: There is no such kind.
    """
    if kind in KINDS or (kind.startswith(STYLE) and len(kind) > len(STYLE)):
        return kind
    raise ValueError(f"no caption is of kind {kind!r}; kinds: {', '.join(KINDS)}, style:NAME")


def full_weights(given: Mapping[str, float]) -> dict[str, float]:
    """The weights of all kinds: those given, and the defaults of the others.

    Raises:
        ValueError: An unknown kind, or a weight that is negative or not finite.
    """
    for kind, weight in given.items():
        check_kind(kind)
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"the weight of {kind} is {weight:g}: it must be 0 or more")
    return DEFAULT_WEIGHTS | dict(given)


def weight_of(kind: str, weights: Mapping[str, float]) -> float:
    """The weight of a kind; styles without one of their own have that of ``style:*``."""
    if kind in weights:
        return weights[kind]
    return weights.get(ANY_STYLE, 0.0) if kind.startswith(STYLE) else 0.0


@dataclass(frozen=True)
class CaptionQuery:
    """What to add to a query over the view ``clips`` for the captions to come with its rows.

    Attributes:
        columns: Of ``clips``, by name.
        more: Further expressions to select.
        joins: SQL to follow ``FROM clips``.
    """

    columns: tuple[str, ...]
    more: tuple[str, ...]
    joins: str


def caption_query(catalog: Catalog, views: Views) -> CaptionQuery:
    """The query's parts for what this dataset has; a plan without captioning has little."""
    known = set(views.columns("clips"))
    more, joins = [], ""
    if "caption_origin" in catalog.dataset("sources").schema.names:
        more.append("caption_origin")
        joins += " LEFT JOIN (SELECT uri, caption_origin FROM raw_sources) USING (uri)"
    if table := rewrite_table(catalog):
        more.append("rewrites")
        joins += f""" LEFT JOIN (
            SELECT clip_id, list({{'style': style, 'text': text, 'prompt': prompt}}
                ORDER BY style, text, prompt) AS rewrites
            FROM "{table}" WHERE refused IS NULL GROUP BY clip_id) USING (clip_id)"""
    return CaptionQuery(tuple(c for c in COLUMNS if c in known), tuple(more), joins)


def rewrite_table(catalog: Catalog) -> str | None:
    """The table that holds the texts of rewrites; None where the plan has none."""
    tables = [t for t in catalog.current().tables if catalog.has(t)]
    return next(
        (t for t in tables if set(catalog.dataset(t).schema.names) >= REWRITE_COLUMNS), None
    )


def captions_of(row: Mapping[str, Any], weights: Mapping[str, float]) -> list[dict[str, Any]]:
    """All texts of a clip, in a fixed order.

    Args:
        row: A row of a query made with :func:`caption_query`.
        weights: Of all kinds.

    Returns:
        ``{"kind", "text", "weight", "source", "model", "scope"}``; ``source`` is manifest, sidecar,
        input (of a dataset made before the two were told apart), captioner, stream, transcript or
        rewriter; ``scope`` what the text describes, clip or video. ``prompt`` and ``language``
        where there is one.
    """
    entries = []
    for entry in _texts(row):
        entry["text"] = (entry["text"] or "").strip()
        if entry["text"]:
            entry["weight"] = weight_of(entry["kind"], weights)
            entries.append({k: v for k, v in entry.items() if v is not None or k == "model"})
    return entries


def default_of(entries: Sequence[Mapping[str, Any]], order: Sequence[str]) -> Mapping[str, Any]:
    """The first text by an order of kinds; empty when the clip has none of them."""
    first = {e["kind"]: e for e in reversed(entries)}
    styled = (e for e in entries if e["kind"].startswith(STYLE))
    if (one := next(styled, None)) is not None:
        first[ANY_STYLE] = one
    return next((first[kind] for kind in order if kind in first), {})


def checks_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the checks found of the captioner's text; None where none were made.

    Returns:
        ``flags`` by code, ``contradictions`` in sentences, ``language``, ``alignment`` (cosine of
        caption and clip) and the ``model`` that measured it.
    """
    if row.get("caption_num_flags") is None:
        return None
    alignment = row.get("caption_alignment")
    return {
        "flags": list(row.get("caption_flags") or ()),
        "contradictions": list(row.get("caption_contradictions") or ()),
        "language": row.get("caption_language"),
        "alignment": None if alignment is None else round(alignment, ALIGNMENT_DIGITS),
        "model": row.get("caption_alignment_model"),
    }


def _texts(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Candidates, some without text."""
    yield {
        "kind": "given",
        "text": row["caption"],
        "source": row.get("caption_origin") or "input",
        "model": None,
        "scope": "video",
    }
    for kind in WRITTEN:
        yield {
            "kind": kind,
            "text": row.get(f"caption_{kind}"),
            "source": "captioner",
            "model": row.get("caption_model"),
            "prompt": row.get("caption_prompt"),
            "scope": "clip",
        }
    yield {
        "kind": "speech",
        "text": row.get("subtitle_text"),
        "source": (row.get("subtitle_source") or "").partition(":")[0],
        "model": None,
        "language": row.get("subtitle_language"),
        "scope": "clip",
    }
    for rewrite in row.get("rewrites") or ():
        yield {
            "kind": STYLE + rewrite["style"],
            "text": rewrite["text"],
            "source": "rewriter",
            "model": row.get("rewrite_model"),
            "prompt": rewrite["prompt"],
            "scope": "clip",
        }
