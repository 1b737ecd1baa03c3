"""Copies of real clips, changed in known ways: the labelled footage of the deduplication benchmark.

A clip is decoded once with a margin of time around it; every copy is made from those pictures and
encoded with x264.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.media.decode import open_video, time_base, walk_frames
from curation.signals.analysis import rotate

MARGIN_S = 0.6
WORK_PX = 480
"""Long side of the pictures that copies are made from."""
MAX_FPS = 31.0
"""Every other frame of faster footage is left out."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What sets a copy apart from its original.

    Attributes:
        kind: Row of the report it counts for.
        name: Unique.
        crf: Quality of x264.
        scale: Width and height, of the working size.
        crop: Cut off: left, top, right, bottom, share of the side.
        bars: Black bars added on each of two sides, share of the picture: left-right, top-bottom.
        shift_s: The copy begins and ends so much later.
        speed: It runs so many times faster.
        mirrored: Left and right are exchanged.
        logo: A label covers a corner.
        tone: Gain, offset (of 255) and gamma of the light.
        tint: Gains of red, green and blue.
        fps: Frames per second; None: all frames.
        turn_deg: Stored turned, with the turn back in its header.
    """

    kind: str
    name: str
    crf: int = 23
    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    bars: tuple[float, float] = (0.0, 0.0)
    shift_s: float = 0.0
    speed: float = 1.0
    mirrored: bool = False
    logo: bool = False
    tone: tuple[float, float, float] = (1.0, 0.0, 1.0)
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fps: float | None = None
    turn_deg: int = 0


CHANGES = (
    Change(kind="encode", name="crf18", crf=18),
    Change(kind="encode", name="crf30", crf=30),
    Change(kind="encode", name="crf40", crf=40),
    Change(kind="size", name="half", scale=(0.5, 0.5)),
    Change(kind="size", name="small", scale=(0.3, 0.3)),
    Change(kind="size", name="squashed", scale=(0.6, 0.8)),
    Change(kind="size", name="turned", turn_deg=90),
    Change(kind="crop 5 %", name="crop5", crop=(0.025, 0.025, 0.025, 0.025)),
    Change(kind="crop 5 %", name="crop5_corner", crop=(0.05, 0.0, 0.0, 0.05)),
    Change(kind="crop 10 %", name="crop10", crop=(0.05, 0.05, 0.05, 0.05)),
    Change(kind="crop 10 %", name="crop10_sides", crop=(0.1, 0.0, 0.0, 0.0)),
    Change(kind="crop 15 %", name="crop15", crop=(0.075, 0.075, 0.075, 0.075)),
    Change(kind="crop 15 %", name="crop15_corner", crop=(0.0, 0.15, 0.15, 0.0)),
    Change(kind="shift", name="later", shift_s=0.5),
    Change(kind="shift", name="earlier", shift_s=-0.5),
    Change(kind="shift", name="odd_shift", shift_s=0.37),
    Change(kind="letterbox", name="letterbox", bars=(0.0, 0.125)),
    Change(kind="letterbox", name="pillarbox", bars=(0.15, 0.0)),
    Change(kind="logo", name="logo", logo=True),
    Change(kind="mirrored", name="mirrored", mirrored=True),
    Change(kind="speed", name="slower", speed=0.9),
    Change(kind="speed", name="faster", speed=1.1),
    Change(kind="colour", name="bright", tone=(1.15, 12.0, 0.85), tint=(1.1, 1.0, 0.85)),
    Change(kind="colour", name="dim", tone=(0.75, 5.0, 1.2), tint=(0.9, 1.0, 1.1)),
    Change(kind="frame rate", name="fps12", fps=12.0),
    Change(kind="frame rate", name="fps30", fps=30.0),
    Change(
        kind="combined",
        name="ripped",
        crf=32,
        scale=(0.5, 0.5),
        crop=(0.05, 0.05, 0.05, 0.05),
        logo=True,
        shift_s=0.37,
    ),
    Change(
        kind="combined",
        name="hidden",
        mirrored=True,
        crop=(0.04, 0.02, 0.03, 0.05),
        tone=(1.1, 8.0, 0.9),
        speed=1.05,
    ),
    Change(
        kind="combined",
        name="broadcast",
        bars=(0.0, 0.1),
        logo=True,
        fps=25.0,
        crf=28,
        shift_s=-0.37,
        tone=(0.9, 0.0, 1.1),
    ),
)


@dataclass
class Footage:
    """The pictures of a clip and of the time around it.

    Attributes:
        pictures: uint8 RGB [h, w, 3], as displayed.
        time_s: Their times from the clip's start.
        length_s: Of the clip.
    """

    pictures: list[np.ndarray]
    time_s: np.ndarray
    length_s: float


def read_footage(path: str, start_s: float, end_s: float, turn_deg: int) -> Footage:
    """Decode a clip of a file with the margin around it."""
    pictures, times = [], []
    with open_video(path) as (container, stream):
        unit_s, first = float(time_base(stream)), None
        for decoded in walk_frames(container, stream):
            first = decoded.pts if first is None else first
            time_s = (decoded.pts - first) * unit_s
            if time_s >= end_s + MARGIN_S:
                break
            if time_s < start_s - MARGIN_S:
                continue
            if times and time_s - start_s - times[-1] < 1 / MAX_FPS:
                continue
            scale = min(1.0, WORK_PX / max(decoded.frame.width, decoded.frame.height))
            size = [2 * round(s * scale / 2) for s in (decoded.frame.width, decoded.frame.height)]
            frame = decoded.frame.reformat(
                width=size[0], height=size[1], format="rgb24", interpolation="AREA"
            )
            pictures.append(rotate(frame.to_ndarray(), turn_deg))
            times.append(time_s - start_s)
    return Footage(pictures, np.array(times), end_s - start_s)


def write_copy(footage: Footage, change: Change, path: Path) -> Path:
    """Write a changed copy as an MP4 of H.264."""
    with av.open(str(path), "w") as out:
        options = {"preset": "ultrafast", "crf": str(change.crf), "threads": "1"}
        stream = cast(VideoStream, out.add_stream("libx264", rate=30, options=options))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90000)
        for index, (time_s, picture) in enumerate(_timed(footage, change)):
            image = changed(picture, change)
            if index == 0:
                stream.height, stream.width = image.shape[:2]
                if change.turn_deg:
                    stream.set_display_rotation(-change.turn_deg)
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = round(time_s * 90000), Fraction(1, 90000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _timed(footage: Footage, change: Change) -> Iterator[tuple[float, np.ndarray]]:
    """The pictures of a copy with their times from its start."""
    start_s = max(change.shift_s, float(footage.time_s[0]))
    end_s = footage.length_s + change.shift_s
    inside = np.flatnonzero((footage.time_s >= start_s - 1e-6) & (footage.time_s < end_s - 1e-6))
    first_s = float(footage.time_s[inside[0]])
    if change.fps is None:
        for i in inside.tolist():
            yield (float(footage.time_s[i]) - first_s) / change.speed, footage.pictures[i]
        return
    last_s = float(footage.time_s[inside[-1]])
    for n in range(int((last_s - first_s) * change.fps) + 1):
        at = int(np.searchsorted(footage.time_s, first_s + n / change.fps + 1e-6)) - 1
        yield n / change.fps / change.speed, footage.pictures[at]


def changed(picture: np.ndarray, change: Change) -> np.ndarray:
    """A picture, uint8 RGB [h, w, 3], as the copy stores it."""
    high, wide = picture.shape[:2]
    left, top, right, bottom = change.crop
    image = picture[
        round(top * high) : round((1 - bottom) * high),
        round(left * wide) : round((1 - right) * wide),
    ]
    size = [max(32, 2 * round(s * f / 2)) for s, f in zip((wide, high), change.scale, strict=True)]
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if change.mirrored:
        image = image[:, ::-1]
    if change.tone != (1.0, 0.0, 1.0) or change.tint != (1.0, 1.0, 1.0):
        gain, offset, gamma = change.tone
        light = (image / 255.0) ** gamma * 255 * gain * np.array(change.tint) + offset
        image = np.clip(light, 0, 255).astype(np.uint8)
    if change.logo:
        image = _labelled(image)
    if change.bars != (0.0, 0.0):
        image = _barred(image, change.bars)
    return rotate(image, (360 - change.turn_deg) % 360)


def _labelled(image: np.ndarray) -> np.ndarray:
    """A channel's label in the upper right corner: 18 % of the width, 12 % of the height."""
    image = image.copy()
    high, wide = image.shape[:2]
    x, y, w, h = round(0.79 * wide), round(0.04 * high), round(0.18 * wide), round(0.12 * high)
    cv2.rectangle(image, (x, y), (x + w, y + h), (200, 30, 40), -1)
    cv2.putText(
        image, "NEWS", (x + w // 10, y + 3 * h // 4), cv2.FONT_HERSHEY_DUPLEX, h / 40,
        (255, 255, 255), max(1, h // 16), cv2.LINE_AA,
    )  # fmt: skip
    return image


def _barred(image: np.ndarray, bars: tuple[float, float]) -> np.ndarray:
    """The picture made smaller between black bars; the size stays."""
    high, wide = image.shape[:2]
    out = np.zeros_like(image)
    x, y = (2 * round(b * s / 2) for b, s in zip(bars, (wide, high), strict=True))
    small = cv2.resize(image, (wide - 2 * x, high - 2 * y), interpolation=cv2.INTER_AREA)
    out[y : high - y, x : wide - x] = small
    return out
