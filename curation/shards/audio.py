"""The sound of a clip as a file of its own: packets copied from its MP4, nothing encoded anew.

Sound keeps its times, so it stays beside the picture as it was. A millisecond per clip.
"""

from __future__ import annotations

import io

import av
import av.error

from curation.shards.tar import Sample, media_damage
from curation.storage import Storage

M4A_OPTIONS = {"fflags": "+bitexact"}
"""No time, no version of the library: the same packets give the same bytes."""


def sound_of(storage: Storage, sample: Sample) -> bytes | None:
    """The first audio stream of a sample's MP4 in a container of its own; None: it has no sound.

    Raises:
        CatalogError: The MP4 is missing or cannot be read.
    """
    try:
        with storage.open_read(sample.media_path) as source:
            return copy_sound(source.read())
    except FileNotFoundError:
        raise media_damage(sample, "is missing") from None
    except av.error.FFmpegError as exc:
        raise media_damage(sample, f"cannot be read: {exc}") from exc


def copy_sound(mp4: bytes) -> bytes | None:
    """The first audio stream of an MP4 as an M4A, packet by packet; None: there is none.

    Raises:
        av.error.FFmpegError: It is no MP4.
    """
    out = io.BytesIO()
    with av.open(io.BytesIO(mp4), "r") as inp:
        if not inp.streams.audio:
            return None
        stream = inp.streams.audio[0]
        with av.open(out, "w", format="ipod", options=M4A_OPTIONS) as target:
            track = target.add_stream_from_template(stream)
            for packet in inp.demux(stream):
                if packet.dts is not None:  # the last one of a stream is empty
                    packet.stream = track
                    target.mux(packet)
    return out.getvalue()
