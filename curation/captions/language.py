"""Language of a text, by py3langid (langid.py: Lui and Baldwin 2012; BSD-3), offline.

It counts groups of bytes that are typical of 97 languages and gives each a share of belief. A few
words are not enough: of ``A dog runs`` nothing is said. A text counts as of a wrong language when
almost no belief is left for the wanted one, whichever of the others it is: neighbours such as
Russian and Macedonian share the belief among them. On English captions full of foreign words
(dishes, breeds, places) the share of English stayed above 0.014; on sentences of five or six words
in nine other languages it was below 0.006. Cost: 0.2 ms a caption, and 2 s to load, once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MIN_LETTERS = 20
"""Latin letters from which an answer is believed."""
MIN_OTHER_LETTERS = 4
"""The same where most letters are of another script, which says much by itself."""
MIN_PROBABILITY = 0.5
"""Belief from which a language is named."""
WRONG_BELOW = 0.01
"""Belief in the wanted language below which the text is in another one."""
LETTERS = re.compile(r"[^\W\d_]")
LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")


@dataclass(frozen=True)
class Language:
    """What language a text is in.

    Attributes:
        code: ISO 639-1; None: too short, or too close between languages.
        shares: Belief in each language by its code, together 1; empty: too short.
    """

    code: str | None
    shares: Mapping[str, float]


def language_of(text: str) -> Language:
    """The language of a text, or that it cannot be told."""
    letters, latin = len(LETTERS.findall(text)), len(LATIN.findall(text))
    if letters < (MIN_LETTERS if 2 * latin >= letters else MIN_OTHER_LETTERS):
        return Language(None, {})
    ranked = [(str(code), float(share)) for code, share in _identifier().rank(text)]
    code, share = ranked[0]
    return Language(code if share >= MIN_PROBABILITY else None, dict(ranked))


def wrong_language(language: Language, wanted: str) -> str | None:
    """The flag of a text that is surely in another language than wanted; None: none.

    Args:
        language: Of the text; where it cannot be told there is no flag.
        wanted: ISO 639-1; one that py3langid does not know is never found wrong.
    """
    if language.shares.get(wanted, 1.0) >= WRONG_BELOW:
        return None
    return "not_english" if wanted == "en" else f"not_{wanted}"


@lru_cache(maxsize=1)
def _identifier() -> Any:  # noqa: ANN401 - the package has no types
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
