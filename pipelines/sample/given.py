"""Frames that a sample is given: pictures at their places, or the end of a video.

--first-frame A --last-frame B --frame 8=C        x....... x......x
--extend VIDEO                                    the last frames of VIDEO, then new ones
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from curation.errors import ConfigError, MediaError
from curation.media.decode import open_video, time_base, walk_frames
from curation.media.facts import VideoFacts, read_facts
from curation.media.fit import BT709
from curation.signals.analysis import rotate
from training.data.decode import RGB_EXACT, UNSPECIFIED
from training.denoiser import Shape
from training.pictures import fit_picture, read_picture

Frame = NDArray[np.uint8]
LAST = -1
"""Place of a picture that is to be the last frame, however many there are."""
SEEK_MARGIN_S = 1.0
SLACK_S = 0.002
"""Containers round times to a millisecond."""


@dataclass(frozen=True)
class Picture:
    """A picture that is given.

    Attributes:
        place: Number of the frame, or ``LAST``.
        path: File.
        pixels: As read, uint8 (height, width, 3), RGB.
    """

    place: int
    path: Path
    pixels: Frame


@dataclass(frozen=True)
class GivenFrames:
    """Frames of the shape that is to be made.

    Attributes:
        frames: uint8 (height, width, 3), RGB, by number.
        origins: File of each.
    """

    frames: dict[int, Frame]
    origins: dict[int, Path]


def read_pictures(
    first: Path | None, last: Path | None, numbered: list[str] | None
) -> list[Picture]:
    """Read what the options name, before anything dear is loaded.

    Args:
        first: ``--first-frame``.
        last: ``--last-frame``.
        numbered: ``--frame``, each as ``N=FILE``.

    Raises:
        ConfigError: No picture can be read there, or a place is no number.
    """
    named = [(0, first), (LAST, last), *map(_numbered, numbered or [])]
    return [Picture(at, path, read_picture(path)) for at, path in named if path is not None]


def _numbered(text: str) -> tuple[int, Path]:
    number, equals, path = text.partition("=")
    if not equals or not path or not (number.isascii() and number.isdigit()):
        raise ConfigError(
            "is not NUMBER=FILE", where=f"--frame {text}", mend="for instance --frame 8=end.png"
        )
    return int(number), Path(path)


def place_frames(
    pictures: list[Picture],
    shape: Shape,
    stride: int,
    *,
    extend: Path | None = None,
    extend_frames: int | None = None,
) -> GivenFrames:
    """Fit everything to the shape, each at its place.

    Args:
        pictures: Of :func:`read_pictures`.
        shape: That is to be made.
        stride: Of the autoencoder in time.
        extend: Video whose last frames come first.
        extend_frames: How many; None: about half of all.

    Raises:
        ConfigError: A place is not there or taken twice, or the video cannot be gone on with.
    """
    frames: dict[int, Frame] = {}
    origins: dict[int, Path] = {}
    if extend is not None:
        count = _checked_prefix(extend_frames, shape.frames, stride)
        found = last_frames(extend, count, shape)
        frames, origins = dict(enumerate(found)), dict.fromkeys(range(count), extend)
    elif extend_frames is not None:
        raise ConfigError("says how many frames of which video?", where="--extend-frames")
    for picture in pictures:
        place = shape.frames - 1 if picture.place == LAST else picture.place
        where = f"frame {place} ({picture.path})"
        if place >= shape.frames:
            raise ConfigError(
                "there is no such frame", where=where, mend=f"0 to {shape.frames - 1}, or --frames"
            )
        if place in frames:
            raise ConfigError(f"is given by {origins[place]} already", where=where)
        frames[place] = fit_picture(picture.pixels, shape.height_px, shape.width_px)
        origins[place] = picture.path
    return GivenFrames(frames, origins)


def _checked_prefix(count: int | None, num_frames: int, stride: int) -> int:
    """Frames of a video that is extended: whole latent frames, and one at least left to make."""
    most = num_frames - stride
    if most < 1:
        raise ConfigError(
            f"{num_frames} frames leave none to make", where="--extend", mend="more --frames"
        )
    if count is None:
        return (num_frames - 1) // stride // 2 * stride + 1
    if not 1 <= count <= most or (count - 1) % stride:
        fits = ", ".join(str(n) for n in range(1, most + 1, stride))
        raise ConfigError(f"{count} frames do not fit", where="--extend-frames", mend=fits)
    return count


def last_frames(path: Path, count: int, shape: Shape) -> list[Frame]:
    """The end of a video at another rate and size; its very last frame is the last of them.

    Args:
        path: Of any video.
        count: Frames.
        shape: Size and rate.

    Returns:
        uint8 (height, width, 3), RGB, upright, scaled to cover and cut in the middle.

    Raises:
        ConfigError: It is no video, is too short, or is HDR.
    """
    try:
        facts = read_facts(str(path))
        shown = _at_end(path, (count - 1) / shape.fps, count)
    except MediaError as exc:
        raise ConfigError(exc.message, where=str(path)) from exc
    if facts.is_hdr:
        raise ConfigError("is HDR", where=str(path), mend="`clipmill curate` makes SDR clips of it")
    if shown is None:
        raise ConfigError(
            f"is shorter than {count} frames at {shape.fps:g} a second",
            where=str(path),
            mend="fewer --extend-frames, or a higher --fps",
        )
    scaler = VideoReformatter()
    return [
        fit_picture(_upright(frame, facts, scaler), shape.height_px, shape.width_px)
        for frame in shown
    ]


def _at_end(path: Path, span_s: float, count: int) -> list[VideoFrame] | None:
    """Frames on screen at even times up to the last one; None: it is shorter than that."""
    latest = _latest_pts(path)
    held: deque[tuple[int, VideoFrame]] = deque()
    with open_video(str(path)) as (container, stream):
        unit = float(time_base(stream))
        start = None if latest is None else latest - round((span_s + SEEK_MARGIN_S) / unit)
        if start is not None and start <= (stream.start_time or 0):
            start = None
        for decoded in walk_frames(container, stream, start_pts=start):
            held.append((decoded.pts, decoded.frame))
            # What is on screen at the first time must stay, with all after it.
            while len(held) > 1 and (decoded.pts - held[1][0]) * unit >= span_s + SLACK_S:
                held.popleft()
    if not held or (held[-1][0] - held[0][0]) * unit < span_s - SLACK_S:
        return None
    end_s, step_s = held[-1][0] * unit, span_s / max(1, count - 1)
    times = [end_s - (count - 1 - n) * step_s for n in range(count)]
    return list(_on_screen(list(held), unit, times))


def _on_screen(
    held: list[tuple[int, VideoFrame]], unit: float, times_s: list[float]
) -> Iterator[VideoFrame]:
    for time_s in times_s:
        yield next(
            (frame for pts, frame in reversed(held) if pts * unit <= time_s + SLACK_S), held[0][1]
        )


def _latest_pts(path: Path) -> int | None:
    """Of the packets, without decoding; None where they do not tell."""
    with open_video(str(path)) as (container, stream):
        times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
    return max(times, default=None)


def _upright(frame: VideoFrame, facts: VideoFacts, scaler: VideoReformatter) -> Frame:
    """A frame as it is displayed: square pixels, turned, RGB."""
    turned = facts.rotation_deg in (90, 270)
    stretch = 1 / facts.sample_aspect_ratio if turned else facts.sample_aspect_ratio
    guess = int(frame.colorspace) == UNSPECIFIED and (frame.height > 576 or frame.width >= 1280)
    rgb = scaler.reformat(
        frame,
        width=max(1, round(frame.width * stretch)),
        height=frame.height,
        format="rgb24",
        src_colorspace=BT709 if guess else None,
        interpolation=Interpolation.BICUBIC | RGB_EXACT,
        threads=1,
    )
    return cast(Frame, np.ascontiguousarray(rotate(rgb.to_ndarray(), facts.rotation_deg)))
