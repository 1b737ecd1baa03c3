"""Checks of texts: a labelled list of sentences, word limits, repetition, claims about time."""

from __future__ import annotations

from typing import Any

import pytest

from curation.captions.answer import Caption, Event
from curation.captions.checks import (
    Shown,
    WordLimits,
    claims_first,
    claims_last,
    claims_order,
    is_hedging,
    is_refusal,
    repeats,
    text_flags,
)

MIDDLE = Shown(duration_s=10.0, num_frames=2, first_s=3.0, last_s=7.0)
"""Two frames, none near an end of the clip: every claim about time is unsupported."""
ANY_LENGTH = WordLimits(short=(1, 400), medium=(1, 400), long=(1, 400))

LABELLED: list[tuple[str, str]] = [
    # refusals, and words that only look like one
    ("I'm sorry, but I can't help with that.", "refusal"),
    ("I\u2019m sorry, I can\u2019t describe people in pictures.", "refusal"),
    ("As an AI language model, I do not watch films.", "refusal"),
    ("I cannot see any frames.", "refusal"),
    ("No images were provided. Please upload the frames.", "refusal"),
    ("I am unable to identify the person on the left.", "refusal"),
    ("I apologize, but the request cannot be fulfilled.", "refusal"),
    ("I don't have access to the frames of that moment.", "refusal"),
    ('A man holds a sign that reads "I\'m sorry" in red letters.', ""),
    ("A dog cannot reach the ball under the sofa.", ""),
    ("A woman helps an old man across the road, unable to walk alone.", ""),
    ("A robot labelled \u201cAs an AI\u201d rolls over a stage.", ""),
    # speaking of the video instead of what is in it
    ("The video shows a dog running over grass.", "boilerplate"),
    ("In this clip, a dog runs over grass.", "boilerplate"),
    ("The image depicts a bowl of fruit.", "boilerplate"),
    ("This footage captures a busy crossing.", "boilerplate"),
    ("A video of a woman cutting onions.", "boilerplate"),
    ("We can see a red car at the kerb.", "boilerplate"),
    ("The frames show a cup moving to the left.", "boilerplate"),
    ("The viewer is drawn to the lamp.", "boilerplate"),
    ("A boy plays a video game on a sofa.", ""),
    ("The video game shows a dragon on a bridge.", ""),
    ("A woman holds a video camera on her shoulder.", ""),
    ("In the video store, a clerk stacks boxes.", ""),
    ("A picture of a horse hangs above the fireplace.", ""),
    ("A paper clip holds the pages together.", ""),
    ("The picture frame on the wall is gilded.", ""),
    ("A film crew sets up lamps in the street.", ""),
    ("A scene of calm: a lake without wind.", ""),
    ("The window frame is painted blue and contains two panes.", ""),
    ("Footage of a football match plays on a screen above the bar.", ""),
    ("The overall style of the video is intimate and personal.", "boilerplate"),
    ("The video transitions to a space station.", "boilerplate"),
    ("A tourist watches the video on her phone.", ""),
    ("The clip in her hair is shaped like a butterfly.", ""),
    # the question copied
    ('{"short": "a dog"}', "prompt_echo"),
    ("Short: a dog runs over grass.", "prompt_echo"),
    ("A dog runs, as one sentence of at most 15 words.", "prompt_echo"),
    (
        "Words such as first then and at the end must agree with the times.",
        "prompt_echo unsupported_last unsupported_order",
    ),
    ("At start_s the dog sits.", "prompt_echo"),
    ("The short man carries a long ladder.", ""),
    ("Three events are written on the board: run, jump, swim.", ""),
    ("A camera on a tripod stands in the light of a lamp.", ""),
    # how the clip begins
    ("At first the street is empty.", "unsupported_first"),
    ("Initially, a hand rests on the cup.", "unsupported_first"),
    ("At the beginning, a dog sits by the door.", "unsupported_first"),
    ("The scene begins with a close-up of an eye.", "boilerplate unsupported_first"),
    ("The camera starts on a wide field.", "unsupported_first"),
    ("She begins to run along the beach.", ""),
    ("The man starts walking as the light turns green.", ""),
    ("The camera begins to pan to the right.", ""),
    ("Runners wait at the start line.", ""),
    ("A sign stands at the beginning of the trail.", ""),
    ("At first light a boat leaves the harbour.", ""),
    ("A stair leads from the first floor to a hall.", ""),
    # how it ends
    ("Finally, the door closes.", "unsupported_last"),
    ("By the end the cup is empty.", "unsupported_last"),
    ("The shot ends on a close-up of a hand.", "unsupported_last"),
    ("At the end, the dog lies down.", "unsupported_last"),
    ("Eventually the train stops.", "unsupported_last"),
    ("A man fishes at the end of the pier.", ""),
    ("A runner dives into the end zone.", ""),
    ("The rope ends in a knot.", ""),
    ("The ball ends up in the net.", ""),
    # what comes after what
    ("A man sits down, then opens a book.", "unsupported_order"),
    ("He pours milk. After that, he stirs.", "unsupported_order"),
    ("She looks up before turning away.", "unsupported_order"),
    ("Moments later a bus passes.", "unsupported_order"),
    ("Next, the cook adds salt.", "unsupported_order"),
    ("A cat sits next to a vase.", ""),
    ("A woman walks along a path, followed by a dog.", ""),
    ("Now and then a bird passes.", ""),
    ("A nurse looks after a child.", ""),
    ("A car stands before standing water.", ""),
    # guesses
    ("It seems to be a dog, possibly a terrier.", "hedging"),
    ("Perhaps it is dusk. The man might be a guard.", "hedging"),
    ("A man appears from behind a tree, and a woman may follow a guide.", ""),
    ("A dog, possibly a terrier, runs over grass. It barks. It stops at a fence.", ""),
    # the same again
    ("a very very very long road", "repetition"),
    ("the dog runs and the dog runs and the dog runs and stops", "repetition"),
    ("A dog runs. A dog runs. A dog runs fast.", "repetition"),
    ("The waves roll in, wave after wave, and break on the sand.", ""),
    ("A bye-bye sign and a tutu: two girls wave, and two boys wave back.", ""),
]


def caption(text: str, **fields: Any) -> Caption:  # noqa: ANN401 - any field
    return Caption.model_validate({"short": text, "medium": text, "long": text} | fields)


def flags(text: str) -> set[str]:
    return set(text_flags(caption(text), limits=ANY_LENGTH, shown=MIDDLE))


@pytest.mark.parametrize(("text", "wanted"), LABELLED, ids=[t[:40] for t, _ in LABELLED])
def test_labelled(text: str, wanted: str) -> None:
    assert flags(text) == set(wanted.split())


def test_nothing_is_held_against_frames_of_the_ends() -> None:
    text = "At first a man sits. Then he stands up. Finally he leaves."
    assert flags(text) == {"unsupported_first", "unsupported_last", "unsupported_order"}
    whole = Shown(duration_s=10.0, num_frames=8, first_s=0.0, last_s=9.0)
    assert not text_flags(caption(text), limits=ANY_LENGTH, shown=whole)
    assert not text_flags(caption(text), limits=ANY_LENGTH)  # nothing is known of the frames
    assert claims_first(text)
    assert claims_last(text)
    assert claims_order(text)


def test_edges_of_long_clips() -> None:
    """A frame within a second of the end, or 5 % of the clip, shows the end."""
    text = caption("Finally, the door closes behind the man.")
    for duration_s, last_s, wrong in [(10, 8.96, False), (10, 8.9, True), (60, 57.1, False)]:
        shown = Shown(duration_s=duration_s, num_frames=8, first_s=0.0, last_s=last_s)
        found = text_flags(text, limits=ANY_LENGTH, shown=shown)
        assert found == (["unsupported_last"] if wrong else [])


def test_order_needs_a_second_event() -> None:
    seen = Shown(duration_s=10.0, num_frames=8, first_s=0.0, last_s=9.5)
    text = "A man sits down, then opens a book."

    def found(*events: str) -> list[str]:
        spans = tuple(Event(start_s=i, end_s=i + 1, text=t) for i, t in enumerate(events))
        return text_flags(caption(text, events=spans), limits=ANY_LENGTH, shown=seen)

    assert found("a man sits on a bench") == ["unsupported_order"]
    assert not found("a man sits down, then opens a book")
    assert not found("a man sits down", "he opens a book")
    assert not found()


def test_written_of_measurements_alone_has_seen_the_whole_clip() -> None:
    unseen = Shown(duration_s=10.0, num_frames=0)
    assert not text_flags(caption("It darkens, then brightens."), limits=ANY_LENGTH, shown=unseen)


def test_word_limits() -> None:
    long = " ".join(f"word{i}" for i in range(60))
    good = Caption(short="a dog runs", medium="a dog runs over grass", long=long)
    assert not text_flags(good)
    assert text_flags(good.model_copy(update={"short": "a dog"})) == ["too_short"]
    assert text_flags(good.model_copy(update={"short": long})) == ["too_long"]
    assert text_flags(good, limits=WordLimits(long=(5, 59))) == ["too_long"]


def test_refusals_in_json() -> None:
    """The answer as it came, before it is read."""
    assert is_refusal('{"short": "I\'m sorry, I can\'t help with that", "events": []}')
    assert not is_refusal('{"short": "a sign", "long": "a sign says \\"I\'m sorry\\""}')


def test_gopher_shares() -> None:
    words = "the red car and the red bus and the red van pass the red sign by the red wall today"
    assert repeats(words)
    fresh = " ".join(f"w{i}" for i in range(15))
    phrase = "a man in a blue shirt"
    assert not repeats(
        f"{phrase} {fresh} {phrase} {fresh.replace('w', 'x')} {fresh.replace('w', 'y')}"
    )
    assert repeats(f"{phrase} {fresh} {phrase} {phrase.title()} looks {phrase}")


def test_one_guess_in_a_long_text_is_fine() -> None:
    plain = "A dog runs. It stops. It barks. It turns. It sits. It lies down."
    assert not is_hedging(f"{plain} Perhaps it is tired. Maybe it sleeps.")
    assert is_hedging("Perhaps it is tired. Maybe it sleeps. A dog lies down.")
