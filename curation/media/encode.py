"""Encoding a span of a video as an MP4 of its own: upright, square pixels, H.264, short GOPs.

The bytes are a pure function of (file, span, settings): one encoder thread, no CPU-dependent
code paths, no time stamps or version strings from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from curation.errors import ErrorCode, MediaError
from curation.media.audio import copy_audio
from curation.media.decode import open_video, time_base, walk_frames
from curation.signals.analysis import rotate

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
    return max(2, 2 * int(wide / 2 + 1e-6)), max(2, 2 * int(high / 2 + 1e-6))


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
    with open_video(path) as (source, stream), _open_mp4(target) as out:
        encoder = _add_encoder(out, stream, size_px, fps, settings)
        fit = _Fitter(size_px, turn_deg)
        count = 0
        try:
            for decoded in walk_frames(source, stream, start_pts=start_pts):
                if decoded.pts >= end_pts:
                    break
                frame = fit(decoded.frame)
                frame.pts = decoded.pts - start_pts
                frame.time_base = time_base(stream)
                frame.pict_type = PictureType.NONE
                out.mux(encoder.encode(frame))
                count += 1
            if count == 0:
                raise MediaError(ErrorCode.DECODE_FAILED, "no frame of the clip decodes")
            out.mux(encoder.encode(None))
            if settings.with_audio:
                unit = time_base(stream)
                copy_audio(path, out, start_pts * unit, end_pts * unit)
        except av.error.FFmpegError as exc:
            raise MediaError(ErrorCode.ENCODE_FAILED, f"{type(exc).__name__}: {exc}") from exc
    return Written(
        width_px=size_px[0],
        height_px=size_px[1],
        num_frames=count,
        start_pts=start_pts,
        end_pts=end_pts,
    )


def copy_span(path: str, target: Path, start_pts: int, end_pts: int) -> Written:
    """Copy packets without decoding, from the first to the last keyframe inside the span.

    The copy never shows a frame from outside the span; what lies before its first and after its
    last keyframe is given up (the last group is kept when the span ends with the video).

    Raises:
        MediaError: ``no_keyframe`` when no whole group of pictures lies inside.
    """
    with open_video(path) as (source, stream):
        packets = []
        source.seek(start_pts, stream=stream, backward=True)
        key_pts: list[int] = []
        ended = True
        for packet in source.demux(stream):
            if packet.pts is None or packet.dts is None:
                continue
            if packet.is_keyframe:
                key_pts.append(packet.pts)
                if packet.pts >= end_pts:
                    ended = False
                    break
            packets.append(packet)
        inside = [p for p in key_pts if start_pts <= p < end_pts]
        stop = end_pts
        if inside and max(p.pts for p in packets) >= end_pts:
            ended = False
        if not ended and (max(key_pts) < end_pts or key_pts[-1] > end_pts):
            stop = inside[-1] if inside else start_pts
        if not inside or stop <= inside[0]:
            raise MediaError(ErrorCode.NO_KEYFRAME, "no whole group of pictures inside the clip")
        first = inside[0]
        # Leading frames of an open GOP are shown before their keyframe: outside the copy.
        chosen = [p for p in packets if first <= p.pts < stop]
        with _open_mp4(target) as out:
            track = out.add_stream_from_template(stream)
            offset = first
            for packet in chosen:
                packet.stream = track
                packet.pts -= offset
                packet.dts -= offset
                out.mux(packet)
        return Written(
            width_px=stream.codec_context.width,
            height_px=stream.codec_context.height,
            num_frames=len(chosen),
            start_pts=first,
            end_pts=stop,
        )


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


def _open_mp4(target: Path) -> OutputContainer:
    return av.open(str(target), "w", format="mp4", options=MP4_OPTIONS)


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
    rate = Fraction(fps).limit_denominator(1001)
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
    context.colorspace = given.colorspace
    context.color_range = 1
    return encoder
