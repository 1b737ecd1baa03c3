"""Composite films with exact labels, from single shots of any footage.

Labels have the form that the scorer reads: a cut has start = last old frame, end = first new frame;
a gradual transition spans [start, end). Flashes and hand shake are put into some shots; they are
no transitions and stand under ``disturbances``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from curation.media.decode import open_video, walk_frames
from infra.shotnet.blend import blend, flash, random_style, shift

WIDTH_PX, HEIGHT_PX, FPS = 640, 360, 25
KINDS = ("cut", "dissolve", "fade", "wipe")
KIND_SHARES = (0.5, 0.2, 0.15, 0.15)
MIN_GRADUAL_FRAMES = 8
MIN_SHOT_FRAMES, MAX_SHOT_FRAMES = 45, 150


@dataclass(frozen=True)
class Footage:
    """Frames ``[start_frame, end_frame)`` of a file, known to be one shot."""

    path: Path
    start_frame: int
    end_frame: int


def make_film(footage: list[Footage], target: Path, seed: int, num_shots: int) -> dict[str, Any]:
    """Write a composite and return its labels.

    Args:
        footage: Single shots to draw from; neighbours come from different files when possible.
        target: MP4 file to write.
        seed: Everything is drawn from it.
        num_shots: Shots to join.

    Returns:
        ``{"fps", "frames", "transitions", "disturbances"}``.
    """
    rng = np.random.default_rng(seed)
    labels: dict[str, Any] = {"fps": FPS, "transitions": [], "disturbances": []}
    with av.open(str(target), "w") as out:
        encoder = out.add_stream("libx264", rate=FPS, options={"crf": "21", "preset": "veryfast"})
        encoder.width, encoder.height, encoder.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        count = 0
        for frame in _frames(footage, rng, num_shots, labels):
            picture = VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = count
            out.mux(encoder.encode(picture))
            count += 1
        out.mux(encoder.encode(None))
    labels["frames"] = count
    return labels


def _frames(
    footage: list[Footage], rng: np.random.Generator, num_shots: int, labels: dict[str, Any]
) -> Iterator[np.ndarray]:
    """All frames in order; fills in the labels on the way."""
    at = 0
    source = footage[rng.integers(len(footage))]
    old = _shot(source, rng, at, labels)
    for _ in range(num_shots - 1):
        others = [f for f in footage if f.path != source.path] or footage
        source = others[rng.integers(len(others))]
        kind = str(rng.choice(KINDS, p=KIND_SHARES))
        size = 0 if kind == "cut" else int(rng.integers(10, 28))
        size = min(size, len(old) - 12)
        if size < MIN_GRADUAL_FRAMES:  # what is left of the old shot is too short for it
            kind, size = "cut", 0
        stay = len(old) - size
        yield from old[:stay]
        at += stay
        new = _shot(source, rng, at + size if size else at, labels, lead=size)
        if kind == "cut":
            labels["transitions"].append({"kind": kind, "start": at - 1, "end": at})
        else:
            labels["transitions"].append({"kind": kind, "start": at, "end": at + size})
            style = random_style(rng)
            for i in range(size):
                yield blend(kind, old[stay + i], new[i], (i + 1) / (size + 1), style)
            at += size
        old = new[size:]
    yield from old


def _shot(
    source: Footage, rng: np.random.Generator, at: int, labels: dict[str, Any], lead: int = 0
) -> list[np.ndarray]:
    """Frames of a piece of a shot; some get a flash or a shake, clear of its first and last."""
    length = source.end_frame - source.start_frame
    size = int(min(length, lead + rng.integers(MIN_SHOT_FRAMES, MAX_SHOT_FRAMES)))
    first = source.start_frame + int(rng.integers(0, length - size + 1))
    frames = _read(source.path, first, first + size)
    if len(frames) < size:
        raise ValueError(f"{source.path} has fewer than {source.end_frame} frames")
    where = int(rng.integers(lead + 8, max(lead + 9, size - 34)))
    act = rng.random()
    if act < 0.25 and size - lead > 40:
        for i, strength in enumerate((1.0, 0.6, 0.3)[: rng.integers(1, 4)]):
            frames[where + i] = flash(frames[where + i], strength * 0.9)
        labels["disturbances"].append({"kind": "flash", "start": at - lead + where})
    elif act < 0.5 and size - lead > 50:
        for i in range(12):
            x, y = rng.normal(0, 0.03, 2)
            frames[where + i] = shift(frames[where + i], x, y)
        labels["disturbances"].append({"kind": "shake", "start": at - lead + where})
    return frames


def _read(path: Path, start: int, end: int) -> list[np.ndarray]:
    """Frames ``[start, end)`` as decoded, scaled to the film's size."""
    frames = []
    with open_video(str(path)) as (container, stream):
        for index, decoded in enumerate(walk_frames(container, stream)):
            if index >= end:
                break
            if index >= start:
                picture = decoded.frame.reformat(WIDTH_PX, HEIGHT_PX, "rgb24", interpolation="AREA")
                frames.append(picture.to_ndarray())
    return frames
