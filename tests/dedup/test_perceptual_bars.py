"""Bars that cannot be told from a picture that is black at its own edges."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.dedup import perceptual_match
from curation.dedup.perceptual_bars import without_dark_sides
from curation.dedup.perceptual_match import Limits, compare
from curation.dedup.perceptual_path import SIDE_PX, Film
from tests.dedup.films import Scene

LIMITS = Limits(min_overlap=0.5, max_offset_s=None, max_speed=1.1, mirrored=True)
SCENE = Scene(seed=3, pan=0.05, things=((0.25, 0.4, 0.0),))


def on_black(film: Film, bar_px: int) -> Film:
    """The pictures made narrower between black bars."""
    size = (SIDE_PX - 2 * bar_px, SIDE_PX)
    small = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in film.pictures]
    pictures = np.pad(np.array(small), ((0, 0), (0, 0), (bar_px, bar_px)))
    return Film(pictures, film.time_s, film.length_s)


def stage(start_s: float = 0.0) -> Film:
    """A lit stage in a dark hall."""
    return on_black(SCENE.film(start_s, start_s + 4.0), 3)


def test_bars_beside_a_dark_hall_are_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    barred = on_black(stage(), 5)
    for a, b in ((stage(), barred), (barred, stage())):
        found = compare(a, b, LIMITS)
        assert found is not None and found[0] >= 0.84
        assert found[1].offset_s == pytest.approx(0.0, abs=0.3)
    monkeypatch.setattr(perceptual_match, "without_dark_sides", lambda film: film)
    found = compare(stage(), barred, LIMITS)
    assert found is None or found[0] < 0.78, "the bars are wide enough to matter"


def test_another_moment_of_the_stage_is_no_copy() -> None:
    hall = Scene(seed=3, things=((0.5, 0.3, 0.0), (0.3, 0.6, -2.0)))
    early, late = hall.film(0.0, 4.0), hall.film(6.0, 10.0)
    found = compare(on_black(early, 3), on_black(on_black(late, 3), 4), LIMITS)
    assert found is None or found[0] < 0.6


def test_what_is_cut_off() -> None:
    plain = SCENE.film(0.0, 2.0)
    assert without_dark_sides(plain) is plain
    cut = without_dark_sides(on_black(plain, 3))
    assert cut.pictures.shape == plain.pictures.shape
    assert (cut.pictures.max(axis=(0, 1)) > 20).all(), "no dark column is left"
    assert np.corrcoef(cut.pictures.ravel(), plain.pictures.ravel())[0, 1] > 0.9


def test_a_night_scene_stays_whole() -> None:
    pictures = np.zeros((8, SIDE_PX, SIDE_PX), np.float32)
    night = Film(pictures, np.arange(8) / 4 + 0.125, 2.0)
    assert without_dark_sides(night) is night
    pictures[:, 10:13, 4:8] = 200
    assert without_dark_sides(night) is night, "a lamp is no picture between bars"
