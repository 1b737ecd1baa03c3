"""From single statements to a caption: short, medium, long, and the events in order of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curation.captions.answer import MAX_EVENTS, Caption, Event
from curation.captions.embedded.colours import Palette
from curation.captions.embedded.say import Said, between, capital, listed, number
from curation.captions.embedded.series import number as value_of
from curation.captions.embedded.things import Named

MAX_TEXT = 120
"""Letters of the text in the picture that a caption quotes."""


MIN_FACE_TIME, MIN_FACE = 0.7, 0.15
"""Share of the frames with a face, and its height over the picture's, from which it is told."""


@dataclass(frozen=True)
class Known:
    """Everything that is known of a clip, before it is put into words.

    Attributes:
        duration_s: Its length.
        palette: Its colours; None: no picture was there.
        things: What is to be seen.
        setting: The place, or nothing.
        camera: Statements on the camera.
        motion: On movement.
        light: On light.
        facts: Of the clip, for the text in the picture.
    """

    duration_s: float
    palette: Palette | None = None
    things: list[Named] = field(default_factory=list)
    setting: str = ""
    camera: list[Said] = field(default_factory=list)
    motion: list[Said] = field(default_factory=list)
    light: list[Said] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)


def caption_of(known: Known) -> Caption:
    """The caption of what is known; every sentence of it stands on a measurement."""
    seen = _seen(known.things) or _face(known.facts)
    colours, style = _colours(known.palette), _style(known.palette)
    place = f"The place looks like {known.setting}." if known.setting else ""
    text = _text(known.facts)
    camera, motion = _sentences(known.camera), _sentences(known.motion)
    light = _sentences(known.light)
    length = f"A clip of {number(known.duration_s)} s."
    first = next((s for s in (seen, colours, style, text, *camera, *motion, *light) if s), length)
    medium = [s for s in (seen, colours or style, *camera[:1], *motion[:1]) if s] or [first]
    told = [*_comings(known), *known.motion, *known.camera, *known.light]
    timed = [s for s in told if s.span_s is not None]
    timed.sort(key=lambda s: s.span_s or (0.0, 0.0))
    always = _sentences([s for s in told if s.span_s is None])
    everything = [seen, place, text, *_sentences(timed), *always, colours, style]
    said = list(dict.fromkeys(s for s in everything if s)) or [first]
    return Caption(
        short=first[:300],
        medium=" ".join(medium)[:800],
        long=" ".join(said)[:3000],
        events=_events(known),
        camera=" ".join(camera)[:300],
        subjects=tuple(t.words for t in known.things[:16]),
        setting=known.setting,
        light=" ".join(light)[:300],
        style=style,
    )


def _sentences(said: list[Said]) -> list[str]:
    return [s.sentence for s in said if s.sentence]


def _seen(things: list[Named]) -> str:
    words = [t.words for t in things]
    if not words:
        return ""
    verb = "is" if len(things) == 1 and things[0].single else "are"
    return f"{capital(listed(words))} {verb} in the picture."


def _face(facts: Mapping[str, Any]) -> str:
    """A face, where one was found in most frames and large enough not to be a mistake."""
    often, large = value_of(facts, "face_time_fraction"), value_of(facts, "largest_face_fraction")
    if often is None or large is None or often < MIN_FACE_TIME or large < MIN_FACE:
        return ""
    return "A face is in the picture."


def _colours(palette: Palette | None) -> str:
    if palette is None:
        return ""
    if palette.plain:
        return f"The picture is plain {palette.plain}."
    if palette.mostly:
        return f"The picture is mostly {palette.mostly}."
    if palette.main:
        return f"The main colours are {listed(palette.main)}."
    return ""


def _style(palette: Palette | None) -> str:
    return "Only grey tones are in the picture." if palette and palette.grey_picture else ""


def _text(facts: Mapping[str, Any]) -> str:
    """The text that was read in the picture, whole lines only."""
    read = facts.get("text_read")
    if not isinstance(read, str) or not read.strip():
        return ""
    kept, length = [], 0
    for line in read.split(" | "):
        length += len(line)
        if length > MAX_TEXT:
            break
        kept.append(f'"{line.strip()}"')
    return f"Text in the picture reads {listed(kept)}." if kept else ""


def _comings(known: Known) -> list[Said]:
    """Things that come into the picture or leave it."""
    said = []
    for thing in known.things:
        verbs = ("comes into", "leaves") if thing.single else ("come into", "leave")
        for span, verb in zip((thing.comes_s, thing.leaves_s), verbs, strict=True):
            if span is not None:
                event = f"{thing.words} {verb} the picture"
                told = f"{capital(event)} {between(*span)}."
                said.append(Said(told, span, event))
    return said


def _events(known: Known) -> tuple[Event, ...]:
    """Everything with a time, in order, inside the clip."""
    told = (*_comings(known), *known.camera, *known.motion, *known.light)
    timed = [(*_rounded(s.span_s, known.duration_s), s.event) for s in told if s.span_s and s.event]
    timed.sort()
    return tuple(Event(start_s=a, end_s=b, text=t) for a, b, t in timed[:MAX_EVENTS])


def _rounded(span_s: tuple[float, float], duration_s: float) -> tuple[float, float]:
    """A span in tenths of a second, not beyond the clip."""
    end = int(duration_s * 10 + 1e-6) / 10
    first, last = (min(max(0.0, round(v, 1)), end) for v in span_s)
    return first, max(first, last)
