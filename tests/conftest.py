"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from curation.ids import digest
from tests.media import Camera, Recording, write_video

REPO = Path(__file__).resolve().parents[1]
PAN = Camera(pan_per_s=0.1, tilt_per_s=0.05)
"""The camera of videos whose content does not matter: every frame differs from its neighbours."""

Maker = Callable[..., Path]

# The same examples every time: a run of CI tells of this change, not of luck. New ones are looked
# for with HYPOTHESIS_PROFILE=explore.
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real footage; without it the test is skipped."""
    folder = Path(os.environ.get("CLIPMILL_ASSETS", REPO.parent / "shared" / "assets"))
    if not (folder / "videos").is_dir():
        pytest.skip("no folder of real footage (set CLIPMILL_ASSETS)")
    return folder


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Writes a generated video, each kind once per session."""
    folder = tmp_path_factory.mktemp("videos")

    def make(
        name: str,
        how: Recording | None = None,
        *,
        seconds: float = 2.0,
        camera: Camera = PAN,
        size_px: tuple[int, int] = (160, 96),
    ) -> Path:
        how = how or Recording()
        stem, suffix = os.path.splitext(name)
        path = folder / f"{stem}-{digest(how, seconds, camera, size_px)[:8]}{suffix}"
        if path.exists():
            return path
        if how.times_ms is not None:
            times_s = np.array(how.times_ms) / 1000
        else:
            times_s = np.arange(round(seconds * how.fps)) / how.fps
        return write_video(path, camera.shoot(*size_px, times_s), how)

    return make
