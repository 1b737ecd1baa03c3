"""Text streams inside a container (mov_text, SubRip, WebVTT, ASS) as cues."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import av
import av.error
import pysubs2

from curation.captions.subtitles import DamagedError, Parsed, clean_lines, unroll

TEXT_CODECS = frozenset({"mov_text", "subrip", "srt", "webvtt", "ass", "ssa", "text"})
"""Streams of text; those of pictures (DVD, Blu-ray) would need OCR."""
OPEN_END_S = 5.0
"""A cue of a stream that names no end lasts until the next one, and at most this long."""
NO_END_MS = 2**32 - 1


def read_stream(path: str, index: int, beat: Callable[[], None] = lambda: None) -> Parsed:
    """Read a text stream of a container; the file is gone through once.

    Args:
        path: Local path.
        index: The stream's index in the container.
        beat: Called now and then.

    Raises:
        DamagedError: Nothing of it can be read.
    """
    shown: list[tuple[float, float, list[str]]] = []
    warning = None
    try:
        with av.open(path, "r") as container:
            stream = container.streams[index]
            first_s = _first_frame_s(container)
            try:
                for start_s, end_s, text in _stream_texts(container, stream, beat):
                    shown.append((start_s - first_s, end_s - first_s, clean_lines(text)))
            except av.error.FFmpegError as exc:
                warning = f"ends early: {exc}"
    except (av.error.FFmpegError, IndexError, OSError) as exc:
        raise DamagedError(f"cannot be opened: {exc}") from exc
    if warning and not shown:
        raise DamagedError(warning)
    shown.sort(key=lambda s: s[:2])
    starts = [s[0] for s in shown[1:]] + [math.inf]
    closed = [
        (a, b if b > a else min(after, a + OPEN_END_S), lines)
        for (a, b, lines), after in zip(shown, starts, strict=True)
    ]
    return Parsed(unroll(closed), warning=warning)


def text_streams(path: str) -> list[tuple[int, str | None]]:
    """Index and language of the text streams of a local container."""
    try:
        with av.open(path, "r") as container:
            return [
                (s.index, s.metadata.get("language"))
                for s in container.streams
                if s.type == "subtitle" and s.codec_context.name in TEXT_CODECS
            ]
    except (av.error.FFmpegError, OSError):
        return []


def _first_frame_s(container: Any) -> float:  # noqa: ANN401 - av's container
    """When the picture starts on the container's clock: clips count from there."""
    for stream in container.streams.video:
        if stream.start_time is not None and stream.time_base is not None:
            return float(stream.start_time * stream.time_base)
    return 0.0


def _stream_texts(
    container: Any,  # noqa: ANN401 - av's container
    stream: Any,  # noqa: ANN401 - a subtitle stream
    beat: Callable[[], None],
) -> Iterator[tuple[float, float, str]]:
    """Start, end (the start where none is named) and text of the cues of a stream."""
    for packet in container.demux(stream):
        beat()
        if packet.pts is None or packet.size == 0:
            continue
        found = stream.decode2(packet)
        if found is None:
            continue
        start_s = float(packet.pts * packet.time_base)
        length_s = float((packet.duration or 0) * packet.time_base)
        if not length_s and 0 < found.end_display_time < NO_END_MS:
            length_s = found.end_display_time / 1000
        for rect in found:
            if rect.type in (b"ass", b"text"):
                text = (rect.dialogue or rect.text).decode(errors="replace")
                event = pysubs2.SSAEvent(text=text.replace("\n", "\\N"))
                if not event.is_drawing:
                    yield start_s, start_s + length_s, event.plaintext
