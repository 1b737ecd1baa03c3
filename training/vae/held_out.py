"""Held-out clips of a VAE's training, and how well they are reconstructed."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from training.data.loader import ClipLoader
from training.data.settings import DataSettings, ReadSettings, SourceSettings
from training.models.autoencoder import psnr_db
from training.models.vae_network import VaeNetwork
from training.vae.settings import ValidationSettings


class HeldOut:
    """The first clips of the validation's data, whole.

    Args:
        settings: Which.
        data: Of the training: its buckets are taken.
    """

    def __init__(self, settings: ValidationSettings, data: DataSettings) -> None:
        self._settings, self._data = settings, data

    @cached_property
    def clips(self) -> list[Tensor]:
        """uint8, each (1, 3, T, H, W); empty without data."""
        found: list[Tensor] = []
        if self._settings.root is None:
            return found
        read = ReadSettings(window="middle", crop="center", num_workers=0)
        source = SourceSettings(root=self._settings.root)
        data = self._data.model_copy(update={"sources": (source,), "read": read})
        with ClipLoader(settings=data, rank=0, world_size=1) as loader:
            for batch in loader:
                if batch.epoch > 0 or len(found) >= self._settings.samples:
                    break
                assert batch.video is not None
                found += batch.video[batch.weights > 0].split(1)
        return found[: self._settings.samples]

    @torch.inference_mode()
    def figures(self, network: VaeNetwork) -> dict[str, float]:
        """Mean and lowest PSNR over the clips, decibels; empty without any.

        Args:
            network: In evaluation.
        """
        device, found = network.analysis.weight.device, []
        for clip in self.clips:
            video = clip.to(device).float() / 127.5 - 1
            made = network.decode(network.encode(video)[0]).clamp(-1, 1)
            found.append(psnr_db(video, made))
        if not found:
            return {}
        return {"val_psnr_db": sum(found) / len(found), "val_psnr_min_db": min(found)}
