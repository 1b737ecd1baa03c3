"""Curves and pictures arrive, are not doubled by going on, and missing packages are named."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.errors import ConfigError
from training.trackers import EVENTS, WANDB_RUN, Trackers

CONFIG = {"optimizer": {"lr": 1e-3}, "name": "<b>test</b>"}


def trackers(out: Path, *, step: int = 0, **given: Any) -> Trackers:  # noqa: ANN401
    return Trackers(
        out, **{"tensorboard": True, "wandb": None, "config": CONFIG, **given}, step=step
    )


def events(out: Path) -> Any:  # noqa: ANN401
    """What TensorBoard itself reads of a run."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    found = accumulator.EventAccumulator(str(out / EVENTS), size_guidance={"scalars": 0})
    found.Reload()
    return found


def curve(out: Path, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in events(out).Scalars(name)]


@pytest.fixture(autouse=True)
def _writer() -> None:
    pytest.importorskip("tensorboard")


def test_rows_arrive_before_the_end(tmp_path: Path) -> None:
    made = trackers(tmp_path)
    made.row(20, {"loss": 0.5, "loss_bucket_9x64x112@8": 1.5, "skipped": 2})
    made.row(40, {"loss": 0.25})
    assert curve(tmp_path, "loss") == [(20, 0.5), (40, 0.25)]  # a kill would lose nothing
    assert curve(tmp_path, "skipped") == [(20, 2.0)]
    names = events(tmp_path).Tags()["scalars"]
    assert len(names) == 3 and any(name.startswith("loss_bucket_9x64x112") for name in names)
    made.close()
    made.close()
    assert curve(tmp_path, "loss") == [(20, 0.5), (40, 0.25)]


def test_what_is_no_finite_number_is_left_out(tmp_path: Path) -> None:
    made = trackers(tmp_path)
    made.row(1, {"a": math.nan, "b": math.inf, "c": None, "d": "text", "e": True, "f": 1})
    made.close()
    assert events(tmp_path).Tags()["scalars"] == ["f"]


def test_settings_and_pictures(tmp_path: Path) -> None:
    picture = np.zeros((8, 12, 3), np.uint8)
    picture[:, 6:] = (200, 100, 50)
    made = trackers(tmp_path)
    made.picture(30, "samples", picture)
    made.close()
    found = events(tmp_path)
    (shown,) = found.Images("samples")
    assert (shown.step, shown.width, shown.height) == (30, 12, 8)
    cv2 = pytest.importorskip("cv2")
    decoded = cv2.imdecode(np.frombuffer(shown.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded[..., ::-1], picture)
    text = found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text) == CONFIG
    assert all(line.startswith("    ") for line in text.splitlines())  # shown as it stands


@pytest.mark.parametrize("step", [0, 40])
def test_going_on_forgets_what_is_done_again(tmp_path: Path, step: int) -> None:
    first = trackers(tmp_path)
    for done in (20, 40, 60, 80):
        first.row(done, {"loss": 1.0})
    first.close()
    second = trackers(tmp_path, step=step)
    second.row(step + 20, {"loss": 2.0})
    second.close()
    kept = [(done, 1.0) for done in (20, 40, 60, 80) if done <= step]
    assert curve(tmp_path, "loss") == [*kept, (step + 20, 2.0)]


def test_nothing_is_asked_for(tmp_path: Path) -> None:
    made = trackers(tmp_path, tensorboard=False)
    made.row(1, {"loss": 1.0})
    made.picture(1, "samples", np.zeros((2, 2, 3), np.uint8))
    made.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((3, 4, 4), np.uint8)]
)
def test_no_picture(tmp_path: Path, wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match="no RGB picture"):
        trackers(tmp_path, tensorboard=False).picture(1, "samples", wrong)


def test_packages_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ConfigError, match="not installed") as caught:
        trackers(tmp_path)
    assert "clipmill[train]" in caught.value.mend and "tensorboard=false" in caught.value.mend
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        trackers(tmp_path, tensorboard=False, wandb="films")
    assert "pip install wandb" in caught.value.mend
    assert not list(tmp_path.iterdir())


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    ids = []
    for step in (0, 20):
        made = trackers(tmp_path, tensorboard=False, wandb="films", step=step)
        assert made._run is not None
        ids.append(made._run.id)
        made.row(step + 20, {"loss": 1.0})
        made.picture(step + 20, "samples", np.zeros((8, 8, 3), np.uint8))
        assert made._run.summary["loss"] == 1.0 and made._run.summary["step"] == step + 20
        assert made._run.config["optimizer"] == {"lr": 1e-3}
        made.close()
    assert ids[0] == ids[1] == json.loads((tmp_path / WANDB_RUN).read_text())["id"]
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
