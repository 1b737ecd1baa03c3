"""Contact sheets: a fair, repeatable sample of kept and of rejected clips, three frames each.

Clips are drawn in the order of a seeded hash, so the same catalog and seed give the same page.
Rejected clips are drawn reason by reason in turn, so that a rare reason is seen beside a frequent
one. Pictures are the samples stored while decoding; those of the chosen clips alone are read.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import cv2
import numpy as np

from curation.catalog.views import Views
from pipelines.report.charts import quoted
from pipelines.report.words import Reason, explain, number, shorten, source_label, timecode

THUMB_BOX_PX = (240, 200)
"""Widest and tallest thumbnail."""
THUMB_QUALITY = 78
MAX_PAGE_PICTURE_BYTES = 14_000_000
"""Of all data URIs together: the page has to stay below 20 MB."""
MAX_SCORES = 4
FIRST_SCORES = ("sharpness", "motion_per_s", "luma_mean", "static_fraction")
"""Shown on every clip when they exist, before the other judged columns."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One thumbnail: a JPEG as data URI, its size, and its time in the video."""

    data_uri: str
    width_px: int
    height_px: int
    time: str


@dataclass(kw_only=True)
class Card:
    """What a contact sheet shows of one clip.

    Attributes:
        clip_id: Its id.
        name: Its source's name.
        title: The title that was given for the source.
        caption: The caption that was given for the source.
        span: ``0:10.0 - 0:20.0``.
        facts: Length and displayed size.
        reasons: Why it is not kept.
        scores: ``(column, value)`` of the most telling judged columns.
        pictures: Up to three frames.
        note: What is special about the pictures.
    """

    clip_id: str
    name: str
    title: str
    caption: str
    span: str
    facts: str
    reasons: list[Reason]
    scores: list[tuple[str, str]]
    pictures: list[Picture] = field(default_factory=list)
    note: str = ""


@dataclass
class _Budget:
    """Bytes of pictures that the page may still take in."""

    left: int


def contact_sheets(
    views: Views,
    rules: Mapping[str, Any],
    *,
    num_kept: int,
    num_rejected: int,
    max_pictures: int,
    seed: int,
) -> dict[str, list[Card]]:
    """Cards of sampled clips by verdict, ``kept`` and ``rejected``.

    Args:
        views: The catalog; its ``clips`` view must exist.
        rules: Column -> ``{min, max, if_null}``.
        num_kept: Kept clips there are.
        num_rejected: Rejected clips there are.
        max_pictures: Most clips shown. A third is for rejected clips; what one sheet does not
            need goes to the other.
        seed: Of the sample.
    """
    rejected = min(num_rejected, max(max_pictures // 3, max_pictures - num_kept))
    kept = min(num_kept, max_pictures - rejected)
    budget = _Budget(MAX_PAGE_PICTURE_BYTES)
    # Rejected clips first: they are fewer, and the ones to look at.
    return {
        "rejected": _cards(views, rules, sample_rejected(views, rejected, seed), budget),
        "kept": _cards(views, rules, sample_kept(views, kept, seed), budget),
    }


def sample_kept(views: Views, count: int, seed: int) -> list[str]:
    """Ids of ``count`` kept clips, the first in the order of a seeded hash."""
    if count <= 0:
        return []
    sql = f"""SELECT arg_min(clip_id, {_hash(seed)}, {count}) AS ids
        FROM clips WHERE verdict = 'kept'"""
    return views.query(sql).to_pylist()[0]["ids"] or []


def sample_rejected(views: Views, count: int, seed: int) -> list[str]:
    """Ids of ``count`` rejected clips: one per reason in turn, each by seeded hash."""
    if count <= 0:
        return []
    sql = f"""SELECT reason, arg_min(clip_id, {_hash(seed)}, {count}) AS ids FROM (
            SELECT clip_id, unnest(reasons) AS reason FROM clips WHERE verdict = 'rejected')
        GROUP BY reason ORDER BY count(*), reason LIMIT {count}"""
    by_reason = [row["ids"] for row in views.query(sql).to_pylist()]
    turns = (clip for turn in zip_longest(*by_reason) for clip in turn if clip is not None)
    return list(dict.fromkeys(turns))[:count]


def _hash(seed: int) -> str:
    return f"md5(concat({int(seed)}, ':', clip_id))"


def _cards(
    views: Views, rules: Mapping[str, Any], clip_ids: Sequence[str], budget: _Budget
) -> list[Card]:
    """Cards in the given order; those that no longer fit the page are left out."""
    if not clip_ids:
        return []
    known = set(views.columns("clips"))
    judged = [c for c in sorted(rules) if c in known]
    judged.sort(key=lambda c: FIRST_SCORES.index(c) if c in FIRST_SCORES else len(FIRST_SCORES))
    columns = "".join(f", {quoted(c)}" for c in judged if c not in ("width_px", "height_px"))
    rows = views.query(
        f"""SELECT clip_id, video_id, uri, title, caption, reasons, start_s, end_s,
            width_px, height_px{columns} FROM clips WHERE clip_id IN ({_literals(clip_ids)})"""
    ).to_pylist()
    by_id = {row["clip_id"]: row for row in rows}
    chosen = [by_id[c] for c in clip_ids if c in by_id]
    frames = choose_frames(views, chosen)
    cards = []
    for row in chosen:
        if budget.left <= 0:
            break
        card = _card(row, rules, judged)
        _add_pictures(card, row, frames.get(row["clip_id"], {}), views, budget)
        cards.append(card)
    return cards


def _card(row: Mapping[str, Any], rules: Mapping[str, Any], judged: Sequence[str]) -> Card:
    reasons = [explain(code, row, rules) for code in row["reasons"] or []]
    facts = f"{row['end_s'] - row['start_s']:.1f} s"
    if row["width_px"] and row["height_px"]:
        facts += f", {row['width_px']}x{row['height_px']}"
    shown = [c for c in judged if c not in ("width_px", "height_px")][:MAX_SCORES]
    return Card(
        clip_id=row["clip_id"],
        name=source_label(row["uri"] or ""),
        title=shorten(row["title"], 120),
        caption=shorten(row["caption"], 200),
        span=f"{timecode(row['start_s'])} to {timecode(row['end_s'])}",
        facts=facts,
        reasons=reasons,
        scores=[(c, "null" if row[c] is None else f"{float(row[c]):.3g}") for c in shown],
    )


def choose_frames(views: Views, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each clip the stored frames to show, chosen in SQL: no row per sample leaves it.

    Args:
        views: The catalog.
        rows: ``clip_id, video_id, start_s, end_s`` of the clips.

    Returns:
        Clip id -> frame numbers ``first``, ``middle`` and ``last`` inside the clip, or None, and
        ``nearest`` to it with its distance ``off_s``. Clips of videos without samples are missing.
    """
    if not rows:
        return {}
    values = ", ".join(
        f"({_literal(r['clip_id'])}, {_literal(r['video_id'])}, "
        f"CAST({r['start_s']!r} AS DOUBLE), CAST({r['end_s']!r} AS DOUBLE))"
        for r in rows
    )
    videos = _literals(sorted({r["video_id"] for r in rows}))
    found = views.query(
        f"""WITH chosen(clip_id, video_id, start_s, end_s) AS (VALUES {values}), stored AS (
            SELECT video_id, sample_frame_index AS i, sample_time_s AS t FROM frames
            WHERE video_id IN ({videos})
        ), near AS (
            SELECT clip_id, i, t, abs(t - (start_s + end_s) / 2) AS from_middle,
                t >= start_s AND t < end_s AS inside,
                CASE WHEN t < start_s THEN t - start_s WHEN t >= end_s THEN t - end_s ELSE 0 END
                    AS off_s
            FROM stored JOIN chosen USING (video_id)
        )
        SELECT clip_id, arg_min(i, t) FILTER (inside) AS first,
            arg_min(i, from_middle) FILTER (inside) AS middle,
            arg_max(i, t) FILTER (inside) AS last,
            arg_min(i, abs(off_s)) AS nearest, arg_min(off_s, abs(off_s)) AS off_s
        FROM near GROUP BY clip_id"""
    )
    return {row["clip_id"]: row for row in found.to_pylist()}


def _add_pictures(
    card: Card, row: Mapping[str, Any], frames: Mapping[str, Any], views: Views, budget: _Budget
) -> None:
    """Read, shrink and attach the pictures of one clip."""
    if not frames:
        card.note = "no frame of this video was sampled"
        return
    numbers = [frames[k] for k in ("first", "middle", "last") if frames[k] is not None]
    if not numbers:
        numbers = [frames["nearest"]]
        side = "before its start" if frames["off_s"] < 0 else "after its end"
        distance = number(round(abs(frames["off_s"]), 2))
        card.note = f"no sampled frame inside this clip; the nearest lies {distance} s {side}"
    wanted = ", ".join(str(int(n)) for n in numbers)
    stored = views.query(
        f"""SELECT sample_time_s, jpeg FROM frames WHERE video_id = {_literal(row["video_id"])}
        AND sample_frame_index IN ({wanted}) ORDER BY sample_time_s"""
    )
    for frame in stored.to_pylist():
        picture = shrink(frame["jpeg"], frame["sample_time_s"])
        if picture is None:
            card.note = "a sampled frame of this clip cannot be read"
            continue
        budget.left -= len(picture.data_uri)
        card.pictures.append(picture)


def shrink(jpeg: bytes, time_s: float) -> Picture | None:
    """A stored sample as a small data URI; None when it is no picture.

    Args:
        jpeg: The stored bytes.
        time_s: Time of the frame in the video.
    """
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if image is None:
        return None
    height, width = image.shape[:2]
    scale = min(1.0, THUMB_BOX_PX[0] / width, THUMB_BOX_PX[1] / height)
    target = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, THUMB_QUALITY])
    if not done:
        return None
    text = base64.b64encode(data.tobytes()).decode()
    return Picture(
        data_uri=f"data:image/jpeg;base64,{text}",
        width_px=target[0],
        height_px=target[1],
        time=timecode(time_s),
    )


def _literal(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _literals(texts: Sequence[str]) -> str:
    return ", ".join(_literal(t) for t in texts)
