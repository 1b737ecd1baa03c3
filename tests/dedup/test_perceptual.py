"""One pair: what is the same is found with its place, what only looks alike is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from curation.dedup import perceptual_match, perceptual_register
from curation.dedup.perceptual_match import Limits, compare
from curation.dedup.perceptual_path import Film, between, covered
from curation.dedup.perceptual_register import Fit
from tests.dedup.films import Scene

LIMITS = Limits(min_overlap=0.5, max_offset_s=None, max_speed=1.1, mirrored=True)
PAN = Scene(seed=1, pan=0.08)
HALL = Scene(seed=2, things=((0.25, 0.3, 0.0), (0.18, 0.6, -0.4), (-0.3, 0.1, 2.5)))
"""A standing camera; somebody passes now and then."""
SAME = 0.84


def both(a: Film, b: Film, limits: Limits = LIMITS) -> tuple[float, Fit]:
    found = compare(a, b, limits)
    assert found is not None
    return found


@pytest.mark.parametrize("scene", [PAN, HALL], ids=["pan", "hall"])
@pytest.mark.parametrize(
    ("how", "want"),
    [
        ({}, {}),
        ({"noise": 2.0, "gain": 0.8}, {}),
        ({"mirrored": True}, {"mirrored": True}),
        ({"label": True}, {}),
        ({"crop": (0.05, 0.05, 0.05, 0.05)}, {"window": (1 / 0.9, 1 / 0.9, 0, 0)}),
        ({"crop": (0.0, 0.1, 0.1, 0.0)}, {"window": (1 / 0.9, 1 / 0.9, 1 / 9, -1 / 9)}),
        ({"speed": 1.1}, {"speed": 1 / 1.1}),
        (
            {"speed": 0.92, "crop": (0.04, 0.04, 0.04, 0.04)},
            {"speed": 1 / 0.92, "window": (1 / 0.92, 1 / 0.92, 0, 0)},
        ),
    ],
    ids=["plain", "coarse", "mirrored", "label", "crop", "corner", "fast", "slow"],
)
def test_copies_are_found_with_their_place(
    scene: Scene, how: dict[str, Any], want: dict[str, Any]
) -> None:
    similarity, fit = both(scene.film(0.0, 5.0), scene.film(0.0, 5.0, **how))
    assert similarity >= SAME
    assert fit.mirrored == want.get("mirrored", False)
    assert fit.speed == pytest.approx(want.get("speed", 1.0), abs=0.03)
    # A camera that moves steadily shows a little more of one side a little later.
    assert fit.offset_s == pytest.approx(0.0, abs=0.12 if scene is HALL else 0.6)
    if scene is HALL and "label" not in how:
        assert fit.window == pytest.approx(want.get("window", (1, 1, 0, 0)), abs=0.04)


@pytest.mark.parametrize("shift_s", [-1.5, -0.37, 0.5, 1.13])
def test_shifts_are_measured(shift_s: float) -> None:
    a, b = HALL.film(2.0, 7.0), HALL.film(2.0 + shift_s, 7.0 + shift_s)
    similarity, fit = both(a, b)
    assert similarity >= SAME
    assert fit.offset_s == pytest.approx(-shift_s, abs=0.06)
    assert fit.overlap_s == pytest.approx(5 - abs(shift_s), abs=0.15)
    assert fit.overlap_share == pytest.approx(1 - abs(shift_s) / 5, abs=0.03)


def test_a_short_piece_is_found_in_a_long_clip() -> None:
    similarity, fit = both(HALL.film(0.0, 9.0), HALL.film(4.0, 7.0))
    assert similarity >= SAME
    assert fit.offset_s == pytest.approx(-4.0, abs=0.06)
    assert (fit.overlap_s, fit.overlap_share) == pytest.approx((3.0, 1.0), abs=0.05)


def test_other_moments_before_a_standing_camera_are_no_copies() -> None:
    moments = [HALL.film(5.0 * n, 5.0 * n + 5) for n in range(3)]
    pictures = [np.corrcoef(m.pictures[0].ravel(), moments[0].pictures[0].ravel()) for m in moments]
    assert min(p[0, 1] for p in pictures) > 0.5, "they look alike"
    for i, a in enumerate(moments):
        for b in moments[i + 1 :]:
            found = compare(a, b, LIMITS)
            assert found is None or found[0] < 0.6


def test_an_empty_room_is_no_proof_when_people_pass_before_or_after() -> None:
    room = Scene(seed=2, things=((0.5, 0.3, 0.0),))  # gone after two seconds
    found = compare(room.film(0.0, 5.0, noise=0.4), room.film(3.0, 8.0, noise=0.4), LIMITS)
    assert found is None or found[0] < 0.6


def test_a_flash_before_the_other_begins_does_not_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (HALL.film(start_s, 5.0, gain=0.3) for start_s in (0.5, 0.0))
    b.pictures[:2, :, ::2] = 255
    assert both(a, b)[0] >= SAME
    monkeypatch.setattr(perceptual_match, "ENOUGH", np.inf)
    assert both(a, b)[0] < 0.6, "the flash has to be far stronger than all else"


def test_rounding_does_not_hide_the_little_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    still, mover = Scene(seed=5).film(0, 4), np.zeros((16, 24, 24), np.float32)
    for n in range(16):
        mover[n, 8:12, n : n + 4] = 3
    drift = np.linspace(0, 5, 16)[:, None, None]  # another rounding of every picture
    a, b = (
        Film(np.round((still.pictures - mover + drift) * gain), still.time_s, still.length_s)
        for gain in (0.973, 0.911)
    )
    change = both(a, b)[1].change
    monkeypatch.setattr(perceptual_register, "ROUNDING", 0.0)
    assert change > both(a, b)[1].change + 0.02


def test_a_camera_that_moves_on_is_no_crop() -> None:
    slow = Scene(seed=4, pan=0.03)
    found = compare(slow.film(0.0, 4.0), slow.film(8.0, 12.0), LIMITS)
    assert found is None or found[0] < 0.7


def test_still_pictures_are_told_by_the_picture() -> None:
    a, b = Scene(seed=5), Scene(seed=6)
    assert both(a.film(0, 4, noise=0.2), a.film(1, 5, noise=0.2))[0] >= SAME
    found = compare(a.film(0, 4), b.film(0, 4), LIMITS)
    assert found is None or found[0] < 0.5


def test_flat_pictures_agree_with_nothing() -> None:
    dark = Film(np.full((12, 24, 24), 17, np.float32), np.arange(12) / 4 + 0.125, 3.0)
    found = compare(dark, dark, LIMITS)
    assert found is None or found[0] < 0.1


def test_limits_are_kept() -> None:
    a, b = HALL.film(0.0, 5.0), HALL.film(2.0, 7.0)
    assert both(a, b)[0] >= SAME
    for limits in (
        Limits(min_overlap=0.8, max_offset_s=None, max_speed=1.1, mirrored=True),
        Limits(min_overlap=0.5, max_offset_s=1.0, max_speed=1.1, mirrored=True),
    ):
        found = compare(a, b, limits)
        assert found is None or found[0] < 0.7
    straight = Limits(min_overlap=0.5, max_offset_s=None, max_speed=1.0, mirrored=False)
    assert both(a, b, straight)[1].speed == pytest.approx(1.0, abs=0.021)
    turned = compare(PAN.film(0, 5), PAN.film(0, 5, mirrored=True), straight)
    assert turned is None or turned[0] < 0.5


def test_the_same_pair_gives_the_same_numbers() -> None:
    a, b = HALL.film(0.0, 5.0), HALL.film(0.4, 5.4, crop=(0.03, 0.0, 0.05, 0.02))
    assert both(a, b) == both(a, b)


def test_times_between_prints() -> None:
    time_s = np.array([0.125, 0.375, 1.125])
    before, after, share = between(time_s, np.array([0.0, 0.25, 0.375, 0.75, 2.0]))
    assert before.tolist() == [0, 0, 1, 1, 2] and after.tolist() == [1, 1, 2, 2, 2]
    assert share[:4].tolist() == [0.0, 0.5, 0.0, 0.5]
    film = Film(np.zeros((3, 24, 24), np.float32), time_s, 1.3)
    inside = covered(film, np.array([-0.01, 0.0, 1.25, 1.26]))
    assert inside.tolist() == [False, True, True, False]
