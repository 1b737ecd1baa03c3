"""Measured facts of a clip: which columns they stand in, and how they read in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curation.captions.embedded.camera import camera_of
from curation.captions.embedded.light import BRIGHT_ABOVE, DARK_BELOW
from curation.captions.embedded.say import listed, number
from curation.captions.embedded.series import number as value_of
from curation.schema import BOOL, DOUBLES, FLOAT32, FLOAT64, FLOATS, INT32, STRING, schema

FACTS: dict[str, pa.Schema] = {
    "probe": schema(
        width_px=INT32, height_px=INT32, sample_aspect_ratio=FLOAT64, rotation_deg=INT32
    ),
    "signals": schema(
        frame_time_s=DOUBLES,
        frame_pair_start_s=DOUBLES,
        frame_luma_mean=FLOATS,
        frame_object_per_s=FLOATS,
        frame_motion_per_s=FLOATS,
        frame_pan_per_s=FLOATS,
        frame_tilt_per_s=FLOATS,
        frame_zoom_per_s=FLOATS,
        frame_roll_per_s=FLOATS,
    ),
    "score": schema(
        motion_per_s=FLOAT32,
        object_motion_per_s=FLOAT32,
        static_fraction=FLOAT32,
        luma_mean=FLOAT32,
        dark_fraction=FLOAT32,
        bright_fraction=FLOAT32,
    ),
    "technical": schema(saturation=FLOAT32, frozen_fraction=FLOAT32, lighting_change=FLOAT32),
    "camera": schema(
        camera_class=STRING,
        camera_confidence=FLOAT32,
        camera_moving_fraction=FLOAT32,
        subject_motion_per_s=FLOAT32,
        motion_class=STRING,
    ),
    "audio": schema(has_audio=BOOL, speech_fraction=FLOAT32),
    "faces": schema(
        face_count_max=INT32, face_time_fraction=FLOAT32, largest_face_fraction=FLOAT32
    ),
    "text": schema(text_kind=STRING, text_kind_confidence=FLOAT32, text_read=STRING),
    "subtitles": schema(subtitle_text=STRING, subtitle_language=STRING),
}
"""Columns by the stage that writes them: those of the stages in the plan reach the captioner."""

MAX_SPOKEN = 500
"""Letters of what is said that are told; more would crowd out the question."""
_SIGN = re.compile(
    r"<(?=[^\s\d])"
    r"|[|\uff5c](?=>)"
    r"|\[(?=/?(?:INST|IMG|g?MASK|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_)[A-Z_]*\])"
)
"""First letters of signs: ``<|im_end|>``, ``<image>``, ``</s>`` and their like, and Mistral's
``[INST]``. Not ``<3``, nor ``[MUSIC]`` of a subtitle."""
GREY_BELOW = 0.01
"""Mean saturation of a picture without colour; see the stage ``technical``."""
SPEECH = ((0.02, "nobody speaks"), (0.5, "somebody speaks for some of the time"))
"""Upper ends of the share of speech, and the words; above: most of the time."""
FACES_ABOVE, MIN_FACE = 0.5, 0.15
"""Share of the frames with a face, and height of the largest over the picture's, from which faces
are told: single and small finds are often backs of heads."""


def facts_in_words(facts: Mapping[str, Any], duration_s: float) -> list[str]:
    """What was measured, as short sentences for the prompt of a vision-language model.

    Args:
        facts: Columns of ``FACTS``; a missing or null one says nothing.
        duration_s: Length of the clip.

    Returns:
        Whole sentences; the first tells the length.
    """
    measured = [
        *(s.sentence for s in camera_of(facts, duration_s)),
        *_movement(facts),
        *_light(facts),
        *_faces(facts),
        *_sound(facts),
    ]
    told = [f"The clip lasts {number(duration_s)} seconds."]
    told += [f"Measured: {text[0].lower()}{text[1:]}" for text in measured if text]
    return told + _words_in_it(facts)


def _movement(facts: Mapping[str, Any]) -> list[str]:
    words = {
        "still": "apart from the camera, hardly anything moves.",
        "slow": "apart from the camera, there is a little movement.",
        "moderate": "apart from the camera, there is some movement.",
        "fast": "apart from the camera, there is much movement.",
    }
    return [words.get(facts.get("motion_class") or "", "")]


def _light(facts: Mapping[str, Any]) -> list[str]:
    luma, saturation = value_of(facts, "luma_mean"), value_of(facts, "saturation")
    told = []
    if luma is not None and luma < DARK_BELOW:
        told.append("the picture is dark.")
    if luma is not None and luma > BRIGHT_ABOVE:
        told.append("the picture is bright.")
    if saturation is not None and saturation < GREY_BELOW:
        told.append("the picture has only grey tones.")
    return told


def _faces(facts: Mapping[str, Any]) -> list[str]:
    most, often = value_of(facts, "face_count_max"), value_of(facts, "face_time_fraction")
    large = value_of(facts, "largest_face_fraction")
    if not most or often is None or large is None or often < FACES_ABOVE or large < MIN_FACE:
        return []
    many = "a face" if most == 1 else f"up to {most:.0f} faces"
    return [f"{many} can be seen for {100 * often:.0f} % of the time."]


def _sound(facts: Mapping[str, Any]) -> list[str]:
    if facts.get("has_audio") is False:
        return ["there is no sound."]
    share = value_of(facts, "speech_fraction")
    if share is None:
        return []
    words = next((w for end, w in SPEECH if share < end), "somebody speaks for most of the time")
    return [f"{words}."]


def _words_in_it(facts: Mapping[str, Any]) -> list[str]:
    """Text in the picture and what is said, both quoted: they are data, not part of the prompt."""
    told = []
    read = facts.get("text_read")
    if isinstance(read, str) and read.strip():
        told.append(f"Text read in the picture: {listed([_quoted(t) for t in read.split(' | ')])}.")
    spoken = facts.get("subtitle_text")
    if isinstance(spoken, str) and spoken.strip():
        told.append(f"Subtitles of what is said: {_quoted(_shortened(spoken))}.")
    return told


def disarmed(text: str) -> str:
    """Text in which no sign of a chat template is left whole: ``<image>`` becomes ``< image>``.

    What was read in a picture or said in a video is data. Tokenizers take such signs for their
    own wherever they stand, so that a caption could shift the frames or end the prompt.
    """
    return _SIGN.sub(lambda found: f"{found[0]} ", text)


def _quoted(text: str) -> str:
    """One line in double quotes, its own turned into single ones, without a template's signs."""
    return '"' + disarmed(" ".join(text.split())).replace('"', "'") + '"'


def _shortened(text: str) -> str:
    """The first words, up to ``MAX_SPOKEN`` letters."""
    if len(text) <= MAX_SPOKEN:
        return text
    return text[:MAX_SPOKEN].rsplit(" ", 1)[0] + " ..."
