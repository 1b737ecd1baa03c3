"""The worked examples run, and the loop of one's own resumes exactly."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
import torch
import yaml

from tests.conftest import REPO
from tests.media import Recording
from tests.training.shards import Clip, number_of, numbered, write_dataset
from training.data.decode import View, decode_clip
from training.data.settings import DataSettings
from training.examples import own_loop
from training.examples.plain_webdataset import frames, samples

SETTINGS = """
buckets: {shapes: [{frames: 5, height_px: 32, width_px: 32, samples: 2}], microbatch_tokens: 16}
order: {microbatches: 3}
read: {num_workers: 1}
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    media = numbered(tmp_path_factory.mktemp("media"), 24, Recording(fps=24), (40, 32))
    said = ({"kind": "given", "text": "grey", "weight": 1.0},)
    return [Clip(f"c{n}", media, 24, 32, 40, 24.0, captions=said) for n in range(10)]


@pytest.fixture(scope="module")
def root(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, clips)
    return str(folder)


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=REPO,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So small a model is slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestOwnLoop:
    @pytest.mark.usefixtures("one_thread")
    def test_resumed_equals_uninterrupted(self, root: str, tmp_path: Path) -> None:
        settings = DataSettings.model_validate(yaml.safe_load(SETTINGS))
        whole = own_loop.train(root, tmp_path / "whole", settings, stop_step=4)
        assert len(whole) == 4 and whole[-1] < whole[0]
        parts = [
            own_loop.train(root, tmp_path / "parts", settings, stop_step=stop) for stop in (1, 3, 4)
        ]
        assert [len(part) for part in parts] == [1, 2, 1]
        assert [loss for part in parts for loss in part] == whole
        saved = [tmp_path / name / "last.safetensors" for name in ("whole", "parts")]
        assert saved[0].read_bytes() == saved[1].read_bytes()

    def test_as_a_program(self, root: str, tmp_path: Path) -> None:
        (tmp_path / "data.yaml").write_text(SETTINGS)
        command = ["-m", "training.examples.own_loop", root, "--folder", tmp_path / "run"]
        command += ["--settings", tmp_path / "data.yaml", "--steps", "2"]
        assert run(*command).startswith("2 steps")
        assert (tmp_path / "run" / "last.safetensors").exists()


class TestPlainWebdataset:
    def test_samples(self, root: str, clips: list[Clip]) -> None:
        found = list(samples(root))
        assert [s["key"] for s in found] == [c.clip_id for c in clips]
        for sample in found:
            assert sample["caption"] == "grey"
            assert sample["record"]["clip_id"] == sample["key"]
            assert sample["video"].shape == (8, 32, 40, 3)
            assert [number_of(f) for f in sample["video"]] == [3 * n for n in range(8)]

    @pytest.mark.parametrize(("stored", "fps"), [(30, 8), (24, 8), (25, 24), (12, 24), (60, 7)])
    def test_the_frames_are_those_of_the_loader(
        self, tmp_path: Path, stored: float, fps: float
    ) -> None:
        data = numbered(tmp_path, 40, Recording(fps=stored), (40, 32))
        found = frames(data, fps)
        times_s = [n / fps for n in range(len(found))]
        expected = decode_clip(data, times_s, View(32, 40))
        assert [number_of(f) for f in found] == [number_of(f) for f in expected]
        assert len(found) == int(39 / stored * fps + 1e-6) + 1

    def test_a_clip_that_does_not_begin_at_0(self, tmp_path: Path) -> None:
        data = numbered(tmp_path, 12, Recording(fps=30), (40, 32))
        late = io.BytesIO()
        with av.open(io.BytesIO(data), "r") as source, av.open(late, "w", format="mp4") as target:
            stream = source.streams.video[0]
            copy = target.add_stream_from_template(stream)
            ahead = 2 * cast(Fraction, stream.time_base).denominator
            for packet in source.demux(stream):
                if packet.dts is not None and packet.pts is not None:
                    packet.pts, packet.dts = packet.pts + ahead, packet.dts + ahead
                    packet.stream = copy
                    target.mux(packet)
        with av.open(io.BytesIO(late.getvalue()), "r") as source:
            assert (next(source.decode(video=0)).time or 0) > 1
        assert np.array_equal(frames(late.getvalue(), 8), frames(data, 8))

    def test_as_a_program(self, root: str, clips: list[Clip]) -> None:
        lines = run("training/examples/plain_webdataset.py", root).splitlines()
        assert len(lines) == len(clips)
        assert all(line.endswith("(8, 32, 40, 3) grey") for line in lines)
