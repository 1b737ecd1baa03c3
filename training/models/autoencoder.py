"""What every autoencoder here does, whoever made it: video to latents and back, sizes enforced.

    video_BCTHW in [-1, 1] ─ encode ─▶ Posterior(mean, logvar) ─ sample ─▶ z_BCthw ─ decode ─▶ video

Latents are handed out normalised, ``z = (raw - shift) * scale`` a channel, so that a diffusion
model sees numbers of about unit variance; ``logvar`` moves by ``2 log(scale)`` and by no shift.
Frame counts and sides that an autoencoder would silently cut or pad are refused.

Shape suffixes: B videos, C colours or channels, T frames, H W pixels; t h w latent cells.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LatentSpec:
    """Shape and scale of an autoencoder's latents.

    Attributes:
        name: For people.
        fingerprint: 16 hex digits of its weights and configuration: other latents, another number.
        latent_channels: C of the latents.
        temporal_stride: Frames to a latent frame after the first, which shows one frame alone; 1:
            frame by frame.
        spatial_stride: Pixels to a side of a cell.
        shift: Of each channel, or one for all.
        scale: Of each channel, or one for all.
        min_frames: Fewest frames of a video, for those that take no picture.
        frame_step: Frames of a video are ``k * frame_step + 1``; None: ``temporal_stride``. More
            where a network encodes lengths that it cannot decode.
    """

    name: str
    fingerprint: str
    latent_channels: int
    temporal_stride: int
    spatial_stride: int
    shift: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    min_frames: int = 1
    frame_step: int | None = None

    def __post_init__(self) -> None:
        for values in (self.shift, self.scale):
            if len(values) not in (1, self.latent_channels):
                raise ValueError(f"{len(values)} numbers for {self.latent_channels} channels")

    def check(self, num_frames: int, height_px: int, width_px: int) -> None:
        """Refuse a video that does not fit exactly.

        Raises:
            ValueError: Frames are not ``k * frame_step + 1``, or a side is no multiple of the
                spatial stride; the message names the nearest numbers that fit.
        """
        stride = self.frame_step or self.temporal_stride
        over = (num_frames - 1) % stride
        if num_frames < self.min_frames or over:
            below = num_frames - over
            fits = {max(self.min_frames, n) for n in (below, below + stride) if n > 0}
            raise ValueError(
                f"{self.name} takes k * {stride} + 1 frames (at least {self.min_frames}), not "
                f"{num_frames}: the nearest are {' and '.join(map(str, sorted(fits)))}"
            )
        for side, name in ((height_px, "height"), (width_px, "width")):
            if side < 1 or side % self.spatial_stride:
                below = side - side % self.spatial_stride
                fits = [n for n in (below, below + self.spatial_stride) if n > 0]
                raise ValueError(
                    f"{self.name} takes a {name} divisible by {self.spatial_stride} pixels, not "
                    f"{side}: the nearest are {' and '.join(map(str, fits))}"
                )

    def latent_shape(
        self, num_frames: int, height_px: int, width_px: int
    ) -> tuple[int, int, int, int]:
        """(C, t, h, w) of a video's latents.

        Raises:
            ValueError: The video does not fit, see :meth:`check`.
        """
        self.check(num_frames, height_px, width_px)
        return (
            self.latent_channels,
            (num_frames - 1) // self.temporal_stride + 1,
            height_px // self.spatial_stride,
            width_px // self.spatial_stride,
        )

    def num_frames(self, latent_frames: int) -> int:
        """Frames of the video that so many latent frames decode to."""
        return (latent_frames - 1) * self.temporal_stride + 1

    def normalise(self, mean: Tensor, logvar: Tensor) -> Posterior:
        """A posterior of raw latents as it is handed out."""
        shift, scale = self._column(self.shift, mean), self._column(self.scale, mean)
        return Posterior((mean - shift) * scale, logvar + 2 * scale.abs().log())

    def raw(self, latents: Tensor) -> Tensor:
        """Normalised latents back to what the network knows."""
        return latents / self._column(self.scale, latents) + self._column(self.shift, latents)

    def _column(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1, 1)


@dataclass(frozen=True)
class Posterior:
    """A Gaussian for each number of the latents.

    Attributes:
        mean: (B, C, t, h, w), normalised.
        logvar: Natural logarithm of the variance, same shape.
    """

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Latents drawn with given standard normal noise of the same shape."""
        return self.mean + (0.5 * self.logvar).exp() * noise

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence from the standard normal, nats a number; a scalar."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar).mean()


class Autoencoder(ABC):
    """An autoencoder that is loaded, in evaluation.

    Attributes:
        spec: Of its latents.
        device: Where its weights are; videos and latents are given there.
    """

    spec: LatentSpec
    device: torch.device

    def encode(self, video: Tensor) -> Posterior:
        """Encode videos.

        Args:
            video: Float (B, 3, T, H, W), RGB in [-1, 1].

        Raises:
            ValueError: Another shape, or sizes that do not fit.
        """
        if video.ndim != 5 or video.shape[1] != 3 or not video.is_floating_point():
            raise ValueError(f"a video is float (B, 3, T, H, W), not {video.dtype} {_of(video)}")
        self.spec.check(*video.shape[2:])
        with torch.no_grad():  # inference tensors could not be trained on
            posterior = self._encode(video)
        expected = self.spec.latent_shape(*video.shape[2:])
        if tuple(posterior.mean.shape[1:]) != expected:
            raise ValueError(
                f"{self.spec.name} gave latents of {_of(posterior.mean)} where its strides say "
                f"{expected}"
            )
        return posterior

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to videos, float (B, 3, T, H, W) in [-1, 1].

        Args:
            latents: Normalised, (B, C, t, h, w).

        Raises:
            ValueError: Another shape.
        """
        if latents.ndim != 5 or latents.shape[1] != self.spec.latent_channels:
            raise ValueError(
                f"latents of {self.spec.name} are (B, {self.spec.latent_channels}, t, h, w), not "
                f"{_of(latents)}"
            )
        with torch.no_grad():
            video = self._decode(latents)
        frames = self.spec.num_frames(latents.shape[2])
        if video.shape[2] != frames:
            raise ValueError(f"{self.spec.name} gave {video.shape[2]} frames, not {frames}")
        return video.clamp(-1, 1)

    @abstractmethod
    def _encode(self, video: Tensor) -> Posterior:
        """Encode a video that was checked; the posterior is normalised."""

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents that were checked."""


def psnr_db(video: Tensor, other: Tensor) -> float:
    """Peak signal-to-noise ratio over all numbers, decibels; of values in [-1, 1], peak 2."""
    error = (video.double() - other.double()).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(4 / error)


def _of(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
