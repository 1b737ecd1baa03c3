"""Licences as people write them, and as hubs and Croissant name them."""

from __future__ import annotations

import re
from collections.abc import Sequence

HUB = frozenset(
    {
        *("apache-2.0", "mit", "cc0-1.0", "bsd-3-clause", "odc-by", "odbl", "pddl", "gpl-3.0"),
        *(f"cc-by-{v}" for v in ("2.0", "2.5", "3.0", "4.0")),
        *(f"cc-by-sa-{v}" for v in ("3.0", "4.0")),
        *(f"cc-by-nc-{v}" for v in ("2.0", "3.0", "4.0")),
        *(f"cc-by-nc-sa-{v}" for v in ("2.0", "3.0", "4.0")),
        *(f"cc-by-nd-{v}" for v in ("4.0",)),
        *(f"cc-by-nc-nd-{v}" for v in ("3.0", "4.0")),
    }
)
"""Names that the Hugging Face hub knows."""
URLS = {
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "mit": "https://opensource.org/license/mit",
}
CREATIVE_COMMONS = re.compile(r"cc-(by(?:-[a-z]{2})*)-(\d\.\d)")


def plain(licence: str | None) -> str | None:
    """A licence's name in lower case with hyphens; None when there is none."""
    text = re.sub(r"[\s_]+", "-", (licence or "").strip().lower())
    return {"cc0": "cc0-1.0"}.get(text, text) or None


def hub_licence(licences: Sequence[str | None]) -> tuple[str, str | None]:
    """What the head of a card says of the licences of all clips.

    Returns:
        ``license`` and, where that is ``other``, ``license_name``.
    """
    found = {plain(one) for one in licences}
    if found <= {None}:
        return "unknown", None
    if len(found) > 1:
        return "other", "mixed-and-unknown" if None in found else "mixed"
    (one,) = found
    return (str(one), None) if one in HUB else ("other", one)


def licence_url(licence: str | None) -> str | None:
    """The text of a licence on the web, where this page knows it; else its name as given."""
    name = plain(licence)
    if name in URLS:
        return URLS[name]
    if name and (found := CREATIVE_COMMONS.fullmatch(name)):
        return f"https://creativecommons.org/licenses/{found[1]}/{found[2]}/"
    return licence or None
