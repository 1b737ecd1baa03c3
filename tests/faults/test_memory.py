"""A worker's memory does not grow with the length of a video."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.faults.helpers import REPO, make_video

SCRIPT = """
import json, resource, sys
from pathlib import Path
from tests.faults.helpers import run
report = run(Path(sys.argv[1]), Path(sys.argv[2]), split={"max_s": 10.0})
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak_kb": peak, "video_s": report.video_s, "balanced": report.balanced}))
"""


def loop(source: Path, target: Path, times: int) -> Path:
    """The packets of a video over and over."""
    with av.open(str(target), "w") as out, av.open(str(source)) as first:
        stream = out.add_stream_from_template(first.streams.video[0])
        length = first.streams.video[0].duration or 0
        assert length
        for i in range(times):
            with av.open(str(source)) as again:
                for packet in again.demux(video=0):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + i * length, packet.dts + i * length
                    packet.stream = stream
                    out.mux(packet)
    return target


def peak_mb(video: Path, out: Path) -> tuple[float, float]:
    """Peak resident size of a process that curates one video, and the seconds it saw."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(video), str(out)],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["balanced"]
    return told["peak_kb"] / 1024, told["video_s"]


@pytest.mark.slow
def test_ten_minutes_need_no_more_memory_than_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shots = [(6.0, i) for i in range(10)]
    minute = make_video(tmp_path / "one.mp4", shots, fps=25, size=(480, 272))
    one, one_s = peak_mb(minute, tmp_path / "out1")
    ten, ten_s = peak_mb(loop(minute, tmp_path / "ten.mp4", 10), tmp_path / "out10")
    with capsys.disabled():
        print(f"peak: {one:.0f} MB for {one_s:.0f} s, {ten:.0f} MB for {ten_s:.0f} s")
    assert one_s == pytest.approx(60, abs=1) and ten_s == pytest.approx(600, abs=2)
    assert ten < 1.2 * one
