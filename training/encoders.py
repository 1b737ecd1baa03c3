"""What a training of latents works on: the loader, and the encoders behind its latents and texts.

With ``data.latents`` autoencoder and text encoder are those that made the set: the named ones are
loaded only where something is still to be encoded or decoded, and refused if they are others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from curation.errors import ConfigError
from training.data.buckets import BucketSettings
from training.data.latents import SetDescription
from training.models.autoencoder import Autoencoder, LatentSpec
from training.models.open_autoencoder import open_autoencoder
from training.models.text_encoder import TextEncoder
from training.models.text_encoders import open_text_encoder


@dataclass
class Encoders:
    """Autoencoder and text encoder of a training, loaded when first used.

    Attributes:
        vae: Name of the autoencoder.
        text: Name of the text encoder.
        described: The set of latents that is read; None: everything is encoded on the way.
        device: Where they run.
    """

    vae: str
    text: str
    described: SetDescription | None
    device: torch.device

    @cached_property
    def spec(self) -> LatentSpec:
        """Of the latents.

        Raises:
            ConfigError: The autoencoder cannot be opened.
        """
        part = self.described.autoencoder if self.described else None
        if part is None:
            return self.autoencoder.spec
        return LatentSpec(
            name=part.name,
            fingerprint=part.fingerprint,
            latent_channels=part.latent_channels,
            temporal_stride=part.temporal_stride,
            spatial_stride=part.spatial_stride,
            shift=part.shift,
            scale=part.scale,
        )

    @cached_property
    def text_dim(self) -> int:
        """Numbers of a text's state."""
        part = self.described.text_encoder if self.described else None
        return part.dim if part else self.text_encoder.spec.dim

    @cached_property
    def text_fingerprint(self) -> str:
        """Of the text encoder."""
        part = self.described.text_encoder if self.described else None
        return part.fingerprint if part else self.text_encoder.spec.fingerprint

    @property
    def how(self) -> dict[str, Any]:
        """Fields of :class:`training.denoiser.About` that say how the encoders were run."""
        vae = self.described.autoencoder if self.described else None
        text = self.described.text_encoder if self.described else None
        return {
            "vae_dtype": vae.dtype if vae else "float32",
            "vae_tiling": vae.tiling if vae else False,
            "text_dtype": text.dtype if text else "float32",
            "max_tokens": text.max_tokens if text else None,
        }

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder.

        Raises:
            ConfigError: It cannot be opened, or is not that of the latents.
        """
        part = self.described.autoencoder if self.described else None
        opened = open_autoencoder(
            self.vae,
            device=self.device,
            dtype=part.dtype if part else None,
            tiling=part.tiling if part else False,
        )
        if part is not None:
            same_encoder(self.vae, opened.spec.fingerprint, part.fingerprint, "vae")
        return opened

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The text encoder.

        Raises:
            ConfigError: It cannot be opened, or is not that of the texts.
        """
        part = self.described.text_encoder if self.described else None
        opened = open_text_encoder(
            self.text,
            device=self.device,
            dtype=part.dtype if part else None,
            max_tokens=part.max_tokens if part else None,
        )
        if part is not None:
            same_encoder(self.text, opened.spec.fingerprint, part.fingerprint, "text_encoder")
        return opened

    def check_buckets(self, buckets: BucketSettings) -> None:
        """Refuse buckets that the autoencoder cannot take.

        Raises:
            ConfigError: Their strides differ, or it takes no such shape.
        """
        mine = self.spec.temporal_stride, self.spec.spatial_stride
        if mine != (buckets.temporal_stride, buckets.spatial_stride):
            raise ConfigError(
                f"{self.spec.name} has temporal_stride {mine[0]} and spatial_stride {mine[1]}",
                where="data.buckets",
                mend="the same two numbers there",
            )
        for bucket in buckets.buckets():
            try:
                self.spec.check(bucket.frames, bucket.height_px, bucket.width_px)
            except ValueError as exc:
                raise ConfigError(str(exc), where=f"data.buckets, {bucket.name}") from exc


def same_encoder(name: str, mine: str, wanted: str, key: str) -> None:
    """Refuse an encoder that is not the one whose latents or states are used.

    Args:
        name: Of the one that was opened.
        mine: Its fingerprint.
        wanted: That of the one whose latents or states are used.
        key: Setting that names it.

    Raises:
        ConfigError: They differ: its numbers would be another language.
    """
    if mine != wanted:
        raise ConfigError(
            f"{name} has the fingerprint {mine}, the latents or texts are of {wanted}",
            where=key,
            mend="the encoder that made them, or encode anew with this one",
        )
