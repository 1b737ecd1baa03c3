"""The numbers of a dataset card, counted over a release's own tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.release.frozen import Frozen

MOST = 12
"""Rows of a table in the card; the rest is summed up in one."""

CLIPS = """
SELECT count(*) AS num_clips, count(DISTINCT video_id) AS num_videos,
    coalesce(sum(media_duration_s), 0) AS seconds, coalesce(sum(media_num_frames), 0) AS num_frames,
    coalesce(sum(media_bytes), 0) AS num_bytes,
    min(media_duration_s) AS shortest_s, median(media_duration_s) AS median_s,
    max(media_duration_s) AS longest_s
FROM clips
"""
REASONS = """
SELECT reason, count(*) AS num_clips, count(*) FILTER (len(reasons) = 1) AS num_alone,
    sum(duration_s) AS seconds
FROM (SELECT unnest(reasons) AS reason, reasons, duration_s FROM verdicts WHERE verdict = '{}')
GROUP BY reason ORDER BY num_clips DESC, reason
"""
LICENSES = """
SELECT license, count(*) AS num_clips, count(DISTINCT video_id) AS num_videos,
    sum(media_duration_s) AS seconds
FROM (SELECT nullif(trim(license), '') AS license, video_id, media_duration_s FROM clips)
GROUP BY license ORDER BY license IS NULL, num_clips DESC, license
"""
CONFLICTS = """
SELECT count(*) AS n FROM (
    SELECT video_id FROM sources SEMI JOIN clips USING (video_id)
    GROUP BY video_id HAVING count(DISTINCT coalesce(nullif(trim(license), ''), '?')) > 1)
"""
CAPTIONS = """
SELECT kind, source, model, count(*) AS num_texts, count(DISTINCT clip_id) AS num_clips,
    avg(len(string_split(trim(text), ' '))) AS mean_words, max(weight) AS weight,
    count(*) FILTER (is_default) AS num_default
FROM captions GROUP BY ALL ORDER BY num_texts DESC, kind, source, model
"""
SPLITS = """
SELECT split, count(*) AS num_clips, count(DISTINCT video_id) AS num_videos,
    sum(media_duration_s) AS seconds
FROM clips GROUP BY split ORDER BY num_clips DESC, split
"""
SHARED_VIDEOS = """
SELECT count(*) AS n FROM (
    SELECT video_id FROM clips WHERE split IS NOT NULL
    GROUP BY video_id HAVING count(DISTINCT split) > 1)
"""
DUPLICATES = """
SELECT level, count(*) AS num_clips, count(DISTINCT group_id) AS num_groups,
    count(*) FILTER (reference IS NOT NULL) AS num_held_out
FROM duplicates WHERE NOT representative GROUP BY level ORDER BY level
"""
DURATIONS = """
SELECT CASE WHEN d < 2 THEN 'under 2 s' WHEN d < 5 THEN '2 to 5 s' WHEN d < 10 THEN '5 to 10 s'
    WHEN d < 30 THEN '10 to 30 s' ELSE '30 s and more' END AS name,
    count(*) AS num_clips, sum(d) AS seconds, min(d) AS least
FROM (SELECT media_duration_s AS d FROM clips) GROUP BY name ORDER BY least
"""
ORIGINS = """
SELECT nullif(trim(source), '') AS name, count(*) AS num_clips, sum(media_duration_s) AS seconds
FROM clips GROUP BY 1 ORDER BY num_clips DESC, name LIMIT 20
"""
LARGEST = """
SELECT file, count(*) AS num_clips, sum(media_duration_s) AS seconds
FROM clips GROUP BY video_id, file ORDER BY seconds DESC, file LIMIT 1
"""


@dataclass(kw_only=True)
class Figures:
    """What the card tells in numbers; tables are lists of rows.

    Attributes:
        clips: ``num_clips, num_videos, seconds, num_frames, num_bytes, shortest_s, median_s,
            longest_s``.
        sources: Given files by status.
        num_duplicate_sources: Files whose bytes were given before.
        errors: Failed files by code.
        verdicts: Clips and seconds by verdict.
        reasons: Why clips were rejected.
        failures: Why clips failed.
        sizes: Clips by stored size.
        rates: Clips by frames per second.
        durations: Clips by length.
        languages: Default texts by language; None where it is not known.
        origins: Clips by where the footage came from, as given, the most frequent ones.
        scores: Judged numbers of kept clips: ``name, low`` (5 %), ``middle, high`` (95 %).
        licenses: Clips by licence; None where it is not known.
        license_conflicts: Videos that were given under more than one licence.
        captions: Texts by kind, source and model.
        num_captions: All texts.
        num_uncaptioned: Clips without any text.
        flags: What the checks found of texts, by code.
        num_checked: Clips whose text was checked.
        num_flagged: Those with a flag.
        num_contradicted: Those whose text says what was measured otherwise.
        splits: Clips by split; None where the dataset is not divided.
        num_shared_videos: Videos with clips in several splits.
        duplicates: Clips that show what another shows, by level.
        largest: The video with the most seconds.
        personal: What was counted of persons and delicate content, by name.
        nulls: Scores that are missing in some clips: column -> number.
    """

    clips: dict[str, Any]
    sources: dict[str, int]
    num_duplicate_sources: int
    errors: dict[str, int]
    verdicts: list[dict[str, Any]]
    reasons: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    sizes: list[dict[str, Any]]
    rates: list[dict[str, Any]]
    durations: list[dict[str, Any]]
    languages: list[dict[str, Any]]
    origins: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    licenses: list[dict[str, Any]]
    license_conflicts: int
    captions: list[dict[str, Any]]
    num_captions: int
    num_uncaptioned: int
    flags: list[dict[str, Any]] = field(default_factory=list)
    num_checked: int = 0
    num_flagged: int = 0
    num_contradicted: int = 0
    splits: list[dict[str, Any]] = field(default_factory=list)
    num_shared_videos: int = 0
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    largest: dict[str, Any] = field(default_factory=dict)
    personal: dict[str, int] = field(default_factory=dict)
    nulls: dict[str, int] = field(default_factory=dict)

    @property
    def divided(self) -> bool:
        """True when clips have splits."""
        return any(row["split"] is not None for row in self.splits)


def gather(frozen: Frozen, manifest: Mapping[str, Any]) -> Figures:
    """Count a release.

    Args:
        frozen: Its tables.
        manifest: For the columns that rules look at.
    """
    status = frozen.rows("SELECT status, count(*) AS n FROM sources GROUP BY status ORDER BY 1")
    codes = frozen.rows(
        "SELECT code, count(*) AS n FROM sources WHERE status = 'failed' GROUP BY code ORDER BY 1"
    )
    figures = Figures(
        clips=frozen.one(CLIPS),
        sources={r["status"]: r["n"] for r in status},
        num_duplicate_sources=frozen.one("SELECT count(*) AS n FROM sources WHERE is_duplicate")[
            "n"
        ],
        errors={r["code"] or "unknown": r["n"] for r in codes},
        verdicts=frozen.rows(
            "SELECT verdict, count(*) AS num_clips, sum(duration_s) AS seconds FROM verdicts "
            "GROUP BY verdict ORDER BY verdict"
        ),
        reasons=frozen.rows(REASONS.format("rejected")),
        failures=frozen.rows(REASONS.format("failed")),
        sizes=_most(frozen, "concat(media_width_px, ' x ', media_height_px)", "other sizes"),
        rates=_most(frozen, "format('{:.3g}', round(media_fps, 1))", "other rates"),
        durations=frozen.rows(DURATIONS),
        languages=_languages(frozen),
        origins=frozen.rows(ORIGINS),
        scores=_scores(frozen, manifest),
        licenses=frozen.rows(LICENSES),
        license_conflicts=frozen.one(CONFLICTS)["n"],
        captions=frozen.rows(CAPTIONS),
        num_captions=frozen.one("SELECT count(*) AS n FROM captions")["n"],
        num_uncaptioned=frozen.one(
            "SELECT count(*) AS n FROM clips ANTI JOIN captions USING (clip_id)"
        )["n"],
        splits=frozen.rows(SPLITS),
        num_shared_videos=frozen.one(SHARED_VIDEOS)["n"],
        duplicates=frozen.rows(DUPLICATES),
        largest=next(iter(frozen.rows(LARGEST)), {}),
    )
    _count_checks(frozen, figures)
    figures.personal = _personal(frozen)
    figures.nulls = _nulls(frozen, manifest)
    return figures


def _most(frozen: Frozen, name: str, others: str) -> list[dict[str, Any]]:
    """Clips by a value, the most frequent ones; the others in one row."""
    rows = frozen.rows(
        f"SELECT {name} AS name, count(*) AS num_clips, sum(media_duration_s) AS seconds "
        "FROM clips GROUP BY name ORDER BY num_clips DESC, name"
    )
    if len(rows) <= MOST:
        return rows
    rest = rows[MOST - 1 :]
    total = {k: sum(r[k] for r in rest) for k in ("num_clips", "seconds")}
    return [*rows[: MOST - 1], {"name": f"{len(rest)} {others}", **total}]


def _languages(frozen: Frozen) -> list[dict[str, Any]]:
    """Languages of the default texts: as given with the text, else as the checks heard it."""
    heard = "NULL"
    if frozen.has("clips", "caption_language"):
        heard = "CASE WHEN t.source = 'captioner' THEN c.caption_language END"
    return frozen.rows(
        f"SELECT coalesce(t.language, {heard}) AS language, count(*) AS num_clips "
        "FROM captions t JOIN clips c USING (clip_id) WHERE t.is_default "
        "GROUP BY ALL ORDER BY num_clips DESC, language"
    )


def _count_checks(frozen: Frozen, figures: Figures) -> None:
    if not frozen.has("clips", "caption_flags", "caption_num_flags"):
        return
    figures.flags = frozen.rows(
        "SELECT flag AS name, count(*) AS num_clips FROM (SELECT unnest(caption_flags) AS flag "
        "FROM clips) GROUP BY flag ORDER BY num_clips DESC, flag"
    )
    said = "caption_num_contradictions" if frozen.has("clips", "caption_num_contradictions") else 0
    row = frozen.one(
        "SELECT count(caption_num_flags) AS checked, count(*) FILTER (caption_num_flags > 0) AS "
        f"flagged, count(*) FILTER ({said} > 0) AS contradicted FROM clips"
    )
    figures.num_checked, figures.num_flagged = row["checked"], row["flagged"]
    figures.num_contradicted = row["contradicted"]


PERSONAL = {
    "clips with a face": ("face_count_max", "face_count_max > 0"),
    "clips with blurred faces": ("media_blurred_frames", "media_blurred_frames > 0"),
    "clips with speech in the source's sound": ("speech_fraction", "speech_fraction > 0.1"),
    "clips with readable personal text": ("personal_text_count", "personal_text_count > 0"),
    "clips with nsfw_max above 0.5": ("nsfw_max", "nsfw_max > 0.5"),
}
"""What is counted of persons: the column it needs, and when a clip counts."""


def _personal(frozen: Frozen) -> dict[str, int]:
    known = {n: (c, when) for n, (c, when) in PERSONAL.items() if frozen.has("clips", c)}
    found = {}
    for name, (column, when) in known.items():
        row = frozen.one(
            f'SELECT count("{column}") AS looked_at, count(*) FILTER ({when}) AS n FROM clips'
        )
        if row["looked_at"]:
            found[name] = row["n"]
    return found


def _judged(frozen: Frozen, manifest: Mapping[str, Any]) -> list[str]:
    """Columns that a rule looks at."""
    rules = (manifest.get("rules") or {}).get("rules") or {}
    return sorted(c for c in rules if frozen.has("clips", c))


def _scores(frozen: Frozen, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    kinds = {f.name: f.type for f in frozen.schema("clips")}
    columns = [c for c in _judged(frozen, manifest) if pa.types.is_floating(kinds[c])]
    found = []
    for column in columns:
        row = frozen.one(
            f'SELECT quantile_cont("{column}", [0.05, 0.5, 0.95]) AS q FROM clips '
            f'WHERE NOT isnan("{column}")'
        )
        if row["q"]:
            found.append(dict(zip(("low", "middle", "high"), row["q"], strict=True)))
            found[-1]["name"] = column
    return found


def _nulls(frozen: Frozen, manifest: Mapping[str, Any]) -> dict[str, int]:
    """Judged columns that are null in some kept clips: what nobody measured."""
    columns = _judged(frozen, manifest)
    if not columns:
        return {}
    counts = ", ".join(f'count(*) FILTER ("{c}" IS NULL) AS "{c}"' for c in columns)
    return {c: n for c, n in frozen.one(f"SELECT {counts} FROM clips").items() if n}
