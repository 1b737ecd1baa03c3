"""Thumbnails of chosen frames: one pass over the video, only the small pictures are kept."""

from __future__ import annotations

from collections.abc import Set
from contextlib import closing

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from curation.media.decode import open_video, walk_frames
from curation.media.facts import VideoFacts
from curation.signals.analysis import rotate

MIN_SIDE_PX = 8


def thumb_size(facts: VideoFacts, box_px: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a frame as displayed, upright with square pixels, in a box."""
    return _within(facts.width_px * facts.sample_aspect_ratio, facts.height_px, box_px)


def grab_thumbs(
    video_path: str, facts: VideoFacts, frames: Set[int], box_px: tuple[int, int]
) -> dict[int, np.ndarray]:
    """Decode a video as far as needed.

    Args:
        video_path: Local path.
        facts: Of the same file.
        frames: Numbers of the frames wanted, as decoded from 0.
        box_px: Widest and tallest thumbnail.

    Returns:
        uint8 [h, w, 3] in BGR by frame number; a frame that the file does not have is left out.
    """
    found: dict[int, np.ndarray] = {}
    if not frames:
        return found
    last, scaler = max(frames), VideoReformatter()
    with (
        open_video(video_path) as (container, stream),
        closing(walk_frames(container, stream)) as walk,  # pyright: ignore[reportArgumentType]
    ):
        for index, decoded in enumerate(walk):
            if index in frames:
                found[index] = _thumb(decoded.frame, facts, box_px, scaler)
            if index >= last:
                break
    return found


def _thumb(
    frame: VideoFrame, facts: VideoFacts, box_px: tuple[int, int], scaler: VideoReformatter
) -> np.ndarray:
    """Scale, then turn: the aspect ratio of the facts is that of the turned picture."""
    turned = facts.rotation_deg in (90, 270)
    wide, high = (frame.height, frame.width) if turned else (frame.width, frame.height)
    width, height = _within(wide * facts.sample_aspect_ratio, high, box_px)
    if turned:
        width, height = height, width
    small = scaler.reformat(frame, width=width, height=height, format="bgr24", interpolation="AREA")
    return rotate(small.to_ndarray(), facts.rotation_deg)


def _within(width: float, height: float, box_px: tuple[int, int]) -> tuple[int, int]:
    scale = min(box_px[0] / width, box_px[1] / height)
    return max(MIN_SIDE_PX, round(width * scale)), max(MIN_SIDE_PX, round(height * scale))
