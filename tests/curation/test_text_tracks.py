"""What a text is, told from where its boxes are; without the detector: boxes as they were drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.signals.text_kinds import judge_tracks, kind_of_clip
from curation.signals.text_pictures import Line, Pictures
from curation.signals.text_tracks import Track, follow
from tests.bench.text_footage import (
    TextClip,
    as_sample,
    clip,
    credits_,
    drawn_background,
    logo,
    scene_clip,
    subtitle,
    title,
)

SIZE_PX = (512, 288)
PAN = drawn_background(seed=2, moving=True, size=SIZE_PX)
REST = drawn_background(seed=3, moving=False, size=SIZE_PX)


def tracks_of(made: TextClip, jitter: float = 0.002) -> tuple[Pictures, list[Track]]:
    """Follow the drawn boxes, a pixel off as a detector's are."""
    rng = np.random.default_rng(0)
    grey, lines = [], []
    for at, (picture, boxes) in enumerate(zip(made.pictures, made.boxes, strict=True)):
        jpeg = np.frombuffer(as_sample(picture), np.uint8)
        grey.append(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE))
        wide = [np.array(b) + np.array([-0.004, -0.006, 0.004, 0.006]) for b in boxes]
        moved = [np.clip(b + rng.uniform(-jitter, jitter, 4), 0, 1) for b in wide]
        lines.append([Line(at=at, box=b, score=0.9, slot=i) for i, b in enumerate(moved)])
    pictures = Pictures(grey, lines)
    return pictures, follow(pictures, lines)


def kind_of(made: TextClip) -> tuple[str, float | None]:
    pictures, tracks = tracks_of(made)
    return kind_of_clip(judge_tracks(pictures, tracks), len(made.pictures))


@pytest.mark.parametrize("height", [0.04, 0.08])
@pytest.mark.parametrize(
    ("kind", "draws"),
    [
        ("none", []),
        ("subtitle", [subtitle]),
        ("logo", [logo]),
        ("mixed", [logo, subtitle]),
    ],
)
def test_over_moving_and_standing_cameras(kind: str, draws: list, height: float) -> None:
    for background in (PAN, REST):
        made = clip(kind, kind, background, *(draw(height) for draw in draws))
        assert kind_of(made)[0] == kind


def test_a_title_over_a_moving_picture_and_on_a_card() -> None:
    for card in (True, False):
        kind, confidence = kind_of(clip("title", "title", PAN, title(0.1, card)))
        assert kind == "title"
        assert confidence == pytest.approx(0.7 if card else 0.9)


@pytest.mark.parametrize("speed", [0.02, 0.07, 0.15])
def test_credits(speed: float) -> None:
    for background, card in ((PAN, True), (PAN, False), (REST, False)):
        made = clip("credits", "credits", background, credits_(0.04, card, speed))
        assert kind_of(made)[0] == "credits"


@pytest.mark.parametrize("move", ["pan", "zoom", "shake"])
def test_signs_in_a_moving_picture_are_of_the_scene(move: str) -> None:
    assert kind_of(scene_clip("scene", PAN[0], 0.05, move))[0] == "scene"


def test_before_a_standing_camera_only_what_comes_or_goes_is_laid_over() -> None:
    assert kind_of(scene_clip("scene", PAN[0], 0.05, "rest"))[0] == "unclear"
    gone_at_five = clip("title", "title", REST, title(0.08, card=False))
    assert kind_of(gone_at_five)[0] == "title"
    assert kind_of(clip("title", "title", REST[:5], title(0.08, card=False)))[0] == "unclear"


def test_a_changing_subtitle_is_surer_than_a_line_that_stays() -> None:
    changing = kind_of(clip("a", "subtitle", REST, subtitle(0.05)))
    staying = kind_of(clip("b", "subtitle", REST[:2], subtitle(0.05)))
    assert (changing[0], staying[0]) == ("subtitle", "subtitle")
    assert changing[1] is not None and staying[1] is not None
    assert changing[1] > staying[1]


def test_a_logo_is_one_track_even_if_missed_once() -> None:
    made = clip("logo", "logo", PAN, logo(0.05))
    made.boxes[3] = []
    _, tracks = tracks_of(made)
    assert [len(t.lines) for t in tracks] == [len(PAN) - 1]
    assert tracks[0].still
