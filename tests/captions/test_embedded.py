"""The embedded captioner on pictures and measurements of known content."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.captions.answer import Caption, parse_answer
from curation.captions.backends import embedded
from curation.captions.backends.embedded import EmbeddedSettings
from curation.captions.request import Frame, Request
from curation.models.registry import find_weights
from curation.models.weights import EFFICIENTNET_LITE0, FASTEST_DET
from tests.captions.embedded_parts import moving_facts, still_facts

OFF = EmbeddedSettings(tagger="off", detector="off")
BGR = {
    "red": (0, 0, 255),
    "green": (0, 255, 0),
    "blue": (255, 0, 0),
    "yellow": (0, 255, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
DULL = {
    "red": (20, 20, 220),
    "green": (40, 160, 20),
    "blue": (220, 40, 20),
    "yellow": (20, 220, 245),
}
"""As print and screens have them."""


def jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture)[1].tobytes()


def plain(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((90, 160, 3), colour, np.uint8)


def request(
    pictures: list[np.ndarray], facts: dict[str, Any] | None = None, duration_s: float = 6.0
) -> Request:
    frames = tuple(Frame(i * 1.0, jpeg(p)) for i, p in enumerate(pictures))
    return Request(
        request_id="r",
        system="",
        prompt="",
        frames=frames,
        duration_s=duration_s,
        facts=facts or {},
    )


def caption(asked: Request, settings: EmbeddedSettings = OFF) -> Caption:
    (reply,) = settings.make().answer([asked])
    assert reply.request_id == asked.request_id and reply.text is not None, reply
    parsed = parse_answer(reply.text, asked.duration_s)
    assert not parsed.repaired
    return parsed.caption


@pytest.mark.parametrize("name", list(BGR))
def test_a_plain_picture_is_called_by_its_colour(name: str) -> None:
    told = caption(request([plain(BGR[name])] * 2))
    assert told.short == f"The picture is plain {name}."
    assert told.subjects == () and told.events == () and told.camera == ""


@pytest.mark.parametrize("name", list(DULL))
def test_a_colour_need_not_be_pure(name: str) -> None:
    assert caption(request([plain(DULL[name])])).short == f"The picture is plain {name}."


def test_before_a_camera_that_may_move_nothing_is_said_to_move() -> None:
    facts = moving_facts(6.0, 0.0, 6.0) | {"camera_class": "static", "camera_confidence": 0.7}
    told = caption(request([plain((90, 120, 90))] * 6, facts))
    assert "moves" not in told.long
    rest = still_facts(6.0) | {"camera_class": "static", "camera_confidence": 0.7}
    assert "Hardly anything moves." in caption(request([plain((90, 120, 90))] * 6, rest)).long


def test_a_peak_is_told_only_when_there_is_one() -> None:
    one, two = moving_facts(10.0, 6.0, 7.0), moving_facts(10.0, 6.0, 7.0)
    pair_ends = np.array(two["frame_time_s"])
    for at in np.flatnonzero((pair_ends > 2) & (pair_ends <= 3)):
        if two["frame_motion_per_s"][at] is not None:
            two["frame_motion_per_s"][at] = 0.04
    events = [
        [e for e in caption(request([], facts, 10.0)).events if "strongest" in e.text]
        for facts in (one, two)
    ]
    assert [len(e) for e in events] == [1, 0]
    assert 5.5 <= events[0][0].start_s < events[0][0].end_s <= 7.5


def test_a_picture_with_a_letter_on_it_is_not_plain() -> None:
    picture = cv2.putText(plain(BGR["green"]), "A", (120, 80), 0, 0.6, (255, 255, 255), 1)
    assert caption(request([picture] * 3)).short == "The picture is mostly green."


def test_a_picture_without_colour_is_of_grey_tones() -> None:
    ramp = np.repeat(np.linspace(20, 230, 160).astype(np.uint8)[None, :, None], 90, 0)
    told = caption(request([np.repeat(ramp, 3, 2)] * 3))
    assert told.style == "Only grey tones are in the picture."
    tinted = np.repeat(ramp, 3, 2)
    tinted[:20, :20] = (60, 60, 160)
    assert caption(request([tinted] * 3)).style == ""


def test_colours_without_a_common_name_are_not_named() -> None:
    thirds = np.hstack([plain((200, 200, 0)), plain((120, 170, 210)), plain((0, 128, 128))])
    told = caption(request([thirds] * 3))
    assert "colour" not in told.long and "mostly" not in told.long
    both = np.hstack([plain(BGR["red"]), plain(BGR["blue"])])
    assert caption(request([both] * 3)).short == "The main colours are red and blue."


def test_nothing_known_is_told_as_nothing() -> None:
    told = caption(request([], {}, 4.5))
    assert (told.short, told.long) == ("A clip of 4.5 s.", "A clip of 4.5 s.")
    empty = (told.camera, told.light, told.style, told.setting, told.subjects, told.events)
    assert empty == ("", "", "", "", (), ())


def test_a_darkening_has_its_seconds() -> None:
    facts = still_facts(10.0, start_s=30.0)
    time_s = np.array(facts["frame_time_s"]) - 30
    facts["frame_luma_mean"] = np.interp(time_s, [4, 6], [0.6, 0.3]).tolist()
    grey = [
        np.full((90, 160, 3), int(255 * v), np.uint8)
        for v in np.interp(range(10), [4, 6], [0.6, 0.3])
    ]
    told = caption(request(grey, facts, 10.0))
    (event,) = [e for e in told.events if e.text == "the picture gets darker"]
    assert 3.8 <= event.start_s <= 4.8 and 5.2 <= event.end_s <= 6.2
    assert told.light.startswith("The picture gets darker from about 4.")
    assert not [e for e in told.events if "brighter" in e.text]


def test_movement_starts_and_stops_when_it_does() -> None:
    facts = moving_facts(10.0, 3.0, 7.0, start_s=12.0)
    told = caption(request([plain((90, 120, 90))] * 10, facts, 10.0))
    rests = [e for e in told.events if e.text == "hardly anything moves"]
    (moves,) = [e for e in told.events if e.text == "something moves"]
    assert moves.start_s == pytest.approx(3, abs=0.6) and moves.end_s == pytest.approx(7, abs=0.6)
    assert [r.start_s for r in rests] == [0, moves.end_s]
    assert told.camera == "The camera does not move."


def test_rest_and_unbroken_movement() -> None:
    pictures = [plain((90, 120, 90))] * 6
    assert "Nothing moves." in caption(request(pictures, still_facts(6.0))).long
    fast = moving_facts(6.0, 0.0, 6.0, speed_per_s=0.1) | {"subject_motion_per_s": 0.1}
    assert "Something moves fast all along." in caption(request(pictures, fast)).long
    # Noise of a camera: there is some movement, but nobody could say that it never stops.
    noise = moving_facts(6.0, 0.0, 6.0, speed_per_s=0.007)
    assert "all along" not in caption(request(pictures, noise)).long


@pytest.mark.parametrize(
    ("label", "sure", "words"),
    [
        ("static", 0.95, "The camera does not move."),
        ("static", 0.5, ""),
        ("handheld", 0.9, "The camera shakes a little."),
        ("pan_right", 0.9, "The camera pans to the right."),
        ("tilt_down", 0.9, "The camera tilts down."),
        ("zoom_in", 0.9, "The view moves closer."),
        ("roll_ccw", 0.3, ""),
        ("mixed", 0.9, "The camera moves."),
        (None, None, ""),
    ],
)
def test_the_camera_is_told_when_it_is_sure(
    label: str | None, sure: float | None, words: str
) -> None:
    facts = moving_facts(6.0, 0.0, 6.0, speed_per_s=0.05, object_share=0.1)
    facts |= {"camera_class": label, "camera_confidence": sure}
    told = caption(request([plain((90, 120, 90))] * 6, facts))
    assert told.camera == words
    assert (words in told.long) or not words


def test_drawn_things_that_move_are_no_camera() -> None:
    facts = moving_facts(6.0, 0.0, 6.0, speed_per_s=0.05, object_share=0.8)
    facts |= {"camera_class": "pan_right", "camera_confidence": 0.95}
    assert caption(request([plain((90, 120, 90))] * 6, facts)).camera == ""


def test_moves_of_the_camera_are_events_in_order() -> None:
    facts = moving_facts(8.0, 0.0, 8.0, speed_per_s=0.1, object_share=0.05)
    time_s = np.array(facts["frame_time_s"]) - facts["frame_time_s"][0]
    # The content moves left at first, then right: the camera pans right, then left.
    facts["frame_pan_per_s"] = np.where(time_s < 4, 0.1, -0.1).tolist()
    facts |= {"camera_class": "mixed", "camera_confidence": 0.5}
    told = caption(request([plain((90, 120, 90))] * 8, facts, 8.0))
    moves = [e for e in told.events if "pans" in e.text]
    assert [m.text for m in moves] == [
        "the camera pans to the right",
        "the camera pans to the left",
    ]
    assert moves[0].end_s == pytest.approx(4, abs=0.5) == moves[1].start_s
    assert [e.start_s for e in told.events] == sorted(e.start_s for e in told.events)


def test_nulls_and_gaps_in_the_measurements_say_nothing() -> None:
    facts: dict[str, Any] = {n: [None] * 20 for n in still_facts(5.0) if n.startswith("frame_")}
    facts["frame_time_s"] = [0.25 * i for i in range(20)]
    facts |= {"camera_class": None, "camera_confidence": float("nan"), "text_read": None}
    told = caption(request([plain(BGR["red"])], facts, 5.0))
    assert told.long == "The picture is plain red."


def test_text_that_was_read_is_quoted_in_whole_lines() -> None:
    facts = {"text_read": " | ".join(["ONE WAY", "x" * 111, "TWO"])}
    told = caption(request([plain((90, 120, 90))], facts))
    assert 'Text in the picture reads "ONE WAY" and "' in told.long
    assert "TWO" not in told.long


def test_faces_count_when_they_are_large_and_often_there() -> None:
    pictures = [plain((90, 120, 90))] * 4
    sure = {"face_count_max": 1, "face_time_fraction": 0.9, "largest_face_fraction": 0.3}
    assert caption(request(pictures, sure)).short == "A face is in the picture."
    rare = sure | {"face_time_fraction": 0.2}
    assert "face" not in caption(request(pictures, rare)).long


def test_the_same_request_gets_the_same_words() -> None:
    asked = request([plain((90, 120, 90))] * 10, moving_facts(10.0, 3.0, 7.0), 10.0)
    backend = OFF.make()
    first, again = ([r.text for r in backend.answer([asked, asked])] for _ in range(2))
    assert first == again and len(set(first)) == 1


def test_a_frame_that_is_no_picture_is_refused_with_its_time() -> None:
    asked = Request(request_id="x", system="", prompt="", frames=(Frame(2.5, b"no"),))
    good = request([plain(BGR["red"])])
    bad, fine = OFF.make().answer([asked, good])
    assert bad.text is None and bad.code == "decode_failed" and "2.5 s" in bad.message
    assert fine.text is not None and json.loads(fine.text)["short"] == "The picture is plain red."


def test_without_networks_the_base_install_is_enough() -> None:
    code = (
        "import sys\n"
        "from curation.captions.backends.embedded import EmbeddedSettings\n"
        "from curation.captions.request import Request\n"
        "s = EmbeddedSettings(tagger='off', detector='off')\n"
        "r = Request(request_id='r', system='', prompt='', duration_s=2.0)\n"
        "assert list(s.make().answer([r]))[0].text\n"
        "assert s.model_name == 'embedded-1' and not s.fallbacks() and not s.checksums()\n"
        "heavy = {'torch', 'onnxruntime', 'transformers', 'open_clip'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_missing_weights_are_said(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMILL_MODELS", str(tmp_path_factory.mktemp("models")))
    settings = EmbeddedSettings(tagger="off", detector="auto")
    assert settings.model_name == "embedded-1"
    assert "FastestDet is not here" in settings.fallbacks()[0]
    assert settings.identity()["parts"] == {}
    with_it = find_weights(EFFICIENTNET_LITE0) is not None
    both = EmbeddedSettings(tagger="auto", detector="auto")
    assert (EFFICIENTNET_LITE0.key in both.model_name) == with_it
    assert len(both.fallbacks()) == (1 if with_it else 2)


def test_weights_without_what_runs_them_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FASTEST_DET.file).write_bytes(b"weights")
    monkeypatch.setenv("CLIPMILL_MODELS", str(tmp_path))
    monkeypatch.setitem(embedded.LIBRARIES, FASTEST_DET.key, ("no_such_library",))
    settings = EmbeddedSettings(tagger="off", detector="auto")
    assert settings.model_name == "embedded-1"
    assert settings.fallbacks()[0].startswith("no no_such_library: fewer things")


@pytest.mark.skipif(find_weights(EFFICIENTNET_LITE0) is None, reason="no EfficientNet-lite0")
def test_the_classifier_sees_one_thing_at_a_time() -> None:
    from curation.models.imagenet import ImageNetClassifier

    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (90, 160, 3), np.uint8) for _ in range(2)]
    classifier = ImageNetClassifier()
    both, alone = classifier(pictures), classifier(pictures[1:])
    assert both.shape == (2, 1000) and both.sum(1) == pytest.approx(1, abs=1e-4)
    assert (both[1] == alone[0]).all()


@pytest.mark.slow
def test_real_footage(assets: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    monkeypatch.setenv("CLIPMILL_MODELS", str(assets / "weights"))
    if find_weights(FASTEST_DET) is None or find_weights(EFFICIENTNET_LITE0) is None:
        pytest.skip("the networks are not here")
    everything = EmbeddedSettings(tagger="auto", detector="auto")
    assert everything.model_name == "embedded-1:efficientnet-lite0+fastest-det"
    seen = {}
    for name in ("01_dog.mp4", "one-by-one-person-detection.mp4", "crystal.mp4", "flower.mp4"):
        video = cv2.VideoCapture(str(assets / "videos" / "real" / name))
        rate, pictures = video.get(cv2.CAP_PROP_FPS), []
        for second in range(14 if "person" in name else 5):
            video.set(cv2.CAP_PROP_POS_FRAMES, round(second * rate))
            pictures.append(cv2.resize(video.read()[1], (512, 288), interpolation=cv2.INTER_AREA))
        seen[name] = caption(request(pictures, {}, float(len(pictures))), everything)
    assert seen["01_dog.mp4"].subjects == ("a person", "a dog")
    assert seen["one-by-one-person-detection.mp4"].subjects == ("a person",)
    (comes,) = [e for e in seen["one-by-one-person-detection.mp4"].events if "comes" in e.text]
    assert 4 <= comes.start_s <= 6 < comes.end_s <= 8
    assert seen["crystal.mp4"].subjects == seen["flower.mp4"].subjects == ()
