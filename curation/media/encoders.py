"""The video encoders that clips can be written with, and how each is made to repeat itself.

Every encoder runs on one thread, with keyframes at fixed distances, closed groups and no version
string, so that the same frames give the same bytes. libx264 does so on every processor
(``cpu-independent``); libx265 and SVT-AV1 do on processors of one kind; NVENC promises nothing
across cards and drivers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from av.container import OutputContainer
from av.video.stream import VideoStream

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints twenty lines per clip; errors only

EncoderName = Literal["libx264", "libx265", "libsvtav1", "h264_nvenc"]

X26X_PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)
PRESETS: dict[EncoderName, tuple[str, ...]] = {
    "libx264": X26X_PRESETS,
    "libx265": X26X_PRESETS,
    "libsvtav1": tuple(str(n) for n in range(14)),
    "h264_nvenc": tuple(f"p{n}" for n in range(1, 8)),
}
"""Names that each encoder knows; for SVT-AV1 a higher number is faster, for NVENC slower."""
DEFAULT_PRESETS: dict[EncoderName, str] = {
    "libx264": "veryfast",
    "libx265": "veryfast",
    "libsvtav1": "8",
    "h264_nvenc": "p4",
}
MAX_CRF: dict[EncoderName, int] = {
    "libx264": 51,
    "libx265": 51,
    "libsvtav1": 63,
    "h264_nvenc": 51,
}
PIXEL_FORMATS: dict[int, str] = {8: "yuv420p", 10: "yuv420p10le"}
"""Stored pixel format by bit depth: 4:2:0, limited range."""

MPEG_RANGE = 1  # FFmpeg's AVCOL_RANGE_MPEG: luma 16-235


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """How clips are encoded.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        crf: Constant rate factor (NVENC: constant quantiser); lower is better and larger.
        preset: The encoder's preset; None: its own default.
        gop_frames: Frames between keyframes; short GOPs make random access cheap in training.
        bit_depth: 8 or 10.
        with_audio: Keep the sound, as AAC.
    """

    encoder: EncoderName = "libx264"
    crf: int
    preset: str | None = None
    gop_frames: int
    bit_depth: Literal[8, 10] = 8
    with_audio: bool

    @property
    def pix_fmt(self) -> str:
        """The stored pixel format."""
        return PIXEL_FORMATS[self.bit_depth]


@dataclass(frozen=True, kw_only=True)
class ColorTags:
    """What the file says of its colours, in FFmpeg's numbers (ITU-T H.273).

    Attributes:
        primaries: 1 is BT.709, 9 BT.2020, 2 unknown.
        transfer: 1 is BT.709, 16 PQ, 18 HLG, 2 unknown.
        matrix: 1 is BT.709, 6 BT.601, 9 BT.2020, 2 unknown.
    """

    primaries: int
    transfer: int
    matrix: int


BT709 = ColorTags(primaries=1, transfer=1, matrix=1)


def add_encoder(
    out: OutputContainer,
    settings: EncodeSettings,
    *,
    size_px: tuple[int, int],
    rate: Fraction,
    unit: Fraction,
    tags: ColorTags,
) -> VideoStream:
    """Add the video track to a file.

    Args:
        out: The file; nothing may be muxed yet.
        settings: Encoder settings.
        size_px: Stored width and height, both even.
        rate: Nominal frames per second, for the header and the rate control.
        unit: Time base of the frames that will come.
        tags: Colours to announce.
    """
    stream = out.add_stream(settings.encoder, rate=rate, options=_options(settings))
    stream.width, stream.height = size_px
    stream.pix_fmt = settings.pix_fmt
    stream.time_base = unit
    context = stream.codec_context
    context.time_base = unit
    context.thread_count = 1
    context.thread_type = "NONE"
    context.color_primaries = tags.primaries
    context.color_trc = tags.transfer
    context.colorspace = tags.matrix
    context.color_range = MPEG_RANGE
    return stream


def _options(settings: EncodeSettings) -> dict[str, str]:
    gop = settings.gop_frames
    groups = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0"
    options = {
        "preset": settings.preset or DEFAULT_PRESETS[settings.encoder],
        "flags": "+bitexact",
        "g": str(gop),
    }
    if settings.encoder == "h264_nvenc":
        return options | {
            "rc": "constqp",
            "qp": str(settings.crf),
            "forced-idr": "1",
            "no-scenecut": "1",
            "strict_gop": "1",
        }
    options["crf"] = str(settings.crf)
    if settings.encoder == "libx264":
        options["x264-params"] = f"cpu-independent=1:{groups}"
    elif settings.encoder == "libx265":
        threads = "pools=none:frame-threads=1:wpp=0"
        options["x265-params"] = f"{threads}:info=0:log-level=error:{groups}"
    else:
        options["svtav1-params"] = "lp=1:scd=0"
    return options
