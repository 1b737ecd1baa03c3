"""Opening a video and walking its frames: exact pts, damage marked, memory bounded.

Frames come in presentation order. A packet that does not decode does not end the walk: the frames
from there to the next keyframe are marked ``damaged``, since FFmpeg conceals errors with pixels
that no camera saw, and every later frame of the group is predicted from them.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any, cast

import av
import av.error
import av.logging
from av.container import InputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from curation.errors import ErrorCode, MediaError

av.logging.set_level(av.logging.PANIC)  # damage is counted here, not printed by FFmpeg
logging.getLogger("libav").setLevel(logging.CRITICAL)

ATTACHED_PICTURE = 0x400  # FFmpeg's AV_DISPOSITION_ATTACHED_PIC: cover art, not footage
NO_PTS_FORMATS = {"avi"}
"""Containers without presentation times: what is made up for B frames runs back and forth, while
the decoding times of frames in the order shown are even."""
HELD_FRAMES = 8
"""B frames kept back until the frame they may be predicted from is seen: bounds memory."""


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


def seek_steps(stream: VideoStream, start_pts: int) -> Iterator[int]:
    """Targets to seek to, one after another, until the walk begins at or before ``start_pts``.

    Some containers (MPEG-PS, TS, Matroska without an index) land after the wanted frame, and
    others search by decoding time. The last target is the beginning of the stream.
    """
    unit, first = time_base(stream), min(start_pts, stream.start_time or 0)
    for back_s in (0, 5, 30):
        yield max(first, start_pts - int(back_s / unit))
    yield min(first, 0)


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
        yield from _with_leading_damage(_walk(container, stream))
        return
    walk: Iterator[Decoded] = iter(())
    for target in seek_steps(stream, start_pts):
        with contextlib.suppress(av.error.FFmpegError):
            container.seek(target, stream=stream, backward=True, any_frame=False)
        walk = _with_leading_damage(_walk(container, stream))
        first = next(walk, None)
        if first is not None:
            walk = chain([first], walk)
            if first.pts <= start_pts:
                break
    yield from (d for d in walk if d.pts >= start_pts)


def _walk(container: InputContainer, stream: VideoStream) -> Iterator[Decoded]:
    """Frames with damage carried on from its packet to the next keyframe shown after it.

    The packet's pts decides, not the order of events: a keyframe that waits for reordering is
    shown after a later packet has failed, and mends nothing.
    """
    last: int | None = None
    step = 1
    by_dts = container.format.name in NO_PTS_FORMATS
    broken_pts: int | None = None  # pts of the latest damage that no keyframe has mended
    for frames, failed_pts in _decode_packets(container, stream):
        broken_pts = failed_pts if failed_pts is not None else broken_pts
        for frame in frames:
            pts = frame.pts if frame.pts is not None and not by_dts else frame.dts
            if pts is None:
                pts = 0 if last is None else last + (frame.duration or step)
            if last is not None:
                if pts <= last:
                    continue
                step = pts - last
            if broken_pts is not None and frame.key_frame and pts > broken_pts:
                broken_pts = None
            if frame.is_corrupt:
                broken_pts = pts
            last = pts
            yield Decoded(frame, pts, broken_pts is not None)


def _with_leading_damage(walk: Iterator[Decoded]) -> Iterator[Decoded]:
    """Mark B frames shown before the damaged frame that they were predicted from."""
    held: deque[Decoded] = deque()
    for decoded in walk:
        if decoded.frame.pict_type == PictureType.B:
            held.append(decoded)
            if len(held) > HELD_FRAMES:
                yield held.popleft()
            continue
        while held:
            earlier = held.popleft()
            yield replace(earlier, damaged=True) if decoded.frame.is_corrupt else earlier
        yield decoded
    yield from held


def _decode_packets(
    container: InputContainer, stream: VideoStream
) -> Iterator[tuple[list[VideoFrame], int | None]]:
    """Frames packet by packet, and the pts of the packet when it did not decode cleanly."""
    demuxer = container.demux(stream)
    while True:
        try:
            packet = next(demuxer)
        except StopIteration:
            return
        except av.error.FFmpegError:
            return  # the file ends here, whatever its header promised
        at = next((t for t in (packet.pts, packet.dts) if t is not None), 0)
        try:
            frames = cast("list[VideoFrame]", packet.decode())
        except av.error.FFmpegError:
            yield [], at
            continue
        yield frames, at if packet.is_corrupt else None


def last_frame_pts_step(pts: list[int]) -> int:
    """How long the last frame is shown, in pts units: the median of the latest steps."""
    steps = [b - a for a, b in pairwise(pts)][-25:]
    return max(1, int(statistics.median_low(steps))) if steps else 1
