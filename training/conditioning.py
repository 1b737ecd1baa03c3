"""Given frames as the denoiser is told them; one way for training and for sampling.

    frames, known ─ grey where not known ─ autoencoder ─▶ given latents
                    known, folded by the temporal stride ─▶ mask

The given frames go through the very autoencoder that made the latents, in a video that is grey (0)
elsewhere. Where no frame is given the latents are zeros and nothing is computed: text alone needs
no autoencoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.diffusion.frame_masks import folded, unknown_latents
from training.models.autoencoder import Autoencoder, LatentSpec


@dataclass(frozen=True)
class Given:
    """What a denoiser is told of given frames, and where it must say nothing new.

    Attributes:
        latents_BCthw: Of the given frames, normalised; zeros for samples without any.
        mask_BSthw: 1 where a pixel frame is given.
        unknown_Bt: bool; False for latent frames that the given frames decide.
    """

    latents_BCthw: Tensor
    mask_BSthw: Tensor
    unknown_Bt: Tensor


def given_of(
    spec: LatentSpec,
    known_BT: Tensor,
    size_px: tuple[int, int],
    video_BCTHW: Tensor | None = None,
    autoencoder: Autoencoder | None = None,
    *,
    device: torch.device | None = None,
) -> Given:
    """Encode given frames.

    Args:
        spec: Of the latents.
        known_BT: bool, which pixel frames are given; on the CPU, so that nothing waits for a GPU.
        size_px: Height and width.
        video_BCTHW: Float in [-1, 1]; what is not known of it is not looked at. Only needed where
            something is known.
        autoencoder: Likewise.
        device: Where the result goes; None: where the video is, or the CPU.

    Raises:
        ValueError: Frames are given but no video or autoencoder, or sizes do not fit.
    """
    num_samples, num_frames = known_BT.shape
    shape = spec.latent_shape(num_frames, *size_px)
    place = device or (known_BT if video_BCTHW is None else video_BCTHW).device
    latents = torch.zeros((num_samples, *shape), device=place)
    has = known_BT.any(1).nonzero()[:, 0]
    if len(has):
        if video_BCTHW is None or autoencoder is None:
            raise ValueError("frames are given, so their video and an autoencoder are needed")
        known = moved(known_BT[has][:, None, :, None, None].float(), place)
        rows = moved(has, place)
        latents[rows] = autoencoder.encode(video_BCTHW[rows] * known).mean.float()
    mask_BSt = moved(folded(known_BT, spec.temporal_stride), place)
    return Given(
        latents_BCthw=latents,
        mask_BSthw=mask_BSt[..., None, None].expand(-1, -1, -1, *shape[2:]).contiguous(),
        unknown_Bt=moved(unknown_latents(known_BT, spec.temporal_stride), place),
    )


def moved(values: Tensor, device: torch.device) -> Tensor:
    """Numbers on a device, without waiting for it: by page-locked memory where it is a GPU."""
    if device.type == "cuda" and values.device.type == "cpu" and not values.is_pinned():
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def latent_times_s(latent_frames: int, stride: int, fps_B: Tensor) -> Tensor:
    """Time of each latent frame, seconds, (B, t): of the last pixel frame that it shows.

    Args:
        latent_frames: t.
        stride: Pixel frames of a latent frame after the first.
        fps_B: Pixel frames per second.
    """
    return torch.arange(latent_frames, device=fps_B.device) * stride / fps_B[:, None]
