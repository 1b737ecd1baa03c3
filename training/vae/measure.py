"""How good a reconstruction is: PSNR, SSIM, and whether it flickers or shows seams in time.

All videos are float (B, 3, T, H, W) in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.models.autoencoder import psnr_db

LEVELS = 127.5
"""8-bit levels to a unit."""
STILL_LEVELS = 2.0
"""A place is still from one frame to the next where the original changes by less."""
LUMA = (0.299, 0.587, 0.114)
SSIM_SIDE, SSIM_SIGMA = 11, 1.5


@dataclass(frozen=True)
class Quality:
    """Figures of one reconstruction.

    Attributes:
        psnr_db: Peak signal-to-noise ratio, decibels.
        ssim: Structural similarity of luma, up to 1.
        change_ratio: Mean change from frame to frame over that of the original; 1: as lively.
        still_flicker_levels: What the reconstruction changes in still places more than the
            original does there, 8-bit levels; None: nothing is still.
        seam_ratio: Mean error of the change between latent frames over that within them; 1: no
            seams. None where the autoencoder goes frame by frame or there are too few frames.
    """

    psnr_db: float
    ssim: float
    change_ratio: float | None
    still_flicker_levels: float | None
    seam_ratio: float | None


def quality_of(video: Tensor, made: Tensor, temporal_stride: int) -> Quality:
    """Measure a reconstruction.

    Args:
        video: The original.
        made: Its reconstruction.
        temporal_stride: Of the autoencoder.
    """
    change, own = video.diff(dim=2) * LEVELS, made.diff(dim=2) * LEVELS
    still = change.abs().amax(1, keepdim=True) < STILL_LEVELS
    still = still.expand_as(change)
    flicker = None
    if still.any():
        flicker = (own[still].abs().mean() - change[still].abs().mean()).item()
    moves = change.abs().mean().item() if change.numel() else 0.0
    return Quality(
        psnr_db=psnr_db(video, made),
        ssim=ssim(video, made),
        change_ratio=own.abs().mean().item() / moves if moves else None,
        still_flicker_levels=flicker,
        seam_ratio=_seam_ratio((own - change).abs(), temporal_stride),
    )


def ssim(video: Tensor, made: Tensor) -> float:
    """Structural similarity of luma, mean over frames (Wang et al. 2004): Gaussian window of 11."""
    x, y = _luma(video), _luma(made)
    at = torch.arange(SSIM_SIDE, dtype=torch.float64) - SSIM_SIDE // 2
    line = (-at.square() / (2 * SSIM_SIGMA**2)).exp()
    window = (line[:, None] * line / line.sum() ** 2)[None, None]

    def mean(picture: Tensor) -> Tensor:
        return F.conv2d(picture, window)

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    found = (2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return found.mean().item()


def _luma(video: Tensor) -> Tensor:
    """(B * T, 1, H, W) in [0, 1], float64."""
    frames = (video.transpose(1, 2).flatten(0, 1).double() + 1) / 2
    return (frames * torch.tensor(LUMA, dtype=torch.float64).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _seam_ratio(errors: Tensor, stride: int) -> float | None:
    """Errors of the change at steps into a new latent frame over those at the others.

    Step n leads from frame n to n + 1; latent frames begin at frames 0, 1, 1 + stride, ... The
    first step is left out: it leads from a picture to a video.
    """
    by_step = errors.mean((0, 1, 3, 4))
    seams = [n for n in range(1, len(by_step)) if n % stride == 0]
    within = [n for n in range(1, len(by_step)) if n % stride]
    if stride == 1 or not seams or not within:
        return None
    return (by_step[seams].mean() / by_step[within].mean()).item()
