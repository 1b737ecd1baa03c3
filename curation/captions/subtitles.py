"""Existing text: subtitle files and transcripts as cues, and the cues of a clip.

Text is cleaned of what is layout, not speech: formatting tags, HTML, music notes, the dashes that
mark speakers. Rolling captions, which show each line two or three times while it moves up, give
every line once, at the time it is new.
"""

from __future__ import annotations

import codecs
import html
import json
import math
import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, TypeGuard

import pysubs2

SUBTITLE_FORMATS = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ssa"}
"""File endings that are read, and what pysubs2 calls them."""
ROLL_GAP_S = 0.1
"""A line that comes again within this time is the same line, moved up; later it is said again."""
MAX_TIME_S = 1e7
"""No video is as long: such a number is no time."""
SEGMENT_LISTS = ("segments", "chunks", "transcription")
"""Keys of Whisper, faster-whisper and WhisperX; of Transformers' pipelines; of whisper.cpp."""

NOTES = str.maketrans("", "", "♩♪♫♬")
TAG = re.compile(r"<[^<>\n]{1,200}>")
WORD_TIME = re.compile(r"<[\d:.]+>")
SPEAKER_MARK = re.compile(r"^(?:[-\u2010-\u2015]+(?!\d)|>{2,3})\s*")
JOINERS = "\u200c\u200d"  # invisible, but part of how Persian, Hindi and emoji are written
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class DamagedError(ValueError):
    """A file or stream that holds no readable cues; the message says why."""


@dataclass(frozen=True)
class Cue:
    """Some words and when they are said.

    Attributes:
        start_s: Half-open span ``[start_s, end_s)`` in seconds from the video's first frame; of a
            cue cut to a clip, from the clip's start.
        end_s: Its end.
        text: One line.
        words: ``(start_s, text)`` of each word, where a transcript knows them.
    """

    start_s: float
    end_s: float
    text: str
    words: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Parsed:
    """What a file holds: cues in order of time, its language if it names one, what was odd."""

    cues: list[Cue]
    language: str | None = None
    warning: str | None = None


def clean_lines(text: str) -> list[str]:
    """The lines of a cue as they are said: no tags, entities, notes, dashes or odd characters."""
    lines = []
    for raw in TAG.sub("", text).splitlines():
        line = " ".join(html.unescape(raw).translate(NOTES).split())
        line = "".join(c for c in line if c.isprintable() or c in JOINERS)
        line = SPEAKER_MARK.sub("", line.strip()).strip()
        if line:
            lines.append(line)
    return lines


def parse_subtitles(data: bytes, suffix: str, fallback_encoding: str = "cp1252") -> Parsed:
    """Read a subtitle file.

    Args:
        data: Its bytes. UTF-8, UTF-16 and UTF-32 are told from the bytes.
        suffix: Of :data:`SUBTITLE_FORMATS`.
        fallback_encoding: Of other files.

    Raises:
        DamagedError: There is text but no cue in it, or it cannot be read at all.
    """
    text, warning = _decode(data, fallback_encoding)
    content = text.strip()
    text = _plain_vtt(text) if suffix == ".vtt" else text
    try:
        with warnings.catch_warnings(action="ignore"):  # of fields that are not read here
            events = list(pysubs2.SSAFile.from_string(text, format_=SUBTITLE_FORMATS[suffix]))
    except Exception as exc:  # damaged bytes raise anything, from ValueError to IndexError
        raise DamagedError(f"cannot be parsed: {type(exc).__name__}: {exc}") from exc
    if not events and content and not _is_bare_header(content, suffix):
        raise DamagedError("holds no cue")
    shown = [
        (e.start / 1000, e.end / 1000, clean_lines(e.plaintext))
        for e in events
        if not e.is_comment and not e.is_drawing
    ]
    return Parsed(unroll(shown), warning=warning)


def parse_transcript(data: bytes) -> Parsed | None:
    """Read the JSON of a speech recogniser.

    Returns:
        None: it is JSON of something else (metadata of the video, say).

    Raises:
        DamagedError: It is no JSON, or its segments have no times.
    """
    try:
        content = json.loads(_decode(data, "utf-8")[0])
    except (ValueError, RecursionError) as exc:
        raise DamagedError(f"is not JSON: {exc}"[:200]) from exc
    named = content if isinstance(content, dict) else {"segments": content}
    segments = next((named[k] for k in SEGMENT_LISTS if isinstance(named.get(k), list)), None)
    if segments is None or not all(isinstance(s, dict) and "text" in s for s in segments):
        return None
    if not segments and content == []:
        return None
    cues = [cue for cue in map(_segment, segments) if cue is not None]
    if segments and not cues:
        raise DamagedError("none of its segments has a start, an end and a text")
    result = named.get("result")
    inner = result.get("language") if isinstance(result, dict) else None
    language = named.get("language") or inner
    lost = len(segments) - len(cues)
    shown = sorted(cues, key=lambda c: (c.start_s, c.end_s))
    return Parsed(
        _once(shown),
        language=language if isinstance(language, str) else None,
        warning=f"{lost} segments without times or text are left out" if lost else None,
    )


def unroll(shown: Iterable[tuple[float, float, Sequence[str]]]) -> list[Cue]:
    """Cues in order of time, each with only the words that were not on the screen already.

    Args:
        shown: ``(start_s, end_s, lines)``, cleaned.
    """
    cues: list[Cue] = []
    before: list[list[str]] = []
    until_s = -math.inf
    for start_s, end_s, lines in sorted(shown, key=lambda s: (s[0], s[1])):
        words = [line.split() for line in lines]
        flat = [w for line in words for w in line]
        if not flat or not end_s > start_s:
            continue
        old = _num_repeated(before, flat) if start_s <= until_s + ROLL_GAP_S else 0
        if flat[old:]:
            cues.append(Cue(round(start_s, 3), round(end_s, 3), " ".join(flat[old:])))
        before, until_s = words, max(until_s, end_s)
    return cues


def cut_cues(cues: Sequence[Cue]) -> Callable[[float, float], list[Cue]]:
    """What gives the cues of a clip: made once per video, asked once per clip.

    Returns:
        From a clip's half-open span ``(start_s, end_s)`` to the cues that overlap it, cut to it,
        times from its start. Of a cue that reaches over an end of the clip only the words inside
        are given where their times are known, and else all of them.
    """
    starts = [c.start_s for c in cues]
    latest = list(accumulate((c.end_s for c in cues), max))

    def cut(start_s: float, end_s: float) -> list[Cue]:
        near = cues[bisect_right(latest, start_s) : bisect_left(starts, end_s)]
        return [c for cue in near if (c := _cut(cue, start_s, end_s)) is not None]

    return cut


def join_text(cues: Iterable[Cue], max_chars: int) -> str:
    """The words of some cues as one text, ended at a word where it would grow too long."""
    text = " ".join(c.text for c in cues)
    if len(text) <= max_chars:
        return text
    head = text[: max_chars + 1]
    return head[: head.rfind(" ")] if " " in head else text[:max_chars]


def _decode(data: bytes, fallback: str) -> tuple[str, str | None]:
    """Text of bytes, and a remark when their encoding had to be guessed."""
    for bom, encoding in BOMS:
        if data.startswith(bom):
            return data.decode(encoding, "replace"), None
    head = data[:4000]
    if head.count(0) > len(head) // 5:  # no text has so many NULs but UTF-16 without a mark
        encoding = "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
        return data.decode(encoding, "replace"), None
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return data.decode(fallback, "replace"), f"is not UTF-8: read as {fallback}"


def _plain_vtt(text: str) -> str:
    """A WebVTT file of nothing but cues.

    pysubs2 reads it as SubRip: notes, names of cues and times between words would become text.
    """
    cues = []
    for block in re.split(r"\n{2,}", "\n".join(text.splitlines())):
        lines = block.strip("\n").split("\n")
        at = next((i for i, line in enumerate(lines) if "-->" in line), None)
        if at is not None:
            words = (WORD_TIME.sub("", line) for line in lines[at + 1 :])
            cues.append("\n".join([lines[at], *words]))
    return "\n\n".join(["WEBVTT", *cues])


def _is_bare_header(content: str, suffix: str) -> bool:
    """True for a file without a cue as tools write it when nothing is said."""
    return content.startswith("WEBVTT" if suffix == ".vtt" else "[Script Info]") and (
        "-->" not in content and "Dialogue:" not in content
    )


def _segment(segment: dict[str, Any]) -> Cue | None:
    """A cue of a transcript's segment; None when it lacks something."""
    start, end = segment.get("start"), segment.get("end")
    if isinstance(pair := segment.get("timestamp"), list) and len(pair) == 2:
        start, end = pair
    if isinstance(offsets := segment.get("offsets"), dict):  # milliseconds
        start, end = (_scaled(offsets.get(k), 1e-3) for k in ("from", "to"))
    text = " ".join(clean_lines(str(segment["text"])))
    if not (_is_time(start) and _is_time(end) and end > start and text):
        return None
    return Cue(round(start, 3), round(end, 3), text, tuple(_words(segment.get("words"))))


def _words(words: object) -> Iterator[tuple[float, str]]:
    """Words with times, those of faster-whisper and WhisperX; empty unless every word has one."""
    if not isinstance(words, list):
        return
    found: list[tuple[float, str]] = []
    for word in words:
        text = (word.get("word") or word.get("text")) if isinstance(word, dict) else None
        if not isinstance(text, str):
            return
        # WhisperX times no numerals: such a word goes with the one before it.
        start = word.get("start", found[-1][0] if found else None)
        if not _is_time(start):
            return
        found.append((float(start), " ".join(clean_lines(text))))
    yield from (word for word in found if word[1])


def _once(cues: Sequence[Cue]) -> list[Cue]:
    """Transcripts without segments that repeat their neighbour, as recognisers do on silence."""
    kept: list[Cue] = []
    for cue in cues:
        again = kept and cue.text == kept[-1].text
        if not again or cue.start_s > kept[-1].end_s + ROLL_GAP_S:
            kept.append(cue)
        else:
            kept[-1] = replace(kept[-1], end_s=max(kept[-1].end_s, cue.end_s))
    return kept


def _num_repeated(before: Sequence[Sequence[str]], words: Sequence[str]) -> int:
    """How many first words repeat the last lines of the cue before: whole lines count only."""
    for i in range(len(before)):
        tail = [w for line in before[i:] for w in line]
        if words[: len(tail)] == tail:
            return len(tail)
    return 0


def _cut(cue: Cue, start_s: float, end_s: float) -> Cue | None:
    """A cue cut to a clip; None when nothing of it is inside."""
    if cue.start_s >= end_s or cue.end_s <= start_s:
        return None
    text = cue.text
    if cue.words and (cue.start_s < start_s or cue.end_s > end_s):
        between = " " if " " in text else ""  # Chinese and Japanese have none
        text = between.join(word for at_s, word in cue.words if start_s <= at_s < end_s)
    if not text:
        return None
    times = max(0.0, cue.start_s - start_s), min(cue.end_s, end_s) - start_s
    return Cue(round(times[0], 3), round(times[1], 3), text)


def _is_time(value: Any) -> TypeGuard[float]:  # noqa: ANN401 - whatever JSON holds
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value < MAX_TIME_S


def _scaled(value: object, factor: float) -> float | None:
    return float(value) * factor if isinstance(value, int | float) else None
