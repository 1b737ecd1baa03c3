"""Frames as files: MP4s, strips of frames over time, and pictures of any size as frames.

Frames are uint8 of shape (height, width, 3), RGB, 0 to 255. Files appear whole, by a rename.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from curation.errors import ConfigError
from curation.media.encode import open_mp4
from curation.media.encoders import BT709, EncodeSettings, add_encoder
from curation.media.fit import BT709 as MATRIX_BT709
from curation.media.fit import EXACT
from curation.media.retime import exact_rate
from training.data.decode import RGB_EXACT, View
from training.files import written_whole

Frame = NDArray[np.uint8]
VIDEO = EncodeSettings(crf=12, preset="medium", gop_frames=12, with_audio=False)
"""Of written videos: what is lost besides half of the colour's detail is not seen."""
STRIP_FRAMES = 9
MARGIN_PX, GAP_PX, TEXT_PX = 8, 2, 18
MIN_WIDTH_PX = 320
"""Of a strip: a caption is to be read beside small frames."""
SMALLEST_PX = 48
"""Frames of a strip that are lower are enlarged by a whole number."""
INK, GIVEN = (27, 31, 36), (26, 127, 55)
FONT, FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


def write_mp4(
    path: Path, frames: Iterable[Frame], fps: float, *, comment: str | None = None
) -> int:
    """Write frames as H.264, 4:2:0, BT.709, at a constant rate; equal frames give equal bytes.

    Args:
        path: To write.
        frames: All of one size, even sides.
        fps: Frames per second.
        comment: Of the container; None: none.

    Returns:
        Number of frames.

    Raises:
        ConfigError: It cannot be written there.
        ValueError: No frames, or of a shape that cannot be written.
    """
    try:
        with written_whole(path) as temporary:
            return _encode(temporary, frames, fps, comment)
    except OSError as exc:  # PyAV's errors of the file system are of this kind too
        raise ConfigError(f"cannot be written: {exc.strerror}", where=str(path)) from exc


def _encode(path: Path, frames: Iterable[Frame], fps: float, comment: str | None) -> int:
    rate, scaler, count = exact_rate(fps), VideoReformatter(), 0
    ready = iter(frames)
    first = next(ready, None)
    if first is None:
        raise ValueError("a video has at least one frame")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"4:2:0 has even sides, not {height} x {width}")
    with open_mp4(path) as out:
        if comment is not None:
            out.metadata["comment"] = comment
        encoder = add_encoder(
            out, VIDEO, size_px=(width, height), rate=rate, unit=1 / rate, tags=BT709
        )
        for frame in chain([first], ready):
            if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
                raise ValueError(
                    f"frames are uint8 of {height} x {width} x 3, not {frame.dtype} {frame.shape}"
                )
            picture = scaler.reformat(
                VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
                format=VIDEO.pix_fmt,
                interpolation=Interpolation.AREA | EXACT,
                dst_colorspace=MATRIX_BT709,
                dst_color_range="MPEG",
                threads=1,
            )
            picture.pts, picture.time_base = count, 1 / rate
            picture.pict_type = PictureType.NONE
            out.mux(encoder.encode(picture))
            count += 1
        out.mux(encoder.encode(None))
    return count


def read_picture(path: Path) -> Frame:
    """A picture file, turned as its EXIF says; transparency is left out.

    Raises:
        ConfigError: It is missing, or no picture.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc.strerror}", where=str(path)) from exc
    found = None
    if data:
        try:
            found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        except cv2.error:  # a picture of absurd size
            found = None
    if found is None:
        raise ConfigError(
            "is no picture that can be read", where=str(path), mend="give a PNG, JPEG or WebP file"
        )
    return cast(Frame, found)


def fit_picture(picture: Path | Frame, height_px: int, width_px: int) -> Frame:
    """A picture as a frame: scaled to cover it, cut in the middle, by the filter of training.

    Args:
        picture: A file, or pixels.
        height_px: Of the frame.
        width_px: Of the frame.

    Raises:
        ConfigError: The file is missing, or no picture.
    """
    pixels = read_picture(picture) if isinstance(picture, Path) else picture
    high, wide = pixels.shape[:2]
    if (high, wide) == (height_px, width_px):
        return np.ascontiguousarray(pixels)
    view = View(height_px, width_px)
    scaled_high, scaled_wide = view.scaled(high, wide)
    scaled = VideoReformatter().reformat(
        VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
        width=scaled_wide,
        height=scaled_high,
        format="rgb24",
        interpolation=Interpolation[view.scaling.upper()] | RGB_EXACT,
        threads=1,
    )
    top, left = view.corner(scaled_high, scaled_wide)
    window = cast(Frame, scaled.to_ndarray())[top : top + height_px, left : left + width_px]
    return np.ascontiguousarray(window)


def spread(num_frames: int, most: int = STRIP_FRAMES) -> list[int]:
    """Numbers of frames evenly spread from the first to the last, at most so many."""
    count = min(num_frames, most)
    if count <= 1:
        return [0] * count
    return [round(n * (num_frames - 1) / (count - 1)) for n in range(count)]


def strip(
    rows: Sequence[Sequence[Frame]],
    captions: Sequence[str],
    marked: Sequence[Collection[int]] | None = None,
) -> Frame:
    """A picture of frames over time, a row a sample, its caption above it.

    Args:
        rows: Frames of each sample; see :func:`spread` for long ones.
        captions: One for each; cut to the width.
        marked: Places in each row that are framed in green: those that were given.

    Raises:
        ValueError: No frames, or not one caption to a row.
    """
    if not rows or not all(len(row) for row in rows):
        raise ValueError("a strip has at least one row, and a row one frame")
    marked = marked or [()] * len(rows)
    scaled = [[_enlarged(frame) for frame in row] for row in rows]
    widths = [sum(f.shape[1] + GAP_PX for f in row) - GAP_PX for row in scaled]
    heights = [max(f.shape[0] for f in row) for row in scaled]
    width = max(MIN_WIDTH_PX, *widths) + 2 * MARGIN_PX
    height = sum(heights) + len(rows) * (TEXT_PX + MARGIN_PX) + MARGIN_PX
    canvas = np.full((height, width, 3), 255, np.uint8)
    y = MARGIN_PX
    for row, caption, given, high in zip(scaled, captions, marked, heights, strict=True):
        _text(canvas, y, caption)
        x, y = MARGIN_PX, y + TEXT_PX
        for number, frame in enumerate(row):
            place = canvas[y : y + frame.shape[0], x : x + frame.shape[1]]
            place[:] = frame
            if number in given:
                for edge in (place[:2], place[-2:], place[:, :2], place[:, -2:]):
                    edge[:] = GIVEN
            x += frame.shape[1] + GAP_PX
        y += high + MARGIN_PX
    return canvas


def strip_png(
    path: Path,
    rows: Sequence[Sequence[Frame]],
    captions: Sequence[str],
    marked: Sequence[Collection[int]] | None = None,
) -> Path:
    """Write :func:`strip` as a PNG.

    Raises:
        ConfigError: It cannot be written there.
    """
    return write_png(path, strip(rows, captions, marked))


def write_png(path: Path, picture: Frame) -> Path:
    """Write a picture.

    Raises:
        ConfigError: It cannot be written there.
    """
    _, data = cv2.imencode(".png", picture[:, :, ::-1])
    try:
        with written_whole(path) as temporary:
            temporary.write_bytes(data.tobytes())
    except OSError as exc:
        raise ConfigError(f"cannot be written: {exc.strerror}", where=str(path)) from exc
    return path


def _enlarged(frame: Frame) -> Frame:
    times = -(-SMALLEST_PX // frame.shape[0])
    return frame if times == 1 else frame.repeat(times, 0).repeat(times, 1)


def _text(canvas: Frame, y: int, text: str) -> None:
    """A line of text, cut at its end where there is no room."""
    shown, room = text.replace("\n", " "), canvas.shape[1] - 2 * MARGIN_PX
    while shown and _width(shown) > room:
        shown = shown.removesuffix("...")[:-1]
        shown += "..." if shown else ""
    at = (MARGIN_PX, y + TEXT_PX - 6)
    cv2.putText(canvas, shown, at, FONT, FONT_SIZE, INK, 1, cv2.LINE_AA)


def _width(text: str) -> int:
    return cv2.getTextSize(text, FONT, FONT_SIZE, 1)[0][0]
