"""Clips with all that is said of them: texts, who wrote them, faults, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from curation.captions.facts import FACTS, facts_in_words
from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import CatalogError
from curation.shards.captions import (
    caption_query,
    captions_of,
    checks_of,
    default_of,
    rewrite_table,
)
from curation.shards.writer import ShardSettings
from pipelines.report.captions import EMBEDDED, shard_settings
from pipelines.report.words import source_label

ABOUT = ("camera", "subjects", "setting", "light", "style", "events")
WRITER = (
    *("backend", "model", "prompt", "num_frames", "num_windows", "attempts", "repaired"),
    *("input_tokens", "output_tokens", "busy_s"),
)
PLACE = ("clip_id", "video_id", "uri", "start_s", "end_s", "verdict", "caption")
DIGITS = 4


def require_captions(catalog: Catalog) -> None:
    """Make sure that a dataset has captions, subtitles or rewrites.

    Raises:
        CatalogError: It has none.
    """
    tables = {t for t in catalog.current().tables if catalog.has(t)}
    if not tables & {"captions", "subtitles"} and rewrite_table(catalog) is None:
        raise CatalogError(
            "this dataset has no captions",
            where=catalog.storage.url,
            mend="`clipmill curate --out OUT caption={}` writes them",
        )


def clip_texts(
    catalog: Catalog,
    views: Views,
    *,
    clip: str | None = None,
    limit: int = 20,
    flagged: bool = False,
    sample: bool = False,
) -> list[dict[str, Any]]:
    """Clips with their texts, in order of source and time.

    Args:
        catalog: The dataset.
        views: Its views.
        clip: Only the clips whose ids begin so.
        limit: Most clips.
        flagged: Only clips whose caption is flagged or contradicted.
        sample: Take them by hash from all over the dataset, and not the first ones.

    Returns:
        ``clip_id, video_id, file, start_s, end_s, verdict, default`` (kind of the shard's text),
        ``captions`` (see ``curation/shards/captions.py``), ``about`` (the structured part of the
        caption), ``writer``, ``checks``, ``facts`` by column and ``told``, the same in sentences.

    Raises:
        CatalogError: There are no captions, or no such clip.
    """
    require_captions(catalog)
    known = set(views.columns("clips"))
    said = caption_query(catalog, views)
    facts = [f.name for columns in FACTS.values() for f in columns if f.name in known]
    own = [f"caption_{n}" for n in (*ABOUT, *WRITER) if f"caption_{n}" in known]
    columns = dict.fromkeys([*PLACE, *said.columns, *facts, *own])
    wheres = [_has_text(known)]
    if clip is not None:
        wheres = [f"starts_with(clip_id, '{clip.replace(chr(39), chr(39) * 2)}')"]
    if flagged:
        wheres.append(_faulty(catalog, known))
    order = "md5(clip_id)" if sample else "uri, start_s, clip_id"
    names = ", ".join([*(f'"{c}"' for c in columns), *said.more])
    rows = views.query(
        f"""SELECT {names} FROM clips {said.joins} WHERE {" AND ".join(wheres)}
        ORDER BY {order} LIMIT {int(limit)}"""
    ).to_pylist()
    if clip is not None and not rows:
        raise CatalogError(
            "no clip has an id that begins so" + (", and a fault" if flagged else ""),
            where=clip,
            mend='`clipmill sql OUT "select clip_id from clips"` lists them',
        )
    settings = shard_settings((catalog.last_run() or {}).get("config") or {})
    rows.sort(key=lambda r: (r["uri"] or "", r["start_s"], r["clip_id"]))
    return [_clip(row, facts, settings) for row in rows]


def _clip(row: dict[str, Any], facts: list[str], settings: ShardSettings) -> dict[str, Any]:
    """One clip of :func:`clip_texts`."""
    captions = captions_of(row, settings.caption_weights)
    measured = {n: _rounded(row[n]) for n in facts if not isinstance(row[n], list)}
    return (
        {k: row[k] for k in ("clip_id", "video_id")}
        | {"file": source_label(row["uri"] or "")}
        | {k: row[k] for k in ("start_s", "end_s", "verdict")}
        | {
            "default": default_of(captions, settings.caption_default).get("kind"),
            "captions": captions,
            "about": _about(row),
            "writer": _writer(row),
            "checks": checks_of(row),
            "facts": {n: v for n, v in measured.items() if v is not None},
            "told": facts_in_words(row, row["end_s"] - row["start_s"]),
        }
    )


def writer_label(writer: Mapping[str, Any] | None) -> str:
    """Who wrote a clip's captions, in a few words."""
    if writer is None:
        return "no captioner"
    if writer["backend"] == EMBEDDED:
        return f"{writer['model']} (embedded: measured, no vision-language model)"
    return f"{writer['model']} ({writer['backend']}, {writer['prompt'] or 'no prompt'})"


def _has_text(known: set[str]) -> str:
    """SQL: the clip has a caption, or words."""
    columns = [c for c in ("caption_model", "subtitle_text", "rewrite_model") if c in known]
    return "(" + " OR ".join(f"{c} IS NOT NULL" for c in columns) + ")"


def _faulty(catalog: Catalog, known: set[str]) -> str:
    """SQL: something is wrong with the clip's caption.

    Raises:
        CatalogError: Captions were not checked.
    """
    if "caption_num_flags" not in known:
        raise CatalogError(
            "the captions of this dataset were not checked",
            where=catalog.storage.url,
            mend="bring it up to date with the stage check: `clipmill curate --out OUT check={}`",
        )
    return "(caption_num_flags > 0 OR caption_num_contradictions > 0)"


def _about(row: Mapping[str, Any]) -> dict[str, Any]:
    """The structured part of a caption, where there is any."""
    about = {n: row.get(f"caption_{n}") for n in ABOUT}
    if about["events"] is not None:
        about["events"] = json.loads(about["events"])
    return {k: v for k, v in about.items() if v}


def _writer(row: Mapping[str, Any]) -> dict[str, Any] | None:
    if row.get("caption_model") is None:
        return None
    return {n: _rounded(row.get(f"caption_{n}")) for n in WRITER}


def _rounded(value: Any) -> Any:  # noqa: ANN401 - any column
    return round(value, DIGITS) if isinstance(value, float) else value
