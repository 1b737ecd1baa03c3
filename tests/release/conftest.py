"""One small dataset, curated once; each test gets a copy of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pipelines.release.describe import NOT_VALIDATED
from pipelines.release.freeze import make_release
from tests.faults.helpers import make_video, run

EVIL = "CC<script>|`*_[x](y)\n# big"
"""A licence that tries to be Markdown and HTML."""


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good videos under three licences and none, one twice, and a file that is no video."""
    folder = tmp_path_factory.mktemp("released")
    for i in range(4):
        make_video(folder / "in" / f"v{i}.mp4", [(2.2, 10 * i + 1), (2.0, 10 * i + 2)])
    make_video(folder / "in" / "black.mp4", [(1.2, 9), (0.1, 8)], size=(64, 64))
    shutil.copy(folder / "in/v0.mp4", folder / "in/w0.mp4")
    (folder / "in/broken.mp4").write_text("no video")
    rows: list[dict[str, Any]] = [
        {"uri": "v0.mp4", "license": "CC0-1.0", "title": "One", "caption": "a given text"},
        {"uri": "w0.mp4", "license": "CC-BY-4.0"},
        {"uri": "v1.mp4", "license": "CC-BY-4.0", "source": "archive", "camera": "A7"},
        {"uri": "v2.mp4", "license": EVIL, "place": str(folder / "in/v2.mp4")},
        {"uri": "v3.mp4"},
        {"uri": "black.mp4", "license": "CC0-1.0"},
        {"uri": "broken.mp4"},
    ]
    text = "".join(json.dumps(r | {"uri": str(folder / "in" / r["uri"])}) + "\n" for r in rows)
    (folder / "list.jsonl").write_text(text)
    rules = {"luma_mean": {"min": 0.02}, "height_px": {"min": 64}, "width_px": {"min": 80}}
    report = run(
        folder / "list.jsonl",
        folder / "out",
        judge={"rules": rules},
        shard={"target_bytes": 40_960},
        caption={"backend": {"kind": "embedded", "tagger": "off", "detector": "off"}},
    )
    assert report.balanced, report.account.imbalances
    return folder / "out"


@pytest.fixture
def root(curated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(curated, tmp_path / "data"))


@pytest.fixture(scope="session")
def frozen_root(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with the release v1; nobody changes it."""
    root = Path(shutil.copytree(curated, tmp_path_factory.mktemp("frozen") / "data"))
    make_release(str(root), "v1", "first | release")
    return root


@pytest.fixture(autouse=True)
def no_validation(request: pytest.FixtureRequest) -> Iterator[None]:
    """The reference library takes seconds; what it says is asked once, of the shared release."""
    if "frozen_root" in request.fixturenames:
        request.getfixturevalue("frozen_root")
    with mock.patch("pipelines.release.describe.validate", return_value=NOT_VALIDATED):
        yield


@pytest.fixture
def released(frozen_root: Path, tmp_path: Path) -> Path:
    """A copy of the root with its release."""
    return Path(shutil.copytree(frozen_root, tmp_path / "data"))
