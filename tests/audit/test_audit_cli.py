"""The two commands as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from pipelines.audit.cli import register
from tests.audit.conftest import Audited

app = typer.Typer()
register(app)
runner = CliRunner()


def test_why_prints_the_story_and_its_json(audited: Audited) -> None:
    clip = audited.clips["duplicate"]
    done = runner.invoke(app, ["why", audited.root, clip[:16]])
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    for part in (clip, "rejected", "beside it: clip " + audited.clips["stays"], "passes"):
        assert part in words
    story = json.loads(runner.invoke(app, ["why", audited.root, clip, "--json"]).stdout)
    assert story["verdict"] == "rejected" and story["likeness"]["similarity"] == 0.961
    assert story["obstacles"][0]["code"] == "duplicate_perceptual"


def test_audit_writes_a_local_file_and_reports(audited: Audited, tmp_path: Path) -> None:
    target = tmp_path / "a.html"
    done = runner.invoke(app, ["audit", audited.root, "--html", str(target), "--json"])
    report = json.loads(done.stdout)
    assert report["page"] == str(target) and target.stat().st_size == report["num_bytes"]
    assert done.exit_code == (0 if report["balanced"] else 1)
    assert report["num_listed"] == audited.report.num_listed


def test_help_shows_examples() -> None:
    for command in ("audit", "why"):
        done = runner.invoke(app, [command, "--help"])
        assert done.exit_code == 0 and "Examples" in done.output
