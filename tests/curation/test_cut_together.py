"""Everything asked for at once, the same bytes again, and a kill in the middle of a write."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.conftest import REPO
from tests.curation.chain import cut_clips, scan, split_stage
from tests.curation.test_cut_hdr import graded, write_hdr
from tests.curation.test_cut_interlace import write_fields
from tests.media import Camera, Recording, psnr, read_pictures, write_video

PAN = Camera(pan_per_s=0.3, tilt_per_s=0.1)


def hdr_between_bars(path: Path) -> Path:
    """One second of HDR footage, 320 x 240 with bars of 30 lines."""
    pictures = PAN.shoot(320, 180, [i / 24 for i in range(24)])
    lit = [graded(p) for p in pictures]
    return write_hdr(path, [np.pad(p, ((30, 30), (0, 0), (0, 0))) for p in lit], "pq")


def test_all_at_once(tmp_path: Path) -> None:
    """Cropped, tone-mapped, shrunk and at another rate: each frame still the one on display."""
    path = hdr_between_bars(tmp_path / "hdr.mp4")
    wishes: dict[str, Any] = {"letterbox": "crop", "max_long_side_px": 160, "fps": 30}
    media, failures = cut_clips([scan(path).whole_clip()], tmp_path, **wishes)
    assert not failures
    cut = media[0]
    assert (cut["media_width_px"], cut["media_height_px"]) == (160, 90)
    assert (cut["media_num_frames"], cut["media_duration_s"]) == (30, 1.0)
    assert (cut["media_crop_y_px"], cut["media_crop_height_px"]) == (30, 180)
    assert cut["media_tone_mapped"]
    small = [p for p in PAN.shoot(160, 90, [i / 24 for i in range(24)])]
    gray = [np.asarray(p).astype(float) @ (0.2126, 0.7152, 0.0722) for p in small]
    for k, got in enumerate(read_pictures(cut["path"])[1]):
        index = k * 24 // 30
        alike = psnr(gray[index], got)
        for near in (index - 1, index + 1):
            if 0 <= near < 24:
                assert psnr(gray[near], got) < alike - 2, k


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (write_fields, {"deinterlace": "auto", "max_short_side_px": 100, "scaling": "lanczos"}),
        (hdr_between_bars, {"letterbox": "crop", "fps": 25, "bit_depth": 10}),
        (hdr_between_bars, {"encoder": "libsvtav1", "max_long_side_px": 200}),
    ],
)
def test_the_same_bytes_again(tmp_path: Path, make: Any, fields: Any) -> None:  # noqa: ANN401
    path = make(tmp_path / "source.mp4")
    row = scan(path).whole_clip()
    shas = set()
    for name in ("one", "two"):
        media, failures = cut_clips([row], tmp_path / name, **fields)
        assert not failures
        shas.add(media[0]["media_sha256"])
    assert len(shas) == 1


CUT = """
import pickle, sys
from pathlib import Path
from tests.curation.chain import cut_clips
rows, root, fields = pickle.load(open(sys.argv[1], "rb"))
print("ready", flush=True)
cut_clips(rows, Path(root), **fields)
print("done", flush=True)
"""


@pytest.mark.parametrize("mode", ["reencode", "auto"])
def test_a_kill_leaves_no_half_written_clip(tmp_path: Path, mode: str) -> None:
    """Killed at many moments: what stands under media/ is always a whole clip."""
    path = write_video(
        tmp_path / "long.mp4", PAN.shoot(640, 360, [i / 24 for i in range(96)]), Recording()
    )
    rows = scan(path, split=split_stage(min_s=0.2, max_s=0.5, edge_trim_s=0)).clip_rows()
    assert len(rows) >= 8
    root, given = tmp_path / "out", tmp_path / "given.pickle"
    root.mkdir()
    given.write_bytes(pickle.dumps((rows, str(root), {"mode": mode})))
    whole, _ = cut_clips(rows, tmp_path / "whole", mode=mode)
    sizes = {m["media_path"]: m["media_bytes"] for m in whole}
    seen: set[int] = set()
    for delay_s in (0.0, 0.05, 0.15, 0.3, 0.5):
        worker = subprocess.Popen(
            [sys.executable, "-c", CUT, str(given)],
            cwd=REPO,
            stdout=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        time.sleep(delay_s)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker.stdout.close()
        found = {str(p.relative_to(root)): p.stat().st_size for p in root.rglob("*.mp4")}
        assert all(sizes[name] == size for name, size in found.items())
        seen.add(len(found))
        for name in found:
            with av.open(str(root / name)) as clip:
                assert next(clip.decode(video=0)).width == 640
            (root / name).unlink()
    assert len(seen) > 1 or 0 in seen  # at least one kill came before the end
