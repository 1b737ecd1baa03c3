"""The demo, from the checkout and from a wheel in an environment that holds nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.demo import run_demo
from tests.pipelines.conftest import REPO


def test_demo_prints_the_funnel_and_writes_the_page(tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    assert run_demo(str(tmp_path / "out"), "inline", console)
    text = console.export_text()
    page = tmp_path / "out" / "report" / "index.html"
    assert str(page) in text and page.is_file()
    assert "balanced" in text
    html = page.read_text()
    assert "bikes.mp4" in html and "low_sharpness" in html.replace("Low sharpness", "low_sharpness")


def _run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_wheel_in_an_empty_environment_runs_the_demo(tmp_path: Path) -> None:
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(REPO), cwd=REPO)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "configs/curate/laptop.yaml" in names and "pipelines/report/page.html" in names
    assert not any(n.startswith("tests/") for n in names)

    env = tmp_path / "env"
    _run(sys.executable, "-m", "venv", str(env), cwd=tmp_path)
    _run(
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        str(env / "bin/python"),
        str(wheel),
        cwd=tmp_path,
    )
    bare = {"PATH": os.defpath, "HOME": str(tmp_path)}
    out = _run(str(env / "bin/clipmill"), "demo", "--out", "demo", cwd=tmp_path, env=bare)
    assert "balanced" in out
    assert (tmp_path / "demo" / "report" / "index.html").is_file()
