"""Parts of a long video: where it can be divided so that parts give what the whole would.

The index is made from packets, without decoding. A part is decoded from two keyframes before the
context that its signals need. If the frames that come out are not those of the index (damage, edit
lists, times that a decoder makes up), dividing is given up and the video is passed over whole. The
same holds when two neighbours saw other pictures around the seam that they share.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.media.decode import Decoded, open_video, time_base, walk_frames

CONTEXT_BLOCK_FRAMES = 50
CONTEXT_S = 0.5
"""A part sees at least a block of 50 frames that last half a second before it (flow and sampling
need two points of their grids), and one block after it."""
BEAT_PACKETS = 4096
"""Packets between signs of life: some seconds of reading, even from a slow disk."""


class PartMismatch(Exception):
    """Other frames decode than the index says; the video has to be passed over whole."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a video. Frames are numbered in the whole video.

    Attributes:
        index: Number of the part from 0.
        num_parts: How many there are.
        lead_frame: First frame that is measured (context).
        start_frame: First frame that is reported.
        end_frame: First frame that is no longer reported; None: to the end.
        stop_frame: First frame that is no longer measured.
        lead_pts: pts of ``lead_frame``.
        seek_pts: Where decoding starts.
        first_pts: pts of the video's first frame.
        digest: sha256 of the pts (int64, little endian) of frames [lead_frame, stop_frame).
    """

    index: int
    num_parts: int
    lead_frame: int
    start_frame: int
    end_frame: int | None
    stop_frame: int
    lead_pts: int
    seek_pts: int
    first_pts: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Seams:
    """What a part saw within a block of its two ends; neighbours must have seen the same.

    Attributes:
        before: sha256 around ``start_frame``.
        after: sha256 around ``end_frame``.
    """

    before: str
    after: str


class SeamMarks:
    """Watches the frames of a part for its :class:`Seams`.

    Args:
        part: The part.
        look: The picture of a frame as far as it matters.
    """

    def __init__(self, part: Part, look: Callable[[VideoFrame], bytes]) -> None:
        self._part, self._look = part, look
        self._before, self._after = hashlib.sha256(), hashlib.sha256()

    def watch(self, frames: Iterator[Decoded]) -> Iterator[Decoded]:
        """Pass the part's frames on, beginning at ``lead_frame``."""
        part = self._part
        for number, decoded in enumerate(frames, part.lead_frame):
            for mark, seam in ((self._before, part.start_frame), (self._after, part.end_frame)):
                # The whole video's own ends are no seams.
                if seam and abs(2 * (number - seam) + 1) < 2 * CONTEXT_BLOCK_FRAMES:
                    mark.update(f"{decoded.pts} {decoded.damaged} ".encode())
                    mark.update(self._look(decoded.frame))
            yield decoded

    def seams(self) -> Seams:
        """Of the frames so far."""
        return Seams(before=self._before.hexdigest(), after=self._after.hexdigest())


def lay_parts(
    path: str, part_s: float, row_frames: int, beat: Callable[[], None] = lambda: None
) -> list[Part]:
    """Divide a video into parts.

    Args:
        path: Local path.
        part_s: Wanted length of a part, seconds.
        row_frames: Parts begin at multiples of this, a multiple of 50.
        beat: Called while the file is read.

    Returns:
        The parts, or an empty list when the video is shorter than two of them or its packets do
        not tell the frames (missing or repeated times).
    """
    with open_video(path) as (container, stream):
        index = _index(container, stream, beat)
        unit_s = float(time_base(stream))
    if index is None:
        return []
    pts, keys = index
    length_s = float(pts[-1] - pts[0]) * unit_s
    if length_s < 2 * part_s:
        return []
    step = max(1, round(part_s * len(pts) / length_s / row_frames)) * row_frames
    starts = list(range(0, len(pts), step))
    if len(pts) - starts[-1] < max(CONTEXT_BLOCK_FRAMES, step // 2):
        starts.pop()  # a short rest goes with the part before it
    parts = []
    for number, start in enumerate(starts):
        last = number == len(starts) - 1
        end = None if last else starts[number + 1]
        lead = _lead(pts, start, unit_s)
        stop = len(pts) if end is None else min(len(pts), end + CONTEXT_BLOCK_FRAMES)
        before = keys[keys <= pts[lead]]
        parts.append(
            Part(
                index=number,
                num_parts=len(starts),
                lead_frame=lead,
                start_frame=start,
                end_frame=end,
                stop_frame=stop,
                lead_pts=int(pts[lead]),
                seek_pts=int(before[max(0, len(before) - 2)]) if len(before) else int(pts[0]),
                first_pts=int(pts[0]),
                digest=_digest(pts[lead:stop]),
            )
        )
    return parts if len(parts) > 1 else []


def part_frames(container: InputContainer, stream: VideoStream, part: Part) -> Iterator[Decoded]:
    """Decode the frames [lead_frame, stop_frame) of a part.

    Raises:
        PartMismatch: They are not the frames of the index.
    """
    seen: list[int] = []
    wanted = part.stop_frame - part.lead_frame
    start_pts = None if part.lead_frame == 0 else part.seek_pts
    walk = walk_frames(container, stream, start_pts=start_pts)
    for decoded in walk:
        if decoded.pts < part.lead_pts:
            continue
        seen.append(decoded.pts)
        if len(seen) == wanted:
            _check(part, seen)
        yield decoded
        if len(seen) == wanted and part.end_frame is not None:
            return
    _check(part, seen)


def _check(part: Part, seen: list[int]) -> None:
    if _digest(np.array(seen, np.int64)) != part.digest:
        raise PartMismatch(f"part {part.index} of {part.num_parts}: {len(seen)} frames decode")


def _lead(pts: np.ndarray, start: int, unit_s: float) -> int:
    """First frame of a part's context, a multiple of the block."""
    if start == 0:
        return 0
    lead = start - CONTEXT_BLOCK_FRAMES
    while lead > 0 and (pts[start - 1] - pts[lead]) * unit_s < CONTEXT_S:
        lead -= CONTEXT_BLOCK_FRAMES
    return max(0, lead)


def _index(
    container: InputContainer, stream: VideoStream, beat: Callable[[], None]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Presentation times of all frames and of the keyframes, sorted, int64; None: not told."""
    times, keys = array("q"), array("q")
    try:
        for count, packet in enumerate(container.demux(stream)):
            if count % BEAT_PACKETS == 0:
                beat()
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.pts is None or packet.is_corrupt:
                return None
            times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    except av.error.FFmpegError:
        return None
    pts = np.sort(np.array(times, np.int64))
    if len(pts) == 0 or not keys or (np.diff(pts) <= 0).any():
        return None
    return pts, np.sort(np.array(keys, np.int64))


def _digest(pts: np.ndarray) -> str:
    return hashlib.sha256(pts.astype("<i8").tobytes()).hexdigest()
