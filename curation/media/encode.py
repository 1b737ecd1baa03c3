"""Encoding a span of a video as an MP4 of its own: upright, square pixels, H.264, short GOPs.

The bytes are a pure function of (file, span, settings): one encoder thread, no CPU-dependent
code paths, no time stamps or version strings from outside.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from curation.errors import ErrorCode, MediaError
from curation.media.audio import SoundTrack, read_samples
from curation.media.decode import Decoded, open_video, time_base, walk_frames
from curation.signals.analysis import rotate

BT601 = 6  # FFmpeg's AVCOL_SPC_SMPTE170M
MP4_OPTIONS = {"movflags": "+faststart", "fflags": "+bitexact"}


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """How clips are encoded.

    Attributes:
        crf: libx264 constant rate factor (lower is better and larger).
        preset: libx264 preset.
        gop_frames: Frames between keyframes; short GOPs make random access cheap in training.
        with_audio: Keep the sound, as AAC.
    """

    crf: int
    preset: str
    gop_frames: int
    with_audio: bool


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a written clip is.

    Attributes:
        width_px: Stored width.
        height_px: Stored height.
        num_frames: Frames in the file.
        start_pts: First pts of the source that it shows.
        end_pts: First pts of the source that it no longer shows.
    """

    width_px: int
    height_px: int
    num_frames: int
    start_pts: int
    end_pts: int


def output_size(width_px: int, height_px: int, sample_aspect_ratio: float) -> tuple[int, int]:
    """Stored size for a displayed size: square pixels (never upscaled in height), even sides."""
    wide = width_px * max(sample_aspect_ratio, 1.0)
    high = height_px / min(sample_aspect_ratio, 1.0)
    slack = 0.01  # the ratio is known to six digits: 720 times 1.422222 is 1024
    return max(2, 2 * int(wide / 2 + slack)), max(2, 2 * int(high / 2 + slack))


def encode_span(
    path: str,
    target: Path,
    start_pts: int,
    end_pts: int,
    *,
    size_px: tuple[int, int],
    turn_deg: int,
    fps: float,
    settings: EncodeSettings,
) -> Written:
    """Encode the frames with ``start_pts <= pts < end_pts`` of a video to an MP4 file.

    Args:
        path: Local path of the source.
        target: File to write.
        start_pts: First pts, inclusive.
        end_pts: Last pts, exclusive.
        size_px: Displayed width and height to store, both even.
        turn_deg: Clockwise turn to apply.
        fps: Nominal frame rate for the header; frames keep their own times.
        settings: Encoder settings.

    Raises:
        MediaError: ``decode_failed`` or ``encode_failed``.
    """
    with open_video(path) as (source, stream):
        unit = time_base(stream)
        samples = None
        if settings.with_audio:
            samples = read_samples(path, start_pts * unit, end_pts * unit)
        frames = walk_frames(source, stream, start_pts=start_pts)
        inside = itertools.takewhile(lambda d: d.pts < end_pts, frames)
        try:
            with open_mp4(target) as out:
                encoder = _add_encoder(out, stream, size_px, fps, settings)
                sound = SoundTrack(out, samples) if samples is not None else None
                fit = _Fitter(size_px, turn_deg)
                count = _encode(out, encoder, inside, fit, (start_pts, end_pts, unit), sound)
        except (av.error.FFmpegError, ValueError) as exc:
            raise MediaError(ErrorCode.ENCODE_FAILED, f"{type(exc).__name__}: {exc}") from exc
    if count == 0:
        raise MediaError(ErrorCode.DECODE_FAILED, "no frame of the clip decodes")
    return Written(
        width_px=size_px[0],
        height_px=size_px[1],
        num_frames=count,
        start_pts=start_pts,
        end_pts=end_pts,
    )


def open_mp4(target: Path) -> OutputContainer:
    """Open an MP4 file for writing, without anything that differs between runs."""
    return av.open(str(target), "w", format="mp4", options=MP4_OPTIONS)


def _encode(
    out: OutputContainer,
    encoder: VideoStream,
    frames: Iterator[Decoded],
    fit: _Fitter,
    span: tuple[int, int, Fraction],
    sound: SoundTrack | None,
) -> int:
    """Encode and mux frames at their own times, the sound beside them; returns how many."""
    start_pts, end_pts, unit = span
    count = 0

    def packets() -> Iterator[Packet]:
        nonlocal count
        for decoded in frames:
            frame = fit(decoded.frame)
            frame.pts, frame.time_base = decoded.pts - start_pts, unit
            frame.pict_type = PictureType.NONE
            count += 1
            yield from encoder.encode(frame)
        if count:
            yield from encoder.encode(None)

    ready = packets()
    upcoming = next(ready, None)
    first_dts = upcoming.dts or 0 if upcoming is not None else 0
    while upcoming is not None:
        packet, upcoming = upcoming, next(ready, None)
        dts = packet.dts or 0
        if upcoming is None:
            # MP4 stores steps of decoding time, whose sum is the track's length: the last step
            # makes the track as long as the span, at variable frame rates too.
            packet.duration = max(1, end_pts - start_pts + first_dts - dts)
        if sound is not None:
            out.mux(list(sound.packets_until(dts * unit)))
        out.mux(packet)
    if count and sound is not None:
        out.mux(list(sound.packets_until(None)))
    return count


class _Fitter:
    """Brings frames to the stored size and orientation as 8-bit 4:2:0."""

    def __init__(self, size_px: tuple[int, int], turn_deg: int) -> None:
        self._size, self._turn = size_px, turn_deg
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        width, height = self._size
        if self._turn in (90, 270):
            width, height = height, width
        fitted = self._scaler.reformat(
            frame, width=width, height=height, format="yuv420p", dst_color_range="MPEG"
        )
        return _turn_planes(fitted, self._turn) if self._turn else fitted


def _turn_planes(frame: VideoFrame, turn_deg: int) -> VideoFrame:
    """Turn a yuv420p frame clockwise, plane by plane."""
    height, width = frame.height, frame.width
    flat = frame.to_ndarray()
    luma = rotate(flat[:height], turn_deg)
    chroma = flat[height:].reshape(2, height // 2, width // 2)
    turned = [rotate(np.ascontiguousarray(plane), turn_deg).ravel() for plane in chroma]
    planes = np.concatenate([luma.ravel(), *turned])
    return VideoFrame.from_ndarray(planes.reshape(-1, luma.shape[1]), format="yuv420p")


def _add_encoder(
    out: OutputContainer,
    source: VideoStream,
    size_px: tuple[int, int],
    fps: float,
    settings: EncodeSettings,
) -> VideoStream:
    options = {
        "crf": str(settings.crf),
        "preset": settings.preset,
        "flags": "+bitexact",
        "x264-params": (
            f"cpu-independent=1:scenecut=0:keyint={settings.gop_frames}"
            f":min-keyint={settings.gop_frames}:open-gop=0"
        ),
    }
    rate = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
    encoder = out.add_stream("libx264", rate=rate, options=options)
    encoder.width, encoder.height = size_px
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = time_base(source)
    context = encoder.codec_context
    context.time_base = time_base(source)
    context.thread_count = 1
    context.thread_type = "NONE"
    given = source.codec_context
    context.color_primaries = given.color_primaries
    context.color_trc = given.color_trc
    rgb = given.format is not None and given.format.is_rgb
    context.colorspace = BT601 if rgb else given.colorspace  # FFmpeg's matrix from RGB
    context.color_range = 1
    return encoder
