"""The sound of a span: decoded, cut to the sample, and encoded as AAC beside the picture."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

RATE_HZ = 48_000
LAYOUT = "stereo"
BIT_RATE_BPS = 128_000
FRAME_SAMPLES = 1024
LEAD_S = Fraction(1, 4)
"""Decoded and thrown away before the span: a codec needs its earlier frames to sound right."""


class SoundTrack:
    """An AAC track of a file being written, filled with a span of another file's sound.

    The track has to be declared before the first packet of the file; its packets are then asked
    for in step with the picture, so that both lie side by side in the file.
    """

    def __init__(self, out: OutputContainer, samples: np.ndarray) -> None:
        """Declare the track.

        Args:
            out: The file; nothing may be muxed yet.
            samples: float32 [2, n] at ``RATE_HZ``.
        """
        track = out.add_stream("aac", rate=RATE_HZ, options={"flags": "+bitexact"})
        self._track = cast(AudioStream, track)
        self._track.codec_context.layout = LAYOUT
        self._track.codec_context.bit_rate = BIT_RATE_BPS
        self._packets = self._encode(samples)
        self._next: Packet | None = next(self._packets, None)

    def packets_until(self, time_s: Fraction | None) -> Iterator[Packet]:
        """The next packets that begin before a time of the span; None: all that are left."""
        while self._next is not None and (time_s is None or self._start_s(self._next) < time_s):
            yield self._next
            self._next = next(self._packets, None)

    def _encode(self, samples: np.ndarray) -> Iterator[Packet]:
        for at in range(0, samples.shape[1], FRAME_SAMPLES):
            part = np.ascontiguousarray(samples[:, at : at + FRAME_SAMPLES])
            frame = AudioFrame.from_ndarray(part, format="fltp", layout=LAYOUT)
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, at, Fraction(1, RATE_HZ)
            yield from self._track.encode(frame)
        yield from self._track.encode(None)

    @staticmethod
    def _start_s(packet: Packet) -> Fraction:
        return (packet.pts or 0) * (packet.time_base or Fraction(1, RATE_HZ))


def read_samples(path: str, start_s: Fraction, end_s: Fraction) -> np.ndarray | None:
    """The first audio stream's samples in ``[start_s, end_s)``.

    Args:
        path: Local path of the source.
        start_s: Start on the source's own clock (pts times time base).
        end_s: End, exclusive.

    Returns:
        float32 [2, n] at ``RATE_HZ``, silence where the source has a gap; None when it has no
        usable sound there.
    """
    count = int((end_s - start_s) * RATE_HZ)
    buffer = np.zeros((2, count), np.float32)
    heard = False
    for at, part in _parts(path, start_s, end_s):
        buffer[:, at : at + part.shape[1]] = part
        heard = True
    return buffer if heard else None


def walk_samples(path: str, start_s: Fraction, end_s: Fraction) -> Iterator[np.ndarray]:
    """These samples in order and in pieces, so that memory does not grow with the span.

    Where the source's own pieces overlap, the earlier one counts.

    Yields:
        float32 [2, n], n at most about a second; nothing at all without usable sound.
    """
    count, done = int((end_s - start_s) * RATE_HZ), 0
    for at, part in _parts(path, start_s, end_s):
        yield from _silence(at - done)
        fresh = part[:, max(0, done - at) :]
        done = max(done, at) + fresh.shape[1]
        if fresh.shape[1]:
            yield fresh
    if done:
        yield from _silence(count - done)


def _silence(count: int) -> Iterator[np.ndarray]:
    for at in range(0, count, RATE_HZ):
        yield np.zeros((2, min(RATE_HZ, count - at)), np.float32)


def _parts(path: str, start_s: Fraction, end_s: Fraction) -> Iterator[tuple[int, np.ndarray]]:
    """Decoded pieces inside a span, each with its place in it, counted in samples."""
    count = int((end_s - start_s) * RATE_HZ)
    with av.open(path) as source:
        # PyAV leaves the codec context out when this build of FFmpeg has no decoder for it.
        streams = [s for s in source.streams.audio if cast(Any, s.codec_context) is not None]
        if not streams:
            return
        stream = streams[0]
        unit = stream.time_base or Fraction(1, RATE_HZ)
        try:
            source.seek(int((start_s - LEAD_S) / unit), stream=stream, backward=True)
            for part in _resampled(source, stream, end_s):
                data = part.to_ndarray()
                # The resampler delays; its own clock says where its samples belong.
                clock_s = cast(int, part.pts) * cast(Fraction, part.time_base)
                at = round((clock_s - start_s) * RATE_HZ)
                lo, hi = max(0, -at), min(data.shape[1], count - at)
                if hi > lo:
                    yield at + lo, data[:, lo:hi]
        except (av.error.FFmpegError, ValueError):
            return  # broken sound is left silent from here: the picture is what counts


def _resampled(
    source: InputContainer, stream: AudioStream, end_s: Fraction
) -> Iterator[AudioFrame]:
    """Frames up to ``end_s`` as float stereo at ``RATE_HZ``; a gap starts a new resampler."""
    resampler: AudioResampler | None = None
    expected_s = Fraction(0)
    for frame in source.decode(stream):
        if frame.pts is None or frame.time_base is None:
            continue
        at_s = frame.pts * frame.time_base
        if at_s >= end_s:
            break
        if resampler is not None and abs(at_s - expected_s) > Fraction(1, 100):
            yield from resampler.resample(None)
            resampler = None
        if resampler is None:
            resampler = AudioResampler(format="fltp", layout=LAYOUT, rate=RATE_HZ)
        expected_s = at_s + Fraction(frame.samples, frame.sample_rate)
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)
