"""What is to be made of a denoiser, and whether that can be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from curation.errors import ConfigError
from training.denoiser import Shape
from training.diffusion.guidance import Guidance
from training.diffusion.samplers import Method
from training.models.autoencoder import LatentSpec
from training.models.dit import DitConfig


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be made.

    Attributes:
        prompts: A video each.
        frames: T, a number that the autoencoder takes.
        height_px: Of the frames.
        width_px: Of the frames.
        fps: Frames per second, that the network is told.
        given: uint8 (height, width, 3) RGB by the number of the frame, the same for all prompts.
        seed: Of the noise.
        sampler: Euler asks the network once a step, Heun twice.
        num_steps: Of the sampler.
        guidance: By the text.
        shift: Of the steps towards more noise; None: that of training at this size.
        batch_size: Prompts at once. More than one may move the last digits.
    """

    prompts: Sequence[str]
    frames: int
    height_px: int
    width_px: int
    fps: float
    given: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    seed: int = 0
    sampler: Method = "euler"
    num_steps: int = 30
    guidance: Guidance = field(default_factory=Guidance)
    shift: float | None = None
    batch_size: int = 1


def check_shape(shape: Shape, spec: LatentSpec, config: DitConfig) -> None:
    """Refuse a shape that autoencoder or denoiser cannot take.

    Raises:
        ConfigError: With the nearest numbers that can be taken.
    """
    if not 0 < shape.fps < float("inf"):
        raise ConfigError(f"{shape.fps} frames per second cannot be", where="fps")
    try:
        spec.check(shape.frames, shape.height_px, shape.width_px)
    except ValueError as exc:
        raise ConfigError(str(exc), where="size") from exc
    _, high, wide = config.patch
    for name, side, patch in (("height", shape.height_px, high), ("width", shape.width_px, wide)):
        step = spec.spatial_stride * patch
        if side % step:
            below = side - side % step
            raise ConfigError(
                f"the denoiser takes a {name} divisible by {step} pixels, not {side}",
                where="size",
                mend=f"the nearest: {' and '.join(str(n) for n in (below, below + step) if n)}",
            )


def check_request(request: Request, spec: LatentSpec, config: DitConfig) -> None:
    """Refuse what cannot be made, before anything is computed.

    Raises:
        ConfigError: With what would do.
    """
    high, wide, count = request.height_px, request.width_px, request.frames
    check_shape(Shape(frames=count, height_px=high, width_px=wide, fps=request.fps), spec, config)
    if not request.prompts:
        raise ConfigError("there is no prompt", mend="give one, which may be empty")
    if request.num_steps < 1 or request.batch_size < 1:
        raise ConfigError("steps and batch size are whole numbers from 1", where="sampler")
    if request.shift is not None and not 0 < request.shift < float("inf"):
        raise ConfigError(f"a shift is above 0, not {request.shift}", where="sampler")
    for number, picture in request.given.items():
        if not 0 <= number < count:
            raise ConfigError(
                f"there is no frame {number}", where="given frames", mend=f"0 to {count - 1}"
            )
        if picture.shape != (high, wide, 3) or picture.dtype != np.uint8:
            raise ConfigError(
                f"frame {number} is {picture.dtype} {picture.shape}, not uint8 {(high, wide, 3)}",
                where="given frames",
            )
    if len(request.given) == count:
        raise ConfigError(
            "all frames are given: there is nothing to make",
            where="given frames",
            mend="more frames, or fewer given ones",
        )
