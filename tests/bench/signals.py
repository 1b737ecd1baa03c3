"""The signals pass against a bare PyAV decode of the same file, one thread each.

    python -m tests.bench.signals

Prints CPU seconds per file (median of five interleaved runs) and the median of the pairwise
ratios. CPU time, since a worker owns one core.
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


def signals_pass(path: Path) -> int:
    """The signals stage as a worker runs it."""
    row = {"local_path": str(path), "size_bytes": path.stat().st_size, "video_id": ""}
    (output,) = Probe().process(pa.Table.from_pylist([row]))  # pyright: ignore[reportCallIssue]
    assert isinstance(output, tuple)
    whole = pa.Table.from_pylist([row | output[1].to_pylist()[0]])
    return sum(1 for _ in Signals().process(whole))  # pyright: ignore[reportCallIssue]


def main() -> None:
    """Print the table."""
    print(f"{'file':24} {'size':>10} {'decode s':>9} {'signals s':>9} {'ratio':>6}")
    for path in footage(FILES):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            size = f"{stream.width}x{stream.height}"
        bare, full = interleaved(RUNS, lambda p=path: bare_decode(p), lambda p=path: signals_pass(p))
        print(
            f"{path.name:24} {size:>10} {statistics.median(bare):9.3f} "
            f"{statistics.median(full):9.3f} {median_ratio(full, bare):6.2f}"
        )


if __name__ == "__main__":
    main()
