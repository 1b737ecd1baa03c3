"""Shot-change probabilities as a stream: thumbnails in, numbers out a second or two later.

Work is done in blocks of 50 frames on a grid from frame 0 of the video, so that a pass that begins
at any block (with one block before and after as context) gives the same numbers. The shot network
runs on every block. TransNetV2, many times dearer, runs on blocks where the shot network is in
doubt about what TransNetV2 can settle, or everywhere, or nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

import cv2
import numpy as np
from pydantic import BeforeValidator

from curation.signals.shotnet import CONTEXT_FRAMES, HEIGHT_PX, WIDTH_PX, Description, ShotNet

TransNetMode = Annotated[
    Literal["ambiguous", "everywhere", "off"],
    # YAML reads a bare ``off`` as false.
    BeforeValidator(lambda value: "off" if value is False else value),
]
BLOCK_FRAMES = 50
"""TransNetV2's stride; half its window reaches into either neighbour block."""
MARGIN_FRAMES = 25
GATE_CUT = 0.05
GATE_DISSOLVE = 0.1
"""Probabilities from which a frame can be part of a transition by ``auto``: it asks from 0.1 in
all, of which a cut has at least half, and is never surer of a dissolve than the shot network."""
SURE = 0.9
"""Probability of a cut from which ``auto`` takes the shot network's word."""
SURE_REACH = 2
"""Frames beside a sure cut that are part of it."""
GATE_REACH = 3
"""TransNetV2 judges a block when a frame in it, or so many frames from it, is in doubt."""
SHARE_REACH = 16
SHARE_CHANGE = 0.04
"""A spot has changed when its mean colour is this far (0-1) from what it was 32 frames earlier."""
NETWORKS = ("p_cut", "p_dissolve", "p_fade", "p_wipe", "transnet_single", "transnet_many")
COLUMNS = (*NETWORKS, "change_share")
"""``change_share``: share of the picture (0-1) that differs between 16 frames before and after."""


class WindowNet(Protocol):
    """What is asked of TransNetV2."""

    def windows(self, thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two float32 [b, 100] of probabilities from uint8 [b, 100, 27, 48, 3]."""
        ...


def thumbnail(bgr: np.ndarray) -> np.ndarray:
    """The 48x27 RGB picture, uint8 [27, 48, 3], of an analysis picture in BGR."""
    small = cv2.resize(bgr, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return small[:, :, ::-1]


@dataclass
class _Block:
    """Up to 50 frames: pictures, and what the shot network keeps of them."""

    thumbs: np.ndarray
    kept: Description


@dataclass
class ChangeMeter:
    """Feeds on thumbnails; yields ``COLUMNS`` as float32 [n, 7] blocks in order.

    Attributes:
        net: The shot network.
        transnet: TransNetV2, or None.
        mode: Where it runs.
    """

    net: ShotNet
    transnet: WindowNet | None
    mode: TransNetMode
    _open: list[np.ndarray] = field(default_factory=list)
    _blocks: list[_Block] = field(default_factory=list)  # at most three: before, now, after

    def push(self, thumb: np.ndarray) -> Iterator[np.ndarray]:
        """Take the next frame's thumbnail."""
        self._open.append(thumb)
        if len(self._open) == BLOCK_FRAMES:
            yield from self._close_block(last=False)

    def finish(self) -> Iterator[np.ndarray]:
        """The video has ended: what is left."""
        if self._open:
            yield from self._close_block(last=True)
        elif self._blocks:
            yield self._judge(len(self._blocks) - 1)
        self._blocks, self._open = [], []

    def _close_block(self, *, last: bool) -> Iterator[np.ndarray]:
        thumbs = np.stack(self._open)
        self._open = []
        self._blocks.append(_Block(thumbs, self.net.describe(thumbs)))
        if len(self._blocks) > 1:
            yield self._judge(len(self._blocks) - 2)
        if last:
            yield self._judge(len(self._blocks) - 1)
        self._blocks = self._blocks[-2:]

    def _judge(self, at: int) -> np.ndarray:
        """Numbers of block ``at``; the first and last frame stand in for what lies beyond."""
        start = sum(len(b.thumbs) for b in self._blocks[:at])
        size = len(self._blocks[at].thumbs)
        near = self._blocks[max(0, at - 1) : at + 2]
        first = start - (len(near[0].thumbs) if at > 0 else 0)
        kept = Description(*(np.concatenate(p) for p in zip(*(b.kept for b in near), strict=True)))
        lo = max(0, start - first - CONTEXT_FRAMES)
        hi = start - first + size + CONTEXT_FRAMES
        odds = self.net.probabilities(Description(*(part[lo:hi] for part in kept)))
        here = start - first - lo
        out = np.full((size, len(COLUMNS)), np.nan, np.float32)
        out[:, :4] = odds[here : here + size, 1:]
        out[:, 6] = _change_share(kept.small[lo:hi])[here : here + size]
        around = slice(max(0, here - GATE_REACH), here + size + GATE_REACH)
        if self.transnet is not None and (
            self.mode == "everywhere" or _in_doubt(odds)[around].any()
        ):
            thumbs = np.concatenate([b.thumbs for b in near])
            window = np.arange(-MARGIN_FRAMES, BLOCK_FRAMES + MARGIN_FRAMES) + start - first
            heads = self.transnet.windows(thumbs[window.clip(0, len(thumbs) - 1)][None])
            out[:, 4:6] = np.stack(heads)[:, 0, MARGIN_FRAMES : MARGIN_FRAMES + size].T
        return out


def _in_doubt(odds: np.ndarray) -> np.ndarray:
    """Frames, bool [n], that may be a dissolve or an unsure cut, from float [n, 5] probabilities.

    Wipes and fades are not TransNetV2's to settle, nor are cuts that the shot network is sure of.
    """
    cut, dissolve = odds[:, 1], odds[:, 2]
    near = np.convolve(cut >= SURE, np.ones(2 * SURE_REACH + 1), "full")
    sure = near[SURE_REACH : SURE_REACH + len(cut)] > 0
    return ((cut >= GATE_CUT) | (dissolve >= GATE_DISSOLVE)) & ~sure


def _change_share(small: np.ndarray) -> np.ndarray:
    """Share of spots that changed around each frame, float [n], from float32 [n, 9, 16, 3]."""
    time = np.arange(len(small))
    late = small[(time + SHARE_REACH).clip(max=len(small) - 1)]
    early = small[(time - SHARE_REACH).clip(0)]
    return (np.abs(late - early).mean(3) > SHARE_CHANGE).mean((1, 2))
