"""Where in a clip a sample is taken: window in time, crop in the picture, mirrored or not.

Every choice is a draw of (seed, epoch, sample, purpose), see :mod:`training.data.keys`: the same on
any rank, in any worker, whoever asks first. Purposes: ``window``, ``crop-y``, ``crop-x``, ``flip``,
``caption``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.data.buckets import Bucket
from training.data.decode import Scaling, View
from training.data.keys import draw

Window = Literal["random", "start", "middle"]
Crop = Literal["center", "random"]


@dataclass(frozen=True)
class Draws:
    """The numbers drawn for one sample in one epoch.

    Attributes:
        seed: Of the run.
        epoch: Of the source.
        key_hash: Of the sample.
    """

    seed: int
    epoch: int
    key_hash: int

    def of(self, purpose: str) -> float:
        """A number in [0, 1)."""
        return draw(self.seed, self.epoch, purpose, self.key_hash)


def window_start_s(kind: Window, draws: Draws, *, frames: int, fps: float, bucket: Bucket) -> float:
    """Time of the first frame of a sample, seconds from the first frame of its clip.

    The last frame of the sample is at or before the clip's last: starts lie in ``[0, room]`` with
    ``room = (frames - 1) / fps - bucket.span_s``. A picture is a window of span 0.

    Args:
        kind: ``random`` draws evenly over the room.
        draws: Of the sample.
        frames: Of the clip.
        fps: Of the clip.
        bucket: Shape and rate of the sample.
    """
    room_s = max(0.0, (frames - 1) / fps - bucket.span_s)
    share = {"start": 0.0, "middle": 0.5}.get(kind)
    return room_s * (draws.of("window") if share is None else share)


def target_times_s(start_s: float, bucket: Bucket) -> list[float]:
    """Times of all frames of a sample, seconds from the first frame of its clip."""
    return [start_s + number / bucket.fps for number in range(bucket.frames)]


def view_of(bucket: Bucket, draws: Draws, *, crop: Crop, scaling: Scaling, mirror: bool) -> View:
    """How the pictures of a sample are scaled, cropped and mirrored."""
    shares = {"crop_y": 0.5, "crop_x": 0.5}
    if crop == "random":
        shares = {"crop_y": draws.of("crop-y"), "crop_x": draws.of("crop-x")}
    return View(bucket.height_px, bucket.width_px, mirror=mirror, scaling=scaling, **shares)
