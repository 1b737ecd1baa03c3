"""Why a clip is kept or not: every reason with its distance, and what would bring it back.

One telling serves the page and ``clipmill why``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from pipelines.audit.basis import KEYS, Basis, literals, open_basis
from pipelines.audit.likeness import Likeness, likenesses
from pipelines.audit.mends import Obstacle, explain_reason
from pipelines.audit.thresholds import Threshold
from pipelines.report.charts import quoted
from pipelines.report.words import message_of, shorten, source_label, timecode

MAX_MATCHES = 10
HEX = set("0123456789abcdef")
WANTED = (*KEYS, "verdict", "reasons", "margins", "split")
TITLES = """
SELECT video_id, arg_min(title, uri) AS title FROM known_sources
WHERE title IS NOT NULL AND video_id IN ({videos}) GROUP BY video_id
"""
ERRORS = """
SELECT clip_id, video_id, code, any_value(message) AS message,
    bool_or(coalesce(retryable, false)) AS again
FROM errors WHERE clip_id IN ({clips}) OR (clip_id IS NULL AND video_id IN ({videos}))
GROUP BY ALL
"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One judged score: its value, what is wanted, and how far inside it lies.

    Attributes:
        column: The score.
        value: As measured; None: not measured.
        wanted: ``at least 0.06``.
        passes: None: not measured, and no reason against it.
        margin: Distance to the nearest bound, negative beyond it.
    """

    column: str
    value: float | bool | str | None
    wanted: str
    passes: bool | None
    margin: float | None


@dataclass(kw_only=True)
class Story:
    """Everything the page and the terminal tell of one clip.

    Attributes:
        clip_id: Its id.
        name: Its source's name; ``title`` as given.
        caption: What is said of it, where the teller looked.
        span: ``0:10.0 to 0:20.0``.
        verdict: ``kept``, ``rejected``, ``failed`` or ``unjudged``.
        obstacles: Every reason.
        measured: Judged scores, the nearest to their bound first.
        likeness: The clip it is a duplicate of.
        answer: What would bring it back, in words.
        settings: Settings that together would lift every reason; empty: there are none.
    """

    clip_id: str
    video_id: str
    name: str
    title: str
    span: str
    start_s: float
    end_s: float
    license: str
    source: str
    verdict: str
    split: str | None
    caption: str = ""
    obstacles: list[Obstacle] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    likeness: Likeness | None = None
    answer: str = ""
    settings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        told = asdict(self)
        if self.likeness is not None:
            told["likeness"]["words"] = self.likeness.words
        return told


def why(out: str, prefix: str) -> Story:
    """Tell one clip's story.

    Args:
        out: The dataset root.
        prefix: The beginning of its id.

    Raises:
        CatalogError: No clip, or several clips, begin like that.
    """
    catalog = Catalog.open(out)
    asked = prefix.strip().lower()
    if not asked or not set(asked) <= HEX:
        raise CatalogError(
            "a clip id has hexadecimal digits only",
            where=repr(shorten(prefix, 60)),
            mend="copy it from the page, or from the view clips",
        )
    basis = open_basis(catalog, keep=False)
    if not basis.has_clips:
        raise CatalogError("there are no clips yet", where=out, mend=f"clipmill curate --out {out}")
    found = basis.rows(
        f"SELECT clip_id FROM current_clips WHERE starts_with(clip_id, '{asked}') "
        f"ORDER BY clip_id LIMIT {MAX_MATCHES + 1}"
    )
    if not found:
        raise CatalogError("no clip begins like that", where=asked, mend=f"clipmill audit {out}")
    if len(found) > 1:
        shown = ", ".join(r["clip_id"][: len(asked) + 6] for r in found[:MAX_MATCHES])
        more = " and more" if len(found) > MAX_MATCHES else ""
        raise CatalogError(
            f"several clips begin like that: {shown}{more}", where=asked, mend="give more digits"
        )
    return stories(basis, [found[0]["clip_id"]])[0]


def stories(basis: Basis, clip_ids: Sequence[str]) -> list[Story]:
    """The stories of some clips, in the given order; unknown ones are missing."""
    if not clip_ids:
        return []
    known = set(basis.views.columns("clips"))
    texts = [c for c in basis.rules if c in known and c not in basis.scores]
    columns = [c for c in dict.fromkeys([*WANTED, *basis.judged, *texts]) if c in known]
    ids = literals(clip_ids)
    named = ", ".join(quoted(c) for c in columns)
    rows = basis.rows(f"SELECT {named} FROM clips WHERE clip_id IN ({ids})")
    given = basis.rows(TITLES.format(videos=literals({r["video_id"] for r in rows})))
    titles = {r["video_id"]: r["title"] for r in given}
    by_id = {r["clip_id"]: r | {"title": titles.get(r["video_id"])} for r in rows}
    alike = likenesses(basis, clip_ids)
    messages = _messages(basis, [r for r in rows if r["verdict"] == "failed"])
    by_reason: dict[str, list[Threshold]] = {}
    for t in basis.thresholds:
        by_reason.setdefault(t.reason, []).append(t)
    return [
        _story(basis, by_id[c], by_reason, alike.get(c), messages) for c in clip_ids if c in by_id
    ]


def _messages(
    basis: Basis, rows: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str], tuple[str, bool]]:
    """Messages of errors by (clip or video id, code)."""
    if not rows:
        return {}
    sql = ERRORS.format(
        clips=literals(r["clip_id"] for r in rows),
        videos=literals({r["video_id"] for r in rows}),
    )
    uris = {r["video_id"]: r.get("uri") for r in rows}
    return {
        (r["clip_id"] or r["video_id"], r["code"]): (
            message_of(r["message"], uris.get(r["video_id"])),
            r["again"],
        )
        for r in basis.rows(sql)
    }


def _story(
    basis: Basis,
    row: Mapping[str, Any],
    thresholds: Mapping[str, list[Threshold]],
    likeness: Likeness | None,
    messages: Mapping[tuple[str, str], tuple[str, bool]],
) -> Story:
    reasons, margins = row["reasons"] or [], row["margins"] or []
    mine = {
        code: message
        for (owner, code), message in messages.items()
        if owner in (row["clip_id"], row["video_id"])
    }
    story = Story(
        clip_id=row["clip_id"],
        video_id=row["video_id"],
        name=source_label(row.get("uri") or ""),
        title=shorten(row.get("title"), 120),
        span=f"{timecode(row['start_s'])} to {timecode(row['end_s'])}",
        start_s=row["start_s"],
        end_s=row["end_s"],
        license=shorten(row.get("license"), 80),
        source=shorten(row.get("source"), 80),
        verdict=row["verdict"] or "unjudged",
        split=row.get("split"),
        likeness=likeness,
        measured=_measured(basis, row, set(reasons)),
        obstacles=[
            explain_reason(
                code, margins[i] if i < len(margins) else None, row, thresholds, likeness, mine
            )
            for i, code in enumerate(reasons)
        ],
    )
    story.settings = _settings(story.obstacles)
    story.answer = _answer(basis, story)
    return story


def _measured(basis: Basis, row: Mapping[str, Any], reasons: set[str]) -> list[Measured]:
    """The judged scores of a clip against the general thresholds, the nearest first."""
    found = []
    for column in basis.judged:
        bounds = [t for t in basis.thresholds if t.column == column and t.where is None]
        value = row.get(column)
        if isinstance(value, float) and math.isnan(value):
            value = None
        failing = reasons & {f"low_{column}", f"high_{column}", f"null_{column}"}
        margins = [
            (float(value) - t.value) if t.side == "min" else (t.value - float(value))
            for t in bounds
            if value is not None and t.value is not None
        ]
        margin = min(margins, default=None)
        found.append(
            Measured(
                column=column,
                value=value,
                wanted=", ".join(t.words for t in bounds) or "no bound",
                passes=False if failing else None if value is None else True,
                margin=None if margin is None else float(f"{margin:.6g}"),
            )
        )
    return sorted(found, key=lambda m: (m.passes is not False, m.passes is None))


def _settings(obstacles: Sequence[Obstacle]) -> list[str]:
    """Settings that lift every reason; none when one reason has no setting."""
    if any(o.setting is None for o in obstacles):
        return []
    return [o.setting for o in obstacles if o.setting is not None]


def _answer(basis: Basis, story: Story) -> str:
    """What would bring a clip back, in one or a few sentences."""
    if story.verdict == "kept":
        near = _closest(story.measured)
        return f"It is kept. {near}" if near else "It is kept."
    if story.verdict == "unjudged":
        return "It was not judged yet: the next `clipmill curate` or `clipmill judge` does it."
    if not story.obstacles:
        return "No reason was recorded."
    first = story.obstacles[0]
    if len(story.obstacles) == 1:
        answer = f"{first.text}: {first.mend}; nothing else stands against it."
    else:
        count = len(story.obstacles)
        answer = f"{count} reasons stand against it, and all have to go. "
        lifted = [o.mend.replace("would keep it", "would lift that") for o in story.obstacles]
        answer += " ".join(
            f"{o.text}: {mend}." for o, mend in zip(story.obstacles, lifted, strict=True)
        )
    if story.verdict == "failed":
        return answer + " An error is no rejection: its scores are not judged."
    unknown = [m.column for m in story.measured if m.value is None and m.passes is None]
    if unknown:
        answer += f" Not measured on it yet: {', '.join(unknown[:6])}"
        answer += " and others." if len(unknown) > 6 else "."
    later = [name for name in ("dedup", "sample") if basis.config.get(name)]
    over_all = any(o.code.startswith(("duplicate_", "held_out_", "over_")) for o in story.obstacles)
    if later and not over_all:
        answer += " Duplicates and sampling are decided after that."
    return answer


def _closest(measured: Sequence[Measured]) -> str:
    """Which threshold a kept clip comes nearest to, as a share of the threshold."""
    best: tuple[float, Measured] | None = None
    for m in measured:
        if m.margin is None or m.value is None or isinstance(m.value, bool | str):
            continue
        share = m.margin / (abs(m.value) + abs(m.margin) or 1.0)
        if best is None or share < best[0]:
            best = share, m
    if best is None:
        return ""
    m = best[1]
    return f"Nearest to a bound: {m.column} {m.value:.4g}, wanted {m.wanted}."
