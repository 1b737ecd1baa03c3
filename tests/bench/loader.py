"""The loader against a plain loop and other loaders: same clips, same frames, same size.

    python -m tests.bench.loader ROOT [--others PYTHON] [--repeats 5] [--bucket 17x256x256@8]

ROOT is a dataset whose shards are written. Without workers each loader decodes in its caller's
thread: samples per second of CPU are its cost, and 1 / that of the plain loop is the price of
everything around decoding. With workers the elapsed time counts. Every figure is of a fresh
process, and repetitions are interleaved, so that what else runs on the machine meets them alike;
the smallest counts, the median is printed beside it.

PYTHON is one of an environment with ``av``, ``numpy``, ``torch``, ``psutil``, ``webdataset``,
``mosaicml-streaming`` and ``megatron-energon`` (those that are missing are left out):

    uv venv /tmp/others && VIRTUAL_ENV=/tmp/others uv pip install av psutil torch webdataset \\
        mosaicml-streaming 'megatron-energon[av_decode]'
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from tests.bench import loader_others
from training.data.decode import RGB_EXACT
from training.data.geometry import Draws, target_times_s, window_start_s
from training.data.index import ShardIndex
from training.data.loader import ClipLoader
from training.data.settings import DataSettings

PER_TAR = 16
OTHERS = Path(loader_others.__file__)
WINDOW = "middle"
LIMIT_S = 240
Run = tuple[str, int]
"""Name of a loader and its number of workers."""


def settings_of(bucket: str, samples: int, workers: int = 0, kind: str = "thread") -> DataSettings:
    """One bucket, frames from the middle of each clip, any crop."""
    numbers = re.fullmatch(r"(\d+)x(\d+)x(\d+)@([\d.]+)", bucket)
    if numbers is None:
        raise SystemExit(f"{bucket} is not FRAMESxHEIGHTxWIDTH@FPS")
    names = ("frames", "height_px", "width_px", "fps")
    shape = {**dict(zip(names, numbers.groups(), strict=True)), "samples": samples}
    return DataSettings.model_validate(
        {
            "buckets": {"shapes": [shape], "microbatch_tokens": 10**9, "max_crop": 0.75},
            "order": {"microbatches": 1},
            "read": {"window": WINDOW, "num_workers": workers, "worker_kind": kind},
            "sources": [{"split": "*"}],
        }
    )


def write_job(root: str, folder: Path, settings: DataSettings, passes: int) -> dict[str, Any]:
    """Pack the clips that fit anew into plain tars, and say what is to be decoded of them."""
    plan = ClipLoader(root, settings).plan
    index, bucket = plan.index(0, 0), plan.buckets[0]
    order = plan.sources[0].phases[0].order
    positions = order.members(bucket)
    (folder / "tars").mkdir()
    clips: dict[str, Any] = {}
    keys = index.clip_ids(positions)
    for start in range(0, len(positions), PER_TAR):
        name = f"{start // PER_TAR:06}.tar"
        with tarfile.open(folder / "tars" / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            for key, at in list(zip(keys, positions.tolist(), strict=True))[start:][:PER_TAR]:
                clips[key] = {"tar": name}
                for kind in ("mp4", "json"):
                    data = _member(root, index, at, kind)
                    entry = tarfile.TarInfo(f"{key}.{kind}")
                    entry.size = len(data)
                    offset = tar.offset + tarfile.BLOCKSIZE
                    clips[key] |= {f"{kind}_offset": offset, f"{kind}_bytes": len(data)}
                    tar.addfile(entry, BytesIO(data))
                frames, fps = int(index["frames"][at]), float(index["fps"][at])
                draws = Draws(settings.order.seed, 0, int(index["key_hash"][at]))
                start_s = window_start_s(WINDOW, draws, frames=frames, fps=fps, bucket=bucket)
                clips[key]["times_s"] = target_times_s(start_s, bucket)
    method = {"area": "AREA", "bilinear": "BILINEAR", "bicubic": "BICUBIC"}[settings.read.scaling]
    job = {
        "height_px": bucket.height_px,
        "width_px": bucket.width_px,
        "samples": bucket.samples,
        "interpolation": int(_interpolation(method)),
        "measured_samples": passes * len(clips),
        "clips": clips,
    }
    (folder / "job.json").write_text(json.dumps(job))
    return job


def _interpolation(name: str) -> int:
    from av.video.reformatter import Interpolation

    return Interpolation[name] | RGB_EXACT


def _member(root: str, index: ShardIndex, at: int, kind: str) -> bytes:
    shard = index.words["shard"][index["shard"][at]]
    start, size = int(index[f"{kind}_offset"][at]), int(index[f"{kind}_bytes"][at])
    with open(Path(root) / shard, "rb") as file:
        file.seek(start)
        return file.read(size)


def check_same(root: str, folder: Path, settings: DataSettings, job: dict[str, Any]) -> int:
    """Compare every sample's pixels with those of the plain decode; how many were compared."""
    loader = ClipLoader(root, settings, stop_step=-(-len(job["clips"]) // job["samples"]))
    seen: set[str] = set()
    for batch in loader:
        assert batch.video is not None
        for key, video in zip(batch.keys, batch.video, strict=True):
            clip = job["clips"][key]
            with open(folder / "tars" / clip["tar"], "rb") as file:
                file.seek(clip["mp4_offset"])
                data = file.read(clip["mp4_bytes"])
            expected = loader_others.decode(data, clip["times_s"], job)
            if not np.array_equal(video.permute(1, 2, 3, 0).numpy(), expected):
                raise SystemExit(f"{key}: the loader's pixels are not those of the plain decode")
            seen.add(key)
    if seen != set(job["clips"]):
        raise SystemExit("the loader does not show the same clips")
    return len(seen)


def clip_loader(root: str, settings: DataSettings) -> Iterator[int]:
    """Batches of the loader, counting each sample once."""
    for batch in ClipLoader(root, settings):
        yield int(batch.weights.sum())


def run_others(python: str, kind: str, folder: Path, workers: int) -> dict[str, float] | None:
    """One measurement of another loader; None where it cannot run."""
    command = [python, str(OTHERS), kind, str(folder), "--workers", str(workers)]
    return _json_of(command)


def run_own(root: str, folder: Path, workers: int, kind: str, bucket: str) -> Any:  # noqa: ANN401
    """One measurement of the project's loader, in a fresh process."""
    command = [sys.executable, "-m", "tests.bench.loader", root, "--measure", str(folder)]
    return _json_of([*command, "--workers", str(workers), "--kind", kind, "--bucket", bucket])


def _json_of(command: list[str]) -> dict[str, float] | None:
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    env = {**os.environ, **one_thread}
    said = " ".join([Path(command[1]).name, *command[2:]])
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        print(f"  {said}: nothing after {LIMIT_S} s", flush=True)
        return None
    if done.returncode:
        print(f"  {said}: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"  {said}: {found}", file=sys.stderr, flush=True)
    return found


def compare(given: argparse.Namespace, folder: Path, job: dict[str, Any]) -> dict[Run, list[Any]]:
    """All loaders, interleaved."""
    others = given.others or sys.executable
    ready = ["webdataset"]
    for kind in ("streaming", "energon"):
        command = [others, str(OTHERS), kind, str(folder), "--prepare"]
        made = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        if made.returncode:
            print(f"{kind}: left out ({made.stderr.strip().splitlines()[-1:]})", flush=True)
        else:
            ready.append(kind)
    found: dict[Run, list[Any]] = {}
    for _ in range(given.repeats):
        for workers in given.counts:
            for kind in ("thread", "process") if workers else ("caller",):
                real = "thread" if kind == "caller" else kind
                own = run_own(given.root, folder, workers, real, given.bucket)
                found.setdefault((f"ClipLoader ({kind})", workers), []).append(own)
            for kind in ready if workers else ["plain", *ready]:
                own = found.setdefault((kind, workers), [])
                if None not in own:  # what cannot run is tried once
                    python = sys.executable if kind == "plain" else others
                    own.append(run_others(python, kind, folder, workers))
    return {run: [r for r in own if r] for run, own in found.items() if any(own)}


def report(found: dict[Run, list[Any]], job: dict[str, Any]) -> None:
    """A table: milliseconds a sample, and the loader's speed over that of each."""
    best: dict[Run, tuple[float, float]] = {}
    print(f"{'':24} workers   CPU ms/sample (median)   elapsed ms/sample (median)")
    for run, own in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        cpu, elapsed = (
            [1000 * r[name] / r["samples"] for r in own] for name in ("cpu_s", "elapsed_s")
        )
        best[run] = min(cpu), min(elapsed)
        print(
            f"{run[0]:24} {run[1]:7}   {min(cpu):13.2f} ({median(cpu):6.2f})   "
            f"{min(elapsed):17.2f} ({median(elapsed):6.2f})"
        )
    print("\nspeed of ClipLoader over that of the others (1: equal, more: faster)")
    for (name, workers), (cpu, elapsed) in sorted(best.items(), key=lambda i: i[0][1]):
        if name.startswith("ClipLoader"):
            continue
        for own, count in best:
            if own.startswith("ClipLoader") and count == workers:
                mine = best[own, count]
                print(
                    f"{own:24} over {name:12} {workers} workers: per core {cpu / mine[0]:.3f}, "
                    f"elapsed {elapsed / mine[1]:.3f}"
                )


def main() -> None:
    """Compare, or measure the project's loader once and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root")
    parser.add_argument("--others", help="Python of an environment with the other loaders")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--passes", type=int, default=2, help="over all clips, each time")
    parser.add_argument("--bucket", default="17x256x256@8")
    parser.add_argument("--samples", type=int, default=4, help="of a batch")
    parser.add_argument("--counts", type=int, nargs="*", default=[0, 2], help="of workers")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--kind", default="thread", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        torch.set_num_threads(1)
        job = json.loads((given.measure / "job.json").read_text())
        settings = settings_of(given.bucket, job["samples"], given.workers, given.kind)
        batches = clip_loader(given.root, settings)
        print(json.dumps(loader_others.measure(batches, job["measured_samples"])), flush=True)
        return
    settings = settings_of(given.bucket, given.samples)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = write_job(given.root, folder, settings, given.passes)
        count = check_same(given.root, folder, settings, job)
        print(f"{count} clips, {given.bucket}, the same pixels from ClipLoader and the plain loop")
        report(compare(given, folder, job), job)


if __name__ == "__main__":
    main()
