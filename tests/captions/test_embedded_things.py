"""When the embedded captioner names a thing, from what two networks say frame by frame."""

from __future__ import annotations

import importlib.util
import os
import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.captions.embedded.nouns import NOUNS, PERSON, SETTINGS, Noun
from curation.captions.embedded.things import name_setting, name_things
from curation.models.fastest_det import KINDS, Thing, ThingFinder
from curation.models.weights import FASTEST_DET

NUM = 8
TIMES_S = [float(i) for i in range(NUM)]
DOG = next(n for n in NOUNS if n.one == "a dog")


def boxes(kind: str, scores: list[float], each: int = 1) -> list[list[Thing]]:
    """A thing in every frame, with its score."""
    return [
        [Thing(kind=kind, score=s, x=0.1 * i, y=0, width=0.1, height=0.1) for i in range(each)]
        for s in scores
    ]


def classes(noun: Noun, values: list[float]) -> np.ndarray:
    """Probability of a noun in every frame, all in its first class; the rest elsewhere."""
    found = np.zeros((len(values), 1000), np.float32)
    found[:, noun.indices()[0]] = values
    found[:, 999] = 1 - np.array(values)
    return found


def words(*given: Any) -> list[str]:  # noqa: ANN401 - as name_things
    return [n.words for n in name_things(TIMES_S, *given)]


def test_nouns_are_sound() -> None:
    taken: dict[int, str] = {}
    for noun in NOUNS:
        indices = noun.indices()
        assert noun.kinds or len(indices), noun.one
        assert set(noun.kinds) <= set(KINDS)
        assert all(0 <= i < 1000 for i in indices)
        for i in indices:
            assert taken.setdefault(int(i), noun.one) == noun.one
        assert noun.one.startswith(("a ", "an "))
    kinds = [k for n in NOUNS for k in n.kinds]
    assert len(kinds) == len(set(kinds))


def _class_names() -> list[str]:
    """ImageNet's names as open_clip has them, without importing the package and torch with it."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        pytest.skip("open_clip is not installed")
    return runpy.run_path(str(Path(package.origin).parent / "zero_shot_metadata.py"))[
        "IMAGENET_CLASSNAMES"
    ]


def test_groups_hold_the_classes_they_are_named_after() -> None:
    names = _class_names()
    by_noun = {n.one: [names[i].lower() for i in n.indices()] for n in NOUNS}
    for noun, some in {
        "a dog": ("chihuahua", "mexican hairless dog (xoloitzcuintli)"),
        "a cat": ("tabby cat", "egyptian mau"),
        "a bird": ("brambling", "great grey owl", "king penguin", "albatross"),
        "a car": ("sports car", "taxicab", "convertible"),
        "a bottle": ("water bottle", "wine bottle", "beer bottle"),
        "a bicycle": ("mountain bike", "tandem bicycle"),
        "an aircraft": ("airliner", "military aircraft"),
        "a volcano": ("volcano",),
    }.items():
        assert set(some) <= set(by_noun[noun]), noun
    assert len(by_noun["a dog"]) == 118
    assert names[int(Noun("", "", SETTINGS["a beach"]).indices()[0])] == "beach"


def test_nobody_looked_nothing_is_named() -> None:
    assert words(None, None) == []
    assert name_setting(None) == ""


def test_a_thing_that_both_see_is_named_and_one_that_one_sees_is_not() -> None:
    seen, likely = boxes("dog", [0.8] * NUM), classes(DOG, [0.7] * NUM)
    assert words(seen, likely) == ["a dog"]
    assert words(seen, None) == words(None, likely) == []
    assert words(boxes("dog", [0.8] + [0.0] * 7), likely) == []
    # As sure as it hardly ever is when it is wrong.
    assert words(boxes("dog", [0.95] * NUM), None) == ["a dog"]
    assert words(None, classes(DOG, [0.9] * NUM)) == ["a dog"]
    assert words(None, classes(DOG, [1.0] * 5 + [0.2] * 3)) == []


def test_people_are_named_by_the_detector_and_counted_as_many() -> None:
    assert words(boxes("person", [0.9] * NUM), None) == [PERSON.one]
    assert words(boxes("person", [0.9] * NUM, each=3), None) == [PERSON.many]
    assert words(boxes("person", [0.8] * NUM), None) == []
    assert words(boxes("person", [0.9] + [0.0] * 7), None) == []


def test_coming_and_leaving_need_frames_surely_without() -> None:
    def one(scores: list[float]) -> Any:  # noqa: ANN401
        (named,) = name_things(TIMES_S, boxes("person", scores), None)
        return named.comes_s, named.leaves_s

    assert one([0, 0, 0, 0.9, 0.9, 0.9, 0.9, 0.9]) == ((2.0, 3.0), None)
    assert one([0.9, 0.9, 0.9, 0.9, 0.5, 0, 0, 0]) == (None, (3.0, 5.0))
    assert one([0, 0, 0.9, 0.9, 0.9, 0.9, 0, 0]) == ((1.0, 2.0), (5.0, 6.0))
    # Seen less surely for long, or missing in one frame: it may have been there all along.
    assert one([0.5, 0.5, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9]) == (None, None)
    assert one([0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]) == (None, None)


def test_a_place_is_told_when_the_classifier_is_sure() -> None:
    beach = Noun("", "", SETTINGS["a beach"])
    assert name_setting(classes(beach, [0.9] * NUM)) == "a beach"
    assert name_setting(classes(beach, [0.5] * NUM)) == ""


@pytest.fixture
def finder(assets: Path, monkeypatch: pytest.MonkeyPatch) -> ThingFinder:
    """The real network."""
    folder = os.environ.get("CLIPMILL_MODELS") or str(assets / "weights")
    monkeypatch.setenv("CLIPMILL_MODELS", folder)
    if not (Path(folder) / FASTEST_DET.file).is_file():
        pytest.skip("FastestDet is not here")
    return ThingFinder(0.6)


def test_the_detector_finds_a_person_where_she_is(finder: ThingFinder, assets: Path) -> None:
    video = cv2.VideoCapture(str(assets / "videos" / "real" / "01_dog.mp4"))
    picture = video.read()[1]
    found = finder(picture)
    assert [t.score for t in found] == sorted((t.score for t in found), reverse=True)
    person = found[0]
    assert person.kind == "person" and person.score > 0.85
    # She stoops at the left: a fifth of the width, half of the height.
    assert 0.15 < person.x + person.width / 2 < 0.4
    assert 0.3 < person.height < 0.7 and 0.05 < person.width < 0.3
    mirrored = finder(picture[:, ::-1].copy())[0]
    assert mirrored.x + mirrored.width / 2 == pytest.approx(
        1 - person.x - person.width / 2, abs=0.03
    )
    small = finder(cv2.resize(picture, (512, 288), interpolation=cv2.INTER_AREA))[0]
    assert small.kind == "person" and small.x == pytest.approx(person.x, abs=0.03)
    assert finder(np.full((90, 160, 3), 120, np.uint8)) == []
