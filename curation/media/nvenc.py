"""Is there an NVENC that works? Only encoding a few frames tells.

FFmpeg lists ``h264_nvenc`` on every machine it was built for. Whether it runs depends on the card
(data-centre cards such as A100 and H100 have none), the driver and the container's rights.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Literal

import av
import av.codec.codec
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from curation.errors import ConfigError
from curation.media.encoders import EncoderName

NVENC: EncoderName = "h264_nvenc"
MIN_SIZE_PX = (160, 64)
"""Smallest width and height that NVENC takes on all generations."""

PROBE_SIZE_PX = (320, 192)
PROBE_FRAMES = 5


def choose_encoder(wanted: EncoderName | Literal["auto"]) -> EncoderName:
    """The encoder to use on this machine.

    Args:
        wanted: An encoder, or ``auto``: NVENC where it works, else libx264.

    Raises:
        ConfigError: NVENC was asked for by name and does not encode here.
    """
    if wanted not in (NVENC, "auto"):
        return wanted
    fault = nvenc_fault()
    if fault is None:
        return NVENC
    if wanted == "auto":
        return "libx264"
    raise ConfigError(
        f"{NVENC} does not encode on this machine: {fault}",
        where="cut.encoder",
        mend="use cut.encoder=libx264, or cut.encoder=auto to take NVENC only where it works",
    )


@lru_cache(maxsize=1)
def nvenc_fault() -> str | None:
    """Why NVENC cannot be used here, or None when a probe came back as it went in.

    Encodes and decodes a few frames (a fraction of a second, once per process).
    """
    try:
        packets = _encode()
        frames = _decode(packets)
    except (av.error.FFmpegError, av.codec.codec.UnknownCodecError, ValueError) as exc:
        return f"{type(exc).__name__}: {exc}"
    if len(frames) != PROBE_FRAMES:
        return f"of {PROBE_FRAMES} frames {len(frames)} came back"
    worst = max(float(np.abs(frame - _picture(i)).mean()) for i, frame in enumerate(frames))
    return None if worst < 4 else f"the pictures came back changed (mean error {worst:.0f})"


def _picture(index: int) -> np.ndarray:
    """A moving ramp: int16 [h, w], limited range."""
    width, height = PROBE_SIZE_PX
    ramp = 32 + (np.arange(width) + 8 * index) % width * 180 // width
    return np.broadcast_to(ramp.astype(np.int16), (height, width))


def _encode() -> list[bytes]:
    width, height = PROBE_SIZE_PX
    context = av.CodecContext.create(NVENC, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = {"rc": "constqp", "qp": "18"}
    data: list[bytes] = []
    for index in range(PROBE_FRAMES):
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        planes[:height] = _picture(index)
        frame = VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        data += [bytes(p) for p in context.encode(frame)]
    return data + [bytes(p) for p in context.encode(None)]


def _decode(packets: list[bytes]) -> list[np.ndarray]:
    context = av.CodecContext.create("h264", "r")
    assert isinstance(context, VideoCodecContext)
    frames = [f for data in packets for f in context.decode(av.Packet(data))]
    frames += context.decode(None)
    height = PROBE_SIZE_PX[1]
    return [f.to_ndarray(format="yuv420p")[:height].astype(np.int16) for f in frames]
