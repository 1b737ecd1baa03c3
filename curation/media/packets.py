"""Digests of a span's packets: equal for a remuxed or losslessly cut copy, without decoding.

Containers frame the same pictures differently. Of H.264 and HEVC only the slices count (VCL units:
ITU-T H.264 table 7-1, H.265 table 7-1), whether their lengths or start codes lead them; parameter
sets, delimiters and messages come and go with the container. Of other codecs the payload counts.

A span that begins between keyframes says nothing alone: in a standing picture all its packets may
read "as before", in any video. So the digest begins at the keyframe that the span needs::

    packets     K  .  .  .  K  .  .  .  .  .  K  .  .
    span                          [--------------)
    digest                  *  *  *  *  *  *  *  *

Cost: reading the file, about a second per gigabyte.
"""

from __future__ import annotations

import contextlib
import hashlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from curation.media.decode import NO_PTS_FORMATS, open_video, seek_steps
from curation.media.facts import codec_name

DIGEST_BYTES = 8
BEAT_PACKETS = 4096
"""Packets between signs of life."""
START_CODE = b"\x00\x00\x01"
LENGTH_AT = {"h264": 4, "hevc": 21}
"""Byte of the codec's header (avcC, hvcC; ISO/IEC 14496-15) whose low two bits tell the size of the
lengths, less one."""
AV1_DELIMITER = b"\x12\x00"
"""A temporal delimiter: MP4 and Matroska leave it out."""


@dataclass
class Trail:
    """Packets of a stretch of a video in file order.

    Attributes:
        head: Codec and coded size: what the packets alone do not tell.
        pts: Presentation times, one per packet.
        keys: 1 for keyframes.
        digests: ``DIGEST_BYTES`` per packet.
        known: False when a packet without a time, or an error, leaves the stretch in doubt.
    """

    head: str
    pts: array[int] = field(default_factory=lambda: array("q"))
    keys: bytearray = field(default_factory=bytearray)
    digests: bytearray = field(default_factory=bytearray)
    known: bool = True

    def span_digest(self, start_pts: int, end_pts: int) -> str | None:
        """Digest of a span [start_pts, end_pts), 32 hex digits; None when it is not known."""
        pts, keys, lowest = self._times
        before = keys[pts[keys] <= start_pts]
        if not len(before) or not self.known:
            return None
        key = int(before[pts[before].argmax()])
        # From here on nothing belongs to the span, in file order.
        stop = int(np.searchsorted(lowest, end_pts))
        total = hashlib.blake2b(self.head.encode(), digest_size=16)
        wanted = key + np.flatnonzero((pts[key:stop] >= pts[key]) & (pts[key:stop] < end_pts))
        for i in wanted.tolist():
            total.update(self.digests[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES])
        return total.hexdigest() if (pts[wanted] >= start_pts).any() else None

    @cached_property
    def _times(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times, indices of keyframes, and for each packet the lowest time from it on."""
        pts = np.array(self.pts, np.int64)
        lowest = np.minimum.accumulate(pts[::-1])[::-1]
        return pts, np.flatnonzero(np.frombuffer(self.keys, np.uint8)), lowest


def read_trail(
    path: str, start_pts: int, end_pts: int, beat: Callable[[], None] = lambda: None
) -> Trail:
    """Read the packets of a span and what it needs before it.

    Args:
        path: Local path.
        start_pts: First pts, inclusive.
        end_pts: Last pts, exclusive.
        beat: Called while the file is read.

    Raises:
        MediaError: The file cannot be opened.
    """
    with open_video(path) as (container, stream):
        trail = Trail("")
        for target in seek_steps(stream, start_pts):
            with contextlib.suppress(av.error.FFmpegError):
                container.seek(target, stream=stream, backward=True)
            trail = _read(container, stream, end_pts, beat)
            if any(k and pts <= start_pts for k, pts in zip(trail.keys, trail.pts, strict=True)):
                break
        return trail


def _read(
    container: InputContainer, stream: VideoStream, end_pts: int, beat: Callable[[], None]
) -> Trail:
    context, codec = stream.codec_context, codec_name(stream)
    trail = Trail(f"{codec} {context.width}x{context.height}")
    length_bytes = _length_bytes(codec, context.extradata)
    by_dts = container.format.name in NO_PTS_FORMATS
    try:
        for number, packet in enumerate(container.demux(stream)):
            if number % BEAT_PACKETS == 0:
                beat()
            if not packet.size:
                continue
            time = packet.dts if by_dts or packet.pts is None else packet.pts
            if time is None:
                trail.known = False
                return trail
            trail.pts.append(time)
            trail.keys.append(packet.is_keyframe)
            trail.digests += payload_digest(codec, bytes(packet), length_bytes)
            if _past(packet, end_pts):
                return trail
    except av.error.FFmpegError:
        trail.known = False
    return trail


def _past(packet: Packet, end_pts: int) -> bool:
    """Nothing after this packet is shown before the end: times of decoding only grow."""
    return packet.dts is not None and packet.dts >= end_pts


def payload_digest(codec: str, data: bytes, length_bytes: int | None) -> bytes:
    """Digest of one packet, whatever the container.

    Args:
        codec: FFmpeg's name.
        data: The packet.
        length_bytes: Size of the lengths before units; None: start codes.

    Returns:
        ``DIGEST_BYTES`` bytes.
    """
    found = hashlib.blake2b(digest_size=DIGEST_BYTES)
    if codec in LENGTH_AT:
        units = _by_code(data) if length_bytes is None else _by_length(data, length_bytes)
        slices = [u.rstrip(b"\x00") for u in units if len(u) and _is_slice(codec, u[0])]
        for one in slices or [data]:
            found.update(one)
    else:
        found.update(data.removeprefix(AV1_DELIMITER) if codec == "av1" else data)
    return found.digest()


def _length_bytes(codec: str, header: bytes | None) -> int | None:
    """Size of the lengths before the units of a stream; None: it has start codes."""
    at = LENGTH_AT.get(codec)
    if at is None or header is None or len(header) <= at or header[0] != 1:
        return None
    return (header[at] & 3) + 1


def _is_slice(codec: str, first: int) -> bool:
    """A unit that carries picture, by its first byte."""
    return 1 <= first & 31 <= 5 if codec == "h264" else first >> 1 & 63 < 32


def _by_length(data: bytes, length_bytes: int) -> Iterator[bytes]:
    at = 0
    while at + length_bytes < len(data):
        size = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        yield data[at : at + size]
        at += size


def _by_code(data: bytes) -> Iterator[bytes]:
    at = data.find(START_CODE)
    while at >= 0:
        following = data.find(START_CODE, at + 3)
        yield data[at + 3 : following if following >= 0 else len(data)]
        at = following
