"""Faces: the detector beside OpenCV's, labelled footage, and what the columns say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.models.weights import YUNET
from curation.models.yunet import Face, FaceFinder
from curation.stage import StageContext
from curation.stages.faces import Faces, covered, summary
from curation.stages.sampled import spread
from curation.storage import Storage
from tests.bench.faces import look, precision_recall, samples
from tests.curation.chain import FINGERPRINT, run_stage
from tests.curation.weights import use_weights, without_weights


def faces_stage(tmp_path: Path, **fields: Any) -> Faces:  # noqa: ANN401 - any field
    stage = Faces(**fields)
    stage.setup(StageContext(storage=Storage(tmp_path), fingerprint=FINGERPRINT))
    return stage


def clip(pictures: list[np.ndarray], clip_id: str = "c") -> dict[str, Any]:
    """A clip whose stored samples are these BGR pictures, one a second."""
    jpegs = [cv2.imencode(".jpg", p)[1].tobytes() for p in pictures]
    times_s = [float(i) for i in range(len(jpegs))]
    return {"clip_id": clip_id, "video_id": "v", "sample_pts_s": times_s, "sample_jpegs": jpegs}


def row_of(stage: Faces, pictures: list[np.ndarray]) -> dict[str, Any]:
    tables, _ = run_stage(stage, [clip(pictures)])
    return tables["scores_faces"].to_pylist()[0]


@pytest.fixture
def talking(assets: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """A man before a wall, one picture a second; he walks off at 11, 13, 20 and 22 s."""
    use_weights(assets, monkeypatch, YUNET)
    return [image for _, image in samples(assets / "videos/real/video.mp4", 1)]


def test_same_boxes_as_opencv(talking: list[np.ndarray], assets: Path) -> None:
    theirs = cv2.FaceDetectorYN.create(
        str(assets / "weights" / YUNET.file), "", (32, 32), 0.3, 0.3, 5000
    )
    ours = FaceFinder(0.3)
    pictures = talking[:6] + [p for _, p in samples(assets / "videos/real/01_dog.mp4", 2)]
    compared = 0
    for picture in pictures:
        height, width = picture.shape[:2]
        theirs.setInputSize((width, height))
        found = theirs.detect(picture)[1]
        wanted = [] if found is None else sorted(found, key=lambda f: -f[14])
        faces = ours(picture)
        assert len(faces) == len(wanted)
        for face, other in zip(faces, wanted, strict=True):
            assert face.confidence == pytest.approx(other[14], abs=1e-3)
            assert face.x * width == pytest.approx(max(0, other[0]), abs=0.05)
            assert face.y * height == pytest.approx(max(0, other[1]), abs=0.05)
            compared += 1
    assert compared >= 10


def test_labelled_frames(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short files of the bench; the whole of it is `python -m tests.bench.faces`."""
    use_weights(assets, monkeypatch, YUNET)
    names = [f"real/{n}.mp4" for n in ("video", "flower", "frog", "bikes")]
    seen = look(FaceFinder(0.3), assets / "videos", names)
    assert len(seen) == 49
    assert sum(there for there, _ in seen.values()) == 22
    precision, recall = precision_recall(seen, 0.7, 0.03)
    assert recall == 1.0
    assert precision > 0.95  # a toy frog is taken for a face


def test_a_clip_with_a_face(talking: list[np.ndarray], tmp_path: Path) -> None:
    tables, _ = run_stage(faces_stage(tmp_path), [clip(talking[3:7])])
    row = tables["scores_faces"].to_pylist()[0]
    assert row["face_count_max"] == 1
    assert row["face_count_mean"] == 1.0
    assert row["face_time_fraction"] == 1.0
    assert 0.5 < row["largest_face_fraction"] < 0.8  # by eye
    assert 0.1 < row["face_area_fraction"] < 0.25
    assert row["faces_model"] == "yunet"
    boxes = tables["face_boxes"].to_pylist()
    assert [b["face_time_s"] for b in boxes] == [0.0, 1.0, 2.0, 3.0]
    for box in boxes:
        assert 0.25 < box["face_x"] < box["face_x"] + box["face_width"] < 0.75
        assert box["face_confidence"] > 0.85


def test_nobody_there_is_zero(talking: list[np.ndarray], tmp_path: Path) -> None:
    row = row_of(faces_stage(tmp_path), [talking[i] for i in (11, 13, 20, 22)])
    assert row["face_count_max"] == 0
    assert row["face_time_fraction"] == row["largest_face_fraction"] == 0.0
    half = row_of(faces_stage(tmp_path), [talking[i] for i in (0, 11, 1, 13)])
    assert half["face_time_fraction"] == half["face_count_mean"] == 0.5


def test_two_people(talking: list[np.ndarray], tmp_path: Path) -> None:
    both = np.hstack([talking[0], talking[8]])
    row = row_of(faces_stage(tmp_path), [both])
    assert row["face_count_max"] == 2


def test_size_does_not_matter(talking: list[np.ndarray], tmp_path: Path) -> None:
    stage = faces_stage(tmp_path)
    plain = row_of(stage, talking[:4])
    for scale in (0.6, 1.6, 2.5):
        other = row_of(stage, [cv2.resize(p, None, fx=scale, fy=scale) for p in talking[:4]])
        assert other["face_count_max"] == 1
        assert other["largest_face_fraction"] == pytest.approx(
            plain["largest_face_fraction"], rel=0.1
        )


def test_what_came_before_does_not_matter(talking: list[np.ndarray], tmp_path: Path) -> None:
    stage = faces_stage(tmp_path)
    alone = row_of(stage, talking[8:9])
    tables, _ = run_stage(stage, [clip(talking[:5], "a"), clip(talking[8:9], "c")])
    assert tables["scores_faces"].to_pylist()[1] == alone


def test_small_faces_do_not_count(talking: list[np.ndarray], tmp_path: Path) -> None:
    assert row_of(faces_stage(tmp_path, min_face_fraction=0.9), talking[:2])["face_count_max"] == 0


def test_no_frames_is_null(talking: list[np.ndarray], tmp_path: Path) -> None:
    row = row_of(faces_stage(tmp_path), [])
    assert row["face_count_max"] is None
    assert row["faces_model"] == "yunet"


def test_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_weights(tmp_path, monkeypatch)
    assert Faces.model_validate({}).missing() == [YUNET]
    stage = faces_stage(tmp_path, if_missing="skip")
    assert not stage.missing()
    row = row_of(stage, [np.zeros((32, 32, 3), np.uint8)])
    assert row == {"clip_id": "c"} | dict.fromkeys(stage.adds["scores_faces"].names[1:])


def face(x: float, y: float, width: float, height: float) -> Face:
    return Face(x=x, y=y, width=width, height=height, confidence=0.9)


def test_summary() -> None:
    left, right = face(0, 0, 0.25, 0.5), face(0.5, 0.5, 0.25, 0.25)
    row = summary([[left, right], [right], [], []])
    assert row["face_count_max"] == 2
    assert row["face_count_mean"] == 0.75
    assert row["face_time_fraction"] == 0.5
    assert row["largest_face_fraction"] == 0.5
    assert row["face_area_fraction"] == pytest.approx((0.125 + 0.0625 + 0.0625) / 4, abs=1e-4)


def test_overlapping_boxes_cover_their_union() -> None:
    assert covered([face(0, 0, 0.5, 0.5), face(0.25, 0, 0.5, 0.5)]) == 0.375
    assert covered([]) == 0.0


@pytest.mark.parametrize(("count", "wanted"), [(0, 8), (1, 8), (8, 8), (9, 8), (100, 8), (7, 3)])
def test_frames_are_spread(count: int, wanted: int) -> None:
    at = spread(count, wanted)
    assert len(at) == min(count, wanted)
    assert at == sorted(set(at))
    assert all(0 <= i < count for i in at)
    if count > wanted:
        assert at[0] <= count / wanted
        assert at[-1] >= count - count / wanted - 1
        assert np.ptp(np.diff(at)) <= 1
