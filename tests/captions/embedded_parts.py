"""Measurements of made-up clips, as the stages would give them."""

from __future__ import annotations

from typing import Any

import numpy as np

FPS = 25


def still_facts(duration_s: float, start_s: float = 0.0) -> dict[str, Any]:
    """A camera that stands before a scene in which nothing moves."""
    return moving_facts(duration_s, 0.0, 0.0, start_s=start_s)


def moving_facts(
    duration_s: float,
    from_s: float,
    to_s: float,
    *,
    start_s: float = 0.0,
    speed_per_s: float = 0.04,
    object_share: float = 1.0,
) -> dict[str, Any]:
    """A camera that stands before something that moves for some of the time.

    Args:
        duration_s: Length of the clip.
        from_s: Start of the movement in the clip.
        to_s: Its end.
        start_s: Where the clip begins in the video.
        speed_per_s: Flow while it lasts, diagonals per second.
        object_share: Share of it that the camera does not explain.
    """
    time_s = np.arange(round(duration_s * FPS)) / FPS
    closes = np.arange(len(time_s)) % 3 == 0  # the stages measure flow every 1/8 s
    speed = np.where((time_s > from_s) & (time_s <= to_s), speed_per_s, 0.0005)
    total = np.where(closes, speed, np.nan)
    pair_start_s = np.where(closes, start_s + time_s - 3 / FPS, np.nan)
    nothing = np.where(closes, 0.0, np.nan)

    def listed(values: np.ndarray) -> list[float | None]:
        return [None if np.isnan(v) else float(v) for v in values]

    moving = to_s > from_s
    return {
        "frame_time_s": (start_s + time_s).tolist(),
        "frame_pair_start_s": listed(pair_start_s),
        "frame_luma_mean": [0.5] * len(time_s),
        "frame_motion_per_s": listed(total),
        "frame_object_per_s": listed(total * object_share),
        **{f"frame_{n}_per_s": listed(nothing) for n in ("pan", "tilt", "zoom", "roll")},
        "width_px": 640,
        "height_px": 360,
        "sample_aspect_ratio": 1.0,
        "rotation_deg": 0,
        "static_fraction": 0.0 if moving else 1.0,
        "camera_class": "static",
        "camera_confidence": 1.0,
        "subject_motion_per_s": 0.03 if moving else 0.0,
    }
