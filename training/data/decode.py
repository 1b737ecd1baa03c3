"""Frames of a stored clip at given times: only those are decoded, scaled, cropped and kept.

The frame at time t is the one on screen then: the last whose presentation time is not after t. The
packets tell all presentation times before anything is decoded, so the walk begins at the keyframe
before the first wanted frame, ends with the last one, and leaves out H.264 packets that no other
frame is predicted from (``nal_ref_idc`` 0; ITU-T H.264, 7.4.1) unless they are wanted themselves.
What comes out equals a full decode.

Clips are read as curate writes them: upright, with square pixels. Colours become full-range RGB by
the stream's own matrix and range. Where a clip names no matrix, it is BT.709 above 576 lines or
from 1280 columns on and BT.601 below, as players have it; no range means the limited one.
"""

from __future__ import annotations

import bisect
import io
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import av
import av.error
import av.logging
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from curation.errors import ErrorCode, MediaError
from curation.media.decode import ATTACHED_PICTURE, time_base
from curation.media.fit import BT709, EXACT

av.logging.set_level(av.logging.PANIC)  # damage is raised, not printed by FFmpeg
logging.getLogger("libav").setLevel(logging.CRITICAL)

Scaling = Literal["area", "bilinear", "bicubic", "lanczos"]
RGB_EXACT = EXACT | Interpolation.FULL_CHR_H_INT
"""Flags of the scaler: the same on every machine, and white stays 255."""
EARLY_S = 1e-4
"""A frame counts as on screen so much before its time, at least: rates are stored as means, and
times are sums of rounded numbers. Half a tick of the clip's clock counts too, if it is longer."""
SEEK_FROM_S = 4.0
"""Windows that begin later are sought; before, to read the packets costs less than to search."""
NO_PROBE = {"skip_frame": "all"}
"""The headers say all that is needed: FFmpeg need not decode the first frames to look at them."""
SLICE, IDR = 1, 5
UNSPECIFIED = 2
"""FFmpeg's number of a matrix that is not named."""


@dataclass(frozen=True)
class View:
    """How a picture is fitted to a training sample: scaled to cover it, then cropped.

    Attributes:
        height_px: Height wanted.
        width_px: Width wanted.
        crop_y: Where the window lies in what is too high: 0 top, 0.5 middle, up to 1 bottom.
        crop_x: Where in what is too wide: 0 left, up to 1 right.
        mirror: Exchange left and right, after the crop.
        scaling: Filter.
    """

    height_px: int
    width_px: int
    crop_y: float = 0.5
    crop_x: float = 0.5
    mirror: bool = False
    scaling: Scaling = "bicubic"

    def scaled(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Height and width of a stored picture after scaling; neither is below what is wanted."""
        scale = max(self.height_px / height_px, self.width_px / width_px)
        return (
            max(self.height_px, round(height_px * scale)),
            max(self.width_px, round(width_px * scale)),
        )

    def corner(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Top and left of the window in a scaled picture."""
        return _offset(height_px - self.height_px, self.crop_y), _offset(
            width_px - self.width_px, self.crop_x
        )


Decode = Callable[[bytes, Sequence[float], View, "NDArray[np.uint8] | None"], "NDArray[np.uint8]"]


def decode_clip(
    data: bytes,
    times_s: Sequence[float],
    view: View,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Decode the frames of a clip that are on screen at given times.

    Args:
        data: The MP4.
        times_s: T times from the first frame on, seconds, not falling. A time after the end gives
            the last frame, one before the beginning the first.
        view: Size, crop, filter.
        out: Array to write into, uint8 of shape (T, height, width, 3); None: a new one.

    Returns:
        uint8 of shape (T, height, width, 3), RGB, 0 to 255.

    Raises:
        MediaError: The clip is damaged where it is needed, or is no video.
    """
    if out is None:
        out = np.empty((len(times_s), view.height_px, view.width_px, 3), np.uint8)
    try:
        with av.open(io.BytesIO(data), "r", format="mp4", options=NO_PROBE) as container:
            _fill(out, container, times_s, view)
    except (av.error.FFmpegError, ValueError) as exc:
        raise MediaError(ErrorCode.DECODE_FAILED, f"{type(exc).__name__}: {exc}") from exc
    return out


def _fill(
    out: NDArray[np.uint8], container: InputContainer, times_s: Sequence[float], view: View
) -> None:
    """Write the frames at some times into an array."""
    stream = _video(container)
    unit = float(time_base(stream))
    early = max(EARLY_S / unit, 0.5)
    begin = stream.start_time or 0
    targets = [begin + t / unit + early for t in times_s]
    packets, pts = _packets(container, stream, targets[0], targets[-1], begin)
    shown = [pts[max(0, bisect.bisect_right(pts, t) - 1)] for t in targets]
    places: dict[int, list[int]] = {}
    for place, at in enumerate(shown):
        places.setdefault(at, []).append(place)
    writer = _Writer(out, view)
    for frame in _decoded(stream, packets, set(places)):
        for place in places.pop(cast(int, frame.pts), ()):
            writer(frame, place)
    if places:
        raise MediaError(
            ErrorCode.DECODE_FAILED, f"{len(places)} of the frames wanted do not decode"
        )


def _video(container: InputContainer) -> VideoStream:
    """The video stream, set to decode on one thread."""
    streams = [s for s in container.streams.video if not int(s.disposition) & ATTACHED_PICTURE]
    if not streams:
        raise MediaError(ErrorCode.NO_VIDEO_STREAM, "no video stream")
    if cast(Any, streams[0].codec_context) is None:
        raise MediaError(ErrorCode.UNSUPPORTED_CODEC, "no decoder for the video stream")
    streams[0].codec_context.thread_count = 1
    streams[0].thread_type = "NONE"
    return streams[0]


def _packets(
    container: InputContainer, stream: VideoStream, first: float, last: float, begin: int
) -> tuple[list[Packet], list[int]]:
    """Packets in decoding order from a keyframe on, and the times of their frames, sorted.

    Args:
        container: The clip.
        stream: Its video.
        first: Earliest target, in pts.
        last: Latest target, in pts.
        begin: pts of the first frame.
    """
    if (first - begin) * time_base(stream) > SEEK_FROM_S:
        container.seek(int(first), stream=stream, backward=True, any_frame=False)
        packets = _read_until(container, stream, last)
        if packets and packets[0].pts is not None and packets[0].pts <= first:
            return packets, _times(packets)
        container.seek(begin, stream=stream, backward=True, any_frame=False)
    packets = _read_until(container, stream, last)
    return packets, _times(packets)


def _read_until(container: InputContainer, stream: VideoStream, last: float) -> list[Packet]:
    """All packets whose frames may be shown by a time: none is shown before it is decoded."""
    packets: list[Packet] = []
    for packet in container.demux(stream):
        if packet.pts is None or packet.dts is None:
            continue  # the mark of the end
        packets.append(packet)
        if packet.dts > last:
            break
    return packets


def _times(packets: list[Packet]) -> list[int]:
    pts = sorted(cast(int, p.pts) for p in packets if not p.is_discard)
    if not pts:
        raise MediaError(ErrorCode.NO_FRAMES, "the clip has no frames")
    return pts


def _decoded(stream: VideoStream, packets: list[Packet], wanted: set[int]) -> Iterator[VideoFrame]:
    """Decode what is needed for the frames at some times, and yield at least those.

    Frames shown before the keyframe but stored after it refer to what is not decoded here: they are
    wanted by nobody, and no later frame needs them.
    """
    start = max(
        (n for n, p in enumerate(packets) if p.is_keyframe and cast(int, p.pts) <= min(wanted)),
        default=0,
    )
    end = max(n for n, p in enumerate(packets) if p.pts in wanted and not p.is_discard)
    first = cast(int, packets[start].pts)
    may_drop = _dropper(stream)
    for packet in packets[start : end + 1]:
        if packet.pts in wanted or not may_drop(packet):
            yield from _sound(stream.decode(packet), first)
    yield from _sound(stream.decode(None), first)


def _sound(frames: list[VideoFrame], first: int) -> list[VideoFrame]:
    """Frames, of which the decoder made up none from a time on: later ones show what they show."""
    if any(frame.is_corrupt and (frame.pts or 0) >= first for frame in frames):
        raise MediaError(ErrorCode.DECODE_FAILED, "damaged frames")
    return frames


def _dropper(stream: VideoStream) -> Callable[[Packet], bool]:
    """Says which packets no other frame needs; for other codecs than H.264 none."""
    extra = stream.codec_context.extradata
    if stream.codec_context.name != "h264" or not extra or len(extra) < 7 or extra[0] != 1:
        return lambda _: False
    length_bytes = (extra[4] & 3) + 1

    def disposable(packet: Packet) -> bool:
        data, at = memoryview(cast(Any, packet)), 0
        while at + length_bytes < len(data):
            size = int.from_bytes(data[at : at + length_bytes], "big")
            head = data[at + length_bytes]
            if head & 31 in (SLICE, IDR):
                return not head >> 5 & 3
            at += length_bytes + size
        return False

    return disposable


class _Writer:
    """Brings frames to RGB at their place in an array; each frame is converted once."""

    def __init__(self, out: NDArray[np.uint8], view: View) -> None:
        self._out, self._view = out, view
        self._method = Interpolation[view.scaling.upper()] | RGB_EXACT
        self._done: dict[int, int] = {}

    def __call__(self, frame: VideoFrame, place: int) -> None:
        """Write a frame to a place."""
        at = cast(int, frame.pts)
        if at in self._done:
            self._out[place] = self._out[self._done[at]]
            return
        self._done[at] = place
        view = self._view
        high, wide = view.scaled(frame.height, frame.width)
        guess = int(frame.colorspace) == UNSPECIFIED and (frame.height > 576 or frame.width >= 1280)
        rgb = _scaler().reformat(
            frame,
            width=wide,
            height=high,
            format="rgb24",
            src_colorspace=BT709 if guess else None,
            interpolation=self._method,
            threads=1,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(cast(Any, plane), np.uint8).reshape(high, plane.line_size)
        pixels = rows[:, : 3 * wide].reshape(high, wide, 3)
        top, left = view.corner(high, wide)
        cut = pixels[top : top + view.height_px, left : left + view.width_px]
        self._out[place] = cut[:, ::-1] if view.mirror else cut


_of_thread = threading.local()


def _scaler() -> VideoReformatter:
    """The thread's own: it keeps its tables from frame to frame, which costs a third otherwise."""
    if not hasattr(_of_thread, "scaler"):
        _of_thread.scaler = VideoReformatter()
    return _of_thread.scaler


def _offset(room_px: int, share: float) -> int:
    return min(room_px, int(share * (room_px + 1)))
