"""Blurring faces in cut clips: none is left to be found, and nothing else changes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from pydantic import ValidationError

from curation.errors import ConfigError
from curation.media.blur import FaceBlur, covered, held
from curation.media.decode import open_video, walk_frames
from curation.models.registry import file_sha256
from curation.models.weights import YUNET
from curation.models.yunet import Face, FaceFinder
from curation.stage import StageContext
from curation.storage import Storage
from tests.conftest import Maker
from tests.curation.chain import (
    FINGERPRINT,
    VIDEO_ID,
    Scanned,
    cut_clips,
    cut_stage,
    probe_stage,
    run_stage,
    scan,
    split_stage,
)
from tests.curation.weights import use_weights, without_weights
from tests.media import Camera, read_pictures

WHOLE = split_stage(min_s=0.2, max_s=60, edge_trim_s=0)


@pytest.fixture
def yunet(assets: Path, monkeypatch: pytest.MonkeyPatch) -> FaceFinder:
    use_weights(assets, monkeypatch, YUNET)
    return FaceFinder(0.7)


@pytest.fixture
def talking(assets: Path, yunet: FaceFinder) -> dict[str, Any]:
    """A second and a half of a man before a wall, in which he leaves the picture."""
    path = assets / "videos/real/video.mp4"
    given = {"local_path": str(path), "uri": "", "size_bytes": 0, "video_id": VIDEO_ID}
    row = given | run_stage(probe_stage(), [given])[0]["videos"].to_pylist()[0]
    unit = Fraction(row["time_base"])
    with open_video(str(path)) as (source, stream):
        pts = [d.pts for d in walk_frames(source, stream, start_pts=int(Fraction(19, 2) / unit))]
    start, end = pts[0], pts[90]
    span = {"start_pts": start, "end_pts": end, "num_frames": 90, "median_fps": 60.0}
    return row | span | {"clip_id": "c" * 32}


def with_face(finder: FaceFinder, path: Path) -> list[bool]:
    """For each frame of a file, whether a face is found in it."""
    with av.open(str(path)) as clip:
        return [bool(finder(f.to_ndarray(format="bgr24"))) for f in clip.decode(video=0)]


def test_no_face_is_left(talking: dict[str, Any], yunet: FaceFinder, tmp_path: Path) -> None:
    plain = cut_clips([talking], tmp_path / "plain", mode="reencode")[0][0]
    blurred = cut_clips([talking], tmp_path / "blurred", blur_faces=True)[0][0]
    before, after = with_face(yunet, plain["path"]), with_face(yunet, blurred["path"])
    assert 0.3 < sum(before) / len(before) < 1.0
    assert sum(after) == 0
    assert len(after) == len(before) == talking["num_frames"]
    assert blurred["media_mode_reason"] == "blurred"
    assert sum(before) <= blurred["media_blurred_frames"] <= len(before)
    assert blurred["media_face_model"] == "yunet"
    assert plain["media_blurred_frames"] is plain["media_face_model"] is None
    again = cut_clips([talking], tmp_path / "again", blur_faces=True)[0][0]
    assert again["media_sha256"] == blurred["media_sha256"]


def test_frames_far_from_any_face_stay(
    talking: dict[str, Any], yunet: FaceFinder, tmp_path: Path
) -> None:
    """Where nothing is covered the pictures are those of the plain clip."""
    plain = cut_clips([talking], tmp_path / "plain", mode="reencode")[0][0]
    blurred = cut_clips([talking], tmp_path / "blurred", blur_faces=True)[0][0]
    _, before = read_pictures(plain["path"])
    _, after = read_pictures(blurred["path"])
    apart = [float(np.abs(a.astype(int) - b).mean()) for a, b in zip(before, after, strict=True)]
    same = sum(a < 2.0 for a in apart)
    assert same >= len(apart) - blurred["media_blurred_frames"] - 2


@pytest.mark.parametrize("fields", [{"fps": 12.0}, {"max_long_side_px": 160}, {"bit_depth": 10}])
def test_with_other_settings(
    talking: dict[str, Any], yunet: FaceFinder, tmp_path: Path, fields: dict[str, Any]
) -> None:
    media, failures = cut_clips([talking], tmp_path, blur_faces=True, **fields)
    assert not failures
    assert media[0]["media_blurred_frames"] > 0
    assert not any(with_face(yunet, media[0]["path"]))


def test_nobody_to_blur(yunet: FaceFinder, make_video: Maker, tmp_path: Path) -> None:
    """Encoded all the same, since only decoding tells; the bytes are those of the plain clip."""
    found: Scanned = scan(make_video("pan.mp4", camera=Camera(pan_per_s=0.1)), split=WHOLE)
    rows = found.clip_rows()
    blurred = cut_clips(rows, tmp_path / "a", blur_faces=True)[0][0]
    plain = cut_clips(rows, tmp_path / "b", mode="reencode")[0][0]
    assert blurred["media_blurred_frames"] == 0
    assert blurred["media_mode"] == "reencode"
    assert blurred["media_sha256"] == plain["media_sha256"]


class Seeing:
    """Stands for the detector: finds a box where the picture's top left corner says so."""

    def __init__(self, boxes: dict[int, list[tuple[float, float]]]) -> None:
        self.boxes = boxes
        self.calls = 0

    def __call__(self, picture: np.ndarray) -> list[Face]:
        at = self.calls
        self.calls += 1
        return [
            Face(x=x, y=y, width=0.1, height=0.1, confidence=0.9) for x, y in self.boxes.get(at, [])
        ]


def noise_frames(count: int) -> list[tuple[int, VideoFrame]]:
    rng = np.random.default_rng(7)
    pictures = rng.integers(0, 255, (count, 96, 128), np.uint8)
    return [(i, VideoFrame.from_ndarray(p, format="yuv420p")) for i, p in enumerate(pictures)]


def changed(
    found: dict[int, list[tuple[float, float]]], hold_frames: int, count: int = 20
) -> tuple[list[int], list[np.ndarray]]:
    """Frames that blurring changed, and where in the luma plane of each frame."""
    frames = noise_frames(count)
    blur = FaceBlur(cast(FaceFinder, Seeing(found)), hold_frames=hold_frames, detect_px=128)
    before = [f.to_ndarray() for _, f in frames]
    out = list(blur(frames))
    assert [pts for pts, _ in out] == list(range(count))
    masks = [(a != f.to_ndarray())[:64] for a, (_, f) in zip(before, out, strict=True)]
    for a, (_, frame) in zip(before, frames, strict=True):
        np.testing.assert_array_equal(a, frame.to_ndarray())  # the source is left as it is
    at = [i for i, mask in enumerate(masks) if mask.any()]
    assert blur.num_frames == len(at)
    return at, masks


def test_a_face_is_held_both_ways() -> None:
    assert changed({10: [(0.4, 0.4)]}, 3)[0] == list(range(7, 14))
    assert changed({0: [(0.4, 0.4)], 19: [(0.4, 0.4)]}, 2)[0] == [0, 1, 2, 17, 18, 19]
    assert changed({}, 3)[0] == []


def test_a_gap_is_closed() -> None:
    still = [(0.4, 0.4)]
    assert changed({5: still, 6: still, 11: still}, 3)[0] == list(range(2, 15))


def test_a_moving_face_leaves_no_trail() -> None:
    """It is covered where it is, not where it was while it can be followed."""
    steps = {i: [(0.05 + 0.02 * i, 0.4)] for i in range(20)}
    at, masks = changed(steps, 6)
    assert at == list(range(20))
    columns = np.flatnonzero(masks[15].any(axis=0)) / 128
    assert columns.min() > 0.05 + 0.02 * 15 - 0.05
    assert columns.max() < 0.05 + 0.02 * 15 + 0.15


def test_the_other_face_does_not_end_it() -> None:
    """One of two is lost: it stays covered although the other is still found."""
    left, right = (0.1, 0.4), (0.8, 0.4)
    _, masks = changed({i: [left, right] if i == 5 else [right] for i in range(20)}, 4)
    for i in range(1, 10):
        assert masks[i][:, :24].any(), i
    assert not masks[10][:, :40].any()


def test_held_boxes_grow() -> None:
    box = np.array([[0.4, 0.4, 0.5, 0.5]])
    none = np.zeros((0, 4))
    near, far = held(none, [box])[0], held(none, [none, none, box])[0]
    assert (far[:2] < near[:2]).all()
    assert (far[2:] > near[2:]).all()
    assert len(held(box, [box])) == 0


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_little_is_left_of_what_was_there(pix_fmt: str) -> None:
    """Within a box there is less than a tenth of the contrast, in every plane."""
    rng = np.random.default_rng(3)
    deep = pix_fmt.endswith("10le")
    top = 1023 if deep else 255
    noise = rng.integers(0, top, (96, 64))
    planes = noise.astype(np.uint16) if deep else noise.astype(np.uint8)
    source = VideoFrame.from_ndarray(planes, format=pix_fmt)
    out = covered(source, np.array([[0.25, 0.25, 0.75, 0.75], [0.9, 0.9, 1.3, 1.3]]))
    assert out.format.name == pix_fmt
    flat, before = out.to_ndarray(), source.to_ndarray()
    chroma, chroma_before = flat[64:].reshape(2, 32, 32), before[64:].reshape(2, 32, 32)
    pairs = [(flat[:64], before[:64], 2), (chroma[0], chroma_before[0], 1)]
    for after, was, scale in (*pairs, (chroma[1], chroma_before[1], 1)):
        inside = slice(8 * scale, 24 * scale)
        assert after[inside, inside].std() < 0.15 * was[inside, inside].std()
        assert (after[: 8 * scale] == was[: 8 * scale]).all()
        # What was averaged depends on the pixels by few numbers only: 2x2 of them.
        assert np.linalg.matrix_rank(after[inside, inside].astype(float), tol=0.05 * top) <= 2


def test_a_run_that_cannot_blur_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_weights(tmp_path, monkeypatch)
    stage = cut_stage(blur_faces=True)
    assert stage.missing() == [YUNET]
    assert not cut_stage().missing()
    with pytest.raises(ConfigError, match="YuNet"):
        stage.setup(StageContext(storage=Storage(tmp_path), fingerprint=FINGERPRINT))


def test_only_blurring_enters_the_fingerprint(yunet: FaceFinder, assets: Path) -> None:
    plain, other = cut_stage(), cut_stage(blur_hold_frames=3)
    assert not plain.model_checksums()
    assert plain.settings() == other.settings()
    assert not any(n.startswith("blur") for n in plain.settings())
    blurring = cut_stage(blur_faces=True)
    assert blurring.model_checksums() == {"yunet": file_sha256(assets / "weights" / YUNET.file)}
    assert blurring.settings() != cut_stage(blur_faces=True, blur_hold_frames=3).settings()


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"mode": "copy"}, "blur_faces"), ({"hdr": "keep", "bit_depth": 10}, "hdr: tonemap")],
)
def test_what_does_not_go_together(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        cut_stage(blur_faces=True, **fields)
