"""Videos from a trained denoiser: noise, a text and given frames in; frames out.

    generator = open_generator("runs/mine")
    shape = generator.shape()  # the largest that it was trained on, or as you like
    request = Request(prompts=["a dog"], **shape.model_dump(), guidance=Guidance(scale=4.0))
    for frames in generator.generate(request):  # uint8 (T, H, W, 3), RGB
        write_mp4(path, frames, shape.fps)

A prompt's video depends on the seed, its number and the request alone. Given frames are told to the
network as in training, see :mod:`training.conditioning`; latents that they decide follow their own
path and end as they are, so that only what is unknown is made.

Shape suffixes: B samples, C channels, T frames, t latent frames, h w latent cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curation.errors import ConfigError
from training.compute import autocast_of, device_of
from training.conditioning import Given, given_of, latent_times_s
from training.denoiser import About, Shape, Weights, open_denoiser
from training.diffusion.flow import sampling_sigmas, shift_of
from training.diffusion.guidance import guided
from training.diffusion.samplers import integrate
from training.draws import keyed_normal
from training.inputs import padded_texts
from training.models.autoencoder import Autoencoder
from training.models.dit import Dit
from training.models.open_autoencoder import open_autoencoder
from training.models.text_encoder import TextEncoder
from training.models.text_encoders import open_text_encoder
from training.request import Request, check_request, check_shape

NOISE = "sample-noise"
"""Purpose of the draw; the key is the number of the prompt."""
Told = Callable[[int, int], None]
"""Given the sampler's steps that are done, and how many there are in all."""


class Generator:
    """A denoiser with its autoencoder and text encoder, all on one device.

    Args:
        denoiser: In evaluation, or between two steps of its training.
        about: Of it.
        autoencoder: Of its latents.
        text_encoder: Of its texts.
        device: Where all of them are.
        autocast: As :func:`training.compute.autocast_of` takes it, for the denoiser.

    Raises:
        ConfigError: They do not belong together.
    """

    def __init__(
        self,
        denoiser: Dit,
        about: About,
        autoencoder: Autoencoder,
        text_encoder: TextEncoder,
        *,
        device: torch.device | None = None,
        autocast: str = "auto",
    ) -> None:
        self.denoiser, self.about = denoiser, about
        self.autoencoder, self.text_encoder = autoencoder, text_encoder
        self.device = autoencoder.device if device is None else device
        self._autocast = autocast_of(autocast, self.device)
        _same("autoencoder", about.vae, autoencoder.spec.fingerprint, about.vae_fingerprint)
        text = text_encoder.spec.fingerprint
        _same("text encoder", about.text_encoder, text, about.text_fingerprint)

    def shape(
        self,
        *,
        frames: int | None = None,
        height_px: int | None = None,
        width_px: int | None = None,
        fps: float | None = None,
    ) -> Shape:
        """A shape in which some numbers are chosen: the others are of the largest trained on.

        Of the shapes that agree with the chosen numbers, if there are such; a shape of one frame
        only counts where one frame is asked for.

        Raises:
            ConfigError: Videos of this shape cannot be made.
        """
        chosen = {"frames": frames, "height_px": height_px, "width_px": width_px, "fps": fps}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        all_shapes = self.about.shapes
        known = [s for s in all_shapes if (s.frames == 1) == (frames == 1)] or all_shapes
        fitting = [s for s in known if all(getattr(s, n) == v for n, v in chosen.items())]
        largest = max(fitting or known, key=lambda s: (s.frames * s.height_px * s.width_px, s.fps))
        shape = Shape(**largest.model_dump() | chosen)
        check_shape(shape, self.autoencoder.spec, self.denoiser.config)
        return shape

    def generate(
        self, request: Request, told: Told = lambda done, total: None
    ) -> Iterator[NDArray[np.uint8]]:
        """Make a video for each prompt, in their order.

        Args:
            request: What is wanted.
            told: Called after each step of the sampler.

        Returns:
            An iterator of uint8 (T, height, width, 3), RGB, that computes as it goes.

        Raises:
            ConfigError: The request cannot be met.
        """
        check_request(request, self.autoencoder.spec, self.denoiser.config)
        if request.given and set(self.about.modes) <= {"text"}:
            raise ConfigError(
                "the denoiser was trained on texts alone: given frames mean nothing to it",
                where="given frames",
                mend="a training with other modes in conditioning.mixture, such as first",
            )
        return self._videos(request, told)

    @cached_property
    def weights_sha256(self) -> str:
        """Of the denoiser's weights: names and float32 numbers, sorted by name. 64 hex digits."""
        found = sha256()
        for name, weights in sorted(self.denoiser.state_dict().items()):
            found.update(name.encode())
            found.update(weights.detach().float().cpu().contiguous().numpy().data)
        return found.hexdigest()

    def shift(self, request: Request) -> float:
        """Of the sampler's steps: what was asked for, or that of training at this size."""
        if request.shift is not None:
            return request.shift
        _, latent_frames, high, wide = self._latent_shape(request)
        tokens = high * wide // self.denoiser.config.cells
        flow = self.about.flow_config()
        return shift_of(flow, latent_frames=latent_frames, spatial_tokens=tokens)

    def _videos(self, request: Request, told: Told) -> Iterator[NDArray[np.uint8]]:
        given = self._given(request)
        empty, *states = self.text_encoder.encode(["", *request.prompts])
        starts = range(0, len(request.prompts), request.batch_size)
        total = len(starts) * request.num_steps
        for part, start in enumerate(starts):
            texts = states[start : start + request.batch_size]
            before = part * request.num_steps
            latents = self._latents(
                request,
                range(start, start + len(texts)),
                texts,
                empty,
                given,
                lambda done, _, before=before: told(before + done, total),
            )
            video = self.autoencoder.decode(latents)
            frames = ((video + 1) * 127.5).round().to(torch.uint8)  # decode clamps to [-1, 1]
            yield from frames.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()

    @torch.no_grad()
    def _latents(
        self,
        request: Request,
        numbers: range,
        texts: list[Tensor],
        empty: Tensor,
        given: Given,
        told: Told,
    ) -> Tensor:
        """Latents of some prompts, float32 (B, C, t, h, w)."""
        shape = self._latent_shape(request)
        noise = torch.stack([keyed_normal(request.seed, 0, NOISE, n, shape) for n in numbers])
        is_unknown = given.unknown_Bt[:, None, :, None, None]
        alone = padded_texts(texts, self.device)
        both = padded_texts([*texts, *[empty] * len(texts)], self.device)

        def velocity(x: Tensor, sigma: float) -> Tensor:
            if not request.guidance.is_on(sigma):
                return self._denoise(x, sigma, alone, given, request)
            made = self._denoise(torch.cat([x, x]), sigma, both, given, request)
            with_text, without = made.chunk(2)
            return guided(with_text, without, request.guidance, unknown=is_unknown)

        return integrate(
            velocity,
            noise.to(self.device),
            sampling_sigmas(request.num_steps, self.shift(request)),
            method=request.sampler,
            given=given.latents_BCthw.expand_as(noise) if request.given else None,
            unknown=is_unknown if request.given else None,
            told=told,
        )

    def _denoise(
        self,
        x_BCthw: Tensor,
        sigma: float,
        text: tuple[Tensor, Tensor],
        given: Given,
        request: Request,
    ) -> Tensor:
        """Velocity, float32 (B, C, t, h, w)."""
        count, stride = len(x_BCthw), self.autoencoder.spec.temporal_stride
        fps_B = torch.full((count,), float(request.fps), device=self.device)
        with self._autocast:
            made = self.denoiser(
                x_BCthw,
                torch.full((count,), sigma, device=self.device),
                given_BCthw=given.latents_BCthw.expand(count, -1, -1, -1, -1),
                mask_BSthw=given.mask_BSthw.expand(count, -1, -1, -1, -1),
                text_BLD=text[0],
                text_mask_BL=text[1],
                fps_B=fps_B,
                times_Bt=latent_times_s(x_BCthw.shape[2], stride, fps_B),
            )
        return made.float()

    def _given(self, request: Request) -> Given:
        """Given frames as the network is told them, B = 1."""
        height, width = request.height_px, request.width_px
        video = torch.zeros((1, 3, request.frames, height, width), device=self.device)
        known = torch.zeros((1, request.frames), dtype=torch.bool)
        for number, picture in request.given.items():
            pixels = torch.from_numpy(np.array(picture)).to(self.device)
            video[0, :, number] = pixels.permute(2, 0, 1).float() / 127.5 - 1
            known[0, number] = True
        return given_of(self.autoencoder.spec, known, (height, width), video, self.autoencoder)

    def _latent_shape(self, request: Request) -> tuple[int, int, int, int]:
        spec = self.autoencoder.spec
        return spec.latent_shape(request.frames, request.height_px, request.width_px)


def open_generator(
    path: str | Path,
    *,
    device: str = "auto",
    weights: Weights | None = None,
    autocast: str = "auto",
    vae: str | None = None,
    text_encoder: str | None = None,
) -> Generator:
    """Open a denoiser with the autoencoder and the text encoder that it was trained with.

    Args:
        path: As of :func:`training.denoiser.open_denoiser`.
        device: ``auto``, ``cpu`` or ``cuda``.
        weights: As of :func:`training.denoiser.open_denoiser`.
        autocast: ``auto``, ``off`` or ``bfloat16``.
        vae: Where the autoencoder is by now; None: where it was in training.
        text_encoder: Likewise.

    Raises:
        ConfigError: One of them is not there, or is another one.
    """
    place = device_of(device)
    denoiser, about = open_denoiser(path, device=place, weights=weights)
    about = about.model_copy(
        update={"vae": vae or about.vae, "text_encoder": text_encoder or about.text_encoder}
    )
    return Generator(
        denoiser,
        about,
        open_autoencoder(about.vae, device=place, dtype=about.vae_dtype, tiling=about.vae_tiling),
        open_text_encoder(
            about.text_encoder, device=place, dtype=about.text_dtype, max_tokens=about.max_tokens
        ),
        device=place,
        autocast=autocast,
    )


def _same(kind: str, name: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise ConfigError(
            f"the denoiser was trained with another {kind}: fingerprint {wanted}, not {found}",
            where=name,
            mend=f"name the {kind} of its training",
        )
