"""The signals pass against a bare PyAV decode of the same file, one thread each.

    python -m tests.bench.signals

Prints elapsed seconds per file (medians of five interleaved runs) and the medians of the pairwise
ratios of elapsed and of CPU time. Decode and analysis overlap, so on a machine with an idle core
the elapsed ratio is what a single video sees; the CPU ratio is what a full pool of workers sees.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import av
import pyarrow as pa

from curation.stages.probe import Probe
from curation.stages.signals import Signals
from tests.bench.footage import footage, interleaved, median_ratio

FILES = ["01_dog.mp4", "02_cups.mp4", "bigbuckbunny.mp4", "bbb-480p-30s.mp4", "car-detection.mp4"]
RUNS = 5


def bare_decode(path: Path) -> int:
    """Decode every frame and do nothing with it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return sum(1 for _ in container.decode(stream))


def probed(path: Path) -> pa.Table:
    """The input row of the signals stage."""
    row = {"local_path": str(path), "size_bytes": path.stat().st_size, "video_id": ""}
    (output,) = Probe().process(pa.Table.from_pylist([row]))  # pyright: ignore[reportCallIssue]
    assert isinstance(output, tuple)
    return pa.Table.from_pylist([row | output[1].to_pylist()[0]])


def signals_pass(row: pa.Table) -> int:
    """The signals stage as a worker runs it."""
    return sum(1 for _ in Signals().process(row))  # pyright: ignore[reportCallIssue]


def main() -> None:
    """Print the table."""
    print(f"{'file':20} {'size':>9} {'decode s':>9} {'signals s':>9} {'wall':>6} {'CPU':>6}")
    for path in footage(FILES):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            size = f"{stream.width}x{stream.height}"
        row = probed(path)
        bare, full = interleaved(RUNS, lambda p=path: bare_decode(p), lambda r=row: signals_pass(r))
        print(
            f"{path.name:20} {size:>9} {statistics.median(bare.wall_s):9.3f} "
            f"{statistics.median(full.wall_s):9.3f} {median_ratio(full.wall_s, bare.wall_s):6.2f} "
            f"{median_ratio(full.cpu_s, bare.cpu_s):6.2f}"
        )


if __name__ == "__main__":
    main()
