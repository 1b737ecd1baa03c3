"""What counts as an answer: mended where that guesses nothing, refused with a reason otherwise."""

from __future__ import annotations

import json
from typing import Any

import pytest

from curation.captions.answer import AnswerError, answer_schema, merge_schema, parse_answer

GOOD: dict[str, Any] = {
    "short": "A dog runs over grass.",
    "medium": "A brown dog runs over wet grass and stops at a fence.",
    "long": "A brown dog runs over wet grass. After two seconds it stops at a wooden fence.",
    "events": [
        {"start_s": 0, "end_s": 2.0, "text": "the dog runs"},
        {"start_s": 2.0, "end_s": 4.0, "text": "it stops at a fence"},
    ],
    "camera": "static",
    "subjects": ["a dog"],
    "setting": "a garden",
    "light": "daylight",
    "style": "live action",
}


def text_of(**changes: Any) -> str:  # noqa: ANN401 - any JSON
    return json.dumps(GOOD | changes)


def test_plain_json_is_taken_as_it_stands() -> None:
    parsed = parse_answer(text_of(extra="dropped"), 4.0)
    assert not parsed.repaired
    assert parsed.caption.short == GOOD["short"] and parsed.caption.subjects == ("a dog",)
    told = "0.0-2.0 s: the dog runs; 2.0-4.0 s: it stops at a fence"
    assert parsed.caption.temporal() == told


@pytest.mark.parametrize(
    "wrap",
    [
        "```json\n{}\n```",
        "Here is the JSON you asked for:\n```\n{}\n```\nAnything else?",
        "<think>Is it a {{dog}}? Yes.</think>\n{}",
        "Sure! {}",
        "{}\nI hope this helps.",
        "[{}]",
    ],
)
def test_what_stands_around_the_object_is_cut_off(wrap: str) -> None:
    before, after = wrap.replace("{{", "\0").split("{}")
    parsed = parse_answer((before + text_of() + after).replace("\0", "{").replace("}}", "}"), 4.0)
    assert parsed.caption.medium == GOOD["medium"]


def test_damage_inside_is_mended_and_said_so() -> None:
    broken = text_of().replace('"camera": "static", ', "'camera': 'static',,")
    parsed = parse_answer(broken, 4.0)
    assert parsed.repaired and parsed.caption.camera == "static"


def test_a_text_cut_off_keeps_what_was_said_if_all_captions_are_there() -> None:
    text = text_of()
    kept = parse_answer(text[: text.index('"subjects"')], 4.0)
    assert kept.repaired and kept.caption.camera == "static" and kept.caption.setting == ""
    with pytest.raises(AnswerError, match="long"):
        parse_answer(text[: text.index('"long"')], 4.0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON object"),
        ("A dog runs over grass.", "no JSON object"),
        ('{"short": ' * 3000, "no JSON"),
        ('{"short": ' + "[" * 3000, "no JSON"),
        ('{"short": ' + "9" * 5000 + "}", "no JSON|short"),
        ("[1, 2]", "no JSON object"),
        ("{}", "no JSON object|short"),
        (text_of(short=""), "short"),
        (text_of(long=None), "long"),
        (text_of(medium=["a", "b"]), "medium"),
        (text_of(long="dog " * 2000), "long"),
        (text_of(events=[{"start_s": 3, "end_s": 1, "text": "x"}]), "ends before it starts"),
        (text_of(events=[{"start_s": 0, "end_s": 9, "text": "x"}]), "0-9 s of 4.0 s"),
        (text_of(events=[{"start_s": "soon", "end_s": 1, "text": "x"}]), "events.0.start_s"),
        (text_of(events=[{"start_s": -1, "end_s": 1, "text": "x"}]), "events.0.start_s"),
        (text_of(events=[{"start_s": float("nan"), "end_s": 1, "text": "x"}]), "events.0"),
        (text_of(events=[*GOOD["events"], GOOD["events"][0]]), "not in order"),
        (text_of(events=[GOOD["events"][0]] * 33), "events"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(AnswerError, match=why):
        parse_answer(text, 4.0)


def test_an_event_may_end_a_little_late() -> None:
    late = parse_answer(text_of(events=[{"start_s": 1, "end_s": 4.5, "text": "x"}]), 4.0)
    assert late.caption.events[0].end_s == 4.0


def test_schemas_name_what_is_wanted() -> None:
    assert set(answer_schema()["required"]) == {"short", "medium", "long"}
    assert "events" in answer_schema()["properties"]
    assert "events" not in merge_schema()["properties"]
