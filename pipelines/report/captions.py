"""Captions of a dataset, counted: who wrote them, how long they are, what is wrong, what they cost.

One dictionary serves the report page and ``clipmill captions stats``. All counts are made in SQL;
of texts only a few examples leave the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from curation.captions.backends.settings import Price
from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.shards.captions import (
    WRITTEN,
    caption_query,
    captions_of,
    default_of,
    rewrite_table,
)
from curation.shards.writer import ShardSettings
from pipelines.report.charts import Chart, draw_charts
from pipelines.report.words import shorten, source_label

EMBEDDED = "embedded"
EXAMPLES = 3
MAX_GROUPS = 30
TEXT_CHARS = 300
MAX_TOLD_CHARS = 600
WRITERS = """
SELECT caption_backend AS backend, caption_model AS model, caption_prompt AS prompt,
    fingerprint = '{current}' AS current, count(*) AS num_clips,
    CAST(sum(caption_attempts) AS BIGINT) AS num_attempts,
    count(*) FILTER (caption_attempts > 1) AS num_asked_again,
    count(*) FILTER (caption_repaired) AS num_repaired,
    count(caption_input_tokens + caption_output_tokens) AS num_counted,
    CAST(coalesce(sum(caption_input_tokens), 0) AS BIGINT) AS input_tokens,
    CAST(coalesce(sum(caption_output_tokens), 0) AS BIGINT) AS output_tokens,
    coalesce(sum(caption_busy_s), 0) AS busy_s
FROM raw_captions GROUP BY ALL ORDER BY current DESC, num_clips DESC, model, prompt
"""
DUPLICATES = f"""
SELECT count(*) AS num_texts, CAST(coalesce(sum(n), 0) AS BIGINT) AS num_clips,
    coalesce(arg_max({{'text': text, 'num_clips': n}}, n, {EXAMPLES}), []) AS examples FROM (
    SELECT lower(trim(caption_medium)) AS text, count(*) AS n FROM captions
    WHERE caption_medium IS NOT NULL GROUP BY 1 HAVING count(*) > 1 ORDER BY n DESC, text)
"""
AGAINST = r"""
coalesce(nullif(trim(regexp_replace(
    regexp_extract({0}, 'measured:(.*)$', 1), '\s*[0-9]+([.][0-9]+)?', '', 'g')), ''), {0})
"""
"""What a contradiction was measured against, without its numbers."""


def caption_stats(
    catalog: Catalog, views: Views, config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """All that is counted of the captions.

    Args:
        catalog: The dataset.
        views: Its views.
        config: Configuration of its latest run, for prices.

    Returns:
        None when its plan has no captions, subtitles or rewrites. Else ``num_kept``,
        ``num_captioned`` (kept clips with a caption), ``failed`` (code -> clips), ``writers``,
        ``lengths`` in words, ``checks``, ``duplicates``, ``speech`` and ``styles``; parts that the
        plan lacks are empty or None.
    """
    tables = {t for t in catalog.current().tables if catalog.has(t)}
    styles = rewrite_table(catalog)
    if not {"clips"} <= tables or not (tables & {"captions", "subtitles"} or styles):
        return None
    stats: dict[str, Any] = {
        "num_kept": _one(views, "SELECT count(*) AS n FROM clips WHERE verdict = 'kept'")["n"],
        "num_captioned": 0,
        "failed": {},
        "writers": [],
        "lengths": [],
        "checks": None,
        "duplicates": None,
        "speech": [],
        "styles": [],
    }
    if "captions" in tables:
        stats |= _written(catalog, views, config)
    if "caption_checks" in tables:
        stats["checks"] = _checks(views)
    if "subtitles" in tables:
        stats["speech"] = _speech(views)
    if styles:
        stats["styles"] = views.query(
            f"""SELECT style, count(*) FILTER (refused IS NULL) AS num_kept,
                count(refused) AS num_refused FROM "{styles}"
            GROUP BY style ORDER BY style LIMIT {MAX_GROUPS}"""
        ).to_pylist()
    return stats


def price_of(config: Mapping[str, Any]) -> Price | None:
    """What a dataset's own captioner charges; None: nothing, or not told."""
    backend = (config.get("caption") or {}).get("backend") or {}
    try:
        return Price.model_validate(backend["price"]) if backend.get("price") else None
    except ValidationError:  # of another version
        return None


def captions_section(
    catalog: Catalog, views: Views, run: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What the page shows of captions; None when there are none to speak of.

    Returns:
        ``stats``, ``chart`` (histogram of the alignment, or None), ``gate`` (rows of what the run's
        gate found) and ``notes``.
    """
    stats = caption_stats(catalog, views, config)
    if stats is None:
        return None
    checks = stats["checks"] or {}
    charts: list[Chart] = []
    if checks.get("alignment"):
        charts = draw_charts(views, {"caption_alignment": {}}, {})
        for chart in charts:
            chart.num_null = 0  # no rule judges it: clips without a value are none's business
    return {
        "stats": stats,
        "chart": charts[0] if charts else None,
        "gate": gate_rows(run.get("gate")),
        "notes": [who_wrote(w) for w in stats["writers"] if w["current"]],
    }


def who_wrote(writer: Mapping[str, Any]) -> str:
    """A writer in a sentence: a captioner without eyes is called that."""
    count = f"{writer['num_clips']:,} by {writer['model']}"
    if writer["backend"] == EMBEDDED:
        return f"{count}: the embedded captioner; measured, no vision-language model"
    return f"{count}, backend {writer['backend']}, prompt {writer['prompt'] or 'unknown'}"


def gate_rows(gate: object) -> list[tuple[str, str]]:
    """The result of the run's gate as names and values, whatever it is made of."""
    if not isinstance(gate, Mapping):
        return [("result", shorten(str(gate)))] if gate else []
    rows = []
    for name, value in gate.items():
        if isinstance(value, Mapping):
            rows += [(f"{name}: {k}", v) for k, v in gate_rows(value)]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            rows.append((str(name), shorten("; ".join(map(str, value))) or "none"))
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            rows.append((str(name), shorten(shown)))
    return [(shorten(name, 60).replace("_", " "), value) for name, value in rows][:MAX_GROUPS]


def default_captions(
    catalog: Catalog, views: Views, clip_ids: Sequence[str], config: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """The text that a shard would take for its ``.txt``, by clip; clips without any are missing.

    Args:
        catalog: The dataset.
        views: Its views.
        clip_ids: Which clips.
        config: Configuration of its latest run, for the order of kinds.
    """
    if not clip_ids:
        return {}
    settings = shard_settings(config)
    said = caption_query(catalog, views)
    names = ", ".join(["clip_id", "caption", *(f'"{c}"' for c in said.columns), *said.more])
    ids = ", ".join("'" + c.replace("'", "''") + "'" for c in clip_ids)
    found = {}
    sql = f"SELECT {names} FROM clips {said.joins} WHERE clip_id IN ({ids})"
    for row in views.query(sql).to_pylist():
        entries = captions_of(row, settings.caption_weights)
        if entry := default_of(entries, settings.caption_default):
            found[row["clip_id"]] = {**entry, "text": shorten(entry["text"], MAX_TOLD_CHARS)}
    return found


def shard_settings(config: Mapping[str, Any]) -> ShardSettings:
    """The packing that a configuration asks for; the default one where it cannot be read."""
    try:
        return ShardSettings.model_validate(config.get("shard") or {})
    except ValidationError:  # of another version
        return ShardSettings()  # pyright: ignore[reportCallIssue]


def _written(catalog: Catalog, views: Views, config: Mapping[str, Any]) -> dict[str, Any]:
    """Who wrote captions and at what cost, how long they are, and which are alike."""
    price = price_of(config)
    writers = views.query(WRITERS.format(current=catalog.current().tables["captions"])).to_pylist()
    for writer in writers:
        known = price if writer["current"] and writer["num_counted"] else None
        tokens = writer["input_tokens"], writer["output_tokens"]
        writer["money"] = None if known is None else round(known.of(*tokens), 6)
        writer["currency"] = "" if known is None else known.currency
        writer["busy_s"] = round(writer["busy_s"], 3)
    kept = "SELECT count(caption_model) AS n FROM clips WHERE verdict = 'kept'"
    errors = views.query(
        f"""SELECT code, count(*) AS n FROM errors WHERE clip_id IS NOT NULL
            AND code LIKE 'caption%' GROUP BY code ORDER BY code LIMIT {MAX_GROUPS}"""
    )
    return {
        "num_captioned": _one(views, kept)["n"],
        "failed": {row["code"]: row["n"] for row in errors.to_pylist()},
        "writers": writers,
        "lengths": _lengths(views),
        "duplicates": _one(views, DUPLICATES),
    }


def _lengths(views: Views) -> list[dict[str, Any]]:
    """Words per kind of caption."""
    parts = [
        f"SELECT {i} AS place, '{kind}' AS kind, trim(caption_{kind}) AS text FROM captions"
        for i, kind in enumerate(WRITTEN)
    ]
    rows = views.query(
        f"""SELECT kind, count(*) AS num_clips, quantile_cont(words, [0.05, 0.5, 0.95]) AS words
        FROM (SELECT place, kind, len(text) - len(replace(text, ' ', '')) + 1 AS words
            FROM ({" UNION ALL ".join(parts)}) WHERE text <> '')
        GROUP BY place, kind ORDER BY place"""
    ).to_pylist()
    return [
        {k: row[k] for k in ("kind", "num_clips")}
        | dict(zip(("words_p5", "words_p50", "words_p95"), row["words"], strict=True))
        for row in rows
    ]


def _checks(views: Views) -> dict[str, Any]:
    """Flags and contradictions with examples, languages, and quantiles of the alignment."""
    checks = _one(
        views,
        """SELECT count(*) AS num_checked, count(*) FILTER (caption_num_flags > 0) AS num_flagged,
            count(*) FILTER (caption_num_contradictions > 0) AS num_contradicted
        FROM caption_checks""",
    )
    checks["flags"] = _groups(views, "caption_flags", "{0}")
    checks["contradictions"] = _groups(views, "caption_contradictions", AGAINST)
    languages = views.query(
        f"""SELECT coalesce(caption_language, 'unknown') AS name, count(*) AS n
        FROM caption_checks GROUP BY 1 ORDER BY n DESC, name LIMIT {MAX_GROUPS}"""
    )
    checks["languages"] = {row["name"]: row["n"] for row in languages.to_pylist()}
    found = _one(
        views,
        """SELECT count(caption_alignment) AS num_clips,
            max(caption_alignment_model) AS model,
            quantile_cont(caption_alignment, [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]) AS quantiles
        FROM caption_checks WHERE isfinite(caption_alignment)""",
    )
    checks["alignment"] = None
    if found["num_clips"]:
        names = ("min", "p5", "p25", "p50", "p75", "p95", "max")
        values = (round(q, 4) for q in found.pop("quantiles"))
        checks["alignment"] = found | dict(zip(names, values, strict=True))
    return checks


def _groups(views: Views, column: str, key: str) -> list[dict[str, Any]]:
    """Clips by what was found, each with a few examples."""
    expression = key.format("found")
    rows = views.query(
        f"""SELECT {expression} AS name, count(DISTINCT clip_id) AS num_clips,
            arg_min({{'clip_id': clip_id, 'uri': uri, 'at_s': start_s, 'found': found,
                'text': caption_medium}}, clip_id, {EXAMPLES}) AS examples
        FROM (SELECT clip_id, uri, start_s, caption_medium, unnest({column}) AS found FROM clips)
        GROUP BY 1 ORDER BY num_clips DESC, name LIMIT {MAX_GROUPS}"""
    ).to_pylist()
    for row in rows:
        row["name"] = shorten(row["name"], 80)
        for example in row["examples"]:
            example["file"] = source_label(example.pop("uri") or "")
            example["text"] = shorten(example["text"], TEXT_CHARS)
            example["found"] = shorten(example["found"], TEXT_CHARS)
    return rows


def _speech(views: Views) -> list[dict[str, Any]]:
    """Clips by where their words came from."""
    return views.query(
        """SELECT coalesce(split_part(subtitle_source, ':', 1), 'none') AS source,
            count(*) AS num_clips, count(*) FILTER (subtitle_text <> '') AS num_with_words,
            CAST(coalesce(sum(subtitle_num_cues), 0) AS BIGINT) AS num_cues,
            count(subtitle_warning) AS num_warned
        FROM subtitles GROUP BY 1 ORDER BY num_clips DESC, source"""
    ).to_pylist()


def _one(views: Views, sql: str) -> dict[str, Any]:
    return views.query(sql).to_pylist()[0]
