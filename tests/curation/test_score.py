"""Scores from signals: weighted by time, never by frames, and null where nothing was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.curation.chain import run_stage, score_stage


def clip_row(
    times_s: list[float],
    end_s: float,
    *,
    start_s: float = 0.0,
    **signals: Any,  # noqa: ANN401 - lists of numbers
) -> dict[str, Any]:
    """An input row of ``score``; a signal that is not given is 0.5 throughout, and no pair."""
    stage = score_stage()
    row: dict[str, Any] = {"clip_id": "c", "video_id": "v", "start_s": start_s, "end_s": end_s}
    for name in stage.reads.names:
        if name.startswith("frame_"):
            measured = name.endswith("_per_s") or name == "frame_pair_start_s"
            row[name] = [None if measured else 0.5] * len(times_s)
    row |= {"frame_time_s": times_s, "frame_damaged": [False] * len(times_s)}
    return row | {f"frame_{name}": values for name, values in signals.items()}


def score_of(row: dict[str, Any], **fields: float) -> dict[str, Any]:
    """The score of one row."""
    tables, failures = run_stage(score_stage(**fields), [row])
    assert not failures
    return tables["scores"].to_pylist()[0]


def test_light_is_weighted_by_time() -> None:
    """Three short bright frames and one dark one that is shown for most of the clip."""
    row = clip_row(
        [0.0, 0.1, 0.2, 0.3],
        3.0,
        luma_mean=[0.9, 0.9, 0.9, 0.0],
        luma_std=[0.2, 0.2, 0.2, 0.0],
        dark_fraction=[0.0, 0.0, 0.0, 1.0],
        bright_fraction=[1.0, 1.0, 1.0, 0.0],
        sharpness=[0.8, 0.7, 0.6, 0.1],
    )
    score = score_of(row)
    assert score["luma_mean"] == pytest.approx(0.09, abs=1e-5)
    assert score["dark_fraction"] == pytest.approx(0.9, abs=1e-5)
    assert score["bright_fraction"] == pytest.approx(0.1, abs=1e-5)
    assert score["black_fraction"] == pytest.approx(0.9, abs=1e-5)
    assert score["sharpness"] == pytest.approx(0.1, abs=1e-5)  # most of the time


def test_black_is_dark_and_empty() -> None:
    """A night scene is dark, but has contrast."""
    night = clip_row([0.0, 1.0], 2.0, luma_mean=[0.05, 0.05], luma_std=[0.1, 0.02])
    assert score_of(night)["black_fraction"] == pytest.approx(0.5)
    assert score_of(night, black_contrast_below=0.2)["black_fraction"] == 1
    assert score_of(night, black_luma_below=0.01)["black_fraction"] == 0


def paired(**motion: Any) -> dict[str, Any]:  # noqa: ANN401 - lists of numbers
    """Motion signals of four frames; camera and object share it 3 to 1."""
    total = motion["motion_per_s"]
    parts = {"camera_per_s": 0.75, "object_per_s": 0.25}
    return motion | {k: [None if v is None else v * s for v in total] for k, s in parts.items()}


def test_motion_is_weighted_by_the_length_of_its_pairs() -> None:
    row = clip_row(
        [0.0, 0.1, 0.2, 1.2],
        1.3,
        pair_start_s=[None, 0.0, 0.1, 0.2],
        **paired(motion_per_s=[None, 0.6, 0.6, 0.0]),
    )
    score = score_of(row)
    assert score["motion_per_s"] == pytest.approx(0.1)
    assert score["camera_motion_per_s"] == pytest.approx(0.075)
    assert score["object_motion_per_s"] == pytest.approx(0.025)
    assert score["static_fraction"] == pytest.approx(1 / 1.2, abs=1e-5)
    assert score["peak_motion_per_s"] == pytest.approx(0.6)


def test_a_pair_across_the_cut_does_not_count() -> None:
    """The first pair that ends in a clip began in the shot before it."""
    row = clip_row(
        [5.0, 5.1, 5.2, 5.3],
        5.4,
        start_s=5.0,
        pair_start_s=[None, 4.98, None, 5.1],
        **paired(motion_per_s=[None, 9.0, None, 0.2]),
    )
    assert score_of(row)["motion_per_s"] == pytest.approx(0.2)
    assert score_of(row)["peak_motion_per_s"] == pytest.approx(0.2)


def test_no_pair_is_null_not_still() -> None:
    score = score_of(clip_row([0.0], 1.0))
    names = [n for n in score if "motion" in n or n == "static_fraction"]
    assert len(names) == 5
    assert [score[n] for n in names] == [None] * 5
    assert score["luma_mean"] == pytest.approx(0.5)


def test_peak_is_nearly_the_highest() -> None:
    moves = np.linspace(0.01, 1.0, 100)
    times = [i / 10 for i in range(101)]
    row = clip_row(
        times,
        10.1,
        pair_start_s=[None, *times[:-1]],
        **paired(motion_per_s=[None, *moves.tolist()]),
    )
    assert score_of(row)["peak_motion_per_s"] == pytest.approx(0.95)


def test_clips_of_a_batch_do_not_mix() -> None:
    rows = [clip_row([0.0, 1.0], 2.0, luma_mean=[v, v]) | {"clip_id": str(v)} for v in (0.2, 0.4)]
    tables, _ = run_stage(score_stage(), rows)
    found = {r["clip_id"]: r["luma_mean"] for r in tables["scores"].to_pylist()}
    assert found == pytest.approx({"0.2": 0.2, "0.4": 0.4})
