"""The stage ``caption`` over HTTP: ledger, canaries, and a real model behind a real server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.captions.frames import as_jpeg
from curation.captions.ledger import FOLDER
from curation.errors import ErrorCode
from curation.stage import Failure, StageContext
from curation.stages.caption import CaptionClips
from curation.storage import Storage
from tests.captions.scripted import COLOURS
from tests.captions.server import Act, seen_text, serve
from tests.curation.chain import FINGERPRINT, run_stage

Clips = list[tuple[str, str]]
"""Id and colour."""


@pytest.fixture(autouse=True)
def _client() -> None:
    pytest.importorskip("openai")


def rows_of(clips: Clips, seconds: int = 3) -> list[dict[str, Any]]:
    """Input rows of clips of one colour each, a sampled frame per second."""
    rows = []
    for clip_id, colour in clips:
        bgr = np.array(COLOURS[colour][::-1], np.uint8)
        jpeg = as_jpeg(np.broadcast_to(bgr, (64, 64, 3)).copy())
        times_s = [float(i) for i in range(seconds)]
        row = {"clip_id": clip_id, "duration_s": float(seconds), "sample_pts_s": times_s}
        rows.append(row | {"sample_jpegs": [jpeg] * seconds, "video_id": "v"})
    return rows


def stage_of(root: Path, url: str, model: str = "m", **backend: Any) -> CaptionClips:  # noqa: ANN401
    """The stage, ready, with a server of one's own."""
    given = {"kind": "openai", "model": model, "base_url": url, "api_key_env": ""}
    stage = CaptionClips.model_validate(
        {"backend": given | {"retry_max_wait_s": 0.1} | backend, "facts": ()}
    )
    stage.setup(StageContext(storage=Storage(root), fingerprint=FINGERPRINT))
    return stage


def captions(stage: CaptionClips, clips: Clips) -> tuple[dict[str, dict[str, Any]], list[Failure]]:
    """Rows by clip, and failures."""
    tables, failures = run_stage(stage, rows_of(clips))
    table = tables.get("captions", pa.table({"clip_id": pa.array([], pa.string())}))
    return {row["clip_id"]: row for row in table.to_pylist()}, failures


CLIPS: Clips = [(f"clip{i}", c) for i, c in enumerate(["red", "green", "blue", "yellow", "white"])]


def test_answers_are_paid_for_once(tmp_path: Path) -> None:
    """A second worker on the same root asks nothing, and writes the same rows."""
    with serve(lambda c: Act(text=seen_text(c))) as server:
        rows, failures = captions(stage_of(tmp_path, server.url), CLIPS)
        assert not failures
        for clip_id, colour in CLIPS:
            assert f"plain {colour}" in rows[clip_id]["caption_short"]
            assert clip_id in rows[clip_id]["caption_short"]
            assert rows[clip_id]["caption_model"] == "openai:m"
            assert rows[clip_id]["caption_input_tokens"] == 100
        assert len(server.calls) == len(CLIPS) + 2  # and two canaries
        again, failures = captions(stage_of(tmp_path, server.url), CLIPS)
        assert len(server.calls) == len(CLIPS) + 2
        assert again == rows and not failures


def test_an_interrupted_budget_goes_on(tmp_path: Path) -> None:
    """What was answered before the budget ended is not asked for again when there is more."""
    with serve(lambda c: Act(text=seen_text(c))) as server:
        url = server.url
        rows, failures = captions(stage_of(tmp_path, url, max_calls_per_run=4), CLIPS)
        assert len(server.calls) == 4
        codes = {f.code for f in failures}
        assert codes <= {ErrorCode.CAPTION_BUDGET, ErrorCode.CAPTION_BACKEND}
        assert len(rows) + len(failures) == len(CLIPS)
        rows, failures = captions(stage_of(tmp_path, url), CLIPS)
        assert len(rows) == len(CLIPS) and not failures
        # Canaries go anew with what was left to ask.
        ours = {clip_id for clip_id, _ in CLIPS}
        counts = server.counts().items()
        assert {n for name, n in counts if name.partition("/")[0] in ours} == {1}


def test_answers_that_change_places_unseen_are_found_by_canaries(tmp_path: Path) -> None:
    """No id gives it away; the batch is refused, and nothing of it is left for the next run."""
    with serve(lambda c: Act(text=seen_text(c), silent_swap=True, echo=False)) as server:
        clips: Clips = [(f"clip{i}", "white") for i in range(4)]
        rows, failures = captions(stage_of(tmp_path, server.url, concurrency=2), clips)
        assert not rows
        assert {f.code for f in failures} == {ErrorCode.CAPTION_GATE}
        assert len(failures) == len(clips)
        assert not [p for p in (tmp_path / FOLDER).rglob("*") if p.is_file()]


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """``transformers serve`` with a SmolVLM that was taught four colours; URL and model."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    pytest.importorskip("num2words")
    from tests.captions.tiny_colours import train_tiny_smolvlm_on_colours

    folder = tmp_path_factory.mktemp("serve")
    model = str(train_tiny_smolvlm_on_colours(folder / "model"))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", model]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}/v1", model
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path, within_s: float = 180) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError(f"the server did not come up: {log.read_text()[-2000:]}")


@pytest.mark.slow
def test_a_real_model_behind_a_real_server(real_server: tuple[str, str], tmp_path: Path) -> None:
    """Pictures reach the model: it names the colour of every clip, and passes the canaries."""
    url, model = real_server
    colours = ["red", "green", "blue", "yellow"]
    clips: Clips = [(f"clip{i}", colours[i % 4]) for i in range(12)]
    stage = stage_of(tmp_path, url, model, concurrency=4, timeout_s=120)
    stage = stage.model_copy(update={"tell_facts": False})
    stage.setup(StageContext(storage=Storage(tmp_path), fingerprint=FINGERPRINT))
    rows, failures = captions(stage, clips)
    assert not failures
    for clip_id, colour in clips:
        assert colour in rows[clip_id]["caption_short"]
        assert not any(c in rows[clip_id]["caption_short"] for c in colours if c != colour)
        assert rows[clip_id]["caption_input_tokens"] > 400
    assert len(list((tmp_path / FOLDER).rglob("*.json"))) == len(clips) + stage.canaries
