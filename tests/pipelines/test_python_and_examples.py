"""What the README promises to people who program: ten lines of Python, and a stage of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curation.catalog.views import open_views
from pipelines.config import load_config
from pipelines.curate import curate
from pipelines.demo import demo_footage
from pipelines.examples.colorfulness import colorfulness
from tests.pipelines.conftest import REPO


def test_the_readme_example_runs_as_printed(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (REPO / "README.md").read_text(), re.DOTALL)
    program = next(b for b in blocks if "curate(" in b)
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "bikes.mp4").symlink_to(demo_footage() / "bikes.mp4")
    (tmp_path / "run.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPO), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "True 1" in done.stdout  # balanced, one clip of two seconds or more


def test_colorfulness_means_what_it_says() -> None:
    import cv2

    def jpeg(image: np.ndarray) -> bytes:
        return cv2.imencode(".jpg", image)[1].tobytes()

    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 255, (64, 64, 1), dtype=np.uint8), 3, axis=2)
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, :32] = (0, 0, 255)
    half[:, 32:] = (255, 0, 0)
    assert colorfulness(jpeg(grey)) < 3
    assert colorfulness(jpeg(half)) > 100


@pytest.mark.parametrize("engine", ["inline"])
def test_a_users_stage_is_judged_resumed_and_reported(tmp_path: Path, engine: str) -> None:
    clips = [str(demo_footage() / "bikes.mp4"), str(demo_footage() / "carphone_pristine.mp4")]
    path = str(REPO / "configs" / "examples" / "colorfulness.yaml")
    out = str(tmp_path / "out")
    settings = [f"run.engine={engine}", "split.min_s=1"]
    first = curate(clips, out, load_config(path, settings))
    assert first.balanced and first.stages["colorfulness"]["videos_run"] == 2
    scores = open_views(out).query("SELECT uri, colorfulness FROM clips").to_pylist()
    assert all(5 < s["colorfulness"] < 110 for s in scores)

    again = curate(clips, out, load_config(path, settings))
    assert again.videos_run == 0

    # Another field recomputes this stage and nothing before it.
    changed = curate(clips, out, load_config(path, [*settings, "stages.0.max_frames=1"]))
    assert changed.stages["colorfulness"]["videos_run"] == 2
    assert changed.stages["signals"]["videos_run"] == 0
    assert changed.stages["cut"]["rows"] == 0

    # Its column can be judged.
    strict = curate(clips, out, load_config(path, [*settings, "judge.rules.colorfulness.min=90"]))
    assert strict.account.clips["kept"] == 0
    assert strict.account.rejected_by_reason["low_colorfulness"] == len(scores)
    assert strict.balanced


def test_a_known_source_that_is_gone_for_a_moment_keeps_its_clips(tmp_path: Path) -> None:
    video = tmp_path / "bikes.mp4"
    video.write_bytes((demo_footage() / "bikes.mp4").read_bytes())
    config = load_config(None, ["run.engine=inline", "split.min_s=1"])
    first = curate([str(video)], str(tmp_path / "out"), config)
    video.rename(tmp_path / "away.mp4")
    again = curate([str(video)], str(tmp_path / "out"), config)
    assert again.balanced and again.account.clips == first.account.clips
    assert again.shards is not None and again.shards.reused


def test_a_column_of_the_clips_view_is_refused() -> None:
    from curation.errors import PlanError
    from curation.plan import Plan
    from curation.schema import STRING, schema
    from curation.stages.probe import Probe

    class Titled(Probe):
        adds = {"videos": schema(title=STRING)}  # noqa: RUF012

    with pytest.raises(PlanError, match="'title'"):
        Plan((Titled(),)).check()  # pyright: ignore[reportCallIssue]
