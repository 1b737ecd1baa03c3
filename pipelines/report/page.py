"""The run's page: where every source, clip and second went, and what the clips look like.

One HTML file without scripts or outside resources: styles inline, charts as SVG, pictures as data
URIs. Counts are made in SQL and pictures are sampled, so its size and the memory it takes do not
grow with the dataset. Everything shown is escaped: names and messages come from outside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from curation.catalog.account import take_account
from curation.catalog.catalog import Catalog, PlanRecord
from curation.catalog.views import Views
from pipelines.report import words
from pipelines.report.captions import captions_section, default_captions
from pipelines.report.charts import PLOT_HEIGHT, PLOT_WIDTH, draw_charts
from pipelines.report.failures import clip_failures, source_failures
from pipelines.report.funnel import count_reasons, draw_funnel, shard_totals
from pipelines.report.pictures import contact_sheets

PAGE = "report/index.html"
MAX_CONFIG_CHARS = 200_000
MAX_STAGES = 100

FINISHED = """
SELECT report, recorded_at FROM runs SEMI JOIN (
    SELECT run_id FROM runs WHERE event = 'started' AND command = 'curate') USING (run_id)
WHERE event = 'finished' AND report IS NOT NULL ORDER BY recorded_at DESC LIMIT 1
"""
DONE = f"""
SELECT d.stage AS stage, count(DISTINCT d.video_id) AS videos_run,
    CAST(sum(num_rows) AS BIGINT) AS rows, sum(busy_s) AS busy_s
FROM done d SEMI JOIN stage_prints p ON p.stage = d.stage AND p.fingerprint = d.fingerprint
GROUP BY d.stage ORDER BY d.stage LIMIT {MAX_STAGES}
"""


def write_page(
    catalog: Catalog, run: dict[str, Any] | None = None, *, max_pictures: int = 48, seed: int = 0
) -> str:
    """Write ``report/index.html`` below the dataset root.

    Args:
        catalog: The dataset.
        run: ``RunReport.as_dict()`` of the run that just ended. None: the latest recorded run,
            with the account taken anew.
        max_pictures: Most clips shown with pictures.
        seed: Of the sample of clips.

    Returns:
        Path or URL of the page.
    """
    html = (
        page_environment()
        .get_template("page.html")
        .render(page_context(catalog, run, max_pictures=max_pictures, seed=seed))
    )
    with catalog.storage.open_write(PAGE) as out:
        out.write(html.encode("utf-8", "replace"))
    return catalog.storage.uri(PAGE)


def page_context(
    catalog: Catalog, run: dict[str, Any] | None, *, max_pictures: int, seed: int
) -> dict[str, Any]:
    """Everything the template shows; see :func:`write_page`."""
    views = Views(catalog)
    latest = catalog.last_run() or {}
    if run is None:
        run = _latest_report(views) | {"account": take_account(catalog).as_dict()}
    account = run["account"]
    config = latest.get("config") or {}
    rules = (config.get("judge") or {}).get("rules") or {}
    has_clips = bool(account["clips"])
    reasons = count_reasons(views) if has_clips else []
    by_reason: dict[str, int] = {}
    for r in reasons:
        by_reason[r.reason] = by_reason.get(r.reason, 0) + r.num_clips
    shards = shard_totals(catalog)
    sheets = {"kept": [], "rejected": []}
    if has_clips and "frames" in catalog.current().tables:
        sheets = contact_sheets(
            views,
            rules,
            num_kept=account["clips"]["kept"],
            num_rejected=account["clips"]["rejected"],
            max_pictures=max_pictures,
            seed=seed,
        )
    shown = [card.clip_id for cards in sheets.values() for card in cards]
    return {
        "name": root_name(catalog.storage.url),
        "at": latest.get("recorded_at"),
        "run": run,
        "account": account,
        "facts": _facts(run, account, shards.num_shards, shards.num_bytes),
        "notes": _notes(run),
        "funnel": draw_funnel(views, account, reasons, shards),
        "charts": draw_charts(views, rules, by_reason) if has_clips else [],
        "plot": (PLOT_WIDTH, PLOT_HEIGHT),
        "sheets": sheets,
        "told": default_captions(catalog, views, shown, config),
        "captions": captions_section(catalog, views, run, config),
        "seed": seed,
        "source_failures": source_failures(views),
        "clip_failures": clip_failures(views) if account["clips"].get("failed") else [],
        "stages": _stages(views, catalog, run),
        "versions": latest.get("versions") or {},
        "config": _config_yaml(config),
    }


def root_name(url: str) -> str:
    """What a dataset root is called: its last folder; for a remote root also its store."""
    name = PurePosixPath(url.rstrip("/")).name or "dataset"
    if "://" not in url:
        return name
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].strip('/')}"


def page_environment() -> Environment:
    """Templates of this folder: everything that they show is escaped."""
    environment = Environment(
        loader=PackageLoader("pipelines.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "duration": words.duration,
        "plural": words.plural,
        "date": words.date,
        "shorten": words.shorten,
        "timecode": words.timecode,
    }
    return environment


def _latest_report(views: Views) -> dict[str, Any]:
    """The report of the newest run that finished; empty when none did."""
    rows = views.query(FINISHED).to_pylist()
    return json.loads(rows[0]["report"]) if rows else {}


def _facts(
    run: Mapping[str, Any], account: Mapping[str, Any], num_shards: int, num_bytes: int
) -> list[tuple[str, str, str]]:
    """The figures below the title: ``(label, value, comment)``."""
    clips, seconds, videos = account["clips"], account["seconds"], account["videos"]
    facts = []
    if clips:
        share = f" ({clips['kept'] / clips['total']:.0%})" if clips["total"] else ""
        facts += [
            ("Clips kept", f"{clips['kept']:,}", f"of {clips['total']:,}{share}"),
            (
                "Video kept",
                words.duration(seconds["kept"]),
                f"of {words.duration(seconds['total'])}",
            ),
        ]
    facts.append(("Sources", f"{videos['total']:,}", f"{videos['failed']:,} failed"))
    facts.append(("Shards", f"{num_shards:,}", words.size(num_bytes)))
    wall_s, video_s = run.get("wall_s"), run.get("video_s") or 0.0
    if wall_s:
        engine = run.get("engine", "")
        facts.append(("Wall time", words.duration(wall_s), f"engine: {engine}"))
        if video_s:
            facts.append(("Speed", f"{video_s / wall_s:.3g}", "video s per second"))
        else:
            facts.append(("Speed", "no decoding", "everything was reused"))
    return facts


def _notes(run: Mapping[str, Any]) -> list[str]:
    """What is worth knowing of the run beside its figures."""
    notes = list(run.get("fallbacks", []))
    if parts := run.get("recovered_parts"):
        notes.append(f"{words.plural(parts, 'part')} of an interrupted run taken over")
    if interrupted := run.get("interrupted"):
        files = words.plural(len(interrupted), "source")
        notes.append(f"{files} in work when an earlier run was ended from outside")
    if (first := run.get("first_video_s")) is not None:
        notes.append(f"first video finished after {words.duration(first)}")
    if start := run.get("engine_start_s"):
        notes.append(f"the engine took {words.duration(start)} to start")
    return notes


def _stages(views: Views, catalog: Catalog, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per stage of the plan: time, rows, videos run and reused, fingerprint."""
    plan = catalog.current()
    reported: Mapping[str, Any] = run.get("stages") or {}
    costs: Mapping[str, Any] = run.get("economics") or {}
    if not reported:  # no run has finished: what was committed up to now
        reported = {row["stage"]: row for row in views.query(DONE).to_pylist()}
    rows = [
        {
            "name": name,
            "rows": stage.get("rows", 0),
            "failed": stage.get("failed", 0),
            "busy_s": stage.get("busy_s", 0.0),
            "videos_run": stage.get("videos_run"),
            "videos_reused": stage.get("videos_reused"),
            "fingerprint": (plan.stages.get(name) or "")[:12],
            "clips_per_s": costs.get(name, {}).get("clips_per_s"),
            "video_s_per_s": costs.get(name, {}).get("video_s_per_s"),
        }
        for name, stage in sorted(reported.items(), key=lambda s: _place(plan, s[0]))
    ][:MAX_STAGES]
    longest = max((row["busy_s"] for row in rows), default=0.0) or 1.0
    total = sum(row["busy_s"] for row in rows) or 1.0
    for row in rows:
        row["length"] = row["busy_s"] / longest
        row["share"] = f"{row['busy_s'] / total:.0%}"
    return rows


def _place(plan: PlanRecord, stage: str) -> int:
    """Where a stage stands in the plan; a recorded report has lost the order of its stages."""
    return plan.order.index(stage) if stage in plan.order else len(plan.order)


def _config_yaml(config: Mapping[str, Any]) -> str:
    text = ""
    if config:
        text = yaml.safe_dump(
            dict(config), sort_keys=False, allow_unicode=True, default_flow_style=None, width=88
        )
    if len(text) > MAX_CONFIG_CHARS:
        return text[:MAX_CONFIG_CHARS] + "\n# ... (cut off here)\n"
    return text
