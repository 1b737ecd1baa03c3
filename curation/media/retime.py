"""A constant frame rate out of frames at any times: the frame on display, never a blend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from av.video.frame import VideoFrame

SLACK_S = Fraction(1, 1000)
"""A frame due within a millisecond counts as on display: containers that round times to the
millisecond would else show one frame twice and skip the next at an unchanged rate."""


def exact_rate(fps: float) -> Fraction:
    """A frame rate as a fraction; 23.976, 29.97 and 59.94 mean the NTSC rates n * 1000/1001."""
    ntsc = Fraction(round(fps) * 1000, 1001)
    if round(fps) > 0 and abs(fps / float(ntsc) - 1) < 3e-4:
        return ntsc
    return max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))


def num_frames_at(rate: Fraction, span_s: Fraction) -> int:
    """Frames of a clip of a given length: the whole number nearest to it, at least one."""
    return max(1, int(span_s * rate + Fraction(1, 2)))


def on_display(
    frames: Iterable[tuple[int, VideoFrame]],
    *,
    span_pts: tuple[int, int],
    unit: Fraction,
    rate: Fraction,
) -> Iterator[tuple[int, VideoFrame]]:
    """Choose for each output time k / rate the source frame that is on display then.

    At 24 to 30 frames per second, source frames ``0 1 2 3 4`` become ``0 0 1 2 3 4``: a frame is
    shown again, none is made up.

    Args:
        frames: ``(pts, frame)`` in order, inside the span.
        span_pts: The span, half-open.
        unit: Seconds per pts.
        rate: Frames per second to give.

    Yields:
        ``(k, frame)`` for k = 0 to ``num_frames_at(...) - 1``.
    """
    start, end = span_pts
    count = num_frames_at(rate, (end - start) * unit)
    k, shown = 0, None
    for pts, frame in frames:
        due_s = (pts - start) * unit
        while shown is not None and k < count and k / rate + SLACK_S < due_s:
            yield k, shown
            k += 1
        shown = frame
    while shown is not None and k < count:
        yield k, shown
        k += 1
