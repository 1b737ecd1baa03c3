"""Contradictions: what captions say about what is measured, and when it counts."""

from __future__ import annotations

from typing import Any

import pytest

from curation.captions.answer import Caption
from curation.captions.contradictions import contradictions, statements

PAN = {"camera_class": "pan_right", "camera_confidence": 0.93, "camera_moving_fraction": 0.8}
STANDS = {"camera_class": "static", "camera_confidence": 0.95, "camera_moving_fraction": 0.0}
NEUTRAL = "A dog sits on grass."


def caption(text: str = NEUTRAL, **fields: Any) -> Caption:  # noqa: ANN401 - any field
    return Caption.model_validate({"short": NEUTRAL, "medium": NEUTRAL, "long": text} | fields)


def kinds(text: str, **fields: Any) -> set[str]:  # noqa: ANN401 - any field
    return {s.kind for s in statements(caption(text, **fields))}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The camera is static.", "camera_static"),
        ("A static camera looks at a table.", "camera_static"),
        ("The shot remains completely still.", "camera_static"),
        ("There is no camera movement.", "camera_static"),
        ("The camera does not move.", "camera_static"),
        ("The camera shows no movement.", "camera_static"),
        ("The camera slowly pans to the right.", "pan_right camera_moves"),
        ("The camera begins to pan left over the bay.", "pan_left camera_moves"),
        ("A slow pan to the left shows a bay.", "pan_left"),
        ("The camera tilts upwards to the roof.", "tilt_up camera_moves"),
        ("The camera gently zooms in.", "zoom_in camera_moves"),
        ("The camera pulls back from the door.", "zoom_out"),
        ("A hand-held shot of a crowd.", "handheld"),
        ("Nothing moves in the room.", "nothing_moves"),
        ("A cup on a table, with no visible movement.", "nothing_moves"),
        ("A car drives very fast.", "fast"),
        ("A train passes at high speed.", "fast"),
        ("A street at night.", "dark"),
        ("The room is dark.", "dark"),
        ("A field in broad daylight.", "bright"),
        ("Black-and-white footage of a train.", "black_and_white"),
        ("There are no people in the hall.", "nobody"),
        ("Nobody is to be seen.", "nobody"),
        ("Subtitles appear below.", "overlay"),
        ("There are no subtitles.", "no_overlay"),
        ("There is no text on the sign.", "no_text"),
        ("A silent film of a baker.", "silence"),
        ("A narrator explains the machine.", "voice"),
        # ordinary words
        ("A static caravan stands in a field.", ""),
        ("A frying pan to the right of the stove.", ""),
        ("She tilts her head up.", ""),
        ("A man pulls back the curtain.", ""),
        ("The camera does not pan to the right.", "camera_static"),
        ("A woman with dark hair puts a book on the night stand.", ""),
        ("Bright red flowers in a dark blue vase.", ""),
        ("A black and white cat licks its paw.", ""),
        ("A man sits at a bar, no one else is there.", ""),
        ("Nobody looks at the singer.", ""),
        ("The scene has no sudden movement.", ""),
        ("A fast-food stand by a road.", ""),
        ("A silent street between two hills.", ""),
        ('A sign says "no people".', ""),
    ],
)
def test_what_is_said(text: str, wanted: str) -> None:
    assert kinds(text) == set(wanted.split())


def test_fields_that_name_their_subject() -> None:
    assert kinds(NEUTRAL, camera="Static, at eye level") == {"camera_static"}
    assert kinds(NEUTRAL, camera="pans slowly to the left") == {"pan_left"}
    assert kinds(NEUTRAL, light="dark, lit by a lamp") == {"dark"}
    assert kinds(NEUTRAL, light="bright daylight") == {"bright"}
    assert kinds(NEUTRAL, style="live action, black and white") == {"black_and_white"}


def test_the_sentence() -> None:
    found = contradictions(caption("A dog sits. The camera is static."), PAN)
    assert found == ['says "The camera is static", measured: pan_right (confidence 0.93)']
    twice = contradictions(caption("The camera pans left."), STANDS)
    assert twice == ['says "The camera pans left", measured: static (confidence 0.95)']


@pytest.mark.parametrize(
    ("text", "facts", "against"),
    [
        ("The camera is static.", PAN, True),
        ("The camera is static.", PAN | {"camera_confidence": 0.4}, False),
        ("The camera is static.", PAN | {"camera_moving_fraction": 0.3}, False),
        ("The camera is static.", PAN | {"camera_class": "handheld"}, False),
        ("The camera is static, then the camera pans right.", PAN, False),
        ("The camera pans left.", PAN, True),
        ("The camera pans right.", PAN, False),
        ("The camera pans left. The camera pans right.", PAN, False),
        ("The camera tilts up.", PAN, False),  # another axis: not clear
        ("The camera pans left.", STANDS, True),
        ("The camera pans left.", STANDS | {"camera_confidence": 0.7}, False),
        ("A shaky shot of a crowd.", STANDS, True),
        ("Nothing moves.", {"motion_class": "fast"}, True),
        ("Nothing moves.", {"motion_class": "slow"}, False),
        ("A car drives very fast.", {"motion_class": "still"} | STANDS, True),
        ("A car drives very fast.", {"motion_class": "still"} | PAN, False),
        ("A street at night.", {"luma_mean": 0.7}, True),
        ("A street at night.", {"luma_mean": 0.43}, False),
        ("A field in broad daylight.", {"luma_mean": 0.05}, True),
        ("A field in broad daylight.", {"luma_mean": 0.3}, False),
        ("Black-and-white footage of a train.", {"saturation": 0.4}, True),
        ("Black-and-white footage of a train.", {"saturation": 0.02}, False),
        ("There are no people.", {"face_count_max": 1}, True),
        ("There are no people.", {"face_count_max": 0}, False),
        ("There are no people.", {"face_count_max": 1, "face_time_fraction": 0.1}, False),
        ("Subtitles appear below.", {"text_kind": "none"}, True),
        ("Subtitles appear below.", {"text_kind": "none", "text_kind_confidence": 0.3}, False),
        ("There is no text.", {"text_kind": "title"}, True),
        ("There are no subtitles.", {"text_kind": "scene"}, False),
        ("A silent film of a baker.", {"speech_fraction": 0.6}, True),
        ("A narrator explains it.", {"speech_fraction": 0.0}, True),
        ("A narrator explains it.", {"speech_fraction": 0.4}, False),
    ],
)
def test_against_measurements(text: str, facts: dict[str, Any], against: bool) -> None:
    assert bool(contradictions(caption(text), facts)) is against
    assert not contradictions(caption(text), dict.fromkeys(facts))
    assert not contradictions(caption(text), {})
