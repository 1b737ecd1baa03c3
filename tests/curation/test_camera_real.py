"""Camera classes of real footage that no threshold was set on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.camera import HELD_OUT, camera_score, cases, measured, motion_row
from tests.curation.footage import real, record

REAL = {
    "01_dog.mp4": "static",
    "02_cups.mp4": "static",
    "nasa_13013.mp4": "static",
    "mov.mov": "static",
}
"""Three seconds from the start; in all of them something moves."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_virtual_cameras_over_held_out_footage(assets: Path, tmp_path: Path) -> None:
    """At least 95 % of known movements are named right."""
    wrong, total = [], 0
    for index, source in enumerate(HELD_OUT):
        for case in cases(index)[index % 3 :: 3]:
            score = measured(source, case, tmp_path, assets / "videos")
            total += 1
            if score["camera_class"] != case.kind:
                wrong.append((source, case, score))
    assert total > 70
    assert len(wrong) <= 0.05 * total, wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", list(REAL))
def test_tripod_at_any_size_rate_and_quality(assets: Path, tmp_path: Path, name: str) -> None:
    path = assets / "videos" / ("odd" if name == "mov.mov" else "real") / name
    picture, found = real(path), []
    for size_px, fps in (((640, 360), 24.0), ((640, 360), 60.0), ((1280, 720), 30.0)):
        file = record(tmp_path / "a.mp4", picture, size_px=size_px, fps=fps, seconds=3)
        found.append(camera_score(motion_row(file)))
    assert {f["camera_class"] for f in found} == {REAL[name]}
    for score in found:
        assert score["camera_shake"] < 0.0002
        assert score["subject_motion_per_s"] == pytest.approx(
            found[0]["subject_motion_per_s"], rel=0.25, abs=0.0005
        )
