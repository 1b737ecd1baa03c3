"""Copying a span of a video without decoding: whole groups of pictures, packets untouched.

The copy never shows a frame from outside the span. What lies before its first keyframe and after
its last whole group is given up. In an open group of pictures the first frames shown belong to a
keyframe that follows them in the file; such frames are left out with the group they need.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from curation.errors import ErrorCode, MediaError
from curation.media.audio import SoundTrack, read_samples
from curation.media.decode import open_video, seek_steps, time_base
from curation.media.encode import Written, open_mp4


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
        with_audio: Add the sound of what is kept, as AAC.

    Raises:
        MediaError: ``no_keyframe`` when no whole group lies inside; ``encode_failed`` when MP4
            does not hold the codec.
    """
    with open_video(path) as (source, stream):
        groups, next_first_pts = _groups_inside(source, stream, start_pts, end_pts)
        if not groups:
            raise MediaError(ErrorCode.NO_KEYFRAME, "no whole group of pictures inside the clip")
        first, stop = groups[0].key_pts, min(end_pts, next_first_pts)
        # Leading frames of the first group are shown before its keyframe: outside the copy.
        chosen = [p for g in groups for p in g.packets if p.pts is not None and p.pts >= first]
        unit = time_base(stream)
        samples = read_samples(path, first * unit, stop * unit) if with_audio else None
        try:
            with open_mp4(target) as out:
                track = out.add_stream_from_template(stream)
                sound = SoundTrack(out, samples) if samples is not None else None
                _mux(out, track, chosen, (first, stop), sound)
        except (av.error.FFmpegError, ValueError) as exc:
            raise MediaError(
                ErrorCode.ENCODE_FAILED,
                f"MP4 does not take {stream.codec_context.name} packets as they are: {exc}",
            ) from exc
        return Written(
            width_px=stream.codec_context.width,
            height_px=stream.codec_context.height,
            num_frames=len(chosen),
            start_pts=first,
            end_pts=stop,
        )


def _groups_inside(
    source: InputContainer, stream: VideoStream, start_pts: int, end_pts: int
) -> tuple[list[_Group], int]:
    """Groups shown wholly inside the span, and the first pts that the group after them shows."""
    groups = _groups_from(source, stream, start_pts, end_pts)
    inside = [g for g in groups if start_pts <= g.key_pts < end_pts]
    while inside and inside[-1].last_pts >= end_pts:
        inside.pop()
    if not inside:
        return [], end_pts
    after = groups[groups.index(inside[-1]) + 1 :]
    return inside, after[0].first_pts if after else end_pts


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
    # As in an encoded clip: the last step makes the track as long as the span.
    packets[-1].duration = max(1, end_pts - first_pts + times[0] - times[-1])
    for packet, dts in zip(packets, times, strict=True):
        unit = packet.time_base or Fraction(1)
        packet.stream = track
        packet.pts = (packet.pts or 0) - first_pts
        packet.dts = dts - first_pts
        if sound is not None:
            out.mux(list(sound.packets_until(packet.dts * unit)))
        out.mux(packet)
    if sound is not None:
        out.mux(list(sound.packets_until(None)))
