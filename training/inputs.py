"""From a batch of the loader to the inputs of the loss: latents, given frames, texts, draws.

Everything is drawn by key. What a batch will count in the loss is known from its draws alone,
before anything is encoded: so the denominator of a step is there before its first backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from curation.errors import ConfigError
from training.conditioning import given_of, latent_times_s, moved
from training.data.batch import Batch
from training.diffusion.flow import FlowConfig, shift_of, sigmas_of
from training.diffusion.frame_masks import choose_mode, known_frames, unknown_latents
from training.draws import SampleDraws
from training.models.autoencoder import Autoencoder, LatentSpec, Posterior
from training.models.dit import DitConfig
from training.models.text_encoder import TextEncoder
from training.settings import ConditioningSettings
from training.step import Inputs, unknown_numbers


@dataclass(frozen=True)
class Drawn:
    """A batch with the draws that decide what counts.

    Attributes:
        batch: Of the loader.
        draws: Of its samples.
        known_BT: bool, pixel frames that are given.
        numbers: Weighted count of the numbers that its loss is over.
    """

    batch: Batch
    draws: SampleDraws
    known_BT: Tensor
    numbers: float


class InputMaker:
    """Makes the inputs of batches.

    Args:
        spec: Of the latents.
        config: Of the network.
        flow: Noise times.
        conditioning: What a sample is told.
        seed: Of all draws.
        device: Where inputs go.
        autoencoder: Needed where frames are given or latents are not read.
        text_encoder: Needed where texts are not read.
        empty_prompt: States of the empty prompt, float (L, D); None: the text encoder's.
        reads_latents: Batches have latents.
    """

    def __init__(
        self,
        spec: LatentSpec,
        config: DitConfig,
        flow: FlowConfig,
        conditioning: ConditioningSettings,
        seed: int,
        device: torch.device,
        *,
        autoencoder: Autoencoder | None = None,
        text_encoder: TextEncoder | None = None,
        empty_prompt: Tensor | None = None,
        reads_latents: bool = False,
    ) -> None:
        self.spec, self.config, self.flow = spec, config, flow
        self.conditioning, self.seed, self.device = conditioning, seed, device
        self._autoencoder, self._text_encoder = autoencoder, text_encoder
        self._given_empty, self.reads_latents = empty_prompt, reads_latents

    def plain(self, conditioning: ConditioningSettings) -> InputMaker:
        """The same maker with other conditioning."""
        return InputMaker(
            self.spec,
            self.config,
            self.flow,
            conditioning,
            self.seed,
            self.device,
            autoencoder=self._autoencoder,
            text_encoder=self._text_encoder,
            empty_prompt=self._given_empty,
            reads_latents=self.reads_latents,
        )

    def drawn(self, batch: Batch) -> Drawn:
        """Which frames of a batch are given, and what its loss will be over."""
        draws = SampleDraws(self.seed, batch.epoch, batch.keys)
        bucket, stride = batch.bucket, self.spec.temporal_stride
        modes, places = draws.uniform("mode").tolist(), draws.uniform("frames").tolist()
        known = torch.stack(
            [
                known_frames(
                    choose_mode(self.conditioning.mixture, mode, bucket.frames),
                    bucket.frames,
                    stride,
                    place,
                )
                for mode, place in zip(modes, places, strict=True)
            ]
        )
        return self.given_known(batch, draws, known)

    def given_known(self, batch: Batch, draws: SampleDraws, known_BT: Tensor) -> Drawn:
        """A batch with chosen given frames."""
        channels, _, high, wide = self._latent_shape(batch)
        unknown = unknown_latents(known_BT, self.spec.temporal_stride)
        numbers = unknown_numbers(unknown, batch.weights, channels * high * wide)
        return Drawn(batch, draws, known_BT, numbers)

    def inputs(self, drawn: Drawn, sigma_B: Tensor | None = None) -> Inputs:
        """Everything on the device.

        Args:
            drawn: The batch.
            sigma_B: Noise times; None: drawn.

        Raises:
            ConfigError: The batch has neither latents nor pixels, or neither states nor encoder.
        """
        batch, draws = drawn.batch, drawn.draws
        shape = self._latent_shape(batch)
        video = self._video(batch)
        posterior = self._posterior(batch, video)
        if sigma_B is None:
            sigma_B = self._sigmas(draws, shape)
        size = batch.bucket.height_px, batch.bucket.width_px
        given = given_of(
            self.spec, drawn.known_BT, size, video, self._autoencoder, device=self.device
        )
        x0 = posterior.mean
        if self.conditioning.posterior == "sample":
            noise = moved(draws.normal("posterior", shape), self.device)
            # A sampler has the means of what is decided, and so has training.
            unknown = given.unknown_Bt[:, None, :, None, None]
            x0 = torch.where(unknown, posterior.sample(noise), x0)
        text, text_mask = self._texts(batch, draws)
        fps = torch.full((len(batch.keys),), float(batch.bucket.fps), device=self.device)
        return Inputs(
            x0_BCthw=x0,
            noise_BCthw=moved(draws.normal("noise", shape), self.device),
            sigma_B=moved(sigma_B.float(), self.device),
            given_BCthw=given.latents_BCthw,
            mask_BSthw=given.mask_BSthw,
            unknown_Bt=given.unknown_Bt,
            weights_B=moved(batch.weights, self.device),
            text_BLD=text,
            text_mask_BL=text_mask,
            fps_B=fps,
            times_Bt=latent_times_s(shape[1], self.spec.temporal_stride, fps),
        )

    def _latent_shape(self, batch: Batch) -> tuple[int, int, int, int]:
        bucket = batch.bucket
        return self.spec.latent_shape(bucket.frames, bucket.height_px, bucket.width_px)

    def _video(self, batch: Batch) -> Tensor | None:
        """Pixels in [-1, 1], on the device."""
        if batch.video is None:
            return None
        return moved(batch.video, self.device).float() / 127.5 - 1

    def _posterior(self, batch: Batch, video: Tensor | None) -> Posterior:
        if "mean" in batch.latents:
            mean, logvar = (moved(batch.latents[n], self.device) for n in ("mean", "logvar"))
            return Posterior(mean.float(), logvar.float())
        if video is None or self._autoencoder is None:
            raise ConfigError(
                "the batches have neither latents nor pixels to encode",
                where="data.latents",
                mend="the fingerprint of a set with latents, or data.pixels: true",
            )
        posterior = self._autoencoder.encode(video)
        return Posterior(posterior.mean.float(), posterior.logvar.float())

    def _sigmas(self, draws: SampleDraws, shape: tuple[int, int, int, int]) -> Tensor:
        tokens = shape[2] * shape[3] // self.config.cells
        shift = shift_of(self.flow, latent_frames=shape[1], spatial_tokens=tokens)
        return sigmas_of(draws.uniform("noise-time"), self.flow, shift)

    def _texts(self, batch: Batch, draws: SampleDraws) -> tuple[Tensor, Tensor]:
        """States (B, L, D) and mask (B, L); those of the empty prompt for samples that drop it."""
        dropped = draws.uniform("text-drop") < self.conditioning.text_dropout
        if "text" in batch.latents:
            states = [
                text[mask].float()
                for text, mask in zip(
                    batch.latents["text"], batch.latents["text_mask"], strict=True
                )
            ]
        else:
            states = self._encoder.encode(batch.captions)
        chosen = [
            self.empty_prompt if drop else state
            for drop, state in zip(dropped.tolist(), states, strict=True)
        ]
        return padded_texts(chosen, self.device)

    @cached_property
    def empty_prompt(self) -> Tensor:
        """States of the empty prompt, float32 (L, D)."""
        if self._given_empty is not None:
            return self._given_empty.float()
        return self._encoder.encode([""])[0]

    @property
    def _encoder(self) -> TextEncoder:
        if self._text_encoder is None:
            raise ConfigError(
                "the latents have no states of texts, and no text encoder is open",
                where="data.latents",
                mend="`clipmill encode` with --text-encoder",
            )
        return self._text_encoder


def padded_texts(states: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Texts of one length: float32 (B, L, D), zeros behind the shorter ones; and their mask (B, L).

    Args:
        states: Of each text, float (L, D).
        device: Where they go.
    """
    lengths = torch.tensor([len(state) for state in states])
    text = torch.nn.utils.rnn.pad_sequence([s.float().cpu() for s in states], batch_first=True)
    mask = torch.arange(text.shape[1])[None] < lengths[:, None]
    return moved(text, device), moved(mask, device)
