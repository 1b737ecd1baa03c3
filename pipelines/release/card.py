"""The dataset card: Markdown with a YAML head, as dataset hubs show it.

All numbers are of the release itself (``figures.py``), all settings of its manifest. Whatever came
from outside (file names, licences, captioners) is escaped for Markdown and its tables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.release.figures import Figures
from pipelines.release.licences import hub_licence
from pipelines.report.words import duration, number, size

CARD = "dataset_card.md"
TEMPLATE = "dataset_card.md.jinja"
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
NAMES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
MARKS = re.compile(r"([\\`*_{}\[\]|~$]|^[#>+=-])")
MISSING = {"error": "the clip fails", "keep": "the clip passes", "reject": "the clip is rejected"}
CHOICES = ("rights", "dedup", "sample", "splits")
"""Sections of the configuration that decide by more than one clip's scores."""
OPERATIONAL = ("resources", "batch_size", "threads")
"""Settings that change how the work is done, not what comes out."""


def card_text(manifest: Mapping[str, Any], figures: Figures) -> str:
    """The whole card.

    Args:
        manifest: With ``counts`` and ``croissant``; ``files`` come later, the card is one of them.
        figures: The release, counted.
    """
    context = {
        "m": manifest,
        "f": figures,
        "name": title(manifest),
        "head": yaml.safe_dump(head(manifest, figures), sort_keys=False, allow_unicode=True),
        "rules": rule_rows(manifest),
        "settings": stage_rows(manifest),
        "choices": [
            (k, _value(manifest["config"][k])) for k in CHOICES if manifest["config"].get(k)
        ],
        "bounds": manifest.get("thresholds") or [],
        "measures": measures(manifest, figures),
        "embedded": _embedded(manifest),
        "config": manifest.get("config") or {},
    }
    text = _environment().get_template(TEMPLATE).render(context)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def title(manifest: Mapping[str, Any]) -> str:
    """Name of the dataset and the release."""
    return f"{manifest.get('root') or 'dataset'} {manifest['tag']}"


def head(manifest: Mapping[str, Any], figures: Figures) -> dict[str, Any]:
    """What hubs read: licence, languages, size, and which files make which table."""
    licence, licence_name = hub_licence([r["license"] for r in figures.licenses])
    splits = [row["split"] for row in figures.splits if row["split"]]
    found: dict[str, Any] = {
        "pretty_name": title(manifest),
        "license": licence,
        **({"license_name": licence_name} if licence_name else {}),
        "task_categories": ["text-to-video", "video-classification"],
        "tags": ["video", "webdataset", "croissant", "clipmill"],
        "size_categories": [NAMES[sum(figures.clips["num_clips"] >= s for s in SIZES)]],
    }
    if languages := [r["language"] for r in figures.languages if r["language"]]:
        found["language"] = languages
    samples = [{"split": s, "path": f"shards/{s}/**/*.tar"} for s in splits]
    samples = samples or [{"split": "train", "path": "shards/**/*.tar"}]
    clips = [{"split": "all" if splits else "train", "path": "data/clips.parquet"}]
    found["configs"] = [
        {"config_name": "samples", "default": True, "data_files": samples},
        {"config_name": "clips", "data_files": clips},
    ]
    return found


def rule_rows(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """Column, condition and treatment of missing values, of every rule."""
    rules = (manifest.get("rules") or {}).get("rules") or {}
    rows = []
    for column, rule in sorted(rules.items()):
        said = {k: v for k, v in rule.items() if v is not None and k != "if_null"}
        told = ", ".join(f"{k.replace('_', ' ')} {_value(v)}" for k, v in said.items() if v != [])
        missing = rule.get("if_null") or "error"
        rows.append({"column": column, "keeps": told, "missing": MISSING.get(missing, missing)})
    return rows


def stage_rows(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """The stages in order, each with the settings that decide its result."""
    prints = manifest["fingerprints"]
    config = manifest.get("config") or {}
    rows = []
    for stage in prints["order"]:
        own = config.get(stage) or {}
        told = ", ".join(
            f"{k}={_value(v)}" for k, v in own.items() if k not in OPERATIONAL and v is not None
        )
        rows.append({"stage": stage, "settings": told, "print": prints["stages"][stage][:12]})
    return rows


def measures(manifest: Mapping[str, Any], figures: Figures) -> list[str]:
    """What was done to protect people, and what was not, in sentences."""
    config = manifest.get("config") or {}
    cut, text = config.get("cut") or {}, config.get("text") or {}
    rules = (manifest.get("rules") or {}).get("rules") or {}
    blurred = (
        "Faces were found and blurred in the pixels."
        if cut.get("blur_faces")
        else ("**Faces were not blurred.** People in the footage can be recognised.")
    )
    sound = (
        "Sound was dropped: no voices are in the files."
        if cut.get("audio") == "drop"
        else (f"Sound was not dropped (`cut.audio: {cut.get('audio')}`): voices may be heard.")
    )
    read = (
        "Overlay text was read, and addresses, numbers and plates in it counted."
        if text.get("read")
        else "Overlay text was not read for addresses, phone numbers or plates."
    )
    nsfw = (
        f"Clips were judged by an image model for sexual content ({_told(rules['nsfw_max'])})."
        if "nsfw_max" in rules
        else "**No rule looks at sexual or violent content.**"
    )
    return [
        *(blurred, sound, read, nsfw),
        "Files are named without their folders; addresses are without logins and signatures.",
    ]


def cell(value: object) -> str:
    """A value as text of one table cell: one line, nothing in it is Markdown or HTML."""
    if value is None:
        return "unknown"
    text = MARKS.sub(r"\\\1", " ".join(str(value).split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(value: object) -> str:
    """A value in code type, whatever is in it; bars would end a table's cell."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{text}`" if text else ""


def share(part: float, whole: float) -> str:
    """A part in per cent."""
    return f"{100 * part / whole:.1f} %" if whole else "n/a"


def _told(rule: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{k} {_value(v)}" for k, v in rule.items() if v is not None and k != "if_null"
    )


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{k}: {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)


def _embedded(manifest: Mapping[str, Any]) -> bool:
    """True when no vision-language model looked at the clips."""
    caption = (manifest.get("config") or {}).get("caption") or {}
    return (caption.get("backend") or {}).get("kind") == "embedded"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("pipelines.release", "."),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown: what comes from outside goes through `cell` and `code`
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"cell": cell, "code": code, "number": number, "size": size}
    made.filters |= {"duration": duration, "share": share}
    return made
