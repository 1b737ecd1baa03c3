"""The sound of a span: decoded, cut to the sample, and encoded as AAC beside the picture."""

from __future__ import annotations

from fractions import Fraction

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import OutputContainer

RATE_HZ = 48_000
LAYOUT = "stereo"


def copy_audio(path: str, out: OutputContainer, start_s: Fraction, end_s: Fraction) -> int:
    """Encode the first audio stream's samples in ``[start_s, end_s)`` into a container.

    Args:
        path: Local path of the source.
        out: Container to add an AAC track to; picture packets may already be muxed.
        start_s: Start on the source's own clock (pts times time base).
        end_s: End, exclusive.

    Returns:
        Number of samples per channel written; 0 when the source has no usable sound there.
    """
    with av.open(path) as source:
        if not source.streams.audio:
            return 0
        stream = source.streams.audio[0]
        samples = _samples(source, stream, start_s, end_s)
    if samples is None:
        return 0
    track = out.add_stream("aac", rate=RATE_HZ, options={"flags": "+bitexact"})
    track.layout = LAYOUT  # pyright: ignore[reportAttributeAccessIssue]
    frame = AudioFrame.from_ndarray(samples, format="fltp", layout=LAYOUT)
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
    out.mux(track.encode(frame))
    out.mux(track.encode(None))
    return samples.shape[1]


def _samples(
    source: av.container.InputContainer,
    stream: av.AudioStream,
    start_s: Fraction,
    end_s: Fraction,
) -> np.ndarray | None:
    """float32 [2, n] samples of the span, silence where the source has a gap."""
    count = int((end_s - start_s) * RATE_HZ)
    buffer = np.zeros((2, count), np.float32)
    resampler = AudioResampler(format="fltp", layout=LAYOUT, rate=RATE_HZ)
    unit = stream.time_base or Fraction(1, RATE_HZ)
    heard = False
    try:
        source.seek(int(start_s / unit), stream=stream, backward=True)
        for frame in source.decode(stream):
            if frame.pts is None:
                continue
            if frame.pts * unit >= end_s:
                break
            at = int((frame.pts * unit - start_s) * RATE_HZ)
            for part in resampler.resample(frame):
                data = part.to_ndarray()
                lo, hi = max(0, -at), min(data.shape[1], count - at)
                if hi > lo:
                    buffer[:, at + lo : at + hi] = data[:, lo:hi]
                    heard = True
                at += data.shape[1]
    except av.error.FFmpegError:
        pass  # broken sound is left silent from here: the picture is what counts
    return buffer if heard else None
