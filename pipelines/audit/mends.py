"""What would bring a clip back: for every reason the distance, and the setting to change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import numpy as np

from pipelines.audit.likeness import Likeness
from pipelines.audit.reasons import Parsed, label, parse
from pipelines.audit.thresholds import PREFIX, Side, Threshold
from pipelines.report.words import shorten, source_label

MAX_DIGITS = 17
SAMPLE_SETTINGS = {
    "over_source_cap": "sample.per_source",
    "over_video_cap": "sample.per_video",
    "over_duration_mix": "sample.duration_mix",
    "over_total": "sample.max_clips or sample.max_s",
}
BALANCE = "sample.balance"
"""Of all other caps: ``over_cluster_cap``, ``over_<column>_cap``."""
SIMILARITY_SETTINGS = {
    "perceptual": "dedup.perceptual.min_similarity",
    "semantic": "dedup.semantic.min_cosine",
}


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """One reason that stands against a clip.

    Attributes:
        code: As in the catalog.
        text: What is wrong, with numbers.
        mend: What would lift it.
        setting: ``judge.rules.sharpness.min=0.05`` when one setting does.
    """

    code: str
    text: str
    mend: str
    setting: str | None = None


def explain_reason(
    code: str,
    margin: float | None,
    row: Mapping[str, Any],
    thresholds: Mapping[str, list[Threshold]],
    likeness: Likeness | None,
    messages: Mapping[str, tuple[str, bool]],
) -> Obstacle:
    """One reason in words.

    Args:
        code: The reason.
        margin: Value minus threshold, when the judge wrote it down.
        row: The clip's columns.
        thresholds: Reason -> thresholds that give it, the general one first.
        likeness: What the clip is a duplicate of.
        messages: Error code -> message, and whether the next run tries again.
    """
    found = parse(code)
    if found.kind == "bound":
        return _bound(found, margin, row, thresholds.get(code, []))
    if found.kind == "null":
        setting = f"judge.rules.{found.about}.if_null=keep"
        text = f"{found.about} has no value, and its rule wants one"
        return Obstacle(code=code, text=text, mend=f"{setting} would pass it", setting=setting)
    if found.kind == "text":
        value = shorten(str(row.get(found.about)), 60)
        text = f"{found.about} is {value!r}, which its rule does not want"
        mend = f"a rule judge.rules.{found.about} that allows {value!r} would keep it"
        return Obstacle(code=code, text=text, mend=mend)
    if found.kind == "rights":
        return _rights(found, row)
    if found.kind in ("duplicate", "held_out"):
        return _duplicate(found, margin, likeness)
    if found.kind == "sample":
        mend = f"a wider {SAMPLE_SETTINGS.get(code, BALANCE)} could keep it"
        return Obstacle(code=code, text=label(code, {}), mend=mend)
    message, again = messages.get(code, ("", False))
    text = f"{code}: {message}" if message else code.replace("_", " ")
    mend = "the next `clipmill curate` tries it again" if again else "the input has to be mended"
    return Obstacle(code=code, text=text, mend=mend)


def _bound(
    found: Parsed, margin: float | None, row: Mapping[str, Any], known: list[Threshold]
) -> Obstacle:
    """A value beyond a threshold; the margin tells which threshold it was judged by."""
    column, side = found.about, _side(found.word)
    beyond = "below" if side == "min" else "above"
    value = row.get(column)
    if value is None:
        text = f"{column} is {beyond} its bound"
        return Obstacle(code=found.code, text=text, mend=f"another judge.rules.{column}.{side}")
    threshold = _judged_by(float(value), margin, known)
    bound = threshold.value if threshold else None
    if bound is None:
        bound = float(value) - margin if margin is not None else None
    if isinstance(value, bool):
        wanted = "true" if side == "min" else "false"
        text, new = f"{column} is {str(value).lower()}, and has to be {wanted}", float(value)
    elif bound is None:
        text, new = f"{column} {value:.4g} is {beyond} its bound", just_passing(value, value, side)
    else:
        left, right = apart(float(value), bound)
        gap = abs(float(value) - bound)
        text = f"{column} {left} is {gap:.3g} {beyond} {right}"
        new = just_passing(float(value), bound, side)
    setting = threshold.set_to(new) if threshold else f"judge.rules.{column}.{side}={new:g}"
    if threshold and threshold.quantile is not None:
        text += f" (quantile {threshold.quantile:g} of the clips)"
    if threshold and threshold.where is not None:
        text += f" (the override where {shorten(threshold.where, 80)})"
    return Obstacle(code=found.code, text=text, mend=f"{setting} would keep it", setting=setting)


def _side(word: str) -> Side:
    return "min" if PREFIX["min"] == word else "max"


def _judged_by(value: float, margin: float | None, known: list[Threshold]) -> Threshold | None:
    """The threshold that gave a margin; without one the general threshold."""
    if margin is None:
        return known[0] if known else None
    numbers = [t for t in known if t.value is not None]
    near = min(numbers, key=lambda t: abs(value - margin - (t.value or 0.0)), default=None)
    # Margins and float32 scores are rounded, so they meet a threshold only nearly.
    slack = 2e-6 + 1e-6 * abs(value)
    return near if near and abs(value - margin - (near.value or 0.0)) <= slack else None


def _rights(found: Parsed, row: Mapping[str, Any]) -> Obstacle:
    field = found.about
    value = shorten(str(row.get(field) or ""), 80)
    if found.word == "missing":
        text = f"nothing is known of its {field}"
        mend = f"its {field} in the manifest, or rights.defaults.{field}, would keep it"
    elif found.word == "denied":
        text = f"its {field} {value!r} is denied by rights.deny.{field}"
        mend = "only without that pattern would it be kept"
    else:
        text = f"its {field} {value!r} is not among those of rights.allow.{field}"
        mend = f"adding {value!r} there would keep it"
    return Obstacle(code=found.code, text=text, mend=mend)


def _duplicate(found: Parsed, margin: float | None, likeness: Likeness | None) -> Obstacle:
    told = label(found.code, {})
    if likeness is not None:
        where = f" in {source_label(likeness.reference)}" if likeness.reference else ""
        told = f"clip {likeness.clip_id[:12]}{where} {likeness.words}"
        if margin is not None and likeness.similarity is not None:
            limit = likeness.similarity - margin
            told += f" (a duplicate from {limit:.4g} on, margin {margin:.3g})"
    if found.kind == "held_out":
        mend = "it stays out as long as that reference is among dedup.held_out"
        return Obstacle(code=found.code, text=told, mend=mend)
    key = SIMILARITY_SETTINGS.get(found.about)
    over = None if likeness is None or likeness.similarity is None else _above(likeness.similarity)
    if key is None or over is None:
        mend = f"only without the other clip, or without dedup.{found.about}, would it be kept"
        return Obstacle(code=found.code, text=told, mend=mend)
    setting = f"{key}={over:g}"
    return Obstacle(code=found.code, text=told, mend=f"{setting} would keep both", setting=setting)


def _above(similarity: float) -> float | None:
    """The roundest threshold above a similarity; None where there is none up to 1."""
    for digits in (2, 3, 4, 5):
        step = 10.0**-digits
        rounded = round(math.floor(similarity / step + 1e-9) * step + step, digits)
        if (
            similarity < rounded <= 1
            and rounded - similarity <= max(step, (1 - similarity) / 4) + 1e-9
        ):
            return rounded
    return None


def just_passing(value: float, bound: float, side: Side) -> float:
    """The roundest threshold that keeps a value and gives up little more than its distance.

    Args:
        value: The measured value, beyond the bound.
        bound: The threshold now.
        side: Which bound it is.
    """
    exact = Decimal(_digits(value))
    if not exact:
        return 0.0
    rounding = ROUND_FLOOR if side == "min" else ROUND_CEILING
    for digits in range(1, MAX_DIGITS):
        unit = Decimal(1).scaleb(exact.adjusted() - digits + 1)
        rounded = float(exact.quantize(unit, rounding=rounding))
        if abs(rounded - value) <= abs(bound - value) / 4:
            return rounded
    return float(exact)


def _digits(value: float) -> str:
    """A value with the digits it was stored with: a float32 needs seven."""
    short = float(f"{value:.7g}")
    return (
        repr(short)
        if float(np.float32(short)) == float(np.float32(value)) == value
        else (repr(value))
    )


def apart(value: float, bound: float) -> tuple[str, str]:
    """Two unequal numbers with as many digits as it takes to tell them apart."""
    for digits in (3, 5, 7, 17):
        left, right = f"{value:.{digits}g}", f"{bound:.{digits}g}"
        if left != right:
            return left, f"{bound:g}"
    return f"{value:g}", f"{bound:g}"
