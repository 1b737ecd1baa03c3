"""`curate` (inline, whole) against decode + libx264 with the same settings of the kept seconds.

    python -m tests.bench.curate

The bare job decodes each file once and encodes the frames of the kept clips, one thread each, and
does nothing else: no probing, no signals, no scores, no checksums, no catalog, no shards.
"""

from __future__ import annotations

import statistics
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.frame import PictureType

from curation.catalog.views import open_views
from pipelines.config import load_config
from pipelines.curate import curate
from tests.bench.footage import footage, interleaved, median_ratio

FILES = ["01_dog.mp4", "bikes.mp4", "bbb-480p-30s.mp4", "crystal.mp4", "car-detection.mp4"]
RUNS = 3


def bare_job(clips: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    """Decode each file once; encode its kept clips as the cut stage does."""
    settings = load_config().cut
    for path, spans in clips.items():
        waiting = sorted(spans, key=lambda c: c["start_pts"])
        out, encoder, number = None, None, 0
        with av.open(path) as source:
            stream = source.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in source.decode(stream):
                while waiting and frame.pts is not None and frame.pts >= waiting[0]["end_pts"]:
                    waiting.pop(0)
                    if out is not None and encoder is not None:
                        out.mux(encoder.encode(None))
                        out.close()
                        out = None
                if not waiting or frame.pts is None or frame.pts < waiting[0]["start_pts"]:
                    continue
                if out is None:
                    number += 1
                    out = av.open(str(folder / f"{Path(path).stem}-{number}.mp4"), "w")
                    params = (
                        f"cpu-independent=1:scenecut=0:keyint={settings.gop_frames}"
                        f":min-keyint={settings.gop_frames}:open-gop=0"
                    )
                    encoder = out.add_stream(
                        "libx264",
                        rate=Fraction(waiting[0]["median_fps"]).limit_denominator(1001),
                        options={
                            "crf": str(settings.crf),
                            "preset": settings.preset,
                            "x264-params": params,
                        },
                    )
                    encoder.width, encoder.height = frame.width, frame.height
                    encoder.pix_fmt = "yuv420p"
                    encoder.codec_context.thread_count = 1
                    encoder.codec_context.time_base = stream.time_base or Fraction(1, 90000)
                assert encoder is not None
                frame.pts -= waiting[0]["start_pts"]
                frame.pict_type = PictureType.NONE
                out.mux(encoder.encode(frame))
            if out is not None and encoder is not None:
                out.mux(encoder.encode(None))
                out.close()


def main() -> None:
    """Print CPU seconds of both and the ratio."""
    paths = [str(p) for p in footage(FILES)]
    config = load_config(None, ["run.engine=inline"])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        curate(paths, str(root / "first"), config)
        kept = open_views(str(root / "first")).query(
            "SELECT uri, start_pts, end_pts, median_fps, duration_s FROM clips "
            "WHERE verdict = 'kept'"
        )
        clips: dict[str, list[dict[str, Any]]] = {}
        for row in kept.to_pylist():
            clips.setdefault(row["uri"], []).append(row)
        count = iter(range(1000))
        bare, full = interleaved(
            RUNS,
            lambda: bare_job(clips, root),
            lambda: curate(paths, str(root / f"run{next(count)}"), config),
        )
    seconds = sum(r["duration_s"] for r in kept.to_pylist())
    print(f"{len(paths)} files, {kept.num_rows} kept clips, {seconds:.1f} s kept")
    print(f"decode + libx264 of the kept seconds: {statistics.median(bare.cpu_s):.2f} CPU s")
    print(f"curate, whole:                        {statistics.median(full.cpu_s):.2f} CPU s")
    print(f"ratio: {median_ratio(full.cpu_s, bare.cpu_s):.2f}")


if __name__ == "__main__":
    main()
