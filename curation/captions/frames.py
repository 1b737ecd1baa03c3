"""Which pictures a captioner sees: windows of long clips, and frames that fit a budget of tokens.

Clips longer than ``window_s`` are described in windows of equal length. Of each window so many
frames are shown, spread over its time with its ends included, in the size that the budget of
tokens leaves; before pictures get too small to read, there are fewer of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import cv2
import numpy as np

from curation.captions.request import Frame
from curation.errors import ErrorCode, MediaError
from curation.media.decode import open_video, time_base, walk_frames
from curation.media.facts import rotation_deg
from curation.signals.analysis import Sampler
from curation.stages.sampled import picture

JPEG_QUALITY = 90
PATCH_PX = 28
"""Side of the square that is one token: Qwen2-VL (arXiv 2409.12191), 14-pixel patches, merged 2x2.
Others take no more than that for a picture of the same size, give or take a third."""
MIN_SIDE_PX = 224
"""Longer side below which a picture is left out rather than made smaller."""


@dataclass(frozen=True)
class Window:
    """A stretch of a clip that is described on its own.

    Attributes:
        index: From 0.
        start_s: Seconds from the clip's start; half-open span.
        end_s: Its end.
        frames: What is seen of it, times from the window's start.
    """

    index: int
    start_s: float
    end_s: float
    frames: tuple[Frame, ...]

    @property
    def duration_s(self) -> float:
        """Its length."""
        return self.end_s - self.start_s


def windows(frames: Sequence[Frame], duration_s: float, window_s: float | None) -> list[Window]:
    """Divide a clip into windows of equal length, none longer than ``window_s``.

    Args:
        frames: Of the clip, in order of time.
        duration_s: Length of the clip.
        window_s: Longest window; None: one for the whole clip.
    """
    count = 1 if not window_s else max(1, math.ceil(duration_s / window_s - 1e-9))
    edges = [duration_s * i / count for i in range(count)] + [duration_s]
    last = count - 1
    made = []
    for i in range(count):
        start, end = edges[i], edges[i + 1]
        inside = [f for f in frames if start <= f.time_s and (f.time_s < end or i == last)]
        shown = tuple(Frame(round(f.time_s - start, 3), f.jpeg) for f in inside)
        made.append(Window(i, round(start, 3), round(end, 3), shown))
    return made


def spread_ends(count: int, wanted: int) -> list[int]:
    """Indices of ``wanted`` of ``count`` frames, evenly spread, the first and last among them.

    ``count = 10, wanted = 4: x . . x . . x . . x``
    """
    if count <= wanted:
        return list(range(count))
    if wanted == 1:
        return [count // 2]
    return sorted({round(i * (count - 1) / (wanted - 1)) for i in range(wanted)})


def fit_frames(
    frames: Sequence[Frame],
    *,
    max_frames: int,
    max_side_px: int,
    token_budget: int | None = None,
) -> tuple[Frame, ...]:
    """The frames to show: at most so many, so large, and together within a budget.

    Args:
        frames: Of one window, all of one size.
        max_frames: Most frames.
        max_side_px: Most pixels of the longer side.
        token_budget: Most tokens of all pictures together, a token being a square of ``PATCH_PX``.

    Returns:
        Frames in order of time; a picture that is small enough keeps its bytes.
    """
    chosen = [frames[i] for i in spread_ends(len(frames), max_frames)]
    if not chosen:
        return ()
    height, width = picture(chosen[0].jpeg).shape[:2]
    side = min(max_side_px, max(height, width))
    if token_budget is not None:
        whole = (height / max(height, width)) * (width / max(height, width))
        while True:
            # tokens of a picture with longer side s: about whole * s^2 / PATCH_PX^2
            fitting = math.sqrt(token_budget / len(chosen) / whole) * PATCH_PX
            if fitting >= min(side, MIN_SIDE_PX) or len(chosen) == 1:
                break
            chosen = [chosen[i] for i in spread_ends(len(chosen), len(chosen) - 1)]
        side = max(PATCH_PX, min(side, int(fitting)))
    return tuple(Frame(f.time_s, shrink(f.jpeg, side)) for f in chosen)


def shrink(jpeg: bytes, max_side_px: int) -> bytes:
    """A picture with its longer side no more than so many pixels."""
    image = picture(jpeg)
    height, width = image.shape[:2]
    share = max_side_px / max(height, width)
    if share >= 1:
        return jpeg
    size = max(1, round(width * share)), max(1, round(height * share))
    return as_jpeg(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def as_jpeg(image: np.ndarray) -> bytes:
    """A uint8 BGR picture [h, w, 3] as JPEG."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done, "OpenCV writes no JPEG"
    return data.tobytes()


def dense_frames(
    path: str | Path, fps: float, max_side_px: int, beat: Callable[[], None] = lambda: None
) -> list[Frame]:
    """Frames of a cut clip on an even grid of time: more than the stored samples show.

    Args:
        path: The clip's file.
        fps: Frames per second wanted; the first frame at or after each point of the grid.
        max_side_px: They are made no larger than this.
        beat: Called after every frame that is kept.

    Raises:
        MediaError: Nothing of it decodes.
    """
    frames: list[Frame] = []
    sampler: Sampler | None = None
    with open_video(str(path)) as (container, stream):
        unit, start, due = time_base(stream), None, 0
        try:
            for decoded in walk_frames(container, stream):
                start = decoded.pts if start is None else start
                time_s = float((decoded.pts - start) * unit)
                if time_s * fps < due - 1e-6:
                    continue
                due = math.floor(time_s * fps + 1e-6) + 1
                sampler = sampler or _sampler(stream, decoded.frame, max_side_px)
                frames.append(Frame(round(time_s, 3), sampler(decoded.frame)[0]))
                beat()
        except av.error.FFmpegError as exc:
            raise MediaError(ErrorCode.DECODE_FAILED, str(exc)) from exc
    if not frames:
        raise MediaError(ErrorCode.NO_FRAMES, "no frame of the cut clip decodes")
    return frames


def _sampler(stream: av.VideoStream, frame: av.VideoFrame, max_side_px: int) -> Sampler:
    """Makes pictures as displayed: turned, with square pixels."""
    turn = rotation_deg(frame)
    aspect = float(stream.sample_aspect_ratio or 1) or 1.0
    return Sampler(max_side_px, JPEG_QUALITY, turn, 1 / aspect if turn in (90, 270) else aspect)
