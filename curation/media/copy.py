"""Copying a span of a video without decoding: whole groups of pictures, packets untouched.

The copy never shows a frame from outside the span. What lies before its first keyframe and after
its last whole group is given up. In an open group of pictures the first frames shown belong to a
keyframe that follows them in the file; such frames are left out with the group they need.
An *exact* copy gives up nothing: it is the span, frame by frame, or it is not made.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal

import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import PictureType
from av.video.stream import VideoStream

from curation.errors import ErrorCode, MediaError
from curation.media.audio import SoundTrack, read_samples
from curation.media.decode import open_video, seek_steps, time_base
from curation.media.encode import Written, mp4_duration, open_mp4
from curation.media.facts import codec_name

Obstacle = Literal[
    "not_on_keyframe",  # a boundary of the span is no keyframe
    "open_group",  # the span ends at a keyframe that earlier frames shown belong to
    "frames_differ",  # packets and frames are not one to one, or an edit list hides some
    "stream_changes",  # the codec's headers change inside the span
    "gop_too_long",  # keyframes are too far apart for random reads
    "not_in_mp4",  # MP4 does not take the packets as they are
    "not_decodable_alone",  # the copy does not decode from its first packet
]
"""Why a span cannot be copied exactly."""


@dataclass
class _Group:
    """A keyframe and the packets after it in the file, up to the next keyframe.

    Attributes:
        key_pts: pts of the keyframe.
        packets: In file order, the keyframe first.
    """

    key_pts: int
    packets: list[Packet] = field(default_factory=list)

    @property
    def first_pts(self) -> int:
        """Time of the first frame shown, which may precede the keyframe (open group)."""
        return min(p.pts for p in self.packets if p.pts is not None)

    @property
    def last_pts(self) -> int:
        """Time of the last frame shown."""
        return max(p.pts for p in self.packets if p.pts is not None)


@dataclass
class _Plan:
    """What can be copied of a span.

    Attributes:
        groups: Groups wholly inside; may be empty.
        stop_pts: First pts that the groups no longer show.
        next_key_pts: The keyframe after them; None at the end of the file.
    """

    groups: list[_Group]
    stop_pts: int
    next_key_pts: int | None

    @property
    def first_pts(self) -> int:
        """The first keyframe."""
        return self.groups[0].key_pts

    @property
    def packets(self) -> list[Packet]:
        """Packets to copy, in file order."""
        # In an open first group, frames are shown before its keyframe: outside the copy.
        packets = [p for g in self.groups for p in g.packets]
        return [p for p in packets if p.pts is not None and p.pts >= self.first_pts]

    @property
    def max_gop_frames(self) -> int:
        """Most frames to decode for one frame: from a keyframe up to the next, in file order."""
        first = self.first_pts
        return max(sum((p.pts or 0) >= first for p in g.packets) for g in self.groups)


def copy_span(
    path: str, target: Path, start_pts: int, end_pts: int, *, with_audio: bool = False
) -> Written:
    """Copy the packets of the whole groups of pictures inside a span to an MP4 file.

    Size and orientation stay as stored: a player turns the picture by the header, a plain decoder
    does not.

    Args:
        path: Local path of the source.
        target: File to write.
        start_pts: First pts, inclusive.
        end_pts: Last pts, exclusive.
        with_audio: Keep the sound, as AAC.

    Returns:
        The file, with the span it really covers.

    Raises:
        MediaError: ``no_keyframe`` when no whole group lies inside; ``encode_failed`` when MP4
            cannot hold the codec.
    """
    with open_video(path) as (source, stream):
        plan = _plan(source, stream, start_pts, end_pts)
        if not plan.groups:
            raise MediaError(
                ErrorCode.NO_KEYFRAME, "no whole group of pictures lies inside the clip"
            )
        return _write(path, stream, plan, target, with_audio)


def copy_exactly(
    path: str,
    target: Path,
    start_pts: int,
    end_pts: int,
    *,
    num_frames: int,
    max_gop_frames: int,
    with_audio: bool = False,
) -> Written | Obstacle:
    """Copy a span if that gives exactly its frames.

    Args:
        path: Local path of the source.
        target: File to write; may be left behind incomplete when there is an obstacle.
        start_pts: First pts, inclusive.
        end_pts: Last pts, exclusive.
        num_frames: Frames of the span, as decoded before.
        max_gop_frames: Most frames from one keyframe up to the next that are acceptable.
        with_audio: Keep the sound, as AAC.

    Returns:
        The file, or why there is none.
    """
    with open_video(path) as (source, stream):
        plan = _plan(source, stream, start_pts, end_pts)
        if not plan.groups or plan.first_pts != start_pts:
            return "not_on_keyframe"
        if plan.stop_pts != end_pts:
            return "open_group" if plan.next_key_pts == end_pts else "not_on_keyframe"
        if len(plan.packets) != num_frames or any(p.is_discard for p in plan.packets):
            return "frames_differ"
        if any(p.has_sidedata("new_extradata") for p in plan.packets):
            return "stream_changes"
        if plan.max_gop_frames > max_gop_frames:
            return "gop_too_long"
        unit = time_base(stream)
        first = sorted(p.pts or 0 for p in plan.groups[0].packets)
        times_s = [(pts - start_pts) * unit for pts in first if pts >= start_pts]
        try:
            written = _write(path, stream, plan, target, with_audio)
        except MediaError:
            return "not_in_mp4"
    size_px = (written.width_px, written.height_px)
    return written if _begins_with(target, times_s, size_px) else "not_decodable_alone"


def _begins_with(target: Path, times_s: list[Fraction], size_px: tuple[int, int]) -> bool:
    """True when the copy decodes from its first packet on, to frames at the expected times.

    A key flag is the container's word. A stream refreshed line by line (periodic intra refresh)
    sets it on pictures that need the ones before them. Later groups lean on nothing that the
    source did not have, so the first one is the proof.
    """
    try:
        with open_video(str(target)) as (copy, stream):
            frames = list(islice(copy.decode(stream), len(times_s)))
    except (MediaError, av.error.FFmpegError):
        return False
    if len(frames) != len(times_s) or frames[0].pict_type != PictureType.I:
        return False
    close_s = Fraction(1, 2000)
    return all(
        f.pts is not None
        and not f.is_corrupt
        and (f.width, f.height) == size_px
        and abs(f.pts * (f.time_base or Fraction(0)) - time_s) < close_s
        for f, time_s in zip(frames, times_s, strict=True)
    )


def _write(path: str, stream: VideoStream, plan: _Plan, target: Path, with_audio: bool) -> Written:
    unit = time_base(stream)
    first, stop, packets = plan.first_pts, plan.stop_pts, plan.packets
    max_gop_frames = plan.max_gop_frames  # before muxing gives the packets other times
    samples = read_samples(path, first * unit, stop * unit) if with_audio else None
    try:
        with open_mp4(target) as out:
            track = out.add_stream_from_template(stream)
            sound = SoundTrack(out, samples) if samples is not None else None
            _mux(out, track, packets, (first, stop), sound)
    except (av.error.FFmpegError, ValueError) as exc:
        raise MediaError(
            ErrorCode.ENCODE_FAILED,
            f"MP4 does not take {stream.codec_context.name} packets as they are: {exc}",
        ) from exc
    return Written(
        width_px=stream.codec_context.width,
        height_px=stream.codec_context.height,
        num_frames=len(packets),
        num_source_frames=len(packets),
        start_pts=first,
        end_pts=stop,
        duration_s=(stop - first) * unit,
        codec=codec_name(stream),
        max_gop_frames=max_gop_frames,
    )


def _plan(source: InputContainer, stream: VideoStream, start_pts: int, end_pts: int) -> _Plan:
    """Groups shown wholly inside the span, and what follows them."""
    groups = _groups_from(source, stream, start_pts, end_pts)
    inside = [g for g in groups if start_pts <= g.key_pts < end_pts]
    while inside and inside[-1].last_pts >= end_pts:
        inside.pop()
    if not inside:
        return _Plan([], end_pts, None)
    after = groups[groups.index(inside[-1]) + 1 :]
    if not after:
        return _Plan(inside, end_pts, None)
    return _Plan(inside, min(end_pts, after[0].first_pts), after[0].key_pts)


def _groups_from(
    source: InputContainer, stream: VideoStream, start_pts: int, end_pts: int
) -> list[_Group]:
    """Groups from a keyframe at or before the span, as far as possible, to the one after it."""
    groups: list[_Group] = []
    for target in seek_steps(stream, start_pts):
        with contextlib.suppress(av.error.FFmpegError):
            source.seek(target, stream=stream, backward=True)
        groups = _demux_groups(source, stream, start_pts, end_pts)
        if groups and groups[0].key_pts <= start_pts:
            break
    return groups


def _demux_groups(
    source: InputContainer, stream: VideoStream, start_pts: int, end_pts: int
) -> list[_Group]:
    groups: list[_Group] = []
    try:
        for packet in source.demux(stream):
            if packet.pts is None:
                continue
            if packet.is_keyframe:
                if groups and groups[-1].key_pts >= end_pts:
                    break
                groups.append(_Group(packet.pts))
            if groups and groups[-1].key_pts >= start_pts:  # what lies before is only passed
                groups[-1].packets.append(packet)
    except av.error.FFmpegError:
        pass  # the file ends here, whatever its header promised
    return groups


def _decoding_times(packets: list[Packet]) -> list[int]:
    """The dts of packets; where the container does not tell them, the latest possible ones."""
    given = [p.dts for p in packets if p.dts is not None]
    if len(given) == len(packets):
        return given
    shown = [p.pts or 0 for p in packets]
    in_order = sorted(shown)
    delay = max(a - b for a, b in zip(in_order, shown, strict=True))
    return [t - delay for t in in_order]


def _mux(
    out: OutputContainer,
    track: VideoStream,
    packets: list[Packet],
    span: tuple[int, int],
    sound: SoundTrack | None,
) -> None:
    """Write packets with times from 0, and the sound beside them."""
    first_pts, end_pts = span
    times = _decoding_times(packets)
    for packet, dts in zip(packets, times, strict=True):
        unit = packet.time_base or Fraction(1)
        packet.stream = track
        packet.pts = (packet.pts or 0) - first_pts
        packet.dts = dts - first_pts
        packet.duration = mp4_duration(
            end_pts - first_pts, packet, times[0] - first_pts, last=packet is packets[-1]
        )
        if sound is not None:
            out.mux(list(sound.packets_until(packet.dts * unit)))
        out.mux(packet)
    if sound is not None:
        out.mux(list(sound.packets_until(None)))
