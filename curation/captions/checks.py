"""Checks of a caption's texts, without a picture: what is wrong with it, as stable codes.

They look for what captioners are known to do: refuse, talk about "the video", repeat themselves,
copy the question, guess, answer in another language, and tell how a clip begins or ends when no
frame of its beginning or end was shown. Patterns are kept narrow: "a video game", "begins to run"
and "at the end of the pier" are ordinary descriptions. Words inside quotation marks are what
somebody says or what is written, and are left out. Cost: 2 to 8 ms a caption of 100 words.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from pydantic import BaseModel, ConfigDict, Field

from curation.captions.answer import Caption, answer_schema

CODES = (
    *("too_short", "too_long", "repetition", "refusal", "boilerplate", "prompt_echo", "hedging"),
    *("unsupported_first", "unsupported_last", "unsupported_order"),
)
"""Every flag of this module; ``not_english`` is ``language.py``'s."""

TOP_NGRAM_SHARE = {2: 0.20, 3: 0.18, 4: 0.16}
"""Most of a text's letters inside its most frequent n-gram; Gopher (Rae et al. 2021, arXiv
2112.11446, table A1), as datatrove and FineWeb apply it."""
DUPLICATE_5GRAM_SHARE = 0.15
"""Most letters inside 5-grams that occurred before; the same table."""
DUPLICATE_SENTENCE_SHARE = 0.30
"""Most sentences that occurred before; the same table, for lines."""
MIN_REPEATED_WORDS = 20
"""Shares of shorter texts say nothing: those are only searched for a stuck model."""
STUCK = 3
"""So many times the same words in a row, ``very very very``."""
EDGE_S = 1.05
"""A frame this near to the clip's end shows it: samples are stored one a second."""
EDGE_SHARE = 0.05
"""The same as a share of the clip, for long ones."""
MIN_ORDER_FRAMES = 3
"""Frames from which one may tell what comes after what."""
ECHO_WORDS = 6
"""So many words of the prompt in a row are no accident."""
MAX_HEDGED = 0.34
"""Share of sentences that guess, from which a caption of at least two guesses is flagged."""

_OF = (
    r"(?:video|clip|footage|recording|film|images?|pictures?|photo(?:graph)?s?|frames?|screenshot)"
)
_SHOT = r"(?:video|clip|footage|recording|film|scene|shot|sequence|segment|frame|animation|action)"
_MORE = r"(?!\s+(?:game|camera|call|conference|screen|store|wall|monitor|tape|player|board|frame))"
_TELLS = (
    r"(?:shows?|showing|depicts?|captures?|features?|displays?|presents?|portrays?|illustrates?)"
)

REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able|afraid)|i (?:can ?not|can't) "
    r"(?:see|view|watch|access|help|assist|provide|describe|determine|identify|fulfil|process|"
    r"analy[sz]e|answer|create|comply|do|continue|tell)|as an? (?:ai\b|artificial|language model|"
    r"large language)|i(?:'m| am) (?:just |only )?an? (?:ai|language model|large language)|"
    r"i (?:don't|do not) (?:have (?:access|the ability|enough)|see any)|i apologi[sz]e|"
    r"(?:please|kindly) (?:provide|upload|share|attach) (?:the|an?|your|more|me)|"
    r"(?:can(?:not|'t)|unable to) (?:assist|help with|comply|process this|fulfil)|"
    r"no (?:images?|frames?|video|pictures?) (?:was|were|is|are|has been|have been) "
    r"(?:provided|attached|shared|given|uploaded|included))",
    re.IGNORECASE,
)
BOILERPLATE = re.compile(
    rf"\b(?:the|this|these|each)\s+(?:short |brief |given |provided |first |last |next |final )?"
    rf"(?:video |film )?(?:{_OF}|scene|sequence){_MORE}\s+(?:also |then |clearly |simply )?"
    rf"(?:{_TELLS}|begins?|starts?|opens?|ends?|concludes?|is (?:of|about|taken|showing)|appears? "
    rf"to (?:show|be)|seems? to (?:show|be)|focus(?:es)? on|consists? of|contains?)\b"
    rf"|\bin (?:this|these|the|each) (?:short |brief |given |provided |first |last )?"
    rf"(?:video |film )?{_OF}\b{_MORE}"
    rf"|\A(?:an?|the|this)\s+(?:short |brief |close-up )?(?:video |film )?"
    rf"(?:video|clip|footage|image|film)\s+(?:of|showing|featuring|depicting)\b"
    r"(?!.{0,80}\b(?:hangs?|plays? on|projected|displayed on|on (?:a|the) (?:screen|wall|tv)))"
    r"|\bwe (?:can |then |also |could )?(?:see|observe|notice|watch)\b"
    r"|\b(?:the|a) viewer(?:'s)? (?:sees?|is|can|gets?|attention|eye)\b"
    rf"|(?:\A|[.;!?]\s+)(?:the|this) (?:entire |whole |overall )?(?:video|footage)\b{_MORE}"
    rf"|\b(?:of|throughout|during|across) (?:the|this) (?:entire |whole )?(?:video|footage|clip)\b"
    rf"{_MORE}|\bas (?:seen|shown) in the {_OF}",
    re.IGNORECASE,
)
ECHO = re.compile(
    r"```|[{}]|\"?\b(?:start_s|end_s|duration_s)\b|\A\W*(?:short|medium|long|caption|events)\"?\s*:"
    r"|\bjson\b|<\|?(?:im_|image|video|end|assistant|user)|\[(?:short noun|insert|your )",
    re.IGNORECASE,
)
FIRST = re.compile(
    r"\b(?:initially\b|at first(?! (?:light|glance|base|sight|aid|floor))\b"
    rf"|(?:at|in|from|near) the (?:very )?(?:start|beginning|outset)(?! (?:of (?!the {_SHOT})|line|"
    r"gate|grid|block|position|point))\b"
    rf"|(?:the|this) (?:video |camera |opening )?(?:{_SHOT}|camera) "
    r"(?:begins|starts|opens)(?! (?:to|panning|tilting|zooming|moving|turning|rotating))\b"
    r"|(?:the )?opening (?:scene|shot|frame|moment)s?\b)"
    r"|(?:\A|[.;]\s+)(?:first|firstly|to begin with),",
    re.IGNORECASE,
)
LAST = re.compile(
    r"\b(?:finally|eventually|lastly|at last|by the end"
    rf"|(?:at|in|near|toward|towards) the (?:very )?end(?! (?:zone|table|of (?!the {_SHOT})))(?!-)"
    r"|in the final (?:scene|shot|frame|moment|second)s?"
    rf"|(?:the|this) (?:video |camera )?(?:{_SHOT}|camera) "
    r"(?:ends|concludes|closes|finishes|comes to an end)(?! in on)|ending with|concluding with)\b",
    re.IGNORECASE,
)
ORDER = re.compile(
    r"(?<!now and )(?<!back )(?<!since )(?<!by )(?<!even )(?<!every now and )(?<!until )\bthen\b"
    r"|\bafter (?:that|this|which)\b|\bafterwards?\b|\bsubsequently\b"
    r"|\b(?:before|after) (?!standing|parking|landing)\w+ing\b"
    r"|\b(?:moments?|seconds|a while|shortly|a little) (?:later|after)\b|\b(?:this|which) is "
    r"followed by\b|(?:\A|[.;]\s+)(?:next|later|second|secondly),",
    re.IGNORECASE,
)
HEDGE = re.compile(
    r"\b(?:possibly|perhaps|maybe|probably|presumably|apparently|likely|seem(?:s|ing)? to|"
    r"seemingly|appear(?:s|ing)? to be|might be|may be|could be|what looks like|"
    r"suggest(?:s|ing)|it is unclear|unclear whether|hard to (?:tell|say))\b",
    re.IGNORECASE,
)
PLAIN_QUOTES = str.maketrans({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'})
QUOTED = re.compile(r"\"[^\"]{0,200}\"|(?<!\w)'[^']{2,200}'(?!\w)")
WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


class WordLimits(BaseModel):
    """How many words a text may have: lowest and highest.

    Wide around what the prompt asks for, so that a flag means a text which is of no use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    short: tuple[int, int] = Field(default=(3, 30), description="words of the short caption")
    medium: tuple[int, int] = Field(default=(5, 80), description="words of the medium caption")
    long: tuple[int, int] = Field(default=(15, 250), description="words of the long caption")


@dataclass(frozen=True)
class Shown:
    """What the captioner saw of a clip; None: not known, and nothing is held against the text.

    Attributes:
        duration_s: Length of the clip.
        num_frames: Pictures looked at.
        first_s: Time of the first of them.
        last_s: Time of the last.
    """

    duration_s: float | None = None
    num_frames: int | None = None
    first_s: float | None = None
    last_s: float | None = None

    @property
    def edge_s(self) -> float:
        """How near to an end of the clip a frame has to be to show it."""
        return max(EDGE_S, EDGE_SHARE * (self.duration_s or 0.0))


def text_flags(
    caption: Caption, *, limits: WordLimits | None = None, shown: Shown | None = None
) -> list[str]:
    """What is wrong with a caption's texts.

    Args:
        caption: Its ``short``, ``medium``, ``long`` and the texts of its events are looked at.
        limits: Words per kind; None: the defaults.
        shown: What the captioner saw; None: nothing is known of it.

    Returns:
        Codes of ``CODES`` in their order, each once.
    """
    texts = [caption.short, caption.medium, caption.long, *(e.text for e in caption.events)]
    found = set(_lengths(caption, limits or WordLimits()))
    for text in texts:
        found.update(_phrases(text))
        if repeats(text):
            found.add("repetition")
    if is_hedging(caption.long) or is_hedging(caption.medium):
        found.add("hedging")
    found.update(_claims(texts[:3], caption, shown or Shown()))
    return [code for code in CODES if code in found]


def is_refusal(text: str) -> bool:
    """True for the answer of a model that does not do what it was asked, as text or in JSON."""
    return any(REFUSAL.search(unquoted(part)) for part in _strings(text))


def is_hedging(text: str) -> bool:
    """True when a text guesses at least twice, and in more than a third of its sentences."""
    sentences = _sentences(unquoted(text))
    hedged = sum(bool(HEDGE.search(s)) for s in sentences)
    return len(HEDGE.findall(unquoted(text))) > 1 and hedged > MAX_HEDGED * len(sentences)


def repeats(text: str) -> bool:
    """True when a text says the same again and again."""
    words = [w.lower() for w in WORD.findall(text)]
    if _stuck(words):
        return True
    sentences = [" ".join(WORD.findall(s.lower())) for s in _sentences(text)]
    again = len(sentences) - len(set(sentences))
    if len(sentences) > 1 and again > DUPLICATE_SENTENCE_SHARE * len(sentences):
        return True
    if len(words) < MIN_REPEATED_WORDS:
        return False
    letters = sum(map(len, words))
    for size, share in TOP_NGRAM_SHARE.items():
        gram, count = Counter(_grams(words, size)).most_common(1)[0]
        if count > 2 and count * sum(map(len, gram)) > share * letters:
            return True
    return _duplicated(words, 5) > DUPLICATE_5GRAM_SHARE * letters


def unquoted(text: str) -> str:
    """A text without what stands in quotation marks, and with plain ones."""
    return QUOTED.sub('""', text.translate(PLAIN_QUOTES))


def claims_first(text: str) -> bool:
    """True when a text tells how the clip begins."""
    return bool(FIRST.search(unquoted(text)))


def claims_last(text: str) -> bool:
    """True when a text tells how the clip ends."""
    return bool(LAST.search(unquoted(text)))


def claims_order(text: str) -> bool:
    """True when a text tells what comes after what."""
    return bool(ORDER.search(unquoted(text)))


def _lengths(caption: Caption, limits: WordLimits) -> Iterator[str]:
    for kind in ("short", "medium", "long"):
        lowest, highest = getattr(limits, kind)
        count = len(WORD.findall(getattr(caption, kind)))
        if count < lowest:
            yield "too_short"
        if count > highest:
            yield "too_long"


def _phrases(text: str) -> Iterator[str]:
    if is_refusal(text):
        yield "refusal"
    if BOILERPLATE.search(unquoted(text)):
        yield "boilerplate"
    words = [w.lower() for w in WORD.findall(text)]
    if ECHO.search(text) or not _prompt_runs().isdisjoint(_grams(words, ECHO_WORDS)):
        yield "prompt_echo"


def _claims(texts: Sequence[str], caption: Caption, shown: Shown) -> Iterator[str]:
    """Claims on time that the frames shown do not bear out."""
    if shown.first_s is not None and shown.first_s > shown.edge_s and any(map(claims_first, texts)):
        yield "unsupported_first"
    if (
        shown.last_s is not None
        and shown.duration_s is not None
        and shown.duration_s - shown.last_s > shown.edge_s
        and any(map(claims_last, texts))
    ):
        yield "unsupported_last"
    # Without pictures the text was written of measurements, which cover the whole clip.
    few = shown.num_frames is not None and 0 < shown.num_frames < MIN_ORDER_FRAMES
    one = len(caption.events) == 1 and not claims_order(caption.events[0].text)
    if (few or one) and any(map(claims_order, texts)):
        yield "unsupported_order"


def _stuck(words: Sequence[str]) -> bool:
    """True when one to eight words follow themselves ``STUCK`` times in a row."""
    for size in range(1, 9):
        same = 0
        for i in range(size, len(words)):
            same = same + 1 if words[i] == words[i - size] else 0
            if same == (STUCK - 1) * size:
                return True
    return False


def _duplicated(words: Sequence[str], size: int) -> int:
    """Letters inside n-grams that occurred before, none counted twice."""
    seen: set[tuple[str, ...]] = set()
    letters, at = 0, 0
    while at + size <= len(words):
        gram = tuple(words[at : at + size])
        if gram in seen:
            letters += sum(map(len, gram))
            at += size
        else:
            seen.add(gram)
            at += 1
    return letters


def _grams(words: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + size]) for i in range(len(words) - size + 1))


def _sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.!?;])\s+", text) if WORD.search(s)]


def _strings(text: str) -> Iterator[str]:
    """The texts in a JSON answer; any other text as it is."""
    try:
        data = json.loads(text)
    except ValueError:
        data = text
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


@lru_cache(maxsize=1)
def _prompt_runs() -> frozenset[tuple[str, ...]]:
    """Every run of ``ECHO_WORDS`` words of this package's prompts and of the answer's schema."""
    folder = resources.files("curation.captions") / "prompts"
    files = sorted(p.name for p in folder.iterdir() if p.name.endswith(".md"))
    texts: Iterable[str] = [(folder / name).read_text() for name in files]
    texts = [*texts, *_descriptions(answer_schema())]
    runs = (_grams([w.lower() for w in WORD.findall(text)], ECHO_WORDS) for text in texts)
    return frozenset(run for found in runs for run in found)


def _descriptions(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "description" and isinstance(value, str):
                yield value
            else:
                yield from _descriptions(value)
