"""Encoding a span of a video as an MP4 of its own: upright, square pixels, short GOPs.

The bytes are a pure function of (file, span, fit, settings): one encoder thread, no CPU-dependent
code paths, no time stamps or version strings from outside.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from curation.errors import ErrorCode, MediaError
from curation.media.audio import SoundTrack, read_samples
from curation.media.blur import FaceBlur
from curation.media.decode import Decoded, open_video, time_base, walk_frames
from curation.media.encoders import BT709, ColorTags, EncodeSettings, add_encoder
from curation.media.filters import FrameFilters
from curation.media.fit import Fit, Fitter
from curation.media.retime import exact_rate, num_frames_at, on_display

BT601 = 6  # FFmpeg's AVCOL_SPC_SMPTE170M
MP4_OPTIONS = {"movflags": "+faststart", "fflags": "+bitexact"}


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a written clip is.

    Attributes:
        width_px: Stored width.
        height_px: Stored height.
        num_frames: Frames in the file.
        num_source_frames: Frames of the source that it was made of.
        start_pts: First pts of the source that it shows.
        end_pts: First pts of the source that it no longer shows.
        duration_s: Length of the file in seconds.
        codec: Canonical name of the codec.
        max_gop_frames: Most frames from one keyframe up to the next, in file order.
        deinterlaced: True when frames were deinterlaced.
        num_blurred_frames: Frames in which faces were covered; None: none were looked for.
    """

    width_px: int
    height_px: int
    num_frames: int
    num_source_frames: int
    start_pts: int
    end_pts: int
    duration_s: Fraction
    codec: str
    max_gop_frames: int
    deinterlaced: bool = False
    num_blurred_frames: int | None = None


def open_mp4(target: Path) -> OutputContainer:
    """Open an MP4 file for writing, without anything that differs between runs."""
    return av.open(str(target), "w", format="mp4", options=MP4_OPTIONS)


def mp4_duration(length: int, packet: Packet, first_dts: int, *, last: bool) -> int:
    """The duration to give a packet so that its MP4 track is as long as the span.

    MP4 tells a track's length twice: as the sum of steps of decoding time, of which the last is the
    last packet's duration, and in its edit list, as the latest end of any packet. Readers take the
    shorter one, so at variable frame rates the last packet alone cannot set it: all others reach to
    the end of the span, which only the edit list looks at.

    Args:
        length: The span in the packet's units; the first frame is shown at 0.
        packet: The next packet, in decoding order.
        first_dts: Decoding time of the first packet.
        last: True for the last packet.
    """
    if last:
        return max(1, length + first_dts - (packet.dts or 0))
    return max(1, length - (packet.pts or 0))


def encode_span(
    path: str,
    target: Path,
    start_pts: int,
    end_pts: int,
    *,
    fit: Fit,
    fps: float,
    settings: EncodeSettings,
    blur: FaceBlur | None = None,
) -> Written:
    """Encode the frames with ``start_pts <= pts < end_pts`` of a video to an MP4 file.

    Args:
        path: Local path of the source.
        target: File to write.
        start_pts: First pts, inclusive.
        end_pts: Last pts, exclusive.
        fit: What becomes of the pixels and times.
        fps: Nominal frame rate for the header where frames keep their own times.
        settings: Encoder settings.
        blur: Covers faces; made for this clip alone.

    Raises:
        MediaError: ``decode_failed`` or ``encode_failed``.
    """
    with open_video(path) as (source, stream):
        unit = time_base(stream)
        samples = None
        if settings.with_audio:
            samples = read_samples(path, start_pts * unit, end_pts * unit)
        frames = walk_frames(source, stream, start_pts=start_pts)
        inside = _Counted(itertools.takewhile(lambda d: d.pts < end_pts, frames))
        filters = FrameFilters(fit.deinterlace, fit.crop)
        track = _Track.of((start_pts, end_pts), unit, fit, fps)
        shown = _times(filters(inside), track, (start_pts, end_pts), unit, fit)
        stats, codec = _write(
            target, shown, track, samples, source=stream, fit=fit, settings=settings, blur=blur
        )
    if stats.num_frames == 0:
        raise MediaError(ErrorCode.DECODE_FAILED, "no frame of the clip decodes")
    return Written(
        width_px=fit.size_px[0],
        height_px=fit.size_px[1],
        num_frames=stats.num_frames,
        num_source_frames=inside.count,
        start_pts=start_pts,
        end_pts=end_pts,
        duration_s=track.length * track.unit,
        codec=codec,
        max_gop_frames=stats.max_gop_frames,
        deinterlaced=filters.deinterlacing,
        num_blurred_frames=blur.num_frames if blur is not None else None,
    )


def _write(
    target: Path,
    shown: Iterable[tuple[int, VideoFrame]],
    track: _Track,
    samples: np.ndarray | None,
    *,
    source: VideoStream,
    fit: Fit,
    settings: EncodeSettings,
    blur: FaceBlur | None,
) -> tuple[_Stats, str]:
    """Fit, cover faces, encode and mux; returns the counts and the codec's canonical name."""
    try:
        with open_mp4(target) as out:
            encoder = add_encoder(
                out,
                settings,
                size_px=fit.size_px,
                rate=track.rate,
                unit=track.unit,
                tags=BT709 if fit.tonemap else _tags(source),
            )
            sound = SoundTrack(out, samples) if samples is not None else None
            fitted = _fitted(shown, Fitter(fit, settings.pix_fmt))
            if blur is not None:
                fitted = blur(fitted)
            stats = _encode(out, encoder, fitted, track, sound)
    except (av.error.FFmpegError, ValueError) as exc:
        raise MediaError(ErrorCode.ENCODE_FAILED, f"{type(exc).__name__}: {exc}") from exc
    return stats, encoder.codec_context.codec.canonical_name


class _Counted:
    """Counts what passes."""

    def __init__(self, frames: Iterator[Decoded]) -> None:
        self.count = 0
        self._frames = frames

    def __iter__(self) -> Iterator[Decoded]:
        for frame in self._frames:
            self.count += 1
            yield frame


@dataclass(frozen=True)
class _Track:
    """Times of the written track: its clock and its length in units of it."""

    rate: Fraction
    unit: Fraction
    length: int

    @classmethod
    def of(cls, span: tuple[int, int], unit: Fraction, fit: Fit, fps: float) -> _Track:
        length = span[1] - span[0]
        if fit.fps is None:
            return cls(exact_rate(fps), unit, length)
        rate = exact_rate(fit.fps)
        return cls(rate, 1 / rate, num_frames_at(rate, length * unit))


def _times(
    frames: Iterable[tuple[int, VideoFrame]],
    track: _Track,
    span: tuple[int, int],
    unit: Fraction,
    fit: Fit,
) -> Iterator[tuple[int, VideoFrame]]:
    """Frames with their times on the track's clock, from 0."""
    if fit.fps is None:
        yield from ((pts - span[0], frame) for pts, frame in frames)
    else:
        yield from on_display(frames, span_pts=span, unit=unit, rate=track.rate)


def _fitted(
    frames: Iterable[tuple[int, VideoFrame]], fit: Fitter
) -> Iterator[tuple[int, VideoFrame]]:
    """Fit each frame once, however often it is shown."""
    source: VideoFrame | None = None
    ready: VideoFrame | None = None
    for pts, frame in frames:
        if ready is None or frame is not source:
            source, ready = frame, fit(frame)
        yield pts, ready


@dataclass
class _Stats:
    """Counts of what was muxed."""

    num_frames: int = 0
    max_gop_frames: int = 0
    _since_key: int = 0

    def add(self, packet: Packet) -> None:
        self.num_frames += 1
        self._since_key = 1 if packet.is_keyframe else self._since_key + 1
        self.max_gop_frames = max(self.max_gop_frames, self._since_key)


def _encode(
    out: OutputContainer,
    encoder: VideoStream,
    frames: Iterable[tuple[int, VideoFrame]],
    track: _Track,
    sound: SoundTrack | None,
) -> _Stats:
    """Encode and mux frames at their times, the sound beside them."""
    stats = _Stats()
    ready = _packets(encoder, frames, track.unit)
    upcoming = next(ready, None)
    first_dts = upcoming.dts or 0 if upcoming is not None else 0
    while upcoming is not None:
        packet, upcoming = upcoming, next(ready, None)
        dts = packet.dts or 0
        last = upcoming is None
        packet.duration = mp4_duration(track.length, packet, first_dts, last=last)
        if sound is not None:
            out.mux(list(sound.packets_until(dts * track.unit)))
        stats.add(packet)
        out.mux(packet)
    if stats.num_frames and sound is not None:
        out.mux(list(sound.packets_until(None)))
    return stats


def _packets(
    encoder: VideoStream, frames: Iterable[tuple[int, VideoFrame]], unit: Fraction
) -> Iterator[Packet]:
    fed = False
    for pts, frame in frames:
        frame.pts, frame.time_base = pts, unit
        frame.pict_type = PictureType.NONE
        fed = True
        yield from encoder.encode(frame)
    if fed:
        yield from encoder.encode(None)


def _tags(source: VideoStream) -> ColorTags:
    """The source's own colours; RGB announces no matrix, so FFmpeg's from RGB is named."""
    given = source.codec_context
    rgb = given.format is not None and given.format.is_rgb
    return ColorTags(
        primaries=given.color_primaries,
        transfer=given.color_trc,
        matrix=BT601 if rgb else given.colorspace,
    )
