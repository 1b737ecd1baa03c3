"""Subtitle files and transcripts as cues: times, clean words, encodings, damage, rolling lines."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from curation.captions.subtitles import (
    Cue,
    DamagedError,
    clean_lines,
    cut_cues,
    join_text,
    parse_subtitles,
    parse_transcript,
    unroll,
)

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> {\\an8}<font color="red">w &amp; x</font>
- Who's there?

2
00:00:03,000 --> 00:00:04,000
♪ la la ♪
"""
VTT = """WEBVTT
Kind: captions

NOTE nobody sees this

STYLE
::cue { color: red }

00:01.000 --> 00:02.000 align:start
<v Bob>Hi <c.yellow>there</c> <00:01.500><b>x</b> a &lt; b

NOTE nor this

last words
00:00:02.000 --> 00:00:03.000
>> two
three
"""
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\b1}Bold{\\b0} and\\Nplain\\hspace
Comment: 0,0:00:02.00,0:00:03.00,Default,,0,0,0,,of the translator
Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0{\\p0}
"""
ROLLING = """WEBVTT

00:00:00.080 --> 00:00:02.550 align:start position:0%
{blank}
so<00:00:00.320><c> today</c><00:00:00.560><c> we</c>

00:00:02.550 --> 00:00:02.560
so today we
{blank}

00:00:02.560 --> 00:00:04.950
so today we
are<00:00:03.000><c> going</c>

00:00:04.950 --> 00:00:04.960
are going
{blank}

00:00:04.960 --> 00:00:06.000
are going
home
""".replace("{blank}", " ")  # as YouTube writes them


def spoken(cues: list[Cue]) -> list[tuple[float, float, str]]:
    return [(c.start_s, c.end_s, c.text) for c in cues]


@pytest.mark.parametrize(
    ("text", "suffix", "wanted"),
    [
        (SRT, ".srt", [(1.0, 2.5, "Hello w & x Who's there?"), (3.0, 4.0, "la la")]),
        (VTT, ".vtt", [(1.0, 2.0, "Hi there x a < b"), (2.0, 3.0, "two three")]),
        (ASS, ".ass", [(1.0, 2.5, "Bold and plain space")]),
    ],
)
def test_formats_give_clean_words_with_their_times(
    text: str, suffix: str, wanted: list[tuple[float, float, str]]
) -> None:
    parsed = parse_subtitles(text.encode(), suffix)
    assert spoken(parsed.cues) == wanted and parsed.warning is None
    windows = parse_subtitles(text.replace("\n", "\r\n").encode("utf-8-sig"), suffix)
    assert windows.cues == parsed.cues


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_unicode_is_told_from_the_bytes(encoding: str) -> None:
    srt = "1\n00:00:01,000 --> 00:00:02,000\nÄh, größer ist „es“ nicht\n"
    parsed = parse_subtitles(srt.encode(encoding), ".srt")
    assert parsed.cues[0].text == "Äh, größer ist „es“ nicht" and parsed.warning is None


def test_other_encodings_are_a_setting_and_leave_a_warning() -> None:
    srt = "1\n00:00:01,000 --> 00:00:02,000\n{}\n"
    western = parse_subtitles(srt.format("déjà vu").encode("cp1252"), ".srt")
    assert western.cues[0].text == "déjà vu"
    assert western.warning == "is not UTF-8: read as cp1252"
    russian = parse_subtitles(srt.format("Привет").encode("cp1251"), ".srt", "cp1251")
    assert russian.cues[0].text == "Привет"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("- Yes.\n\u2013 No.", ["Yes.", "No."]),
        ("-5 degrees", ["-5 degrees"]),
        (">>> News", ["News"]),
        ("♫♪", []),
        ("a\u200b\ufeff b\u00a0c\x07", ["a b c"]),
        ("می\u200cروم", ["می\u200cروم"]),
        ("&lt;b&gt; &nbsp;x", ["<b> x"]),
        ("half \ud83d character", ["half  character"]),
    ],
)
def test_what_is_not_speech_is_cleaned_away(line: str, wanted: list[str]) -> None:
    assert clean_lines(line) == wanted
    json.dumps(clean_lines(line), ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["", "WEBVTT\n", "WEBVTT\n\nNOTE nothing is said\n"])
def test_an_empty_file_says_that_nothing_is_said(text: str) -> None:
    suffix = ".vtt" if text else ".srt"
    assert parse_subtitles(text.encode(), suffix).cues == []


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (b"this is a letter", ".srt"),
        (b"WEBVTT\n\n00:00 -> 00:01\nx", ".srt"),
        (b"WEBVTT\n\n00:01.000 --> nowhere\nx", ".vtt"),
        (random.Random(0).randbytes(3000), ".srt"),
        (b"<html>404 not found</html>", ".ass"),
    ],
)
def test_damaged_files_are_refused(data: bytes, suffix: str) -> None:
    with pytest.raises(DamagedError):
        parse_subtitles(data, suffix)


def test_random_damage_never_raises_anything_else() -> None:
    rng = random.Random(1)
    for text, suffix in [(SRT, ".srt"), (VTT, ".vtt"), (ASS, ".ass"), (transcript(), ".json")]:
        for _ in range(60):
            data = bytearray(text.encode())
            for _ in range(rng.randint(1, 12)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            cut = bytes(data[: rng.randint(0, len(data))])
            try:
                found = parse_transcript(cut) if suffix == ".json" else parse_subtitles(cut, suffix)
            except DamagedError:
                continue
            for cue in found.cues if found else ():
                assert cue.end_s > cue.start_s and cue.text
                cue.text.encode()


def test_rolling_captions_give_each_line_once_when_it_is_new() -> None:
    parsed = parse_subtitles(ROLLING.encode(), ".vtt")
    assert spoken(parsed.cues) == [
        (0.08, 2.55, "so today we"),
        (2.56, 4.95, "are going"),
        (4.96, 6.0, "home"),
    ]


def test_growing_lines_give_their_new_words() -> None:
    shown = [(0.0, 1.0, ["good"]), (1.0, 2.0, ["good evening"]), (2.0, 3.0, ["good evening", "x"])]
    assert [c.text for c in unroll(shown)] == ["good", "evening", "x"]


def test_a_line_said_again_later_stays() -> None:
    shown = [(0.0, 1.0, ["no"]), (2.0, 3.0, ["no"]), (5.0, 5.0, ["no time"]), (4.0, 5.0, ["yes"])]
    assert [c.text for c in unroll(shown)] == ["no", "no", "yes"]


def transcript(**more: Any) -> str:  # noqa: ANN401 - any key
    segments = [
        {"id": 0, "start": 0.0, "end": 2.0, "text": " Hello world."},
        {"id": 1, "start": 2.0, "end": 3.5, "text": " \ud83d\ude00 Bye."},
    ]
    return json.dumps({"text": "...", "segments": segments, "language": "en"} | more)


@pytest.mark.parametrize(
    ("content", "language"),
    [
        (json.loads(transcript()), "en"),
        (json.loads(transcript())["segments"], None),
        (
            {
                "text": "x",
                "chunks": [
                    {"timestamp": [0.0, 2.0], "text": " Hello world."},
                    {"timestamp": [2.0, 3.5], "text": "😀 Bye."},
                ],
            },
            None,
        ),
        (
            {
                "result": {"language": "en"},
                "transcription": [
                    {"offsets": {"from": 0, "to": 2000}, "text": " Hello world."},
                    {"offsets": {"from": 2000, "to": 3500}, "text": " 😀 Bye."},
                ],
            },
            "en",
        ),
    ],
)
def test_the_json_of_several_recognisers_is_read(content: object, language: str | None) -> None:
    parsed = parse_transcript(json.dumps(content).encode())
    assert parsed is not None and parsed.language == language and parsed.warning is None
    assert spoken(parsed.cues) == [(0.0, 2.0, "Hello world."), (2.0, 3.5, "😀 Bye.")]


@pytest.mark.parametrize("content", [{"title": "T", "fps": 24}, [], [1, 2], {"segments": [1]}, "x"])
def test_json_of_something_else_is_no_transcript(content: object) -> None:
    assert parse_transcript(json.dumps(content).encode()) is None


def test_damaged_transcripts_are_refused_and_odd_segments_left_out() -> None:
    for data in (b"{", b"[" * 100_000, b"\xff\xfe\x00", b'{"segments": [{"text": "no times"}]}'):
        with pytest.raises(DamagedError):
            parse_transcript(data)
    odd: list[dict[str, Any]] = [
        {"start": 0, "end": 1, "text": "good"},
        {"start": float("nan"), "end": 2, "text": "not a number"},
        {"start": 3, "end": 2, "text": "backwards"},
        {"start": -1, "end": 2, "text": "before"},
        {"start": True, "end": 2, "text": "a truth"},
        {"start": 1, "end": 10**400, "text": "for ever"},
        {"start": "0", "end": "1", "text": "quoted"},
        {"start": 5, "end": 6, "text": " ♪ "},
        {"start": 5, "end": 6, "text": "lone \ud83d half"},
    ]
    parsed = parse_transcript(json.dumps({"segments": odd}).encode())
    assert parsed is not None and [c.text for c in parsed.cues] == ["good", "lone  half"]
    assert parsed.warning == "7 segments without times or text are left out"
    for cue in parsed.cues:
        cue.text.encode()


def test_a_recogniser_that_repeats_itself_is_heard_once() -> None:
    segments = [{"start": i, "end": i + 1, "text": "Thank you."} for i in range(5)]
    parsed = parse_transcript(json.dumps(segments).encode())
    assert parsed is not None and spoken(parsed.cues) == [(0.0, 5.0, "Thank you.")]


def test_cues_are_cut_to_the_half_open_span_of_the_clip() -> None:
    cut = cut_cues([Cue(0.0, 10.0, "long"), Cue(1.0, 2.0, "a"), Cue(2.0, 3.0, "b")])
    assert spoken(cut(1.5, 2.0)) == [(0.0, 0.5, "long"), (0.0, 0.5, "a")]
    assert spoken(cut(2.0, 4.0)) == [(0.0, 2.0, "long"), (0.0, 1.0, "b")]
    assert spoken(cut(3.0, 4.0)) == [(0.0, 1.0, "long")]
    assert cut(10.0, 12.0) == [] and cut_cues([])(0.0, 1.0) == []


def test_cutting_finds_what_a_plain_search_finds() -> None:
    rng = random.Random(2)
    cues = sorted(
        (Cue(a := rng.randrange(100) / 4, a + rng.randrange(1, 40) / 4, "x") for _ in range(200)),
        key=lambda c: (c.start_s, c.end_s),
    )
    cut = cut_cues(cues)
    for _ in range(50):
        start = rng.randrange(120) / 4
        end = start + rng.randrange(1, 20) / 4
        wanted = [c for c in cues if c.start_s < end and c.end_s > start]
        assert len(cut(start, end)) == len(wanted)


@pytest.mark.parametrize(
    ("words", "text", "wanted"),
    [
        ([" one", " two", " three"], "one two three", "two three"),
        (["一", "二", "三"], "一二三", "二三"),
    ],
)
def test_known_word_times_cut_inside_a_segment(words: list[str], text: str, wanted: str) -> None:
    timed = [{"word": w, "start": float(i), "end": i + 1.0} for i, w in enumerate(words)]
    segment = {"start": 0.0, "end": 3.0, "text": text, "words": timed}
    parsed = parse_transcript(json.dumps([segment]).encode())
    assert parsed is not None
    cut = cut_cues(parsed.cues)
    assert spoken(cut(1.0, 9.0)) == [(0.0, 2.0, wanted)]
    assert [c.text for c in cut(0.0, 3.0)] == [text]
    del timed[1]["start"]  # WhisperX: no time for a numeral
    again = parse_transcript(json.dumps([segment]).encode())
    assert again is not None and cut_cues(again.cues)(1.0, 9.0)[0].text == words[2].strip()


def test_long_texts_end_at_a_word() -> None:
    cues = [Cue(0, 1, "one two"), Cue(1, 2, "three")]
    assert join_text(cues, 100) == "one two three"
    assert join_text(cues, 13) == "one two three"
    assert join_text(cues, 12) == "one two"
    assert join_text(cues, 7) == "one two"
    assert join_text([Cue(0, 1, "字字字字")], 2) == "字字"
