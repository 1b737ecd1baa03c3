"""Encoders: the same frames, short groups, the same bytes; NVENC is believed only when it works."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Literal

import av
import av.error
import numpy as np
import pytest

from curation.errors import ConfigError
from curation.media import nvenc
from curation.media.encode import encode_span
from curation.media.encoders import DEFAULT_PRESETS, PRESETS, EncoderName, EncodeSettings
from curation.media.fit import Fit
from curation.stage import StageContext
from curation.storage import Storage
from tests.conftest import REPO, Maker
from tests.curation.chain import FINGERPRINT, cut_clips, cut_stage, scan, split_stage
from tests.media import Camera, Recording, psnr, read_pictures

FAST = Camera(pan_per_s=0.3, tilt_per_s=0.1)
SOFTWARE: dict[EncoderName, str] = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "av1"}
VFR_MS = [40 * i + (i % 3) * 9 for i in range(48)]


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("encoder", SOFTWARE)
def test_exactly_the_frames(
    make_video: Maker, tmp_path: Path, encoder: EncoderName, bit_depth: int
) -> None:
    """Whatever the encoder: these frames in this order at their own times, keyframes in step."""
    path = make_video("vfr.mp4", Recording(times_ms=VFR_MS), camera=FAST)
    rows = scan(path, split=split_stage(min_s=0.2, max_s=0.9, edge_trim_s=0)).clip_rows()
    media, failures = cut_clips(
        rows, tmp_path, mode="reencode", encoder=encoder, bit_depth=bit_depth, gop_frames=8
    )
    assert not failures
    pts, pictures = read_pictures(path)
    for row, cut in zip(rows, media, strict=True):
        assert (cut["media_codec"], cut["media_encoder"]) == (SOFTWARE[encoder], encoder)
        assert cut["media_max_gop_frames"] == 8
        inside = zip(pts, pictures, strict=True)
        wanted = [p for t, p in inside if row["start_pts"] <= t < row["end_pts"]]
        with av.open(str(cut["path"])) as clip:
            stream = clip.streams.video[0]
            assert stream.codec_context.pix_fmt == ("yuv420p" if bit_depth == 8 else "yuv420p10le")
            length_s = float((stream.duration or 0) * (stream.time_base or 0))
            frames = list(clip.decode(stream))
        assert length_s == pytest.approx(row["duration_s"], abs=1.1e-3)
        expected_s = np.array(row["frame_time_s"]) - row["start_s"]
        assert [f.time for f in frames] == pytest.approx(expected_s, abs=1.1e-3)
        assert [i for i, f in enumerate(frames) if f.key_frame] == list(range(0, len(frames), 8))
        got = [f.to_ndarray(format="gray") for f in frames]
        for index, (a, b) in enumerate(zip(wanted, got, strict=True)):
            alike = psnr(a, b)
            assert alike > 35, index
            if index:
                assert psnr(wanted[index - 1], b) < alike - 3, index


ENCODE_AGAIN = """
import sys
from pathlib import Path
from curation.media.encode import encode_span
from curation.media.encoders import EncodeSettings
from curation.media.fit import Fit
source, target, encoder, bits = sys.argv[1:]
settings = EncodeSettings(encoder=encoder, crf=25, gop_frames=12, bit_depth=int(bits),
                          with_audio=False)
encode_span(source, Path(target), 4096, 16384, fit=Fit(size_px=(128, 76), fps=30), fps=24.0,
            settings=settings)
"""


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("encoder", SOFTWARE)
def test_the_same_bytes_in_another_process(
    make_video: Maker,
    tmp_path: Path,
    encoder: EncoderName,
    bit_depth: Literal[8, 10],
) -> None:
    path = make_video("cfr.mp4", Recording(), camera=FAST)
    settings = EncodeSettings(
        encoder=encoder, crf=25, gop_frames=12, bit_depth=bit_depth, with_audio=False
    )
    fit = Fit(size_px=(128, 76), fps=30)
    shas = set()
    for name in ("one.mp4", "two.mp4"):
        target = tmp_path / name
        encode_span(str(path), target, 4096, 16384, fit=fit, fps=24.0, settings=settings)
        shas.add(hashlib.sha256(target.read_bytes()).hexdigest())
    other = tmp_path / "three.mp4"
    command = [sys.executable, "-c", ENCODE_AGAIN, str(path), str(other), encoder, str(bit_depth)]
    done = subprocess.run(command, check=True, cwd=REPO, capture_output=True, text=True)
    assert done.stderr == ""  # nothing printed: a worker's log is for the worker
    data = other.read_bytes()
    shas.add(hashlib.sha256(data).hexdigest())
    assert len(shas) == 1
    for tag in (b"Lavf6", b"Lavc6", b"SVT-AV1", b"x265 (build"):
        assert tag not in data


@pytest.mark.parametrize("encoder", SOFTWARE)
def test_presets_are_known(make_video: Maker, tmp_path: Path, encoder: EncoderName) -> None:
    """The names this page promises exist: the fastest, the default and a slow one encode."""
    path = make_video("cfr.mp4", Recording(), camera=FAST)
    names = PRESETS[encoder]
    slow = "slow" if "slow" in names else "4"
    fast = "ultrafast" if "slow" in names else "13"
    sizes = {}
    for preset in (fast, DEFAULT_PRESETS[encoder], slow):
        settings = EncodeSettings(
            encoder=encoder, crf=25, preset=preset, gop_frames=12, with_audio=False
        )
        target = tmp_path / f"{preset}.mp4"
        fit = Fit(size_px=(160, 96))
        written = encode_span(str(path), target, 0, 6144, fit=fit, fps=24.0, settings=settings)
        assert written.num_frames == 12
        sizes[preset] = target.stat().st_size
    assert len(set(sizes.values())) > 1  # the preset reaches the encoder


def test_quality_reaches_the_encoder(make_video: Maker, tmp_path: Path) -> None:
    path = make_video("cfr.mp4", Recording(), camera=FAST)
    row = scan(path).whole_clip()
    for encoder in SOFTWARE:
        sizes = []
        for crf in (20, 45):
            root = tmp_path / encoder / str(crf)
            media, _ = cut_clips([row], root, mode="reencode", encoder=encoder, crf=crf)
            sizes.append(media[0]["media_bytes"])
        assert sizes[0] > 2 * sizes[1], encoder


def works_here() -> bool:
    return nvenc.nvenc_fault() is None


def test_the_probe_tells_the_truth() -> None:
    """Its answer against the fact: can the encoder be opened and fed at all?"""
    fault = nvenc.nvenc_fault()
    try:
        opened = bool(nvenc._encode())
    except (av.error.FFmpegError, ValueError):
        opened = False
    assert (fault is None) == opened
    assert "h264_nvenc" in av.codecs_available  # the name alone proves nothing


@pytest.mark.skipif(works_here(), reason="NVENC works here")
def test_without_nvenc_auto_is_libx264_and_nvenc_is_refused(
    make_video: Maker, tmp_path: Path
) -> None:
    assert nvenc.choose_encoder("auto") == "libx264"
    context = StageContext(storage=Storage(tmp_path), fingerprint=FINGERPRINT)
    with pytest.raises(ConfigError, match="does not encode on this machine") as caught:
        cut_stage(encoder="h264_nvenc").setup(context)
    assert "cut.encoder=libx264" in caught.value.mend
    path = make_video("cfr.mp4", Recording(), camera=FAST)
    row = scan(path).whole_clip()
    auto, _ = cut_clips([row], tmp_path / "auto", mode="reencode", encoder="auto")
    plain, _ = cut_clips([row], tmp_path / "plain", mode="reencode")
    assert auto[0]["media_encoder"] == "libx264"
    assert auto[0]["media_sha256"] == plain[0]["media_sha256"]


@pytest.mark.skipif(not works_here(), reason="no NVENC that works")
def test_with_nvenc(make_video: Maker, tmp_path: Path) -> None:
    """Where a card has it: the same frames, keyframes in step."""
    path = make_video("large.mp4", Recording(), camera=FAST, size_px=(320, 192))
    row = scan(path).whole_clip()
    media, failures = cut_clips([row], tmp_path, mode="reencode", encoder="auto", gop_frames=8)
    assert not failures
    assert (media[0]["media_encoder"], media[0]["media_codec"]) == ("h264_nvenc", "h264")
    assert media[0]["media_max_gop_frames"] == 8
    wanted, got = read_pictures(path)[1], read_pictures(media[0]["path"])[1]
    assert min(psnr(a, b) for a, b in zip(wanted, got, strict=True)) > 33


def test_the_probe_is_a_real_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an encoder that works in its place the probe says yes; with one that lies, no."""

    def x264() -> list[bytes]:
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height = nvenc.PROBE_SIZE_PX
        context.pix_fmt, context.framerate = "yuv420p", nvenc.Fraction(25)
        context.time_base = nvenc.Fraction(1, 25)
        data = []
        for index in range(nvenc.PROBE_FRAMES):
            planes = np.full(
                (nvenc.PROBE_SIZE_PX[1] * 3 // 2, nvenc.PROBE_SIZE_PX[0]), 128, np.uint8
            )
            planes[: nvenc.PROBE_SIZE_PX[1]] = nvenc._picture(index + offset)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = index, nvenc.Fraction(1, 25)
            data += [bytes(p) for p in context.encode(frame)]
        return data + [bytes(p) for p in context.encode(None)]

    monkeypatch.setattr(nvenc, "_encode", x264)
    offset = 0
    assert nvenc.nvenc_fault.__wrapped__() is None
    offset = 5  # the right number of frames, of other pictures
    assert "changed" in str(nvenc.nvenc_fault.__wrapped__())
    monkeypatch.setattr(nvenc, "_encode", lambda: x264()[:3])
    assert "3 came back" in str(nvenc.nvenc_fault.__wrapped__())
