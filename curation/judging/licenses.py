"""Licences as they are written, compared as they are meant.

People write ``CC BY 4.0``, ``cc-by-4.0`` and ``https://creativecommons.org/licenses/by/4.0/``;
SPDX has one name for it, ``CC-BY-4.0``, and joins names with ``OR``, ``AND`` and ``WITH``
(https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/). Patterns are held against the
SPDX form and the given form of each licence in such an expression; a pattern that has an operator
itself, against the whole of it.

A pattern is a pattern: ``CC-BY-*`` is also true of ``CC-BY-NC-4.0``. ``CC-BY-[0-9]*`` is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from curation.judging.globs import match_values

MAX_TOKENS = 64
"""A longer text is no expression that somebody meant."""
UNKNOWN = frozenset({"", "noassertion"})
"""Texts that say that nothing is known; the second is SPDX's."""

_CC_URL = re.compile(
    r"^(?:https?://)?(?:www\.)?creativecommons\.org/"
    r"(licenses|publicdomain)/([a-z-]+)(?:/(\d+\.\d+))?(?:/([a-z]{2,3}))?(?:/.*)?$",
    re.IGNORECASE,
)
_CC_NAME = re.compile(
    r"^cc[\s_-]*(by(?:[\s_-]+(?:nc|nd|sa))*)(?:[\s_-]+v?(\d+(?:\.\d+)?))?(?:[\s_-]+([a-z]{2,3}))?$",
    re.IGNORECASE,
)
_CC0_NAME = re.compile(r"^cc[\s_-]*(?:0|zero)(?:[\s_-]+v?(\d+(?:\.\d+)?))?$", re.IGNORECASE)
_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_OPERATORS = frozenset({"OR", "AND"})


def is_unknown(text: str | None) -> bool:
    """True for a missing licence, source or title."""
    return text is None or text.strip().lower() in UNKNOWN


def normal(text: str) -> str:
    """The SPDX name of one licence, where the text is a way to write a Creative Commons one.

    Any other text comes back without the blanks around it.
    """
    text = " ".join(text.split())
    if url := _CC_URL.match(text):
        room, name, version, port = url.groups()
        if room.lower() == "publicdomain":
            known = {"zero": "CC0", "mark": "CC-PDM"}
            return _versioned(known.get(name.lower(), f"CC-{name.upper()}"), version, None)
        return _versioned(f"CC-{name.upper()}", version, port)
    if zero := _CC0_NAME.match(text):
        return _versioned("CC0", zero.group(1), None)
    if named := _CC_NAME.match(text):
        terms = re.sub(r"[\s_]+", "-", named.group(1)).upper()
        return _versioned(f"CC-{terms}", named.group(2), named.group(3))
    return text


def allowed(texts: pa.Array, globs: Sequence[str]) -> np.ndarray:
    """For each licence whether one of the patterns allows its use, bool [texts].

    Of ``A OR B`` one has to be allowed, of ``A AND B`` both.
    """
    return _decide(texts, globs, either=any, both=all)


def denied(texts: pa.Array, globs: Sequence[str]) -> np.ndarray:
    """For each licence whether the patterns deny every way to use it, bool [texts].

    Of ``A OR B`` both have to be denied, of ``A AND B`` one.
    """
    return _decide(texts, globs, either=all, both=any)


Fold = Callable[[list[bool]], bool]


def _decide(texts: pa.Array, globs: Sequence[str], *, either: Fold, both: Fold) -> np.ndarray:
    parsed = [None if text is None else alternatives(text) for text in texts.to_pylist()]
    names = sorted({n for ways in parsed if ways for way in ways for n in way})
    found = match_values(pa.array(names, pa.string()), globs)
    found |= match_values(pa.array([normal(n) for n in names], pa.string()), globs)
    hits = dict(zip(names, found.tolist(), strict=True))
    decided = [
        ways is not None and either([both([hits[n] for n in way]) for way in ways])
        for ways in parsed
    ]
    whole = match_values(texts, [g for g in globs if _OPERATORS & set(g.upper().split())])
    return np.array(decided, bool).reshape(len(texts)) | whole


def alternatives(text: str) -> list[list[str]]:
    """A licence expression as ways to use it, each a list of licences that all apply.

    ``A OR B AND C`` is ``[[A], [B, C]]``; ``AND`` binds closer. Text that is no expression is one
    licence.
    """
    tokens = _TOKEN.findall(text)
    if not _OPERATORS & set(tokens) or len(tokens) > MAX_TOKENS:
        return [[text]]
    try:
        ways, rest = _either(tokens)
    except ValueError:
        return [[text]]
    return [[text]] if rest else ways


def _either(tokens: list[str]) -> tuple[list[list[str]], list[str]]:
    ways, rest = _both(tokens)
    while rest and rest[0] == "OR":
        more, rest = _both(rest[1:])
        ways = ways + more
    return ways, rest


def _both(tokens: list[str]) -> tuple[list[list[str]], list[str]]:
    ways, rest = _single(tokens)
    while rest and rest[0] == "AND":
        more, rest = _single(rest[1:])
        ways = [a + b for a in ways for b in more]
    return ways, rest


def _single(tokens: list[str]) -> tuple[list[list[str]], list[str]]:
    if not tokens or tokens[0] == ")":
        raise ValueError("an operand is missing")
    if tokens[0] == "(":
        ways, rest = _either(tokens[1:])
        if not rest or rest[0] != ")":
            raise ValueError("a bracket is open")
        return ways, rest[1:]
    words = 0
    while words < len(tokens) and tokens[words] not in _OPERATORS | {"(", ")"}:
        words += 1
    if words == 0:
        raise ValueError("an operand is missing")
    return [[" ".join(tokens[:words])]], tokens[words:]


def _versioned(name: str, version: str | None, port: str | None) -> str:
    if version and "." not in version:
        version = f"{version}.0"
    pieces = [name, *([version] if version else []), *([port.upper()] if port else [])]
    return "-".join(pieces)
