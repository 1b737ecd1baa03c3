"""Noise, blockiness, combing and blur of one frame, from tiles of its luma plane as stored.

What compression and cameras do to single pixels is lost in any smaller picture, so this is
measured at the stored size: on at most 12 tiles of 96 pixels, spread evenly, which cost the same at
any size. Borders of tiles lie on multiples of 16 pixels, as blocks of codecs do.
Cost: about 1.1 ms a frame, for 2 frames a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

TILE_PX = 96
TILES_LONG, TILES_SHORT = 4, 3
"""Most tiles along the longer and the shorter side."""
BLOCK_PX = 16
MIN_SIDE_PX = 32
"""Smaller pictures are not measured."""
LUMA_FIRST = re.compile(r"(yuva?4\d\d|yuvj4\d\d|gray)p?(9|1[0246])?(le)?|nv12|nv21")
"""Pixel formats whose first plane is luma alone, at most 16 bits, little endian."""
FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG
FULL_FORMATS = ("yuvj", "gray")
"""Formats that FFmpeg takes for full range whatever the frame says."""

SECOND = np.array([1, -2, 1], np.float32)
RESPONSE = 8
"""Scale of the noise filter: the largest that 16 bits hold, as means are rounded to integers."""
NOISE_SHARE = 0.2
"""Share of blocks, the calmest, that noise is read from: the rest may be texture."""
STEP_PX = 6
"""Pixels of a block's side that a step is averaged along."""
JUMP_MAX = 12
"""Levels from which a step between two blocks counts no more: real edges are as high."""
JUMP_FLOOR = 0.4
"""Levels of a step that nobody sees: keeps clean pictures at zero."""
COMB_RATIO, COMB_FLOOR = 1.5, 4
"""A block is combed when neighbouring lines differ this many times as much as lines two apart,
and by this many levels."""
EDGE_LEVELS = 24
NOISE_TIMES = 10
"""Smallest difference across two pixels that counts as an edge, in levels and over the noise: lower
ones would be measured at peaks of the noise, as too sharp."""
REBLUR_PX = 5
SCALES = (1, 2, 4)
"""A picture without edges is looked at again at half and a quarter of its size."""
MIN_EDGES = 24
"""Edges a tile needs to tell how wide they are; at half the size half as many."""
BLUR_SHARE = 0.25
"""The share of tiles, the sharpest, that has to be as sharp as told: what a camera focuses on may
be a small part of the picture."""


@dataclass(frozen=True, kw_only=True)
class Luma:
    """The luma plane of a frame.

    Attributes:
        plane: uint8 or uint16 [h, w], not a copy where that can be.
        shift: Bits above 8.
        black: Code value of black, of 8 bits.
        span: Code values from black to white, of 8 bits.
    """

    plane: np.ndarray
    shift: int
    black: int
    span: int


class Native:
    """Takes the luma plane out of frames of any pixel format; keeps FFmpeg's scaler."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Luma:
        """The luma of a frame; formats without such a plane (RGB, packed) are converted."""
        name, plane = frame.format.name, frame.planes[0]
        if LUMA_FIRST.fullmatch(name) is None or plane.line_size < frame.width:
            gray = self._scaler.reformat(frame, format="gray", dst_color_range="JPEG", threads=1)
            return Luma(plane=gray.to_ndarray(), shift=0, black=0, span=255)
        bits = frame.format.components[0].bits
        kind = np.dtype("<u2") if bits > 8 else np.dtype(np.uint8)
        lines = np.frombuffer(cast(Any, plane), kind).reshape(-1, plane.line_size // kind.itemsize)
        full = int(frame.color_range) == FULL_RANGE or name.startswith(FULL_FORMATS)
        black, span = (0, 255) if full else (16, 219)
        view = lines[: frame.height, : frame.width]
        return Luma(plane=view, shift=max(0, bits - 8), black=black, span=span)


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Tiles of a picture, one below the other.

    Attributes:
        stack: uint8 [num * side, side].
        num: How many there are.
        side: Their height and width, a multiple of 16.
        span: Code values from black to white.
        black: Code value of black.
    """

    stack: np.ndarray
    num: int
    side: int
    span: int
    black: int

    def inside(self, values: np.ndarray, margin: int) -> np.ndarray:
        """``values``, [num * side, side], as [num, side, side] with the margins set to zero."""
        cube = values.reshape(self.num, self.side, self.side)
        cube[:, :margin] = 0
        cube[:, -margin:] = 0
        cube[:, :, :margin] = 0
        cube[:, :, -margin:] = 0
        return cube


def cut_tiles(luma: Luma) -> Tiles | None:
    """Tiles spread over a picture; None for a tiny one."""
    height, width = luma.plane.shape
    side = min(TILE_PX, min(height, width) // BLOCK_PX * BLOCK_PX)
    if side < MIN_SIDE_PX:
        return None
    along_x, along_y = (TILES_LONG, TILES_SHORT) if width >= height else (TILES_SHORT, TILES_LONG)
    tiles = [
        luma.plane[y : y + side, x : x + side]
        for y in _starts(height, side, along_y)
        for x in _starts(width, side, along_x)
    ]
    stack = np.concatenate(tiles)
    if stack.dtype != np.uint8:
        stack = (stack >> luma.shift).astype(np.uint8)
    return Tiles(stack=stack, num=len(tiles), side=side, span=luma.span, black=luma.black)


@lru_cache(maxsize=32)
def _starts(length: int, side: int, most: int) -> tuple[int, ...]:
    """Where tiles begin along a side: evenly spread multiples of 16."""
    num = min(most, length // side)
    room = length - side
    places = [room / 2] if num == 1 else [room * i / (num - 1) for i in range(num)]
    return tuple(int(p) // BLOCK_PX * BLOCK_PX for p in places)


def noise(tiles: Tiles) -> float | None:
    """Standard deviation of the noise, in luma of 0-1; None where all is clipped.

    Immerkaer (1996): the mean absolute response to the difference of two Laplacians, which is
    blind to slopes and straight edges. Here per block of 16 pixels, and read from the calmest
    blocks that are neither black nor white.
    """
    response = cv2.sepFilter2D(tiles.stack, cv2.CV_16S, RESPONSE * SECOND, SECOND)
    tiles.inside(response, 1)
    means = _block_means(np.abs(response).view(np.uint16), tiles) / RESPONSE
    levels = _block_means(tiles.stack, tiles)
    rim = np.ones(tiles.side // BLOCK_PX, np.float32)
    rim[0] = rim[-1] = BLOCK_PX / (BLOCK_PX - 1)  # one line of these was set to zero
    means = means * np.outer(rim, rim)
    low, high = tiles.black + 0.05 * tiles.span, tiles.black + 0.95 * tiles.span
    usable = np.sort(means[(levels > low) & (levels < high)])
    if not len(usable):
        return None
    calm = usable[int(NOISE_SHARE * (len(usable) - 1))]
    return float(np.sqrt(np.pi / 2) / 6 * calm / tiles.span)


def blockiness(tiles: Tiles) -> float:
    """How much of the fine steps lie on a grid of 8 pixels: 0 (none more than elsewhere) to 1.

    After Wang, Sheikh and Bovik (2002): steps between blocks against those inside. A step is the
    jump between two pixels over what their neighbours' slopes explain, averaged along 8 pixels, so
    neither noise nor slopes nor texture make one. Any position of the grid counts, since footage is
    cropped; scaled footage has no grid of 8 pixels any more and gets about 0.
    """
    found = []
    for picture in (tiles.stack, cv2.transpose(tiles.stack)):
        steps = _phases(picture, tiles)
        at = int(steps.argmax())
        # A step reaches into both neighbours, and codecs with blocks of 4 pixels have a second
        # position; what stands at the others is content.
        others = max(steps[(at + i) % 8] for i in (2, 3, 5, 6))
        found.append(max(0.0, steps[at] - others) / (steps[at] + JUMP_FLOOR))
    return float(np.mean(found))


def _phases(picture: np.ndarray, tiles: Tiles) -> np.ndarray:
    """Mean step, in levels, at each of the 8 positions of a grid, from the tiles in a line."""
    rows = picture.reshape(-1, 8, picture.shape[1])
    sums = rows[:, 1].astype(np.int16)
    for i in range(2, 1 + STEP_PX):
        sums += rows[:, i]
    lines = sums.reshape(-1, tiles.side)
    slope = lines[:, 1:] - lines[:, :-1]
    jump = np.abs(2 * slope[:, 1:-1] - slope[:, :-2] - slope[:, 2:])
    # jump[:, i] is between pixels i + 1 and i + 2.
    whole = np.minimum(jump[:, 2 : 2 + (jump.shape[1] - 2) // 8 * 8], JUMP_MAX * 2 * STEP_PX)
    return whole.sum(0, dtype=np.int32).reshape(-1, 8).mean(0) / len(whole) / (2 * STEP_PX)


def combing(tiles: Tiles) -> float:
    """Share of blocks that show two fields of a moving picture woven into one frame, 0-1.

    There neighbouring lines differ more than lines two apart, which are of one field; in any
    single picture it is the other way round.
    """
    next_line, same_field = np.zeros_like(tiles.stack), np.zeros_like(tiles.stack)
    cv2.absdiff(tiles.stack[1:], tiles.stack[:-1], dst=next_line[:-1])
    cv2.absdiff(tiles.stack[2:], tiles.stack[:-2], dst=same_field[:-2])
    for values in (next_line, same_field):
        values.reshape(tiles.num, tiles.side, tiles.side)[:, -2:] = 0
    near, far = (_block_means(v, tiles) for v in (next_line, same_field))
    combed = (near >= COMB_FLOOR) & (near > COMB_RATIO * far)
    return float(combed.mean())


def blur_px(tiles: Tiles, noise_level: float) -> float | None:
    """Width of the picture's sharper edges: sigma of the Gaussian that would blur a step as much.

    Zhuo and Sim (2011): blurring an edge again by a known amount lowers its slope the less, the
    more it was blurred before, whatever its height. Only edges count, so smooth scenes are not
    blurred ones; None where there are too few.
    """
    for scale in SCALES:
        floor = max(EDGE_LEVELS, NOISE_TIMES * noise_level * tiles.span / scale)
        smaller = tiles if scale == 1 else _smaller(tiles, scale)
        widths = _edge_widths(smaller, floor, MIN_EDGES // scale)
        if len(widths):
            return scale * float(np.sort(widths)[int(BLUR_SHARE * (len(widths) - 1))])
    return None


def _smaller(tiles: Tiles, scale: int) -> Tiles:
    stack = cv2.resize(tiles.stack, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    return replace(tiles, stack=stack, side=tiles.side // scale)


def _edge_widths(tiles: Tiles, floor: float, least: int) -> np.ndarray:
    """Mean width of the edges of each tile that has enough of them, in pixels."""
    again = cv2.blur(tiles.stack, (REBLUR_PX, REBLUR_PX))
    edges = _edge_slopes(tiles, again, floor, 0) + _edge_slopes(tiles, again, floor, 1)
    _, slope, slope_again = edges[:, edges[0] >= least]
    ratio = slope / np.maximum(slope_again, 1)
    return np.sqrt((REBLUR_PX**2 - 1) / 12 / np.maximum(ratio**2 - 1, 0.01))


def _edge_slopes(tiles: Tiles, again: np.ndarray, floor: float, axis: int) -> np.ndarray:
    """Of the edges across an axis in each tile, float [3, num].

    Their number, the sum of their slopes, and that of the slopes after the second blur.
    """
    slope, slope_again = (_slopes(picture, axis) for picture in (tiles.stack, again))
    tiles.inside(slope, REBLUR_PX // 2 + 2)
    edge = cv2.threshold(slope, floor - 0.5, 255, cv2.THRESH_BINARY)[1]
    here = np.s_[1:-1] if axis == 0 else np.s_[:, 1:-1]
    beside = (slope[2:], slope[:-2]) if axis == 0 else (slope[:, 2:], slope[:, :-2])
    highest = cv2.compare(slope[here], cv2.max(*beside), cv2.CMP_GE)
    edge[here] = cv2.bitwise_and(edge[here], highest)
    found = (edge, cv2.bitwise_and(slope, edge), cv2.bitwise_and(slope_again, edge))
    flat = [values.reshape(tiles.num, -1) for values in found]
    sums = [cv2.reduce(v, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32F)[:, 0] for v in flat]
    return np.stack([sums[0] / 255, *sums[1:]])


def _slopes(picture: np.ndarray, axis: int) -> np.ndarray:
    """Absolute differences across two pixels, uint8 as the picture; 0 at its ends."""
    out = np.zeros_like(picture)
    if axis == 0:
        cv2.absdiff(picture[2:], picture[:-2], dst=out[1:-1])
    else:
        out[:, 1:-1] = cv2.absdiff(picture[:, 2:], picture[:, :-2])
    return out


def _block_means(values: np.ndarray, tiles: Tiles) -> np.ndarray:
    """Means over blocks of 16 x 16 pixels, rounded to integers, [num, side / 16, side / 16]."""
    for _ in range(4):  # halving is much faster than one step of 16
        values = halved(values)
    blocks = tiles.side // BLOCK_PX
    return values.reshape(tiles.num, blocks, blocks)


def halved(picture: np.ndarray) -> np.ndarray:
    """Means over 2 x 2 pixels, rounded; sides are even."""
    high, wide = picture.shape
    return cv2.resize(picture, (wide // 2, high // 2), interpolation=cv2.INTER_AREA)
