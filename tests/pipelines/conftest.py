"""One small dataset, curated once by the real command, shared by the tests of this folder."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from pipelines import cli
from pipelines.demo import demo_footage

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Dataset:
    """A curated dataset root and what the command printed."""

    root: Path
    manifest: Path
    report: dict


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def clipmill(*arguments: str, cwd: Path | None = None) -> Done:
    """Run the command line in this process: the same entry point as the console script."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(cwd or REPO),
        mock.patch.object(sys, "argv", ["clipmill", *arguments]),
    ):
        try:
            cli.main()
        except SystemExit as exc:
            code = exc.code
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """bikes.mp4 (six shots) and carphone, with metadata, beside a file that is no video."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "broken.mp4").write_text("this is text")
    rows = [
        {
            "uri": str(demo_footage() / "bikes.mp4"),
            "title": 'Bikes <b>&"',
            "licence": "CC-BY-3.0",
            "caption": "people ride bikes",
            "camera": "A7",
        },
        {"uri": str(demo_footage() / "carphone_pristine.mp4"), "source": "xiph"},
        {"uri": "broken.mp4"},
    ]
    manifest = folder / "list.jsonl"
    manifest.write_text("".join(json.dumps(r) + "\n" for r in rows))
    root = folder / "out"
    done = clipmill(
        *("curate", str(manifest), "--out", str(root), "--engine", "inline", "--json"),
        *("split.min_s=1", "split.max_s=4", "judge.rules.sharpness.min=0.1"),
    )
    assert done.returncode == 0, done.stderr
    return Dataset(root, manifest, json.loads(done.stdout))
