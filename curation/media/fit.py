"""Fitting frames to what a clip stores: size, orientation, pixel format, SDR colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from curation.media.bars import Box
from curation.media.filters import Deinterlace
from curation.media.tonemap import Transfer, to_sdr
from curation.signals.analysis import rotate

BT709 = 1  # swscale's numbers of matrices
BT2020 = 9
EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""Swscale without the shortcuts that differ between processors."""

Scaling = Literal["area", "lanczos"]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What becomes of the pixels of a clip.

    Attributes:
        size_px: Displayed width and height to store, both even.
        turn_deg: Clockwise turn to apply.
        scaling: ``area`` averages, ``lanczos`` is crisper and rings a little.
        deinterlace: ``auto`` acts on frames that are flagged as interlaced.
        crop: Part to keep, in stored pixels before the turn; None: all.
        tonemap: Transfer of an HDR source that is to become SDR; None: colours as they are.
        hdr_peak_nits: Brightest light of a PQ source, in cd/m2.
        fps: Constant frame rate to give; None: every frame at its own time.
    """

    size_px: tuple[int, int]
    turn_deg: int = 0
    scaling: Scaling = "area"
    deinterlace: Deinterlace = "auto"
    crop: Box | None = None
    tonemap: Transfer | None = None
    hdr_peak_nits: float = 1000.0
    fps: float | None = None


def output_size(
    width_px: int,
    height_px: int,
    sample_aspect_ratio: float,
    *,
    max_long_side_px: int | None = None,
    max_short_side_px: int | None = None,
) -> tuple[int, int]:
    """Stored size for a displayed size: square pixels (never upscaled in height), even sides.

    Limits shrink both sides alike and never enlarge.
    """
    wide = width_px * max(sample_aspect_ratio, 1.0)
    high = height_px / min(sample_aspect_ratio, 1.0)
    limits = ((max(wide, high), max_long_side_px), (min(wide, high), max_short_side_px))
    shrink = min([1.0, *(limit / side for side, limit in limits if limit is not None)])
    if shrink < 1.0:
        most = min(limit for limit in (max_long_side_px, max(wide, high)) if limit is not None)
        wide, high = (_nearest_even(side * shrink, most) for side in (wide, high))
    slack = 0.01  # the ratio is known to six digits: 720 times 1.422222 is 1024
    return max(2, 2 * int(wide / 2 + slack)), max(2, 2 * int(high / 2 + slack))


class Fitter:
    """Brings single frames to the stored size, orientation, pixel format and range."""

    def __init__(self, fit: Fit, pix_fmt: str) -> None:
        """Prepare.

        Args:
            fit: What to do.
            pix_fmt: ``yuv420p`` or ``yuv420p10le``.
        """
        self._fit, self._pix_fmt = fit, pix_fmt
        width, height = fit.size_px
        self._size = (height, width) if fit.turn_deg in (90, 270) else (width, height)
        self._method = Interpolation[fit.scaling.upper()] | EXACT
        self._scaler, self._to_yuv = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Fit one frame, of any size and format."""
        turn = self._fit.turn_deg
        fitted = self._scaled(frame) if self._fit.tonemap is None else self._mapped(frame)
        return _turn_planes(fitted, turn) if turn else fitted

    def _scaled(self, frame: VideoFrame) -> VideoFrame:
        return self._scaler.reformat(
            frame,
            *self._size,
            format=self._pix_fmt,
            interpolation=self._method,
            dst_color_range="MPEG",
            threads=1,
        )

    def _mapped(self, frame: VideoFrame) -> VideoFrame:
        assert self._fit.tonemap is not None
        hdr = self._scaler.reformat(
            frame,
            *self._size,
            format="rgb48le",
            interpolation=self._method,
            src_colorspace=BT2020,
            threads=1,
        )
        codes = to_sdr(hdr.to_ndarray(), self._fit.tonemap, self._fit.hdr_peak_nits)
        return self._to_yuv.reformat(
            VideoFrame.from_ndarray(codes, format="rgb48le"),
            format=self._pix_fmt,
            interpolation=self._method,
            dst_colorspace=BT709,
            dst_color_range="MPEG",
            threads=1,
        )


def _nearest_even(side: float, limit: float) -> int:
    return min(2 * int(side / 2 + 0.5), 2 * int(limit / 2))


def _turn_planes(frame: VideoFrame, turn_deg: int) -> VideoFrame:
    """Turn a 4:2:0 frame of 8 or 10 bits clockwise, plane by plane."""
    height, width = frame.height, frame.width
    flat = frame.to_ndarray()
    luma = rotate(flat[:height], turn_deg)
    chroma = flat[height:].reshape(2, height // 2, width // 2)
    turned = [rotate(np.ascontiguousarray(plane), turn_deg).ravel() for plane in chroma]
    planes = np.concatenate([luma.ravel(), *turned])
    return VideoFrame.from_ndarray(planes.reshape(-1, luma.shape[1]), format=frame.format.name)
