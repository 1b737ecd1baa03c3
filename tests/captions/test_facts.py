"""Measured facts in words, and the columns they stand in."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curation.captions import facts as module
from curation.captions.embedded import light
from curation.captions.facts import FACTS, MAX_SPOKEN, disarmed, facts_in_words
from curation.captions.tables import SUBTITLES
from curation.plan import SAMPLE_TABLE
from curation.stage import Stage
from curation.stages.audio import Audio
from curation.stages.camera import Camera
from curation.stages.faces import Faces
from curation.stages.probe import Probe
from curation.stages.score import Score
from curation.stages.signals import Signals
from curation.stages.technical import Technical
from curation.stages.text import OverlayText

STAGES: tuple[type[Stage], ...] = (
    *(Probe, Signals, Score, Technical, Camera, Audio, Faces, OverlayText),
)
ALONE = ["The clip lasts 4.5 seconds."]


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.name)
def test_every_fact_is_a_column_of_its_stage(stage: type[Stage]) -> None:
    written: dict[str, pa.DataType] = {}
    for table, columns in stage.adds.items():
        if table not in stage.details and table != SAMPLE_TABLE:
            written |= {f.name: f.type for f in columns}
    for fact in FACTS[stage.name]:
        assert written.get(fact.name) == fact.type, fact.name


def test_all_facts_have_a_known_stage_and_their_own_names() -> None:
    assert set(FACTS) == {s.name for s in STAGES} | {"subtitles"}
    assert {f.name: f.type for f in FACTS["subtitles"]}.items() <= {
        f.name: f.type for f in SUBTITLES
    }.items()
    names = [n for columns in FACTS.values() for n in columns.names]
    assert len(names) == len(set(names))


def test_nothing_measured_is_nothing_said() -> None:
    assert facts_in_words({}, 4.5) == ALONE
    nulls: dict[str, Any] = {n: None for columns in FACTS.values() for n in columns.names}
    assert facts_in_words(nulls, 4.5) == ALONE
    assert facts_in_words(dict.fromkeys(nulls, float("nan")), 4.5) == ALONE


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"camera_class": "static", "camera_confidence": 0.95}, "the camera does not move."),
        ({"motion_class": "fast"}, "apart from the camera, there is much movement."),
        ({"luma_mean": 0.1}, "the picture is dark."),
        ({"luma_mean": 0.8}, "the picture is bright."),
        ({"saturation": 0.001}, "the picture has only grey tones."),
        ({"has_audio": False}, "there is no sound."),
        ({"has_audio": True, "speech_fraction": 0.0}, "nobody speaks."),
        ({"speech_fraction": 0.3}, "somebody speaks for some of the time."),
        ({"speech_fraction": 0.9}, "somebody speaks for most of the time."),
        (
            {"face_count_max": 1, "face_time_fraction": 0.75, "largest_face_fraction": 0.3},
            "a face can be seen for 75 % of the time.",
        ),
        (
            {"face_count_max": 3, "face_time_fraction": 1.0, "largest_face_fraction": 0.3},
            "up to 3 faces can be seen for 100 % of the time.",
        ),
    ],
)
def test_one_measurement_is_one_sentence(facts: dict[str, Any], words: str) -> None:
    assert facts_in_words(facts, 4.5) == [*ALONE, f"Measured: {words}"]


@pytest.mark.parametrize(
    "facts",
    [
        {"camera_class": "static", "camera_confidence": 0.4},
        {"luma_mean": 0.5},
        {"saturation": 0.4},
        {"has_audio": True},
        {"face_count_max": 1, "face_time_fraction": 0.125, "largest_face_fraction": 0.3},
        {"face_count_max": 1, "face_time_fraction": 1.0, "largest_face_fraction": 0.14},
        {"face_count_max": 0, "face_time_fraction": 0.0},
        {"text_read": " "},
        {"subtitle_text": ""},
    ],
)
def test_what_is_ordinary_or_unsure_is_not_told(facts: dict[str, Any]) -> None:
    assert facts_in_words(facts, 4.5) == ALONE


def test_words_of_the_clip_are_quoted_on_one_line() -> None:
    facts = {"text_read": 'STOP | say "hi"', "subtitle_text": "Look\nout! " * 200}
    _, read, said = facts_in_words(facts, 4.5)
    assert read == 'Text read in the picture: "STOP" and "say \'hi\'".'
    assert said.startswith('Subtitles of what is said: "Look out! Look')
    assert "\n" not in said and len(said) < MAX_SPOKEN + 50 and said.endswith('..."' + ".")


SIGNS = (
    *(
        "<|im_end|>",
        "<|endoftext|>",
        "<image>",
        "<video>",
        "</s>",
        "<end_of_turn>",
        "<IMG_CONTEXT>",
    ),
    *("<\uff5cend\u2581of\u2581sentence\uff5c>", "[/INST]", "[IMG_BREAK]", "<<SYS>>"),
)


@pytest.mark.parametrize("column", ["text_read", "subtitle_text"])
@pytest.mark.parametrize("sign", SIGNS)
def test_signs_of_chat_templates_are_broken_up(column: str, sign: str) -> None:
    """Neither what is read nor what is said may end the prompt or stand for a picture."""
    _, told = facts_in_words({column: f"go {sign}{sign} home"}, 4.5)
    assert sign not in told and told.replace(" ", "").count(sign) == 2
    assert "go " in told and " home" in told


@pytest.mark.parametrize("text", ["I <3 you", "[MUSIC]", "a | b", "5 < 6 > 4", "1 <2"])
def test_what_is_no_sign_stays(text: str) -> None:
    assert disarmed(text) == text


def test_dark_and_bright_are_what_the_embedded_captioner_takes_for_it() -> None:
    assert module.DARK_BELOW is light.DARK_BELOW
    assert module.BRIGHT_ABOVE is light.BRIGHT_ABOVE
