"""Killed and resumed, on other ranks and other workers: the stream is that of a run left alone."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPO
from tests.media import Recording
from tests.training.shards import Clip, numbered, write_dataset
from training.data.batch import Batch
from training.data.loader import ClipLoader
from training.data.settings import DataSettings

MICROBATCHES = 4
Seen = dict[str, Any]
"""All of a microbatch that a training can see, pixels as a checksum."""
WORKERS = ((0, "thread"), (1, "thread"), (2, "thread"), (1, "process"), (2, "process"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 clips of two shapes with three captions each, in seven shards."""
    folder = tmp_path_factory.mktemp("resume")
    how = Recording(fps=12, gop_frames=6)
    shapes = {
        (30, 48, 64): numbered(folder, 30, how, (64, 48)),
        (15, 64, 48): numbered(folder, 15, how, (48, 64)),
    }
    clips = []
    for number in range(26):
        (frames, high, wide), media = list(shapes.items())[number % 3 == 0]
        captions = tuple(
            {"kind": kind, "text": f"{kind} text of {number}", "weight": 1.0}
            for kind in ("short", "medium", "long")
        )
        clips.append(Clip(f"clip {number}", media, frames, high, wide, 12.0, captions))
    write_dataset(folder / "data", clips)
    return folder / "data"


def settings_of(workers: int = 0, kind: str = "thread", **order: Any) -> DataSettings:  # noqa: ANN401
    shapes = [
        {"frames": 5, "height_px": 32, "width_px": 32, "fps": 6, "samples": 3},
        {"frames": 9, "height_px": 32, "width_px": 32, "fps": 6, "samples": 2},
    ]
    return DataSettings.model_validate(
        {
            "buckets": {"shapes": shapes, "microbatch_tokens": 64, "cost_tolerance": 0.5},
            "order": {"microbatches": MICROBATCHES, "seed": 5, "group_bytes": 20_000, **order},
            "read": {
                "num_workers": workers,
                "worker_kind": kind,
                "crop": "random",
                "flip": 0.5,
                "prefetch_bytes": 10**6,
            },
        }
    )


def seen(batch: Batch) -> Seen:
    assert batch.video is not None
    pixels = batch.video.contiguous().numpy().tobytes()
    return {
        "at": [batch.step, batch.microbatch, batch.source, batch.epoch, batch.bucket.name],
        "keys": batch.keys,
        "weights": batch.weights.tolist(),
        "captions": batch.captions,
        "kinds": batch.caption_kinds,
        "start_s": batch.start_s.tolist(),
        "flipped": batch.flipped.tolist(),
        "failed": batch.failed,
        "video": hashlib.sha256(pixels).hexdigest(),
    }


def run(
    root: Path,
    state: dict[str, Any] | None,
    stop_step: int,
    world: int,
    workers: int = 0,
    kind: str = "thread",
    cut: int = 0,
) -> tuple[list[Seen], dict[str, Any]]:
    """All ranks from a state to a step: their microbatches in order, and the state they keep.

    Args:
        root: The dataset.
        state: Where to go on; None: a new run.
        stop_step: First step that is not trained.
        world: Ranks, one after the other here: they share nothing.
        workers: Of each rank.
        kind: Of the workers.
        cut: Batches of the next step that are handed out and lost, as a kill loses them.
    """
    parts: list[list[Seen]] = []
    states = []
    for rank in range(world):
        loader = ClipLoader(str(root), settings_of(workers, kind), rank=rank, world_size=world)
        with loader:
            if state is not None:
                loader.load_state_dict(json.loads(json.dumps(state)))
            done: list[Seen] = []
            kept = loader.state_dict()
            batches = iter(loader)
            while loader.step < stop_step:
                batch = next(batches)
                done.append(seen(batch))
                if batch.last:
                    kept = loader.state_dict()
            for _ in range(min(cut, MICROBATCHES // world - 1)):
                next(batches)
            states.append(kept)
        parts.append(done)
    assert all(kept == states[0] for kept in states)
    assert states[0]["step"] == stop_step and len(json.dumps(states[0])) < 1024
    turns = [iter(part) for part in parts]
    return [next(turns[n % world]) for n in range(sum(map(len, parts)))], states[0]


@pytest.fixture(scope="module")
def whole(dataset: Path) -> list[Seen]:
    """Two epochs and a bit, of one rank that decodes itself."""
    loader = ClipLoader(str(dataset), settings_of())
    steps = loader.plan.steps_per_epoch
    assert steps is not None and steps >= 3
    stream, _ = run(dataset, None, 2 * steps + 1, 1)
    epochs = [found["at"][3] for found in stream]
    assert set(epochs) == {0, 1, 2} and len(stream) == (2 * steps + 1) * MICROBATCHES
    return stream


def num_steps(stream: list[Seen]) -> int:
    return len(stream) // MICROBATCHES


def steps_of(stream: list[Seen], start: int, end: int) -> list[Seen]:
    return stream[start * MICROBATCHES : end * MICROBATCHES]


def test_the_stream_is_worth_comparing(whole: list[Seen]) -> None:
    """Every sample once an epoch, some repeats, several captions, crops, windows and mirrors."""
    for epoch in (0, 1):
        own = [found for found in whole if found["at"][3] == epoch]
        pairs = [p for f in own for p in zip(f["keys"], f["weights"], strict=True)]
        assert sorted(key for key, weight in pairs if weight) == sorted({key for key, _ in pairs})
        assert len({key for key, _ in pairs}) == 26 and any(not weight for _, weight in pairs)
    assert {kind for found in whole for kind in found["kinds"]} == {"short", "medium", "long"}
    assert {flip for found in whole for flip in found["flipped"]} == {True, False}
    assert len({start for found in whole for start in found["start_s"]}) > 26
    assert {found["at"][4] for found in whole} == {"5x32x32@6", "9x32x32@6"}


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize(("workers", "kind"), WORKERS[:3])
def test_ranks_and_workers_do_not_show(
    dataset: Path, whole: list[Seen], world: int, workers: int, kind: str
) -> None:
    steps = num_steps(whole) // 2 + 1  # over the end of an epoch
    assert run(dataset, None, steps, world, workers, kind)[0] == steps_of(whole, 0, steps)


def test_processes_do_not_show(dataset: Path, whole: list[Seen]) -> None:
    assert run(dataset, None, 2, 1, 2, "process")[0] == steps_of(whole, 0, 2)


def test_three_ranks_too(dataset: Path) -> None:
    """As many as divide the microbatches of a step, here twelve."""
    streams = []
    for world in (1, 3, 6):
        parts = []
        for rank in range(world):
            config = settings_of(microbatches=12)
            with ClipLoader(str(dataset), config, rank=rank, world_size=world, stop_step=1) as own:
                parts.append([seen(batch) for batch in own])
        turns = [iter(part) for part in parts]
        streams.append([next(turns[n % world]) for n in range(12)])
    assert streams[0] == streams[1] == streams[2]


def plans(num_steps: int) -> Iterator[tuple[int, int]]:
    """Every pair of steps at which a run may be killed."""
    return itertools.combinations_with_replacement(range(num_steps), 2)


def check_kills(
    dataset: Path, whole: list[Seen], kills: tuple[int, int], ways: list[tuple[int, int, str]]
) -> None:
    """Kill at two steps, each time in the midst of the next; go on in another way."""
    stream: list[Seen] = []
    state: dict[str, Any] | None = None
    for stop, (world, workers, kind) in zip((*kills, num_steps(whole)), ways, strict=True):
        part, state = run(dataset, state, stop, world, workers, kind, cut=1 + stop % 3)
        stream += part
    assert stream == whole


def ways_of(turn: int, workers: tuple[tuple[int, str], ...]) -> list[tuple[int, int, str]]:
    """World size and workers of the three parts of a run; all differ from one part to the next."""
    worlds = list(itertools.permutations((1, 2, 4)))[turn % 6]
    return [(world, *workers[(turn + n) % len(workers)]) for n, world in enumerate(worlds)]


def test_killed_at_any_step_twice_in_an_epoch(dataset: Path, whole: list[Seen]) -> None:
    """All pairs of steps of the first epoch, each resumed on other ranks and workers."""
    steps = next(n for n, found in enumerate(whole) if found["at"][3] == 1) // MICROBATCHES
    for turn, kills in enumerate(plans(steps)):
        check_kills(dataset, whole, kills, ways_of(turn, WORKERS[:3]))


def test_killed_across_the_end_of_an_epoch_with_processes(dataset: Path, whole: list[Seen]) -> None:
    steps = num_steps(whole) // 2
    ways = [(1, 1, "process"), (2, 2, "thread"), (1, 0, "thread")]
    check_kills(dataset, whole, (steps - 1, steps + 1), ways)


@pytest.mark.slow
def test_killed_at_any_step_of_two_epochs(dataset: Path, whole: list[Seen]) -> None:
    for turn, kills in enumerate(plans(num_steps(whole) + 1)):
        check_kills(dataset, whole, kills, ways_of(turn, WORKERS[:3]))
    for turn, kills in enumerate(list(plans(num_steps(whole)))[::7]):
        check_kills(dataset, whole, kills, ways_of(turn, WORKERS[3:]))


PROGRAM = """
import json, sys, time
from tests.training.test_resume import seen, settings_of
from training.data.loader import ClipLoader

if __name__ == "__main__":
    root, log, kind = sys.argv[1:]
    loader = ClipLoader(root, settings_of(2, kind))
    with open(log, "a") as out:
        step = []
        for batch in loader:
            step.append(seen(batch))
            if batch.last:  # as a checkpoint: the step and the state, or neither
                out.write(json.dumps([step, loader.state_dict()]) + "\\n")
                out.flush()
                step = []
            time.sleep(0.05)
"""


@pytest.mark.parametrize("kind", ["thread", pytest.param("process", marks=pytest.mark.slow)])
def test_a_killed_process_is_resumed(
    dataset: Path, whole: list[Seen], tmp_path: Path, kind: str
) -> None:
    """SIGKILL in the midst of a step; what was written before it and what comes after fit."""
    program, log = tmp_path / "train.py", tmp_path / "log.jsonl"
    program.write_text(PROGRAM)
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, str(program), str(dataset), str(log), kind]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while not log.exists() or log.read_text().count("\n") < 2:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()
    written = log.read_text().split("\n")[:-1]  # a line that was cut off is no checkpoint
    lines = [json.loads(line) for line in written]
    stream = [found for step, _ in lines for found in step]
    state = lines[-1][1]
    assert state["step"] == len(lines) >= 2
    rest, _ = run(dataset, state, num_steps(whole), 2, 1)
    assert stream + rest == whole


def test_new_shards_enter_between_kills_as_without_them(dataset: Path, tmp_path: Path) -> None:
    """Taken in, then killed before they come: they come at the same epoch."""
    how = Recording(fps=12, gop_frames=6)
    media = numbered(tmp_path, 30, how, (64, 48))
    clips = [Clip(f"clip {n}", media, 30, 48, 64, 12.0) for n in range(20)]
    root = tmp_path / "data"
    write_dataset(root, clips)
    loader = ClipLoader(str(root), settings_of())
    steps = loader.plan.steps_per_epoch
    assert steps is not None
    write_dataset(root, [replace(c, name=f"new {c.name}") for c in clips[:9]], generation=1)
    with ClipLoader(str(root), settings_of(2)) as left_alone:
        left_alone.load_state_dict(loader.state_dict())
        stream, kept = [], None
        for batch in left_alone:
            stream.append(seen(batch))
            if batch.last and batch.step == 0:
                assert len(left_alone.take_new_shards()) == 1
                kept = left_alone.state_dict()
            if left_alone.step == steps + 2:
                break
    assert kept is not None and kept["step"] == 1
    rest, _ = run(root, kept, steps + 2, 2, 1)
    assert stream[MICROBATCHES:] == rest
    news = {c.clip_id for c in clips}
    assert {key for s in stream for key in s["keys"] if s["at"][3] == 0} == news
    assert any(key not in news for s in stream for key in s["keys"] if s["at"][3] == 1)
