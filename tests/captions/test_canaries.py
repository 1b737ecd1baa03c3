"""Canaries: what is drawn, what passes, and that mixed-up answers are noticed."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from curation.captions.answer import Caption
from curation.captions.canaries import COLOURS, SIDE_PX, Canary, canaries
from curation.stages.sampled import picture


def test_drawn_by_hash() -> None:
    drawn = [canaries(f"batch{i}", 2) for i in range(400)]
    assert drawn[0] == canaries("batch0", 2)
    assert all(a.colour != b.colour and a.request_id != b.request_id for a, b in drawn)
    counts = Counter(a.colour for a, _ in drawn)
    assert set(counts) == set(COLOURS)
    assert min(counts.values()) > 60  # of 100 expected
    assert canaries("batch0", 1) == drawn[0][:1]
    assert not canaries("batch0", 0)
    many = canaries("batch0", 9)
    assert len({c.request_id for c in many}) == 9
    assert all(a.colour != b.colour for a, b in pairwise(many))


@pytest.mark.parametrize("colour", COLOURS)
def test_pictures(colour: str) -> None:
    bird = Canary("x/0", colour)
    request = bird.request("system", "prompt", schema={"type": "object"})
    assert [f.time_s for f in request.frames] == [0.0, 0.5, 1.0]
    assert request.duration_s > 1.0
    assert request.request_id == "x/0"
    for frame in request.frames:
        rgb = picture(frame.jpeg)[..., ::-1]
        assert rgb.shape == (SIDE_PX, SIDE_PX, 3)
        assert np.abs(rgb.astype(int) - COLOURS[colour]).max() <= 4


@pytest.mark.parametrize(
    ("colour", "text", "passed"),
    [
        ("red", "A plain red picture.", True),
        ("red", "The picture is RED.", True),
        ("red", "A crimson surface fills the frame.", True),
        ("red", "A solid, vivid red background without any text.", True),
        ("red", "A red surface, no blue and not green.", True),
        ("red", "<think>Blue? No, it is red.</think>A red field.", True),
        ("red", "A reddish-orange haze.", False),
        ("red", "The blurred and covered surface is rendered.", False),
        ("red", "A red and blue flag.", False),
        ("red", "A green lawn.", False),
        ("red", "A man rides a bicycle.", False),
        ("red", "", False),
        ("blue", "A navy field under a white light.", True),
        ("blue", "A bluebird.", False),
        ("green", "Bright green, like a screen for keying.", True),
        ("yellow", "A golden surface.", True),
        ("yellow", "Yellow-green leaves.", False),
    ],
)
def test_passed(colour: str, text: str, passed: bool) -> None:
    assert Canary("x/0", colour).passed(text) is passed


def test_json_answers() -> None:
    answer = Caption(
        short="A solid blue surface.",
        medium="A uniform blue surface fills the whole picture.",
        long="A uniform blue surface fills the whole picture and nothing changes.",
        camera="static",
        subjects=("blue surface",),
        light="even",
        style="plain colour",
    )
    text = answer.model_dump_json()
    assert Canary("x/0", "blue").passed(text)
    assert Canary("x/0", "blue").passed(f"```json\n{json.dumps(json.loads(text), indent=1)}\n```")
    assert not any(Canary("x/0", c).passed(text) for c in COLOURS if c != "blue")


def test_a_shift_of_the_answers_is_noticed() -> None:
    """Answers that moved by any number of places fail at least one canary of the batch."""
    told = [f"A clip of a {thing}." for thing in ("dog", "red car", "cat", "house", "lake")]
    for key in map(str, range(50)):
        birds = canaries(key, 2)
        answers = [*told, *(f"A plain {b.colour} picture." for b in birds)]
        assert all(b.passed(answers[5 + i]) for i, b in enumerate(birds))
        for by in range(1, len(answers)):
            moved = answers[by:] + answers[:by]
            assert not all(b.passed(moved[5 + i]) for i, b in enumerate(birds))
