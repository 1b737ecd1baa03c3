"""Numbers, names and reasons as a person reads them; every value still escaped by the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from curation.redact import public_name

MAX_NAME_CHARS = 90
MAX_TEXT_CHARS = 400


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a clip is not kept.

    Attributes:
        code: As in the catalog: ``low_sharpness``.
        text: The measured value and the bound: ``sharpness 0.094 is below 0.1``.
    """

    code: str
    text: str


def number(value: float | None) -> str:
    """A count or measurement: thousands separated, four significant digits when not whole."""
    if value is None:
        return "n/a"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """A length of time in the two units that fit it: ``7.5 s``, ``9 min 43 s``, ``12 h 05 min``."""
    if seconds is None:
        return "n/a"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s" if seconds >= 0.05 else f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 100 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{seconds / 3600:,.0f} h"


def timecode(seconds: float) -> str:
    """A position in a video: ``1:02:03.4``."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{rest // 10:02d}.{rest % 10}"


def size(num_bytes: int | None) -> str:
    """A size in bytes, decimal units: ``63.1 MB``."""
    if num_bytes is None:
        return "n/a"
    value = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.3g} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def plural(count: int, noun: str) -> str:
    """``1 clip``, ``2 clips``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def date(at: datetime | None) -> str:
    """A moment in UTC: ``20 Nov 2026, 17:06 UTC``."""
    return f"{at.astimezone(UTC):%-d %b %Y, %H:%M} UTC" if at else "never"


def shorten(text: str | None, limit: int = MAX_TEXT_CHARS) -> str:
    """Text on one line without control characters, at most ``limit`` characters long."""
    plain = "".join(c if c.isprintable() else " " for c in text or "")
    plain = " ".join(plain.split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def source_label(uri: str) -> str:
    """A source as it is shown: see :func:`curation.redact.public_name`; bounded in length."""
    plain = shorten(public_name(uri), 10 * MAX_NAME_CHARS)
    if len(plain) <= MAX_NAME_CHARS:
        return plain
    return f"{plain[: MAX_NAME_CHARS // 2]}…{plain[-MAX_NAME_CHARS // 2 + 1 :]}"


def message_of(message: str | None, uri: str | None) -> str:
    """An error's text, with the place of a local file on this machine left out."""
    text = message or ""
    if uri:
        text = text.replace(uri, source_label(uri))
    return shorten(text)


SAME = {"duplicate": "shows the same as a clip that stays"}


def explain(code: str, row: Mapping[str, Any], rules: Mapping[str, Any]) -> Reason:
    """A reason in words, with the measured value and the bound when a rule gave it.

    Args:
        code: ``low_<column>``, ``high_<column>``, ``null_<column>``, ``not_<column>``, one of
            rights, duplicates or caps, or an error code.
        row: The clip's columns.
        rules: Column -> ``{min, max, if_null}``.
    """
    kind, _, column = code.partition("_")
    if kind == "rights":
        what, _, name = column.partition("_")
        said = {"missing": "is not known", "unlisted": "is not on the list", "denied": "is refused"}
        return Reason(code=code, text=f"the {name} of its source {said.get(what, what)}")
    if kind in SAME:
        return Reason(code=code, text=f"{SAME[kind]} ({column})")
    rule = rules.get(column)
    if rule is not None and kind == "not":
        return Reason(code=code, text=f"{column} is {shorten(str(row.get(column)), 40)}")
    if rule is None or kind not in ("low", "high", "null"):
        return Reason(code=code, text=code.replace("_", " "))
    if kind == "null":
        return Reason(code=code, text=f"{column} is missing")
    bound = rule.get("min" if kind == "low" else "max")
    value, side = row.get(column), "below" if kind == "low" else "above"
    if value is None or bound is None:
        return Reason(code=code, text=f"{column} is {side} its bound")
    left, right = _apart(float(value), float(bound))
    return Reason(code=code, text=f"{column} {left} is {side} {right}")


def _apart(value: float, bound: float) -> tuple[str, str]:
    """Two unequal numbers with as many digits as it takes to tell them apart."""
    for digits in (3, 5, 7, 17):
        left, right = f"{value:.{digits}g}", f"{bound:.{digits}g}"
        if left != right:
            return left, f"{bound:g}"
    return f"{value:g}", f"{bound:g}"
