"""A whole run whose captions are asked for ahead, through Ray Data's LLM machinery.

A server behind Ray's HTTP processor stands in vLLM's place; all else is what a GPU cluster runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from curation.captions.backends.vllm_ray import VllmSettings
from curation.engine.ask_ahead import _check_gpus
from curation.errors import ConfigError, PlanError
from tests.captions.server import Act, Call, seen_text, serve
from tests.captions.test_vllm import http_processor
from tests.faults.cluster import run_ray
from tests.faults.helpers import make_video, query, run

CAPTION: dict[str, Any] = {
    "backend": {"kind": "vllm", "model": "owner/name", "revision": "abc", "runtime_env": {}},
    "batch_size": 3,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, of four and three clips."""
    folder = tmp_path_factory.mktemp("ahead") / "in"
    make_video(folder / "a.mp4", [(4.0, 1)])
    make_video(folder / "b.mp4", [(3.0, 2)])
    return folder


def test_it_needs_ray(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="through Ray"):
        run(inputs, tmp_path / "out", caption=CAPTION)


@pytest.mark.parametrize(
    ("gpus", "fields", "enough"),
    [
        (1.0, {}, True),
        (0.0, {}, False),
        (3.0, {"tensor_parallel_size": 2, "concurrency": 2}, False),
        (2.0, {"tensor_parallel_size": 2, "concurrency": (1, 9)}, True),
    ],
)
def test_a_cluster_without_the_gpus_is_refused(gpus: float, fields: dict, enough: bool) -> None:
    cluster = mock.Mock()
    cluster.resources.return_value = {"CPU": 8.0, "GPU": gpus}
    backend = VllmSettings.model_validate(CAPTION["backend"] | fields)
    if enough:
        _check_gpus(cluster, backend)
        return
    with pytest.raises(PlanError, match=f"the cluster has {gpus:g}"):
        _check_gpus(cluster, backend)


@pytest.mark.slow
def test_questions_of_all_videos_are_answered_before_the_stage_runs(
    inputs: Path, tmp_path: Path
) -> None:
    """One clip's first answer is of no use: it is asked for again in a second pass."""
    spoilt: set[str] = set()

    def script(call: Call) -> Act:
        name = call.body["user"]
        first = "could not be used" not in str(call.body["messages"])
        if "1.5 seconds" not in str(call.body["messages"]) and first and not (spoilt - {name}):
            spoilt.add(name)
            return Act(text="no JSON")
        return Act(text=seen_text(call))

    with serve(script) as server:
        url = f"{server.url}/chat/completions"
        processor = mock.Mock(side_effect=lambda *_, **__: http_processor(url))
        gpus = mock.patch("curation.engine.ask_ahead._check_gpus")
        with mock.patch("curation.engine.ask_ahead.vllm_processor", processor), gpus:
            report = run_ray(inputs, tmp_path / "out", caption=CAPTION, run={"part_clips": 2})
        assert report.balanced and report.account.clips["kept"] == 7
        passes = [p["num_asked"] for p in report.asked_ahead]
        # 7 clips and two canaries for each of three batches; the spoilt one with canaries; none.
        assert passes == [13, 3, 0] and len(server.calls) == 16
        rows = query(tmp_path / "out", "SELECT caption_model, caption_attempts FROM captions")
        assert {r["caption_model"] for r in rows} == {"vllm:owner/name@abc"}
        assert sorted(r["caption_attempts"] for r in rows) == [1] * 6 + [2]
        assert not (tmp_path / "out" / "replies").exists()
        with mock.patch("curation.engine.ask_ahead.vllm_processor", processor):
            again = run_ray(inputs, tmp_path / "out", caption=CAPTION)
        assert again.asked_ahead == [] and len(server.calls) == 16
