"""The comparison as one HTML file with pictures: clips that were lost, gained, or changed most.

Like a run's page it needs nothing but itself: no script, no network, everything escaped. Pictures
are the frames stored while decoding; their number and bytes are bounded.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, PackageLoader

from curation.catalog.views import Views
from pipelines.compare.comparison import Comparison
from pipelines.compare.scratch import Scratch, quoted
from pipelines.compare.terminal import brief, value_text
from pipelines.report.page import page_environment
from pipelines.report.pictures import Picture, choose_frames, shrink
from pipelines.report.words import shorten, source_label, timecode

MAX_CARDS = 24
"""Most clips shown of each kind."""
MAX_PICTURE_BYTES = 12_000_000
"""Of all data URIs together."""
MAX_ROWS = 300
"""Most settings, scores, ... in one table."""
TEXT_CHARS = 300
NO_CARDS = {"lost": [], "gained": [], "changed": [], "captions": []}


@dataclass(kw_only=True)
class Card:
    """What the page shows of one clip.

    Attributes:
        clip_id: Its id.
        name: Its source's name.
        span: ``0:10.0 to 0:20.0``.
        why: Reasons, one per badge.
        facts: Lines of text: what changed.
        pictures: Up to three frames.
        note: What is special about the pictures.
    """

    clip_id: str
    name: str
    span: str
    why: list[str] = field(default_factory=list)
    facts: list[tuple[str, str, str]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    note: str = ""


def write_page(found: Comparison, scratch: Scratch, path: Path) -> None:
    """Write the page of a comparison.

    Args:
        found: The comparison.
        scratch: The database it was made in.
        path: A local file; replaced at once when it is there.
    """
    environment = page_environment()
    environment.loader = ChoiceLoader(
        [PackageLoader("pipelines.compare", ""), PackageLoader("pipelines.report", "")]
    )
    environment.filters |= {"brief": brief, "side_value": value_text}
    html = environment.get_template("compare.html").render(
        found=found,
        by_name={c.name: c for c in found.account},
        cards=_cards(found, scratch) if found.fates is not None else NO_CARDS,
        max_rows=MAX_ROWS,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(html.encode("utf-8", "replace"))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _cards(found: Comparison, scratch: Scratch) -> dict[str, list[Card]]:
    """Cards of lost, gained, changed and re-captioned clips."""
    budget = [MAX_PICTURE_BYTES]
    cards: dict[str, list[Card]] = {"captions": []}
    for kind, side in (("lost", "a"), ("gained", "b")):
        chosen = _alone(scratch, side)
        cards[kind] = _draw(found, side, list(chosen), budget)
        for card in cards[kind]:
            card.why = [shorten(reason, 80) for reason in chosen[card.clip_id]]
    moved = _moved(found, scratch)
    cards["changed"] = _draw(found, "b", list(moved), budget)
    for card in cards["changed"]:
        card.facts = [moved[card.clip_id]]
    if found.captions is not None and found.captions.changed:
        told = _captions(found, scratch)
        cards["captions"] = _draw(found, "b", list(told), budget)
        for card in cards["captions"]:
            card.facts = [told[card.clip_id]]
    return cards


def _alone(scratch: Scratch, side: str) -> dict[str, list[str]]:
    """Clips that only one side keeps: reason by reason in turn, each in the order of a hash."""
    rows = scratch.rows(
        f"""WITH turns AS (
            SELECT clip_id, why, row_number() OVER (
                PARTITION BY why[1] ORDER BY md5(clip_id)) AS turn
            FROM fate_{side} WHERE fate = 'alone')
        SELECT clip_id, why FROM turns ORDER BY turn, why[1], clip_id LIMIT {MAX_CARDS}"""
    )
    return {r["clip_id"]: r["why"] for r in rows}


def _moved(found: Comparison, scratch: Scratch) -> dict[str, tuple[str, str, str]]:
    """Clips kept in both with the largest change of a score, in standard deviations of A."""
    scales = {s.column: s.a.sd for s in found.shifts if s.paired.num_changed and s.a.sd}
    if not scales:
        return {}
    sizes = ", ".join(
        f"{{'size': coalesce(abs(b.{quoted(c)} - a.{quoted(c)}) / {sd!r}, 0), "
        f"'i': {i}, 'a': a.{quoted(c)}, 'b': b.{quoted(c)}}}"
        for i, (c, sd) in enumerate(scales.items())
    )
    rows = scratch.rows(
        f"""SELECT clip_id, most.i AS i, most.a AS x, most.b AS y FROM (
            SELECT clip_id, list_max([{sizes}]) AS most FROM a JOIN b USING (clip_id)
            WHERE a.verdict = 'kept' AND b.verdict = 'kept')
        WHERE most.size > 0 ORDER BY most.size DESC, clip_id LIMIT {MAX_CARDS}"""
    )
    names = list(scales)
    return {r["clip_id"]: (names[r["i"]], brief(r["x"]), brief(r["y"])) for r in rows}


def _captions(found: Comparison, scratch: Scratch) -> dict[str, tuple[str, str, str]]:
    """Some clips whose caption differs, with both texts."""
    rows = scratch.rows(
        f"""SELECT clip_id FROM a JOIN b USING (clip_id)
        WHERE a.verdict = 'kept' AND b.verdict = 'kept'
            AND a."caption digest" <> b."caption digest"
        ORDER BY md5(clip_id) LIMIT {MAX_CARDS}"""
    )
    ids = [r["clip_id"] for r in rows]
    texts = [_texts(found, side, ids) for side in ("a", "b")]
    return {c: ("caption", texts[0].get(c, ""), texts[1].get(c, "")) for c in ids}


def _texts(found: Comparison, side: str, ids: Sequence[str]) -> dict[str, str]:
    """The medium caption of some clips, or the short one."""
    views = _views(found, side)
    known = set(views.columns("clips")) if views is not None else set()
    kinds = [c for c in ("caption_medium", "caption_short", "caption_long") if c in known]
    if views is None or not kinds or not ids:
        return {}
    clips = views.clips(["clip_id", *kinds])
    text = f"coalesce({', '.join(kinds)})"
    rows = views.query(
        f"SELECT clip_id, {text} AS text FROM ({clips}) WHERE clip_id IN ({_literals(ids)})"
    )
    return {r["clip_id"]: shorten(r["text"], TEXT_CHARS) for r in rows.to_pylist()}


def _draw(found: Comparison, side: str, ids: Sequence[str], budget: list[int]) -> list[Card]:
    """Cards with pictures in the given order; the budget's bytes are used up."""
    views = _views(found, side)
    if views is None or not ids:
        return []
    wanted = views.clips(["clip_id", "video_id", "start_s", "end_s", "uri"])
    rows = views.query(f"SELECT * FROM ({wanted}) WHERE clip_id IN ({_literals(ids)})")
    by_id = {r["clip_id"]: r for r in rows.to_pylist()}
    chosen = [by_id[c] for c in ids if c in by_id]
    catalog = found.a.catalog if side == "a" else found.b.catalog
    stored = catalog is not None and "frames" in catalog.current().tables
    frames = choose_frames(views, chosen) if stored else {}
    cards = []
    for row in chosen:
        card = Card(
            clip_id=row["clip_id"],
            name=source_label(row["uri"] or ""),
            span=f"{timecode(row['start_s'])} to {timecode(row['end_s'])}",
        )
        _add_pictures(card, row, frames.get(row["clip_id"], {}), views, budget)
        cards.append(card)
    return cards


def _add_pictures(
    card: Card, row: dict[str, Any], frames: dict[str, Any], views: Views, budget: list[int]
) -> None:
    """Read, shrink and attach the stored frames of one clip."""
    keys = ("first", "middle", "last")
    numbers = {int(frames[k]) for k in keys if frames.get(k) is not None}
    if not numbers and frames.get("nearest") is not None:
        numbers = {int(frames["nearest"])}
        card.note = "no stored frame inside this clip; the nearest is shown"
    if not numbers or budget[0] <= 0:
        card.note = "no stored frame" if not numbers else "not shown: the page would grow too big"
        return
    rows = views.query(
        f"""SELECT sample_time_s, jpeg FROM frames WHERE video_id = {_literals([row["video_id"]])}
        AND sample_frame_index IN ({", ".join(str(n) for n in sorted(numbers))})
        ORDER BY sample_time_s"""
    )
    for frame in rows.to_pylist():
        picture = shrink(frame["jpeg"], frame["sample_time_s"])
        if picture is not None and len(picture.data_uri) <= budget[0]:
            budget[0] -= len(picture.data_uri)
            card.pictures.append(picture)


def _views(found: Comparison, side: str) -> Views | None:
    catalog = (found.a if side == "a" else found.b).catalog
    return None if catalog is None else Views(catalog)


def _literals(texts: Sequence[str]) -> str:
    return ", ".join("'" + t.replace("'", "''") + "'" for t in texts)
