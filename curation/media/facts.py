"""Container and stream facts of one file: what the header and the first frames say."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.errors import ErrorCode, MediaError
from curation.media.decode import open_video, time_base, walk_frames

PROBE_FRAMES = 4
"""Frames decoded to learn what headers do not tell (rotation, interlacing)."""

TRANSFERS = {1: "bt709", 6: "smpte170m", 13: "srgb", 14: "bt2020-10", 15: "bt2020-12"}
HDR_TRANSFERS = {16: "pq", 18: "hlg"}
FIELD_ORDERS_INTERLACED = {2, 3, 4, 5}


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """What a stream's packets are as they stand; sizes are as displayed, after rotation.

    Attributes:
        codec: Codec name.
        width_px: Displayed width of the stored pixels, after rotation.
        height_px: Displayed height, after rotation.
        sample_aspect_ratio: Width of a pixel over its height, after rotation; 1.0 is square.
        rotation_deg: Clockwise turn that the display has to apply: 0, 90, 180 or 270.
        pix_fmt: FFmpeg's pixel format.
        has_alpha: True when an alpha plane is stored or announced.
        is_hdr: True for the transfers ``pq`` and ``hlg``.
        full_range: True when luma uses 0-255.
        interlaced: True when the header or the first frames say so.
    """

    codec: str
    width_px: int
    height_px: int
    sample_aspect_ratio: float
    rotation_deg: int
    pix_fmt: str
    has_alpha: bool
    is_hdr: bool
    full_range: bool
    interlaced: bool


@dataclass(frozen=True, kw_only=True)
class VideoFacts(StreamFacts):
    """Facts of one video file: those of its stream, and these.

    Attributes:
        container: FFmpeg's name of the container format.
        bit_depth: Bits of the first component.
        avg_fps: Average frame rate of the header, null when unknown.
        base_fps: Lowest rate that can express all timestamps; differs from ``avg_fps`` on VFR.
        declared_duration_s: Length that the header promises, null when unknown.
        time_base: Seconds per pts unit, ``"num/den"``.
        transfer: Transfer characteristic; ``pq`` and ``hlg`` are HDR.
        num_audio_streams: Number of audio streams.
        bit_rate_bps: Of the container, null when unknown.
    """

    container: str
    bit_depth: int
    avg_fps: float | None
    base_fps: float | None
    declared_duration_s: float | None
    time_base: str
    transfer: str | None
    num_audio_streams: int
    bit_rate_bps: int | None


def read_facts(path: str) -> VideoFacts:
    """Read the facts of a local file.

    Raises:
        MediaError: It is no video, or none of its frames decodes (``no_frames``).
    """
    with open_video(path) as (container, stream):
        frames = [d.frame for d in islice(walk_frames(container, stream), PROBE_FRAMES)]
        if not frames:
            raise MediaError(
                ErrorCode.NO_FRAMES, f"no frame of the {codec_name(stream)} stream decodes"
            )
        return _facts(container, stream, frames)


def codec_name(stream: VideoStream) -> str:
    """The codec's canonical name (``av1``, not the decoder's ``libdav1d``)."""
    return stream.codec_context.codec.canonical_name


def rotation_deg(frame: VideoFrame) -> int:
    """Clockwise quarter turns (in degrees) that display applies to a decoded frame.

    FFmpeg's display matrix counts anticlockwise; PyAV hands that on.
    """
    return round(-frame.rotation / 90) % 4 * 90


def _facts(container: InputContainer, stream: VideoStream, frames: list[VideoFrame]) -> VideoFacts:
    context, frame = stream.codec_context, frames[0]
    turn = rotation_deg(frame)
    width, height = frame.width, frame.height
    sar = float(stream.sample_aspect_ratio or Fraction(1)) or 1.0
    if turn in (90, 270):
        width, height, sar = height, width, 1 / sar
    transfer = int(frame.color_trc)
    interlaced = any(f.interlaced_frame for f in frames)
    interlaced |= int(context.field_order) in FIELD_ORDERS_INTERLACED
    components = frame.format.components
    return VideoFacts(
        container=container.format.name.split(",")[0],
        codec=codec_name(stream),
        width_px=width,
        height_px=height,
        sample_aspect_ratio=round(sar, 6),
        rotation_deg=turn,
        pix_fmt=frame.format.name,
        bit_depth=components[0].bits,
        has_alpha=any(c.is_alpha for c in components) or stream.metadata.get("alpha_mode") == "1",
        avg_fps=_rate(stream.average_rate),
        base_fps=_rate(stream.base_rate),
        declared_duration_s=_duration_s(container, stream),
        time_base=f"{time_base(stream).numerator}/{time_base(stream).denominator}",
        interlaced=interlaced,
        transfer=HDR_TRANSFERS.get(transfer) or TRANSFERS.get(transfer),
        is_hdr=transfer in HDR_TRANSFERS,
        full_range=int(frame.color_range) == 2,
        num_audio_streams=len(container.streams.audio),
        bit_rate_bps=container.bit_rate or None,
    )


def _rate(rate: Fraction | None) -> float | None:
    return round(float(rate), 6) if rate else None


def _duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration:
        return round(float(stream.duration * time_base(stream)), 6)
    if container.duration and not container.streams.audio:
        length = container.duration
        if "matroska" in container.format.name:  # there the time of the end is stored
            length -= max(0, container.start_time or 0)
        return round(length / 1_000_000, 6)
    return None
