"""Contradictions: what a caption says, where a measurement says the opposite.

Rules find statements on the camera, movement, light, colour, people, written text and sound, and
take negations into account ("the camera does not pan" says that it is not moved). A statement
counts against a caption only where the measurement is clear: the thresholds below leave the
doubtful middle out, and what is not known contradicts nothing. Cost: about 2 ms a caption.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from curation.captions.answer import Caption
from curation.captions.checks import unquoted

SURE_MOVE = 0.6
"""``camera_confidence`` from which a move is believed against a caption that says "static"."""
SURE_MOVING_FRACTION = 0.5
"""... and the share of the time that the camera has to move."""
SURE_STATIC = 0.8
"""``camera_confidence`` from which a standing camera is believed against a caption of a move."""
FLAT_MOVING_FRACTION = 0.1
"""... and the share of the time that it may move."""
BRIGHT_LUMA, DARK_LUMA = 0.65, 0.12
"""Mean luma from which nothing is a night or dark, and below which nothing is brightly lit. Lit
towers at night measure 0.3 to 0.45, a white table in daylight 0.6."""
COLOUR_SATURATION = 0.25
"""Mean saturation from which nothing is black and white."""
FACE_TIME = 0.3
"""Share of the frames with a face, where it is known: one find in eight frames may be a mistake."""
SURE_TEXT = 0.6
SPEECH = 0.3
"""``speech_fraction`` from which somebody speaks."""
OPPOSITE = {
    **{"pan_right": "pan_left", "pan_left": "pan_right", "tilt_up": "tilt_down"},
    **{"tilt_down": "tilt_up", "zoom_in": "zoom_out", "zoom_out": "zoom_in"},
}

_TO = r"\s+(?:\w+ly\s+)?(?:(?:from (?:left|right|top|bottom) )?to(?:wards?)? the |to |towards )?"
_VIEW = r"(?:camera|shot|view|viewpoint|frame|framing|perspective|angle)"
_STILL = r"(?:static|stationary|fixed|still|motionless|unmoving|locked[- ]off|immobile)"
_AS_IT_IS = r"(?:is|remains?|stays?|stands|keeps?|appears?|holds)(?:\s+\w+ly)?"
_FILM = r"(?:footage|film|video|scene|image|photograph|photography|shot|style|clip|animation)"


def _camera(verb: str, noun: str, to: str) -> str:
    """The camera as the subject of a movement, or a camera movement as a thing."""
    return (
        rf"\bcamera(?:\s+\w+){{0,3}}?\s+(?:{verb}){_TO}{to}\b"
        rf"|\b(?:camera|slow|smooth|gentle|gradual|quick|steady)\s+(?:{noun}){_TO}{to}\b(?! of)"
    )


STATEMENTS: tuple[tuple[str, str], ...] = (
    (
        "camera_static",
        rf"\b{_STILL}\s+{_VIEW}\b|\b{_VIEW}\s+{_AS_IT_IS}\s+{_STILL}\b"
        r"|\bcamera\b.{0,20}\bno (?:movement|motion)\b",
    ),
    ("pan_right", _camera("pan(?:s|ning|ned)?", "pan", "right")),
    ("pan_left", _camera("pan(?:s|ning|ned)?", "pan", "left")),
    ("tilt_up", _camera("tilt(?:s|ing|ed)?", "tilt", "(?:up|upwards?)")),
    ("tilt_down", _camera("tilt(?:s|ing|ed)?", "tilt", "(?:down|downwards?)")),
    ("zoom_in", _camera("zoom(?:s|ing|ed)?|push(?:es|ing)?|doll(?:y|ies)", "zoom", "in")),
    (
        "zoom_out",
        _camera("zoom(?:s|ing|ed)?|pull(?:s|ing)?|doll(?:y|ies)", "zoom", "(?:out|back)"),
    ),
    (
        "camera_moves",
        r"\bcamera(?:\s+\w+){0,2}?\s+(?:moves?|moving|pans?|tilts?|zooms?|glides|tracks|orbits)\b"
        r"|\bcamera (?:movement|motion)\b|\bmov(?:es|ing) camera\b",
    ),
    ("handheld", r"\b(?:hand-?held|shaky|shaking|wobbly)\s+(?:camera|shot|footage|video)\b"),
    (
        "nothing_moves",
        r"\bnothing moves\b|\beverything (?:is|stays) still\b|\A(?!.*\bcamera\b).*\b(?:no|without "
        r"any) (?:visible |apparent |noticeable |discernible )?(?:movement|motion)\b(?! \w)",
    ),
    (
        "fast",
        r"\b(?:very fast|at (?:high|great|full) speed|(?:moves?|runs?|drives?|spins?|races?|rushes|"
        r"speeds?|cycles|rides?) (?:\w+ )?(?:fast|quickly|rapidly|swiftly))\b",
    ),
    (
        "dark",
        rf"\b(?:at night(?! stand)|night-?time|in (?:the |complete |total |near )?darkness|"
        rf"pitch[- ](?:black|dark)|(?:dark|dim|dimly lit|unlit|night) (?:{_FILM}|room|street|"
        r"alley|forest|hall|road|sky|interior|surroundings|setting)|(?:scene|room|street|"
        r"surroundings|setting|lighting|light) (?:is|are) (?:very |quite )?(?:dark|dim)\b)",
    ),
    (
        "bright",
        r"\b(?:brightly lit|bright(?:ly)? (?:daylight|sunlight|sunshine|sunny|day|room|scene|sun)|"
        r"broad daylight|harsh sunlight|sun-?drenched|overexposed|in (?:full |direct )?(?:sunlight|"
        r"sunshine)|(?:scene|room|lighting|light) is (?:very )?bright)\b",
    ),
    (
        "black_and_white",
        rf"\b(?:black[- ]and[- ]white {_FILM}|in black[- ]and[- ]white(?=\W*\Z|[.,;])|"
        r"monochrome|monochromatic|gr[ea]yscale)\b",
    ),
    (
        "nobody",
        r"\b(?:no (?:people|persons?|humans?|human beings|human presence|faces?)|nobody|no ?one|"
        r"(?:without|devoid of|empty of) (?:any )?(?:people|humans?))\b"
        r"(?!\s+(?:else|other|is (?:looking|speaking|talking|wearing)|moves|speaks|talks|looks|"
        r"wears|in the background|behind|nearby|around|but))",
    ),
    (
        "overlay",
        r"\b(?:subtitles?|closed captions|text overlay|overlaid text|on-screen text|title card|"
        r"(?:end |closing |opening )?credits (?:roll|scroll|appear)|caption reads|title reads)\b",
    ),
    (
        "no_text",
        r"\b(?:no|without any) (?:visible |on-screen |readable |legible )?"
        r"(?:text|writing|lettering)\b",
    ),
    (
        "silence",
        r"\b(?:no (?:sound|audio|speech)|without (?:any )?(?:sound|audio|speech)|"
        rf"silent {_FILM}|(?:nobody|no ?one) (?:speaks|talks|is (?:speaking|talking)))\b",
    ),
    ("voice", r"\b(?:voice-?over|narrat(?:or|ion|es)|voices? (?:is|are|can be) heard)\b"),
)
"""What can be said, and how. Where a statement is negated, ``NEGATED`` says what it then is."""
NEGATED = {"camera_moves": "camera_static", "overlay": "no_overlay"}
OWN_FIELDS = {
    "camera": (
        ("camera_static", rf"\A\W*(?:(?:a|an|the|completely|mostly)\s+)*{_STILL}\b"),
        ("camera_static", r"\A\W*(?:none|no movement|does not move|not moving)\b"),
        ("pan_right", rf"\bpan(?:s|ning)?{_TO}right\b"),
        ("pan_left", rf"\bpan(?:s|ning)?{_TO}left\b"),
        ("tilt_up", rf"\btilt(?:s|ing)?{_TO}(?:up|upwards?)\b"),
        ("tilt_down", rf"\btilt(?:s|ing)?{_TO}(?:down|downwards?)\b"),
        ("zoom_in", r"\bzoom(?:s|ing)?(?:\s+\w+ly)?\s+in\b"),
        ("zoom_out", r"\bzoom(?:s|ing)?(?:\s+\w+ly)?\s+out\b"),
        ("handheld", r"\A\W*(?:slightly )?(?:hand-?held|shaky)\b"),
    ),
    "light": (
        ("dark", r"\A\W*(?:(?:very|quite|low)\s+)*(?:dark|dim|night|night-?time|low light)\b"),
        ("bright", r"\A\W*(?:(?:very|quite)\s+)*bright\b"),
    ),
    "style": (("black_and_white", r"\bblack[- ]and[- ]white\b"),),
}
"""Statements that are complete only in the field which names their subject."""
CLAUSES = re.compile(r"[.;:!?,]\s+|\s+(?:but|while|whereas|although|though)\s+")
NEGATION = re.compile(
    r"(?:\b(?:no|not|never|without|neither|nor|hardly|lacks?|free of|absence of)|n't)"
    r"(?:\s+\w+){0,3}\s*\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Statement:
    """Something that a caption says.

    Attributes:
        kind: What, see ``STATEMENTS`` and ``NEGATED``.
        quote: In its words.
    """

    kind: str
    quote: str


def contradictions(caption: Caption, facts: Mapping[str, Any]) -> list[str]:
    """What a caption says against the measurements.

    Args:
        caption: All its fields are read.
        facts: Measured columns by name; missing and null ones contradict nothing.

    Returns:
        Sentences such as ``says "the camera is static", measured: pan_right (confidence 0.93)``,
        one for each thing said.
    """
    said: dict[str, Statement] = {}
    for statement in statements(caption):
        said.setdefault(statement.kind, statement)
    found = []
    for statement in said.values():
        measured = _measured_against(statement.kind, frozenset(said), facts)
        if measured is not None:
            found.append(f'says "{statement.quote}", measured: {measured}')
    return list(dict.fromkeys(found))  # "pans left" is a pan, and a movement


def statements(caption: Caption) -> Iterator[Statement]:
    """What a caption says on things that are measured, in the order of its texts."""
    texts = [caption.short, caption.medium, caption.long, *(e.text for e in caption.events)]
    for text in (*texts, caption.camera, caption.light, caption.style):
        yield from _in_text(text, _RULES)
    for name, rules in _FIELD_RULES.items():
        yield from _in_text(getattr(caption, name), rules)


def _in_text(text: str, rules: tuple[tuple[str, re.Pattern[str]], ...]) -> Iterator[Statement]:
    for clause in CLAUSES.split(unquoted(text)):
        for kind, pattern in rules:
            match = pattern.search(clause)
            if match is None:
                continue
            quote = clause.strip(" .,;")
            if not NEGATION.search(clause[: match.start()]) and not _negated_inside(match[0]):
                yield Statement(kind, quote)
            elif NEGATED.get(kind):
                yield Statement(NEGATED[kind], quote)


def _negated_inside(matched: str) -> bool:
    """True for ``camera does not pan``: the negation stands between subject and verb."""
    return re.search(r"\bcamera\b.*\b(?:not|never)\b|n't\b", matched, re.IGNORECASE) is not None


def _measured_against(kind: str, said: frozenset[str], facts: Mapping[str, Any]) -> str | None:
    """The measurement that contradicts a statement, in words; None: none does."""
    if kind in OPPOSITE or kind in ("camera_static", "camera_moves", "handheld"):
        return _camera_against(kind, said, facts)
    number = {
        name: facts.get(name)
        for name in ("luma_mean", "saturation", "speech_fraction", "face_count_max")
    }

    def above(name: str, bound: float) -> str | None:
        value = number[name]
        return f"{name} {value:.2f}" if value is not None and value >= bound else None

    if kind == "dark":
        return above("luma_mean", BRIGHT_LUMA)
    if kind == "bright":
        luma = number["luma_mean"]
        return f"luma_mean {luma:.2f}" if luma is not None and luma < DARK_LUMA else None
    if kind == "black_and_white":
        return above("saturation", COLOUR_SATURATION)
    if kind == "silence":
        return above("speech_fraction", SPEECH)
    if kind == "voice":
        return "no speech" if number["speech_fraction"] == 0 else None
    if kind == "nobody":
        return _faces(facts)
    if kind in ("overlay", "no_overlay", "no_text"):
        return _text_against(kind, facts)
    return _motion_against(kind, facts)


def _camera_against(kind: str, said: frozenset[str], facts: Mapping[str, Any]) -> str | None:
    measured, sure = facts.get("camera_class"), facts.get("camera_confidence")
    moving = facts.get("camera_moving_fraction")
    if measured is None or sure is None or moving is None:
        return None
    told = f"{measured} (confidence {sure:.2f})"
    if kind == "camera_static":
        moved = measured not in ("static", "handheld") and sure >= SURE_MOVE
        # "Static, then pans right" is not said to be static all the time.
        alone = said.isdisjoint({*OPPOSITE, "camera_moves"})
        return told if moved and moving >= SURE_MOVING_FRACTION and alone else None
    if measured == "static" and sure >= SURE_STATIC and moving <= FLAT_MOVING_FRACTION:
        return told
    other = OPPOSITE.get(kind)
    both = other is not None and other in said
    return told if other == measured and sure >= SURE_MOVE and not both else None


def _faces(facts: Mapping[str, Any]) -> str | None:
    count, share = facts.get("face_count_max"), facts.get("face_time_fraction")
    if not count or (share is not None and share < FACE_TIME):
        return None
    return f"{count} face{'s' if count > 1 else ''}"


def _text_against(kind: str, facts: Mapping[str, Any]) -> str | None:
    measured, sure = facts.get("text_kind"), facts.get("text_kind_confidence")
    if measured is None or (sure is not None and sure < SURE_TEXT):
        return None
    if kind == "overlay":
        return "no text" if measured == "none" else None
    there = {"subtitle", "title", "credits"} | ({"scene"} if kind == "no_text" else set())
    return f"text of the kind {measured}" if measured in there else None


def _motion_against(kind: str, facts: Mapping[str, Any]) -> str | None:
    measured = facts.get("motion_class")
    if kind == "nothing_moves" and measured in ("moderate", "fast"):
        return f"{measured} movement of the subject"
    # A camera that goes along keeps what is fast still in the picture.
    stands = facts.get("camera_class") == "static" and (
        (facts.get("camera_confidence") or 0.0) >= SURE_STATIC
    )
    if kind == "fast" and measured == "still" and stands:
        return "a still picture under a static camera"
    return None


def _compiled(rules: tuple[tuple[str, str], ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in rules)


_RULES = _compiled(STATEMENTS)
_FIELD_RULES = {name: _compiled(rules) for name, rules in OWN_FIELDS.items()}
