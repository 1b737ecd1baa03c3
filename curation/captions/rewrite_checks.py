"""What is wrong with a rewriting as a text, and what models put around one.

Patterns and counts alone, no model; the similarity of meaning comes on top (``rewrite.py``).
"""

from __future__ import annotations

import re

from curation.captions.answer import THOUGHTS
from curation.captions.checks import BOILERPLATE, WORD, is_refusal, repeats, unquoted

FENCED = re.compile(r"\A```\w*\s*(.*?)\s*```\Z", re.DOTALL)
OPENING = re.compile(
    r"\A(?:(?:sure|certainly|of course|okay|ok)\b[^:\n]{0,80}[:!.]\s+)?"
    r"(?:(?:here(?:'s| is| are)|this is|below is)\b[^:\n]{0,120}:\s*"
    r"|(?:rewritten|revised|rewritten text|description|rewritten description|answer|output|caption"
    r"|summary)\s*:\s*)?",
    re.IGNORECASE,
)
NOTE = re.compile(r"\n\s*\(?(?:note|explanation|word count|\d+ words)\b.*\Z", re.I | re.S)
QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("'", "'"), ("**", "**"), ("*", "*"))
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|nowhere|neither|nor|without|cannot)\b|\w+n't\b", re.I
)
_COUNTED = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
NUMBER_WORDS = {word: str(number) for number, word in enumerate(_COUNTED)} | {
    "dozen": "12",
    "hundred": "100",
    "thousand": "1000",
}

COLOURS = frozenset(
    {"red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "black", "white"}
    | {"grey", "gold", "silver", "turquoise", "beige", "violet", "crimson", "teal"}
)

MIN_SHARED = 0.25
"""Least share of a rewriting's words of content that its source has, by their first letters. Half
and more is usual; texts of two clips share a tenth."""
STEM = 5
_EMPTY = frozenset(
    {"with", "that", "this", "from", "into", "them", "they", "their", "then", "while", "have"}
    | {"been", "which", "there", "where", "over", "what", "when", "some", "other", "also", "being"}
)


def cleaned(text: str) -> str:
    """An answer without what models put around it: thoughts, fences, openings, quotes, notes."""
    text = THOUGHTS.sub("", text).strip()
    if fenced := FENCED.match(text):
        text = fenced.group(1)
    text = NOTE.sub("", OPENING.sub("", text, count=1).strip())
    text = " ".join(text.split())
    for _ in range(3):
        for first, last in QUOTES:
            inside = text[len(first) : -len(last)]
            if text == f"{first}{inside}{last}" and first not in inside:
                text = inside.strip()
    return text


def problem(text: str, source: str, *, words: tuple[int, int]) -> str | None:
    """Why a rewriting cannot be used; None: nothing is found, meaning aside.

    Args:
        text: The rewriting, cleaned.
        source: The caption.
        words: Fewest and most words.

    The reasons begin with a word to count them by: ``empty``, ``refusal``, ``boilerplate``,
    ``length``, ``copied``, ``repetition``, ``unrelated``, ``numbers``, ``colours``, ``negation``.
    Other details that a model makes up are not found, here or by the similarity of meaning.
    """
    if not text:
        return "empty"
    if is_refusal(text):
        return "refusal"
    if BOILERPLATE.search(unquoted(text)):
        return "boilerplate: it speaks of the video"
    count = num_words(text)
    if not words[0] <= count <= words[1]:
        return f"length: {count} words, not {words[0]} to {words[1]}"
    if _words(text) == _words(source):
        return "copied: the description word for word"
    if repeats(text):
        return "repetition: it says the same again and again"
    if (share := shared(text, source)) < MIN_SHARED:
        return f"unrelated: {share:.0%} of its words are the description's"
    if new := sorted(numbers(text) - numbers(source)):
        return f"numbers: {', '.join(new)} is not in the description"
    if new := sorted(colours(text) - colours(source)):
        return f"colours: {', '.join(new)} is not in the description"
    if new := sorted(negations(text) - negations(source)):
        return f"negation: {', '.join(new)} is not in the description"
    return None


def num_words(text: str) -> int:
    """Words of a text; ``slow-moving`` is one."""
    return len(WORD.findall(text))


def shared(text: str, source: str) -> float:
    """Share of a text's different words of content that another text has; 1 without any."""
    mine, theirs = _stems(text), _stems(source)
    return len(mine & theirs) / len(mine) if mine else 1.0


def numbers(text: str) -> set[str]:
    """Numbers of a text, words as digits; ``one`` is left out, being mostly a pronoun."""
    found = set(NUMBER.findall(text))
    found |= {NUMBER_WORDS[w] for w in _words(text) if w in NUMBER_WORDS}
    return found - {"1"}


def colours(text: str) -> set[str]:
    """Names of colours in a text; ``gray`` is ``grey``."""
    return {w.replace("gray", "grey") for t in _words(text) for w in t.split("-")} & COLOURS


def negations(text: str) -> set[str]:
    """Whether a text denies something: ``{"a negation"}`` or empty. Which word it uses is free."""
    return {"a negation"} if NEGATION.search(unquoted(text)) else set()


def _stems(text: str) -> set[str]:
    return {w[:STEM] for w in _words(text) if len(w) > 3 and w not in _EMPTY}


def _words(text: str) -> list[str]:
    return [w.lower() for w in WORD.findall(text)]
