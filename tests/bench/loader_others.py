"""Other loaders on the same clips: a plain loop, webdataset, mosaicml-streaming, megatron-energon.

    PYTHON loader_others.py --prepare KIND FOLDER
    PYTHON loader_others.py KIND FOLDER --workers N        # prints JSON

Run by :mod:`tests.bench.loader`, each time as a fresh process and by any Python that has ``av``,
``numpy``, ``torch``, ``psutil`` and the loader in question; so nothing of the project is imported.
``FOLDER/job.json`` says which clips, times and size; ``FOLDER/tars`` holds the clips. All of them
decode with :func:`decode`: what they differ in is how they read, batch and hand over.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import psutil
import torch
from av.video.reformatter import VideoReformatter

Job = dict[str, Any]
Record = dict[str, Any]
UNSPECIFIED, BT709 = 2, 1
KINDS = ("plain", "webdataset", "streaming", "energon")


# The common part: frames of a clip at given times


def decode(data: bytes, times_s: list[float], job: Job) -> np.ndarray:
    """Decode as one does with PyAV when one takes care.

    It seeks the keyframe before the first time, decodes on one thread, converts only the frames
    that are wanted, all by the thread's one scaler, and ends with the last of them.

    Returns:
        uint8 of shape (T, height, width, 3).
    """
    out = np.empty((len(times_s), job["height_px"], job["width_px"], 3), np.uint8)
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        unit = float(stream.time_base or 0)
        begin, early = stream.start_time or 0, max(1e-4 / unit, 0.5)
        targets = [begin + t / unit + early for t in times_s]
        container.seek(int(targets[0]), stream=stream)
        place, last = 0, None
        for frame in container.decode(stream):
            while last is not None and place < len(targets) and (frame.pts or 0) > targets[place]:
                place = _write(last, out, place, job)
            last = frame
            until = (frame.pts or 0) + (frame.duration or 0)
            while place < len(targets) and (frame.pts or 0) <= targets[place] < until:
                place = _write(frame, out, place, job)
            if place == len(targets):
                break
        while place < len(targets) and last is not None:
            place = _write(last, out, place, job)
    return out


_of_thread = threading.local()


def _write(frame: Any, out: np.ndarray, place: int, job: Job) -> int:  # noqa: ANN401
    """Scale a frame to cover the size, crop its middle, put it into its place; the next place."""
    if not hasattr(_of_thread, "scaler"):
        _of_thread.scaler = VideoReformatter()
    height, width = job["height_px"], job["width_px"]
    scale = max(height / frame.height, width / frame.width)
    high, wide = max(height, round(frame.height * scale)), max(width, round(frame.width * scale))
    guess = int(frame.colorspace) == UNSPECIFIED and (frame.height > 576 or frame.width >= 1280)
    rgb = _of_thread.scaler.reformat(
        frame,
        width=wide,
        height=high,
        format="rgb24",
        src_colorspace=BT709 if guess else None,
        interpolation=job["interpolation"],
        threads=1,
    )
    plane = rgb.planes[0]
    rows = np.frombuffer(cast(Any, plane), np.uint8).reshape(high, plane.line_size)
    pixels = rows[:, : 3 * wide].reshape(high, wide, 3)
    top, left = (high - height + 1) // 2, (wide - width + 1) // 2
    out[place] = pixels[top : top + height, left : left + width]
    return place + 1


def sample_of(key: str, mp4: bytes, record: Record, job: Job) -> Record:
    """What a loader hands over of a sample: pictures and a text."""
    video = torch.from_numpy(decode(mp4, job["clips"][key]["times_s"], job))
    return {"video": video, "key": key, "caption": next(iter(record.get("captions") or [""]))}


# The loaders. Each yields the number of samples of a batch, for ever.


def plain(job: Job, folder: Path, workers: int) -> Iterator[int]:
    """A loop: read at the offset, decode, stack."""
    if workers:
        raise SystemExit("the plain loop has no workers")
    clips = list(job["clips"].items())
    files = {
        tar: os.open(folder / "tars" / tar, os.O_RDONLY) for tar in {c["tar"] for _, c in clips}
    }

    def read(clip: Record, kind: str) -> bytes:
        return os.pread(files[clip["tar"]], clip[f"{kind}_bytes"], clip[f"{kind}_offset"])

    batch: list[Record] = []
    while True:
        for key, clip in clips:
            batch.append(sample_of(key, read(clip, "mp4"), json.loads(read(clip, "json")), job))
            if len(batch) == job["samples"]:
                yield len(torch.stack([sample["video"] for sample in batch]))
                batch = []


def webdataset(job: Job, folder: Path, workers: int) -> Iterator[int]:
    """``WebDataset(...).decode-and-map`` in torch's DataLoader."""
    import webdataset as wds

    def sample(found: Record) -> Record:
        record = json.loads(found["json"])
        return sample_of(found["__key__"], found["mp4"], record, job)

    tars = sorted(str(path) for path in (folder / "tars").glob("*.tar"))
    dataset = wds.WebDataset(tars, shardshuffle=False).map(sample).repeat()  # pyright: ignore
    yield from _through_torch(dataset, job, workers)


def streaming(job: Job, folder: Path, workers: int) -> Iterator[int]:
    """A ``StreamingDataset`` of MDS shards in torch's DataLoader, in stored order."""
    from streaming import StreamingDataset  # pyright: ignore[reportMissingImports]
    from streaming.base.util import (  # pyright: ignore[reportMissingImports]
        clean_stale_shared_memory,
    )

    clean_stale_shared_memory()  # of an earlier process; it would wait for that for ever

    class Clips(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, at: int) -> Record:
            found = super().__getitem__(at)
            return sample_of(found["key"], found["mp4"], json.loads(found["json"]), job)

    dataset = Clips(local=str(folder / "mds"), shuffle=False, batch_size=job["samples"])
    yield from _through_torch(dataset, job, workers)


def energon(job: Job, folder: Path, workers: int) -> Iterator[int]:
    """A crude webdataset with a cooker, unshuffled."""
    from megatron.energon import (  # pyright: ignore[reportMissingImports]
        Cooker,
        DefaultTaskEncoder,
        Sample,
        WorkerConfig,
        basic_sample_keys,
        edataclass,
        get_loader,
        get_train_dataset,
        stateless,
    )

    @edataclass
    class Clip(Sample):
        video: torch.Tensor
        caption: str

    Clip.__qualname__ = "Clip"  # workers pickle batches of it by this name
    globals()["Clip"] = Clip

    @stateless
    def cook(found: Record) -> Clip:
        record = found["json"]
        record = record if isinstance(record, dict) else json.loads(record)
        made = sample_of(found["__key__"].split("/")[-1], found["mp4"], record, job)
        return Clip(**basic_sample_keys(found), video=made["video"], caption=made["caption"])

    class Encoder(DefaultTaskEncoder):  # type: ignore[misc]
        decoder = None
        cookers = (Cooker(cook),)

    config = WorkerConfig(rank=0, world_size=1, num_workers=workers)
    dataset = get_train_dataset(
        str(folder / "energon"),
        worker_config=config,
        batch_size=job["samples"],
        shuffle_buffer_size=None,
        max_samples_per_sequence=None,
        task_encoder=Encoder(),
    )
    for batch in get_loader(dataset):
        yield len(batch.video)


def _through_torch(dataset: Any, job: Job, workers: int) -> Iterator[int]:  # noqa: ANN401
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=job["samples"], num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        for batch in loader:
            yield len(batch["video"])


# Preparation, once


def prepare(kind: str, folder: Path, job: Job) -> None:
    """Write what a loader wants instead of plain tars."""
    if kind == "streaming":
        from streaming import MDSWriter  # pyright: ignore[reportMissingImports]

        columns = {"key": "str", "mp4": "bytes", "json": "bytes"}
        with MDSWriter(out=str(folder / "mds"), columns=columns) as out:
            for key, clip in job["clips"].items():
                whole = (folder / "tars" / clip["tar"]).read_bytes()
                parts = {
                    part: whole[clip[f"{part}_offset"] :][: clip[f"{part}_bytes"]]
                    for part in ("mp4", "json")
                }
                out.write({"key": key, **parts})
    if kind == "energon":
        place = folder / "energon"
        place.mkdir()
        for tar in sorted((folder / "tars").glob("*.tar")):
            (place / tar.name).write_bytes(tar.read_bytes())
        command = str(Path(sys.executable).parent / "energon")
        how = ["--non-interactive", "--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset"]
        subprocess.run([command, "prepare", *how, str(place)], check=True, capture_output=True)


# Measuring


def measure(batches: Iterable[int], num_samples: int) -> dict[str, float]:
    """Samples per second, elapsed and of CPU, from the first batch on.

    CPU is that of this process and of those it started.

    Args:
        batches: Yields the number of samples of each batch.
        num_samples: To be counted after the first batch.
    """
    running = iter(batches)
    next(running)
    start_s, start_cpu_s = time.perf_counter(), _cpu_s()
    done = 0
    for count in running:
        done += count
        if done >= num_samples:
            break
    elapsed_s, cpu_s = time.perf_counter() - start_s, _cpu_s() - start_cpu_s
    return {"samples": done, "elapsed_s": elapsed_s, "cpu_s": cpu_s}


def _cpu_s() -> float:
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def main() -> None:
    """Prepare, or measure one loader and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    job: Job = json.loads((given.folder / "job.json").read_text())
    if given.prepare:
        prepare(given.kind, given.folder, job)
        return
    torch.set_num_threads(1)
    run: Callable[[Job, Path, int], Iterator[int]] = globals()[given.kind]
    print(json.dumps(measure(run(job, given.folder, given.workers), job["measured_samples"])))
    sys.stdout.flush()
    own = psutil.Process()
    for child in own.children(recursive=True):
        child.kill()
    os._exit(0)  # loaders of endless data are slow to end


if __name__ == "__main__":
    main()
