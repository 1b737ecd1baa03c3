"""Personal data in text that was read: e-mail addresses, web addresses, phone numbers, plates.

Patterns over one line of text. They find what looks like it: a part number can look like a plate,
and a reader's mistake can hide one. Letters of any case.

- e-mail: ``name@host.tld``;
- web address: begins with ``http://``, ``https://`` or ``www.``, or is ``host.tld`` with one of the
  commonest endings;
- phone: 9 to 15 digits (ITU-T E.164 allows 15) in groups joined by one space, dot, dash or
  bracket, beginning with ``+``, ``0`` or ``(``, or 3-3-4 as in North America; so neither dates,
  times nor prices match;
- plate: 5 to 9 capital letters and digits in two or three groups, and nothing else in the line.
"""

from __future__ import annotations

import re

EMAIL = re.compile(r"[\w.+-]{1,64}\s?@\s?[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)
ENDINGS = "com|org|net|edu|gov|info|io|co|tv|me|de|fr|uk|eu|cn|jp|ru|br|in|it|es|nl|ca|au|ch|at"
URL = re.compile(
    rf"(?:https?://|www\.)[^\s]+|(?<![\w@.])[a-z0-9][\w-]+(?:\.[\w-]+)*\.(?:{ENDINGS})\b(?:/\S*)?",
    re.IGNORECASE,
)
PHONE = re.compile(
    r"(?<![\w.])(?:"
    r"(?:\+|0|\()\d{0,4}\)?(?:[\s.\-/()]{0,2}\d){7,14}"
    r"|\(?\d{3}\)?[\s.\-]\d{3}[\s.\-]\d{4}"
    r")(?![\w.])"
)
NUM_DIGITS = (9, 15)
PLATE = re.compile(
    r"(?:[A-Z]{1,3}[\s\-·]?\d{2,5}[\s\-·]?[A-Z]{0,3}|\d{1,4}[\s\-·]?[A-Z]{1,4}[\s\-·]?\d{1,5}"
    r"|[A-Z]{1,3}[\s\-·][A-Z]{1,2}[\s\-·]?\d{1,4}[A-Z]?|\d{2,4}[\s\-·][A-Z]{2,4})"
)
PLATE_LENGTHS = (5, 9)


def personal_kinds(text: str) -> list[str]:
    """What of ``email``, ``url``, ``phone`` and ``plate`` a line holds, each once per find."""
    kinds: list[str] = []
    rest = text.strip()
    for kind, pattern in (("email", EMAIL), ("url", URL), ("phone", PHONE)):
        found = [m.group() for m in pattern.finditer(rest)]
        if kind == "phone":
            found = [f for f in found if NUM_DIGITS[0] <= _digits(f) <= NUM_DIGITS[1]]
        kinds += [kind] * len(found)
        rest = pattern.sub(" ", rest)
    if not kinds and _plate(text.strip()):
        kinds.append("plate")
    return kinds


def _plate(text: str) -> bool:
    bare = re.sub(r"[\s\-·]", "", text)
    low, high = PLATE_LENGTHS
    both = any(c.isdigit() for c in bare) and any(c.isalpha() for c in bare)
    return low <= len(bare) <= high and both and PLATE.fullmatch(text) is not None


def _digits(text: str) -> int:
    return sum(c.isdigit() for c in text)
