"""The loader: one stream whatever reads it, exact states, failures replaced and counted."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from curation.errors import BudgetError, CatalogError, ClipmillError, ConfigError
from curation.storage import Storage
from tests.conftest import REPO
from tests.media import Recording
from tests.training.shards import NO_TEXT, Clip, number_of, numbered, write_dataset
from tests.training.test_sample import FINGERPRINT, write_siblings
from training.data.batch import Batch
from training.data.index import load_index
from training.data.loader import ClipLoader
from training.data.settings import DataSettings

K = 6
SHAPES = [
    {"frames": 5, "height_px": 32, "width_px": 48, "fps": 8, "samples": 2},
    {"frames": 9, "height_px": 32, "width_px": 32, "fps": 8, "samples": 1},
]


def settings(**read: Any) -> DataSettings:  # noqa: ANN401
    return DataSettings.model_validate(
        {
            "buckets": {
                "shapes": SHAPES,
                "microbatch_tokens": 24,
                "max_crop": 0.3,
                "cost_tolerance": 0.6,
            },
            "order": {"microbatches": K, "seed": 5, "group_bytes": 20_000},
            "read": {"num_workers": 0, "crop": "random", "flip": 0.5} | read,
        }
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("media")
    wide = numbered(folder, 30, Recording(fps=24), (48, 32))
    square = numbered(folder, 36, Recording(fps=24), (40, 40))
    texts = (
        {"kind": "given", "text": "one", "weight": 1},
        {"kind": "long", "text": "two", "weight": 1},
    )
    return [
        *(Clip(f"w{n}", wide, 30, 32, 48, 24.0, captions=texts) for n in range(15)),
        *(Clip(f"s{n}", square, 36, 40, 40, 24.0, scores=dict(NO_TEXT)) for n in range(7)),
    ]


@pytest.fixture(scope="module")
def root(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> str:
    """22 sound clips."""
    folder = tmp_path_factory.mktemp("sound")
    write_dataset(folder, clips)
    return str(folder)


@pytest.fixture(scope="module")
def broken(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three of them damaged."""
    folder = tmp_path_factory.mktemp("broken")
    write_dataset(folder, clips, damaged=("w3", "w8", "s2"))
    return str(folder)


def told(batch: Batch) -> dict[str, Any]:
    """All of a batch that must not depend on who reads it."""
    assert batch.video is not None
    return {
        "at": (batch.step, batch.microbatch, batch.epoch, batch.source, batch.bucket.name),
        "keys": batch.keys,
        "weights": batch.weights.tolist(),
        "captions": [batch.captions, batch.caption_kinds],
        "start_s": batch.start_s.tolist(),
        "flipped": batch.flipped.tolist(),
        "failed": batch.failed,
        "video": batch.video.contiguous().numpy().tobytes(),
    }


def stream(root: str, steps: int, world: int = 1, **read: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Everything that all ranks are given, in the order of the run."""
    found = []
    for rank in range(world):
        with ClipLoader(
            root, settings(**read), rank=rank, world_size=world, stop_step=steps
        ) as loader:
            found += [told(batch) for batch in loader]
    return sorted(found, key=lambda b: b["at"][:2])


class TestBatches:
    def test_what_is_handed_out(self, root: str) -> None:
        loader = ClipLoader(root, settings(window="start", flip=0, crop="center"))
        assert (loader.rank, loader.world_size, loader.step) == (0, 1, 0)
        for batch in islice(loader, 2 * K):
            bucket, count = batch.bucket, batch.bucket.samples
            assert batch.video is not None
            shape = (count, 3, bucket.frames, bucket.height_px, bucket.width_px)
            assert batch.video.shape == shape
            assert batch.video.dtype == torch.uint8
            assert batch.video.permute(0, 2, 3, 4, 1).is_contiguous()
            assert batch.weights.dtype == batch.start_s.dtype == torch.float32
            assert batch.flipped.dtype == torch.bool and not batch.flipped.any()
            assert len(batch.keys) == len(batch.captions) == len(batch.records) == count
            assert [r["clip_id"] for r in batch.records] == batch.keys
            assert batch.last == (batch.microbatch == K - 1)
            numbers = [number_of(f) for f in batch.video[0].permute(1, 2, 3, 0).numpy()]
            assert numbers == [3 * n for n in range(bucket.frames)]
            assert not batch.video.is_pinned()

    def test_windows_follow_the_draws(self, root: str) -> None:
        starts = []
        for batch in islice(ClipLoader(root, settings()), 2 * K):
            assert batch.video is not None
            first = number_of(batch.video[0, :, 0].permute(1, 2, 0).numpy())
            assert first == int(batch.start_s[0] * 24 + 1e-3)
            starts += batch.start_s.tolist()
        assert len(set(starts)) > 8

    def test_an_epoch_has_every_sample_once(self, root: str) -> None:
        loader = ClipLoader(root, settings())
        steps = loader.plan.steps_per_epoch
        assert steps is not None
        loader.stop_step = steps
        kept = [
            key
            for batch in loader
            for key, weight in zip(batch.keys, batch.weights.tolist(), strict=True)
            if weight
        ]
        assert sorted(kept) == sorted(load_index(root).clip_ids(range(22)))

    def test_a_repeat_is_read_once(self, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
        from training.data.sample import SampleReader

        read: list[int] = []
        real = SampleReader.read

        def counted(self: SampleReader, root: str, place: Any, *rest: Any) -> Any:  # noqa: ANN401
            read.append(place.position)
            return real(self, root, place, *rest)

        monkeypatch.setattr(SampleReader, "read", counted)
        loader = ClipLoader(root, settings(), stop_step=3)
        repeats = 0
        for batch in loader:
            assert len(read) == len(set(batch.keys))
            if len(set(batch.keys)) < len(batch.keys):
                repeats += 1
                assert batch.video is not None
                assert torch.equal(batch.video[0], batch.video[1])
            read.clear()
        assert repeats

    def test_pictures_of_clips(self, root: str) -> None:
        shapes = [*SHAPES, {"frames": 1, "height_px": 32, "width_px": 32, "samples": 6}]
        given = settings().model_dump()
        given["buckets"] |= {"shapes": shapes}
        given["order"]["image_ratio"] = 0.5
        loader = ClipLoader(root, DataSettings.model_validate(given), stop_step=4)
        starts = [b.start_s for b in loader if b.bucket.frames == 1]
        assert len(starts) == 2 * K
        assert torch.cat(starts).unique().numel() > 20

    def test_nothing_is_pinned_without_a_gpu(self, root: str) -> None:
        batch = next(iter(ClipLoader(root, settings(pin_memory=True))))
        assert batch.video is not None
        assert batch.video.is_pinned() == torch.cuda.is_available()


class TestOneStream:
    def test_any_ranks_and_workers(self, root: str) -> None:
        expected = stream(root, 4)
        assert len(expected) == 4 * K
        for world, workers in ((1, 1), (1, 2), (2, 0), (3, 2), (6, 1)):
            assert stream(root, 4, world, num_workers=workers) == expected
        assert stream(root, 4, num_workers=3, prefetch_bytes=1) == expected

    def test_failures_are_replaced_alike(self, broken: str) -> None:
        expected = stream(broken, 4)
        failed = {key for batch in expected for key in batch["failed"]}
        assert failed == {Clip(n, b"", 1, 1, 1, 1).clip_id for n in ("w3", "w8", "s2")}
        for batch in expected:
            assert not failed & set(batch["keys"])
            for key, weight in zip(batch["keys"], batch["weights"], strict=True):
                assert weight in (0, 1), key
            if batch["failed"]:
                assert 0 in batch["weights"]
        for world, workers in ((1, 2), (2, 0), (3, 1)):
            assert stream(broken, 4, world, num_workers=workers) == expected

    def test_processes_give_the_same(self, broken: str) -> None:
        with ClipLoader(
            broken, settings(num_workers=2, worker_kind="process"), stop_step=4
        ) as loader:
            assert [told(batch) for batch in loader] == stream(broken, 4)

    def test_remote_roots(self, root: str) -> None:
        remote = Storage("memory://test_loader_remote")
        remote.fs.put(root, remote.root, recursive=True)
        assert stream(remote.url, 2, num_workers=2) == stream(root, 2)


class TestState:
    def test_round_trip_at_any_batch(self, root: str) -> None:
        expected = stream(root, 5)
        for taken in (0, 1, K - 1, K, K + 1, 3 * K):
            loader = ClipLoader(root, settings(num_workers=1), stop_step=5)
            with loader:
                list(islice(loader, taken))
                state = json.loads(json.dumps(loader.state_dict()))
            assert state["step"] == taken // K
            assert len(json.dumps(state)) < 1024
            again = ClipLoader(root, settings(), stop_step=5)
            again.load_state_dict(state)
            assert [told(b) for b in again] == expected[taken // K * K :]

    def test_another_world_size_in_the_middle(self, root: str) -> None:
        expected, found = stream(root, 6), []
        state: dict[str, Any] | None = None
        for world, until in ((2, 1), (3, 3), (1, 4), (6, 6)):
            states = []
            for rank in range(world):
                loader = ClipLoader(
                    root, settings(num_workers=1), rank=rank, world_size=world, stop_step=until
                )
                with loader:
                    if state is not None:
                        loader.load_state_dict(state)
                    found += [told(batch) for batch in loader]
                    states.append(loader.state_dict())
            assert all(s == states[0] for s in states)
            state = states[0]
        assert sorted(found, key=lambda b: b["at"][:2]) == expected

    def test_a_loop_left_goes_on_at_the_step(self, root: str) -> None:
        expected = stream(root, 3)
        loader = ClipLoader(root, settings(num_workers=2), stop_step=3)
        with loader:
            assert [told(b) for b in islice(loader, K)] == expected[:K]
            assert [told(b) for b in islice(loader, 2)] == expected[K : K + 2]
            assert [told(b) for b in loader] == expected[K:]
            assert list(loader) == []
            assert loader.state_dict()["step"] == 3
            assert loader.state_dict(step=1)["step"] == 1

    def test_loading_while_it_is_iterated(self, root: str) -> None:
        expected = stream(root, 2)
        loader = ClipLoader(root, settings(num_workers=1), stop_step=2)
        with loader:
            start, batches = loader.state_dict(), iter(loader)
            assert [told(b) for b in islice(batches, K + 2)] == expected[: K + 2]
            loader.load_state_dict(start)
            assert [told(b) for b in batches] == expected

    def test_proposed_buckets_are_kept(self, root: str, clips: list[Clip], tmp_path: Path) -> None:
        given = settings().model_dump()
        given["buckets"] |= {"shapes": (), "microbatch_tokens": 64}
        proposing = DataSettings.model_validate(given)
        state = ClipLoader(root, proposing).state_dict()
        assert state["shapes"] and len(json.dumps(state)) < 1024
        again = ClipLoader(root, proposing)
        again.load_state_dict(json.loads(json.dumps(state)))
        assert again.state_dict() == state
        assert not ClipLoader(root, settings()).state_dict()["shapes"]

    def test_refused(self, root: str, broken: str, caplog: pytest.LogCaptureFixture) -> None:
        loader = ClipLoader(root, settings())
        state = loader.state_dict(step=2)
        with pytest.raises(ConfigError, match="version"):
            loader.load_state_dict(state | {"version": 99})
        other = settings().model_dump()
        other["order"]["seed"] = 6
        changed = ClipLoader(root, DataSettings.model_validate(other))
        with pytest.raises(CatalogError, match="accept_changed_shards"):
            changed.load_state_dict(state)
        with caplog.at_level(logging.WARNING):
            changed.load_state_dict(state, accept_changed_shards=True)
        assert "new epoch begins at step 2" in caplog.text
        assert next(iter(changed)).step == 2
        with pytest.raises(ConfigError, match="1, 2, 3, 6"):
            ClipLoader(root, settings(), rank=0, world_size=4)

    def test_rank_of_the_environment(self, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "3")
        loader = ClipLoader(root, settings())
        assert (loader.rank, loader.world_size) == (1, 3)
        assert [b.microbatch for b in islice(loader, 2)] == [1, 4]


class TestNewShards:
    def test_enter_at_the_next_epoch(self, clips: list[Clip], tmp_path: Path) -> None:
        write_dataset(tmp_path, clips[:20])
        root, names = str(tmp_path), {c.clip_id for c in clips[20:]}
        loader = ClipLoader(root, settings(num_workers=2))
        epoch = loader.plan.steps_per_epoch
        assert epoch == 3
        with loader:
            assert loader.take_new_shards() == []
            list(islice(loader, K))
            write_dataset(tmp_path, clips[20:], generation=1)
            assert len(loader.take_new_shards()) == 1
            state = loader.state_dict()
            rest = list(islice(loader, (epoch - 1) * K))
            assert {b.epoch for b in rest} == {0}
            assert not any(names & set(b.keys) for b in rest)
            now = [told(b) for b in islice(loader, 4 * K)]
            assert names <= {key for b in now for key in b["keys"]}
        again = ClipLoader(root, settings())
        again.load_state_dict(state | {"step": epoch})
        assert [told(b) for b in islice(again, 4 * K)] == now


class TestFailures:
    def test_logged_once_and_counted(self, broken: str, caplog: pytest.LogCaptureFixture) -> None:
        loader = ClipLoader(broken, settings())
        with caplog.at_level(logging.WARNING):
            list(islice(loader, 12 * K))
        lines = [r.getMessage() for r in caplog.records if "cannot be read" in r.getMessage()]
        assert len(lines) == len(loader.failed) == 3
        assert all("shards/" in line and "decode_failed" in line for line in lines)

    def test_above_the_budget_it_stops(self, broken: str) -> None:
        for workers in (0, 2):
            with (
                ClipLoader(broken, settings(max_failures=2, num_workers=workers)) as loader,
                pytest.raises(BudgetError, match="3 samples cannot be read") as info,
            ):
                list(islice(loader, 12 * K))
            for name in ("w3", "w8", "s2"):
                assert Clip(name, b"", 1, 1, 1, 1).clip_id in str(info.value)
            assert "clipmill verify" in info.value.mend

    def test_a_whole_microbatch_fails(self, clips: list[Clip], tmp_path: Path) -> None:
        write_dataset(tmp_path, clips, damaged=("s0", "s1", "s2"))
        expected = stream(str(tmp_path), 5)
        alone = [b for b in expected if b["failed"] and b["at"][4].startswith("9x")]
        assert alone
        for batch in alone:
            assert batch["weights"] == [0]
            assert not set(batch["failed"]) & set(batch["keys"])
        assert stream(str(tmp_path), 5, 3, num_workers=1) == expected

    def test_nothing_of_a_bucket_can_be_read(self, clips: list[Clip], tmp_path: Path) -> None:
        names = tuple(c.name for c in clips if c.name[0] == "s")
        write_dataset(tmp_path, clips, damaged=names)
        with pytest.raises(BudgetError, match="nor"):
            list(islice(ClipLoader(str(tmp_path), settings()), 12 * K))

    def test_a_missing_shard_stops_at_once(self, clips: list[Clip], tmp_path: Path) -> None:
        places = write_dataset(tmp_path, clips)
        for path in {place[0] for place in places.values()}:
            path.unlink()
        with (
            ClipLoader(str(tmp_path), settings(num_workers=1)) as loader,
            pytest.raises(CatalogError, match="missing"),
        ):
            next(iter(loader))


class TestLatents:
    def test_beside_and_instead_of_pixels(self, clips: list[Clip], tmp_path: Path) -> None:
        write_dataset(tmp_path, clips)
        index = load_index(str(tmp_path))
        ids = index.clip_ids(range(len(index)))
        write_siblings(tmp_path, index, ["mp4"])
        both = settings(flip=0).model_copy(update={"latents": FINGERPRINT})
        for pixels in (True, False):
            chosen = both.model_copy(update={"pixels": pixels})
            for batch in islice(ClipLoader(str(tmp_path), chosen), K):
                moments = batch.latents["moments"]
                assert moments.shape == (batch.bucket.samples, 2, 3)
                assert [ids[int(m[0, 0])] for m in moments] == batch.keys
                assert (batch.video is not None) == pixels
        mirrored = settings(flip=0.5).model_copy(update={"latents": FINGERPRINT})
        with pytest.raises(ConfigError, match="mirrored"):
            ClipLoader(str(tmp_path), mirrored)

    def test_new_shards_without_latents_stay_out(self, clips: list[Clip], tmp_path: Path) -> None:
        write_dataset(tmp_path, clips[:20])
        root = str(tmp_path)
        write_siblings(tmp_path, load_index(root), ["mp4"])
        chosen = settings(flip=0).model_copy(update={"latents": FINGERPRINT, "pixels": False})
        expected = [b.keys for b in islice(ClipLoader(root, chosen), 6 * K)]
        loader = ClipLoader(root, chosen)
        found = [b.keys for b in islice(loader, K)]
        state = loader.state_dict()
        write_dataset(tmp_path, clips[20:], generation=1)
        with pytest.raises(CatalogError, match="2 of 22 samples have no latents"):
            loader.take_new_shards()
        assert loader.state_dict() == state
        assert found + [b.keys for b in islice(loader, 5 * K)] == expected

    def test_missing(self, root: str) -> None:
        with pytest.raises(CatalogError, match="no such set"):
            ClipLoader(root, settings().model_copy(update={"latents": FINGERPRINT}))


def of_loader() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("clipmill-loader")]


class TestWorkers:
    def test_close_ends_the_threads(self, root: str) -> None:
        with ClipLoader(root, settings(num_workers=2)) as loader:
            next(iter(loader))
            assert len(of_loader()) == 2
        assert not of_loader()

    def test_a_forgotten_loader_ends_its_threads(self, root: str) -> None:
        loader = ClipLoader(root, settings(num_workers=2))
        next(iter(loader))
        del loader
        until = time.monotonic() + 10
        while of_loader() and time.monotonic() < until:
            time.sleep(0.05)
        assert not of_loader()

    def test_memory_bounds_what_is_read_ahead(self, root: str) -> None:
        one = 2 * 5 * 32 * 48 * 3
        with ClipLoader(root, settings(num_workers=2, prefetch_bytes=3 * one)) as loader:
            for _ in islice(loader, 2 * K):
                assert sum(c.task.num_bytes for c in loader._coming) <= 3 * one

    def test_a_killed_process_is_told(self, root: str) -> None:
        with ClipLoader(root, settings(num_workers=1, worker_kind="process")) as loader:
            batches = iter(loader)
            next(batches)
            (child,) = multiprocessing.active_children()
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            with pytest.raises(ClipmillError, match="died") as info:
                list(islice(batches, 20 * K))
            assert "SIGKILL" in str(info.value) and "num_workers" in info.value.mend

    @pytest.mark.parametrize("kind", ["thread", "process"])
    def test_a_script_that_ends_does_not_hang(self, root: str, tmp_path: Path, kind: str) -> None:
        chosen = tmp_path / "settings.json"
        chosen.write_text(settings(num_workers=2, worker_kind=kind).model_dump_json())
        script = tmp_path / "script.py"
        script.write_text(
            "import sys\n"
            "from training.data.loader import ClipLoader\n"
            "from training.data.settings import DataSettings\n"
            "if __name__ == '__main__':\n"
            "    given = DataSettings.model_validate_json(open(sys.argv[2]).read())\n"
            "    loader = ClipLoader(sys.argv[1], given)\n"
            "    print(next(iter(loader)).video.shape[1])\n"
        )
        done = subprocess.run(
            [sys.executable, str(script), root, str(chosen)],
            env=os.environ | {"PYTHONPATH": str(REPO)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "3", "")

    @pytest.mark.parametrize("kind", ["thread", "process"])
    def test_a_loop_may_outlive_the_main_thread(self, root: str, tmp_path: Path, kind: str) -> None:
        script = tmp_path / "aside.py"
        script.write_text(ASIDE)
        done = subprocess.run(
            [sys.executable, str(script), root, kind],
            cwd=REPO,
            env=os.environ | {"PYTHONPATH": str(REPO)},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["4", "8"]


ASIDE = """
import sys, threading, time
from tests.training.test_loader import settings
from training.data.loader import ClipLoader

def train():
    time.sleep(0.5)  # the main thread has ended
    print(sum(1 for _ in loader) // 6)

if __name__ == "__main__":
    loader = ClipLoader(sys.argv[1], settings(num_workers=2, worker_kind=sys.argv[2]), stop_step=4)
    def twice():
        train()
        loader.stop_step = 12
        other = threading.Thread(target=train)  # the thread that asked last is gone
        other.start()
    threading.Thread(target=twice).start()
"""
