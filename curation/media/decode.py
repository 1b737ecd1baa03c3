"""Opening a video and walking its frames: exact pts, damage marked, memory bounded.

Frames come in presentation order. A packet that does not decode does not end the walk: the frames
from there to the next keyframe are marked ``damaged``, since FFmpeg conceals errors with pixels
that no camera saw.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import av.error
import av.logging
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.errors import ErrorCode, MediaError

av.logging.set_level(av.logging.PANIC)  # damage is counted here, not printed by FFmpeg
logging.getLogger("libav").setLevel(logging.CRITICAL)

ATTACHED_PICTURE = 0x400  # FFmpeg's AV_DISPOSITION_ATTACHED_PIC: cover art, not footage


@dataclass(frozen=True)
class Decoded:
    """One frame as decoded.

    Attributes:
        frame: The pixels, unrotated, in the stream's own format.
        pts: Presentation time in units of the stream's time base; strictly increasing.
        damaged: True when the decoder had to conceal errors here.
    """

    frame: VideoFrame
    pts: int
    damaged: bool


@contextlib.contextmanager
def open_video(path: str, *, threads: int = 1) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and choose its video stream (the first that is not cover art).

    Args:
        path: Local path.
        threads: Decoder threads; 1 keeps a worker to one core.

    Raises:
        MediaError: ``not_a_video``, ``no_video_stream``, ``unsupported_codec`` or a read error.
    """
    try:
        container = av.open(path, mode="r")
    except FileNotFoundError as exc:
        raise MediaError(ErrorCode.NOT_FOUND, f"no such file: {path}") from exc
    except PermissionError as exc:
        raise MediaError(ErrorCode.NOT_READABLE, str(exc)) from exc
    except av.error.FFmpegError as exc:
        raise MediaError(
            ErrorCode.NOT_A_VIDEO, f"FFmpeg finds no media container: {exc.strerror}"
        ) from exc
    with container:
        streams = [s for s in container.streams.video if not int(s.disposition) & ATTACHED_PICTURE]
        if not streams:
            sound = len(container.streams.audio)
            raise MediaError(ErrorCode.NO_VIDEO_STREAM, f"no video stream ({sound} of audio)")
        stream = streams[0]
        # PyAV leaves the codec context out when this build of FFmpeg has no decoder for it.
        if cast(Any, stream.codec_context) is None:
            raise MediaError(ErrorCode.UNSUPPORTED_CODEC, "no decoder for the video stream")
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO" if threads > 1 else "NONE"
        yield container, stream


def time_base(stream: VideoStream) -> Fraction:
    """Seconds per pts unit of a stream."""
    return stream.time_base or Fraction(1, 90000)


def walk_frames(
    container: InputContainer, stream: VideoStream, *, start_pts: int | None = None
) -> Iterator[Decoded]:
    """Decode a stream in presentation order, from the start or from a pts.

    Args:
        container: As opened by :func:`open_video`.
        stream: Its video stream.
        start_pts: First pts wanted; the walk seeks to the keyframe before it and begins with the
            first frame at or after it. ``None``: from the beginning, without a seek.

    Yields:
        Frames with strictly increasing pts. A frame whose pts is missing gets the previous pts
        plus its duration; one whose pts does not increase is dropped.
    """
    if start_pts is None:
        yield from _walk(container, stream)
        return
    # Some containers (MPEG-PS, cut TS) land after the wanted frame: step back until they do not.
    for back_s in (0, 5, 30, None):
        target = 0 if back_s is None else start_pts - int(back_s / time_base(stream))
        if back_s is None:
            target = min(0, stream.start_time or 0)
        with contextlib.suppress(av.error.FFmpegError):
            container.seek(target, stream=stream, backward=True, any_frame=False)
        walk = _walk(container, stream)
        first = next(walk, None)
        if first is not None and (first.pts <= start_pts or back_s is None):
            if first.pts >= start_pts:
                yield first
            yield from (d for d in walk if d.pts >= start_pts)
            return


def _walk(container: InputContainer, stream: VideoStream) -> Iterator[Decoded]:
    last: int | None = None
    step = 1
    damaged = False
    for frames, broken in _decode_packets(container, stream):
        damaged = damaged or broken
        for frame in frames:
            pts = frame.pts if frame.pts is not None else frame.dts
            if pts is None:
                pts = 0 if last is None else last + (frame.duration or step)
            if last is not None:
                if pts <= last:
                    continue
                step = pts - last
            if frame.key_frame and not broken:
                damaged = False
            last = pts
            yield Decoded(frame, pts, damaged or frame.is_corrupt)


def _decode_packets(
    container: InputContainer, stream: VideoStream
) -> Iterator[tuple[list[VideoFrame], bool]]:
    """Frames packet by packet; the flag says that this packet did not decode."""
    demuxer = container.demux(stream)
    while True:
        try:
            packet = next(demuxer)
        except StopIteration:
            return
        except av.error.FFmpegError:
            return  # the file ends here, whatever its header promised
        try:
            frames = cast("list[VideoFrame]", packet.decode())
        except av.error.FFmpegError:
            yield [], True
            continue
        yield frames, bool(packet.is_corrupt)


def last_frame_pts_step(pts: list[int]) -> int:
    """How long the last frame is shown, in pts units: the median of the latest steps."""
    steps = [b - a for a, b in zip(pts, pts[1:], strict=False)][-25:]
    return max(1, int(statistics.median_low(steps))) if steps else 1
