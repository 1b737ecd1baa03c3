"""Prints: means over a quarter of a second, the same from any part, as displayed, inside bars."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.signals.prints import SIDE_PX, STEP_S, PrintMeter, grid_point, read_print
from curation.stages.prints import PRINT_PX, Prints, inner_part
from tests.bench.dedup_footage import Change, read_footage, write_copy
from tests.bench.dedup_rows import read_row
from tests.conftest import Maker
from tests.curation.chain import run_stage, scan, signals_stage
from tests.media import Camera, Recording, texture, write_video


def pictures_of(row: dict[str, Any], **fields: Any) -> tuple[list[float], np.ndarray]:  # noqa: ANN401
    """Times and float64 [n, PRINT_PX, PRINT_PX] of a clip's row."""
    tables, failures = run_stage(Prints(**fields), [row | {"clip_id": "c", "video_id": "v"}])
    assert not failures
    found = tables["print_pictures"].to_pylist()[0]
    luma = np.frombuffer(found["print_luma"], np.uint8).reshape(-1, PRINT_PX, PRINT_PX)
    assert tables["prints"].to_pylist()[0]["num_prints"] == len(luma)
    return found["print_times_s"], luma.astype(np.float64)


@pytest.mark.parametrize("fps", [3.0, 10.0, 24.0, 29.97, 120.0])
def test_a_print_is_the_mean_of_what_is_shown_in_a_quarter_of_a_second(fps: float) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (144, 256), np.uint8) for _ in range(60)]
    times = [round(i / fps, 6) for i in range(60)]
    meter, count = PrintMeter(), 0
    for frame, time_s in zip(frames, times, strict=True):
        data = meter.push(frame, time_s)
        if data is None:
            continue
        count += 1
        end_s = grid_point(time_s)
        mean = np.zeros((SIDE_PX, SIDE_PX))
        for i, other in enumerate(frames):
            shown_s = min((i + 1) / fps, end_s) - max(i / fps, end_s - STEP_S)
            if shown_s > 0:
                small = cv2.resize(other, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
                mean += small * (shown_s / STEP_S)
        assert np.abs(read_print(data) - mean).max() < 0.51
    assert count == min(59, int(59 / fps / STEP_S + 1e-6))


def test_the_first_whole_cell_after_the_beginning_of_a_part_is_the_first_print() -> None:
    frame = np.full((36, 64), 100, np.uint8)
    meter = PrintMeter()
    times = [0.4 + i / 24 for i in range(24)]
    seen = [grid_point(t) for t in times if meter.push(frame, round(t, 6)) is not None]
    assert seen == [0.75, 1.0, 1.25]


def test_parts_of_a_video_have_the_prints_of_the_whole(make_video: Maker) -> None:
    path = make_video("long.mp4", Recording(fps=24, gop_frames=12), seconds=9.0)
    stage = signals_stage(segment_frames=50)
    whole = scan(path, stage).row
    row = {n: whole[n] for n in stage.reads.names}
    parts = stage.lay_parts(row, 3.0)
    assert len(parts) > 2
    joined: list[bytes | None] = []
    for part in parts:
        for output in stage.process_part(row, part):
            if isinstance(output, tuple) and output[0] == "segments":
                joined += [p for c in output[1].column("frame_print").to_pylist() for p in c]
    assert joined == whole["frame_print"]
    assert sum(p is not None for p in joined) == 35


def test_the_benchmark_reads_what_the_signals_pass_stores(make_video: Maker) -> None:
    path = make_video("turned.mp4", Recording(turn_deg=90), seconds=2.0)
    whole, quick = scan(path).whole_clip(), read_row(path)
    for name in ("frame_time_s", "frame_print", "end_s", "width_px", "rotation_deg"):
        assert quick[name] == whole[name], name
    for side in ("top", "left"):
        ours, theirs = quick[f"frame_bar_{side}"], whole[f"frame_bar_{side}"]
        assert [v is None for v in ours] == [v is None for v in theirs]
        known = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None]
        assert known and all(abs(a - b) < 1e-4 for a, b in known)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    camera = Camera(pan_per_s=0.1, tilt_per_s=0.03, seed=3)
    pictures = camera.shoot(320, 180, np.arange(72) / 24)
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", pictures)


PLAIN = Change(kind="", name="")


@pytest.mark.parametrize(
    "change",
    [
        replace(PLAIN, scale=(0.5, 0.5)),
        replace(PLAIN, scale=(0.8, 0.5)),
        replace(PLAIN, turn_deg=90),
        replace(PLAIN, turn_deg=270),
        replace(PLAIN, turn_deg=180),
        replace(PLAIN, bars=(0.0, 0.125)),
        replace(PLAIN, bars=(0.15, 0.0)),
        replace(PLAIN, bars=(0.1, 0.0), turn_deg=90),
        replace(PLAIN, crf=35),
    ],
    ids=["half", "squashed", "90", "270", "180", "letterbox", "pillarbox", "both", "coarse"],
)
def test_copies_have_the_prints_of_their_original(
    film: Path, tmp_path: Path, change: Change
) -> None:
    original = read_row(film)
    times, wanted = pictures_of(original)
    footage = read_footage(str(film), 0.0, 3.0, 0)
    found_times, found = pictures_of(read_row(write_copy(footage, change, tmp_path / "c.mp4")))
    assert found_times == times and len(times) == 11
    assert times[:2] == [0.125, 0.375]
    error = np.sqrt(((found - wanted) ** 2).mean())
    assert error < (0.2 if change.bars != (0.0, 0.0) else 0.1) * wanted.std(), error


def test_bars_are_left_in_where_they_are_not_looked_for(film: Path, tmp_path: Path) -> None:
    footage = read_footage(str(film), 0.0, 3.0, 0)
    copy = write_copy(footage, replace(PLAIN, bars=(0.0, 0.125)), tmp_path / "c.mp4")
    _, inside = pictures_of(read_row(copy))
    _, whole = pictures_of(read_row(copy), min_bar=0.4)
    assert whole[:, 0].max() < 25 < inside[:, 0].min()


def test_a_clip_has_the_prints_that_lie_wholly_inside_it(film: Path) -> None:
    whole = scan(film).whole_clip()
    times, pictures = pictures_of(whole)
    start, end = 10, 50  # frames: 0.416667 s to 2.083333 s
    part = whole | {"start_s": round(start / 24, 6), "end_s": round(end / 24, 6)}
    part |= {n: v[start:end] for n, v in whole.items() if n.startswith("frame_")}
    inside, found = pictures_of(part)
    assert inside == [round(t - start / 24, 6) for t in times if 0.5 < t < 2.0]
    assert (found == pictures[2:8]).all()


def test_numbers_of_a_clip(tmp_path: Path) -> None:
    still = [texture(0)[:180, :320]] * 24
    row = read_row(write_video(tmp_path / "still.mp4", still))
    tables, _ = run_stage(Prints(), [row | {"clip_id": "c", "video_id": "v"}])  # pyright: ignore[reportCallIssue]
    (found,) = tables["prints"].to_pylist()
    assert found["num_prints"] == 3 and found["print_change"] < 0.002 < found["print_detail"]
    short = {n: v[:4] if n.startswith("frame_") else v for n, v in row.items()}
    tables, _ = run_stage(Prints(), [short | {"clip_id": "c", "video_id": "v"}])  # pyright: ignore[reportCallIssue]
    assert tables["prints"].to_pylist() == [
        {"clip_id": "c", "num_prints": 0, "print_detail": None, "print_change": None}
    ]
    assert tables["print_pictures"].to_pylist()[0]["print_luma"] == b""


def test_weights_of_the_inner_part() -> None:
    assert np.allclose(inner_part(0.0, 1.0).sum(axis=1), 1)
    # A side that is black but for [0.1, 0.9): the picture there has its own brightness.
    ends, starts = np.arange(1, 33) / 32, np.arange(32) / 32
    cells = np.clip(np.minimum(0.9, ends) - np.maximum(0.1, starts), 0, 1)
    shown = inner_part(0.1, 0.9) @ (200 * cells * 32)
    assert np.allclose(shown, 200, atol=0.5)
