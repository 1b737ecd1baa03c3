"""Camera classes of drawn footage: virtual cameras (tests/bench/camera.py) over textures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.stages.camera import Camera
from tests.bench.camera import KINDS, MOVES, Case, camera_score, motion_row, shoot
from tests.curation.chain import run_stage, scan
from tests.media import Recording, texture, write_video

SIZE_PX = (320, 180)
PLATE_SIZE_PX = (1280, 720)
Plate = tuple[np.ndarray, list[np.ndarray]]


def still(seed: int = 0) -> Plate:
    """A still to move a virtual camera over."""
    return np.array([0.0]), [texture(seed)[: PLATE_SIZE_PX[1], : PLATE_SIZE_PX[0]]]


def walker(seed: int, share: float = 0.4) -> Plate:
    """Footage of something large, over a share of the picture, that sways before a still ground."""
    times_s = np.arange(90) / 30
    ground, body = still(seed)[1][0], texture(seed + 50)
    height, width = ground.shape[:2]
    size = round(share * width)
    pictures = []
    for time_s in times_s:
        x = round((width - size) / 2 + 0.2 * width * np.sin(2 * np.pi * 0.6 * time_s))
        picture = ground.copy()
        picture[:, x : x + size] = body[:height, :size]
        pictures.append(picture)
    return times_s, pictures


def row_of(
    folder: Path,
    case: Case,
    plate: Plate | None = None,
    change: Callable[[int, np.ndarray], np.ndarray] = lambda index, picture: picture,
) -> dict[str, Any]:
    """The signals of a case; ``change`` alters single frames."""
    pictures = (change(i, p) for i, p in enumerate(shoot(plate or still(case.seed), case)))
    return motion_row(write(folder, pictures, Recording(fps=case.fps, crf=case.crf)))


def write(folder: Path, pictures: Iterable[np.ndarray], how: Recording) -> Path:
    """A file that the next one overwrites."""
    return write_video(folder / "case.mp4", pictures, how)


def small(kind: str, **fields: Any) -> Case:  # noqa: ANN401 - any field
    """A short case of small pictures."""
    return Case(**{"kind": kind, "size_px": SIZE_PX, "seconds": 2.0} | fields)


def test_classes(tmp_path: Path) -> None:
    """At least 95 % of drawn cameras are named right, at any speed and frame rate."""
    rng = np.random.default_rng(5)
    wrong, total = [], 0
    for kind in KINDS:
        for speed, seconds in ((0.02, 1.6), (0.12, 1.6), (0.45, 0.9)):
            if kind in ("static", "handheld"):
                fields = {"shake": 0.0 if kind == "static" else 0.02 * speed**0.5}
            elif speed > 0.4 and kind[0] in "zr":
                continue
            else:
                fields = {"speed_per_s": speed}
            fps = float(rng.choice([12, 24, 30]))
            case = small(kind, seconds=seconds, fps=fps, seed=int(rng.integers(99)), **fields)
            score = camera_score(row_of(tmp_path, case))
            total += 1
            if score["camera_class"] != kind:
                wrong.append((case, score))
    assert len(wrong) <= 0.05 * total, wrong


@pytest.mark.parametrize(
    ("kind", "column", "sign", "scale"),
    [
        ("pan_right", "camera_pan_per_s", 1, 1),
        ("tilt_down", "camera_tilt_per_s", -1, 1),
        ("zoom_in", "camera_zoom_per_s", 1, 0.265),
        ("roll_cw", "camera_roll_per_s", 1, 0.265),
    ],
)
def test_speeds(tmp_path: Path, kind: str, column: str, sign: int, scale: float) -> None:
    score = camera_score(row_of(tmp_path, small(kind, speed_per_s=0.08)))
    assert score[column] * scale * sign == pytest.approx(0.08, rel=0.1)
    assert score["camera_moving_fraction"] == 1
    assert score["camera_confidence"] > 0.8
    assert score["motion_smoothness"] > 0.9


def test_other_size_rate_and_quality(tmp_path: Path) -> None:
    """The same camera: the same class, and numbers that agree."""
    for kind, speed, shake in (("pan_left", 0.06, 0.0), ("handheld", 0.0, 0.005)):
        case = Case(kind=kind, speed_per_s=speed, shake=shake, seed=3, seconds=1.5)
        base = camera_score(row_of(tmp_path, case))
        assert base["camera_class"] == kind
        others = [
            replace(case, fps=60),
            replace(
                case, fps=30, crf=40, size_px=(1280, 720) if kind == "pan_left" else (320, 180)
            ),
        ]
        for other in others:
            score = camera_score(row_of(tmp_path, other))
            assert score["camera_class"] == kind
            assert score["camera_pan_per_s"] == pytest.approx(
                base["camera_pan_per_s"], rel=0.05, abs=0.002
            )
            assert score["camera_shake"] == pytest.approx(
                base["camera_shake"], rel=0.35, abs=0.0005
            )
            # A hand's fastest shakes are caught by chance between two pairs, at any rate anew.
            assert score["motion_smoothness"] == pytest.approx(
                base["motion_smoothness"], abs=0.25 if shake else 0.05
            )


def test_more_shake_is_more_shake(tmp_path: Path) -> None:
    found = [
        camera_score(row_of(tmp_path, small("pan_right", speed_per_s=0.1, shake=s)))
        for s in (0.0, 0.002, 0.005, 0.012)
    ]
    shakes = [f["camera_shake"] for f in found]
    assert shakes == sorted(shakes)
    assert shakes[-1] > 5 * shakes[1] > 10 * shakes[0]
    even = [f["motion_smoothness"] for f in found]
    assert even == sorted(even, reverse=True)
    assert found[0]["camera_class"] == found[1]["camera_class"] == "pan_right"


@pytest.mark.parametrize("share", [0.2, 0.33])
def test_large_thing_before_the_camera(tmp_path: Path, share: float) -> None:
    plate = walker(1, share)
    rest = camera_score(row_of(tmp_path, small("static"), plate))
    assert rest["camera_class"] == "static"
    assert rest["motion_class"] == "fast"
    pan = camera_score(row_of(tmp_path, small("pan_right", speed_per_s=0.08), plate))
    assert pan["camera_class"] == "pan_right"
    # With its sway it covers up to half of the window, and what it uncovers has no flow at all.
    assert pan["camera_pan_per_s"] == pytest.approx(0.08, rel=0.2 if share < 0.3 else 0.6)


def test_noise_on_a_wall_is_no_hand(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for noise in (0, 10):
        wall = np.full((SIZE_PX[1], SIZE_PX[0], 3), 90.0)
        wall += np.linspace(0, 30, SIZE_PX[0])[None, :, None]
        pictures = [
            np.clip(wall + noise * rng.standard_normal(wall.shape), 0, 255).astype(np.uint8)
            for _ in range(36)
        ]
        score = camera_score(motion_row(write(tmp_path, pictures, Recording(crf=20))))
        assert score["camera_class"] == "static"
        assert score["camera_shake"] < 0.0005


@pytest.mark.parametrize("kind", ["tilt_up", "zoom_out", "roll_ccw", "static"])
def test_black_bars(tmp_path: Path, kind: str) -> None:
    def bars(_: int, picture: np.ndarray) -> np.ndarray:
        picture[:24], picture[-24:] = 0, 0
        return picture

    speed = 0.0 if kind == "static" else 0.04
    score = camera_score(row_of(tmp_path, small(kind, speed_per_s=speed), change=bars))
    assert score["camera_class"] == kind


@pytest.mark.parametrize("kind", ["static", "pan_left"])
def test_flashes(tmp_path: Path, kind: str) -> None:
    """Frames on the pairs' grid, at 24 frames per second every third, flash."""

    def flash(index: int, picture: np.ndarray) -> np.ndarray:
        return np.clip(picture + 110.0, 0, 255).astype(np.uint8) if index in (9, 30) else picture

    speed = 0.0 if kind == "static" else 0.03
    score = camera_score(row_of(tmp_path, small(kind, speed_per_s=speed), change=flash))
    assert score["camera_class"] == kind
    assert score["camera_shake"] < 0.0005
    assert score["camera_pan_per_s"] == pytest.approx(-speed, abs=0.003)


def test_uneven_frame_times(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    times_ms = np.cumsum(rng.integers(15, 110, 45))
    times_ms -= times_ms[0]
    case = small("pan_right", speed_per_s=0.1, fps=1000, seconds=times_ms[-1] / 1000 + 0.001)
    every = shoot_at(case, times_ms / 1000)
    how = Recording(times_ms=[int(t) for t in times_ms])
    score = camera_score(motion_row(write(tmp_path, every, how)))
    assert score["camera_class"] == "pan_right"
    assert score["camera_pan_per_s"] == pytest.approx(0.1, rel=0.05)


def shoot_at(case: Case, times_s: np.ndarray) -> list[np.ndarray]:
    """A pan at given times, in pixels of the still."""
    width, height = SIZE_PX
    picture = cv2.resize(still()[1][0], (4 * width, 4 * height), interpolation=cv2.INTER_AREA)
    step = case.speed_per_s * float(np.hypot(width, height))
    places = [np.array([[1.0, 0.0, -step * t], [0.0, 1.0, 0.0]]) for t in times_s]
    return [cv2.warpAffine(picture, place, (width, height)) for place in places]


def test_direction_is_that_of_the_displayed_picture(tmp_path: Path) -> None:
    """A turned file: what pans right as stored tilts down when it is turned clockwise."""
    pictures = list(shoot(still(), small("pan_right", speed_per_s=0.1, seconds=1.5)))
    found = {}
    for turn_deg in (0, 90, 180, 270):
        path = write(tmp_path, pictures, Recording(turn_deg=turn_deg))  # pyright: ignore[reportArgumentType]
        found[turn_deg] = camera_score(scan(path).whole_clip())["camera_class"]
    assert found == {0: "pan_right", 90: "tilt_down", 180: "pan_left", 270: "tilt_up"}


def test_signals_pass_gives_the_same_row(tmp_path: Path) -> None:
    """The short cut of these tests is the signals pass."""
    row = row_of(tmp_path, small("zoom_in", speed_per_s=0.05, seconds=1.2))
    whole = scan(tmp_path / "case.mp4").whole_clip() | {"clip_id": "c"}
    assert camera_score(row) == camera_score(whole)


def test_moves_in_order_of_time(tmp_path: Path) -> None:
    """Rest, a pan, rest, the way back: their times to a quarter of a second."""
    there = list(shoot(still(), small("pan_right", speed_per_s=0.1, seconds=1.5)))
    pictures = [there[0]] * 36 + there + [there[-1]] * 24 + there[::-1]
    row = motion_row(write(tmp_path, pictures, Recording(fps=24)))
    tables, _ = run_stage(Camera.model_validate({}), [row])
    moves = tables["camera_moves"].to_pylist()
    assert [m["move_class"] for m in moves] == ["static", "pan_right", "static", "pan_left"]
    starts = [m["move_start_s"] for m in moves]
    assert starts == pytest.approx([0.0, 1.5, 3.0, 4.0], abs=0.25)
    assert starts[1:] == [m["move_end_s"] for m in moves[:-1]]
    assert moves[1]["move_speed_per_s"] == pytest.approx(0.1, rel=0.2)
    score = tables["scores_camera"].to_pylist()[0]
    assert score["camera_class"] == "mixed"
    assert score["camera_moving_fraction"] == pytest.approx(0.55, abs=0.06)


def test_repeated_frames_are_not_smooth(tmp_path: Path) -> None:
    """Five frames per second in a file of 30: it moves, stands, moves."""
    case = small("pan_right", speed_per_s=0.15, fps=30)
    pictures = list(shoot(still(), case))
    stutter = [pictures[i // 6 * 6] for i in range(len(pictures))]
    smooth = camera_score(motion_row(write(tmp_path, pictures, Recording(fps=30))))
    jerky = camera_score(motion_row(write(tmp_path, stutter, Recording(fps=30))))
    assert smooth["motion_smoothness"] > 0.95
    assert jerky["motion_smoothness"] < 0.7
    assert jerky["camera_class"] == "pan_right"


def test_no_pairs_no_class(tmp_path: Path) -> None:
    """One frame, and a clip between two pairs, are unknown, not static."""
    row = row_of(tmp_path, small("static", seconds=1 / 24, fps=24))
    inside = row_of(tmp_path, small("pan_left", speed_per_s=0.1)) | {"start_s": 1.99, "end_s": 2.0}
    for one in (row, inside):
        tables, _ = run_stage(Camera.model_validate({}), [one])
        score = tables["scores_camera"].to_pylist()[0]
        assert {k for k, v in score.items() if v is not None} == {"clip_id"}
        assert tables["camera_moves"].num_rows == 0


def test_bounds_of_the_subject(tmp_path: Path) -> None:
    row = row_of(tmp_path, small("static"))
    count = len(row["frame_object_per_s"])
    for speed, name in ((0.002, "still"), (0.01, "slow"), (0.03, "moderate"), (0.1, "fast")):
        objects = [speed if v is not None else None for v in row["frame_object_per_s"]]
        assert len(objects) == count
        score = camera_score(row | {"frame_object_per_s": objects})
        assert score["motion_class"] == name
        assert score["subject_motion_per_s"] == pytest.approx(speed, rel=0.01)


def test_every_move_has_its_opposite() -> None:
    assert len(set(MOVES)) == 8
