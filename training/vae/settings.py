"""Settings of a VAE's training; the YAML that ``clipmill train`` reads."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data.settings import DataSettings
from training.models.vae_network import SPATIAL, TEMPORAL
from training.optimizer import OptimizerSettings

MIN_JUDGED_FRAMES = 5


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(_Section):
    """Sizes, see :class:`training.models.vae_network.VaeConfig`."""

    latent_channels: int = Field(default=16, ge=1, le=64)
    width: int = Field(default=160, ge=8)
    encoder_depth: int = Field(default=3, ge=1)
    decoder_depth: int = Field(default=4, ge=1)
    pixel_width: int = Field(default=32, ge=4)
    frame_width: int = Field(default=0, ge=0)
    frame_depth_in: int = Field(default=2, ge=1)
    frame_depth_out: int = Field(default=3, ge=1)


class CropSettings(_Section):
    """What is taken out of a sample; drawn by key.

    Attributes:
        size_px: Side of a crop, divisible by 8.
        per_sample: Crops of a sample, each at a place and size of its own.
        scales: Factors by which a sample is shrunk before; drawn with even chances among those at
            which a crop still fits. The network then knows footage of several sizes.
        lively: Share of the crops that are taken where most moves, out of ``candidates`` places:
            much of any picture stands still, and teaches little.
        candidates: Places that a lively crop is chosen of.
    """

    size_px: int = Field(default=64, ge=SPATIAL)
    per_sample: int = Field(default=2, ge=1)
    scales: tuple[float, ...] = Field(default=(1.0, 1.0, 0.5, 0.25), min_length=1)
    lively: float = Field(default=0.6, ge=0, le=1)
    candidates: int = Field(default=6, ge=1, le=64)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.size_px % SPATIAL:
            raise ValueError(f"size_px must be divisible by {SPATIAL}")
        if any(not 0 < scale <= 1 for scale in self.scales):
            raise ValueError("scales lie above 0 and up to 1")
        return self


class LossSettings(_Section):
    """Weights of the terms; all but ``kl`` are over pixels in [-1, 1].

    Attributes:
        l1: Mean absolute error.
        mse: Mean squared error.
        temporal: Mean absolute error of the differences between neighbouring frames: what makes a
            reconstruction flicker.
        kl: Divergence from the standard normal, nats a latent number.
        perceptual: Distance of the features of EfficientNet-lite0; 0: not loaded.
        adversarial: Of the discriminator's verdict; 0: there is none.
        adversarial_from: First step with it.
    """

    l1: float = Field(default=1.0, ge=0)
    mse: float = Field(default=2.0, ge=0)
    temporal: float = Field(default=0.2, ge=0)
    kl: float = Field(default=1e-5, ge=0)
    perceptual: float = Field(default=0.0, ge=0)
    adversarial: float = Field(default=0.0, ge=0)
    adversarial_from: int = Field(default=0, ge=0)


class ValidationSettings(_Section):
    """Held-out clips, looked at whole.

    Attributes:
        root: Dataset root of other clips, read into the same buckets from their middle; None: no
            validation.
        samples: How many; the same ones each time.
        every_steps: How often.
    """

    root: str | None = None
    samples: int = Field(default=5, ge=1)
    every_steps: int = Field(default=500, ge=1)


class VaeTraining(_Section):
    """All of it.

    Attributes:
        kind: ``vae``.
        name: Of the weights, for people.
        data: The clips; a microbatch is a step, so ``order.microbatches`` is 1.
        model: Sizes of the network.
        crops: What is taken out of a sample.
        loss: Its terms.
        optimizer: How weights move.
        validation: Held-out clips.
        steps: Length of the training.
        basis_steps: Steps whose crops the first linear transform is computed of.
        init: File of weights to begin with instead, or ``shipped``: of a network with the same
            sizes, which may lack the layers that look at single frames.
        threads: CPU threads; None: torch's own choice. Bits may differ with their number.
        device: ``auto`` takes a GPU where there is one.
        autocast: ``auto`` computes in bfloat16 on a GPU and on processors with avx512_bf16.
        log_every: Steps between lines of the log.
        save_every: Steps between checkpoints.
    """

    kind: Literal["vae"] = "vae"
    name: str = Field(default="vae", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    crops: CropSettings = CropSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    validation: ValidationSettings = ValidationSettings()
    steps: int = Field(default=6000, ge=1)
    basis_steps: int = Field(default=64, ge=1)
    init: str | None = None
    threads: int | None = Field(default=None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    autocast: Literal["auto", "off", "bfloat16"] = "auto"
    log_every: int = Field(default=20, ge=1)
    save_every: int = Field(default=250, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        buckets, side = self.data.buckets, self.crops.size_px
        if (buckets.temporal_stride, buckets.spatial_stride) != (TEMPORAL, SPATIAL):
            raise ValueError(
                f"data.buckets: the VAE has temporal_stride {TEMPORAL} and spatial_stride {SPATIAL}"
            )
        if self.data.order.microbatches != 1:
            raise ValueError("data.order.microbatches: must be 1, a step is one microbatch here")
        if not buckets.shapes:
            raise ValueError("data.buckets.shapes: name the shapes that samples are read in")
        for shape in buckets.shapes:
            if min(shape.height_px, shape.width_px) < side:
                raise ValueError(
                    f"crops.size_px: {side} does not fit into {shape.height_px}x{shape.width_px}"
                )
            if self.loss.adversarial and shape.frames < MIN_JUDGED_FRAMES:
                raise ValueError(
                    f"loss.adversarial: the discriminator looks at {MIN_JUDGED_FRAMES} frames and "
                    f"more, a shape has {shape.frames}"
                )
        return self
