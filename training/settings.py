"""Settings of a denoiser's training: the YAML of ``clipmill train`` with ``kind: denoiser``."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data.settings import DataSettings
from training.diffusion.flow import FlowConfig
from training.diffusion.frame_masks import MODES
from training.guards import GuardSettings
from training.models.dit import PRESETS, DitConfig, preset
from training.optimizer import OptimizerSettings

TEXT = "text"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(_Section):
    """The network: a preset, and what is to differ from it.

    Attributes:
        preset: Of :data:`training.models.dit.PRESETS`.
        attention: All tokens see all, or space and time in turn.
        width: None: the preset's; as the next ones.
        depth: Blocks.
        heads: Of attention.
        mlp_ratio: Width of the feed-forward layers over the width.
    """

    preset: str = "small"
    attention: Literal["full", "factorised"] = "full"
    width: int | None = Field(default=None, ge=8)
    depth: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    mlp_ratio: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r} is none of {', '.join(PRESETS)}")
        self.config()
        return self

    def config(self, **sizes: Any) -> DitConfig:  # noqa: ANN401
        """Sizes of the network, with those that the data decides.

        Raises:
            ValueError: They do not fit together.
        """
        own = self.model_dump(exclude={"preset"}, exclude_none=True)
        return preset(self.preset, **own, **sizes)


class FlowSettings(_Section):
    """Noise times, see :class:`training.diffusion.flow.FlowConfig`."""

    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    uniform: float = Field(default=0.0, ge=0, le=1)
    shift_low: float = Field(default=1.0, gt=0)
    shift_high: float = Field(default=3.0, gt=0)
    tokens_low: int = Field(default=256, ge=1)
    tokens_high: int = Field(default=4096, ge=2)
    by_length: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.config()
        return self

    def config(self) -> FlowConfig:
        """As the mathematics takes it.

        Raises:
            ValueError: Numbers that do not fit together.
        """
        return FlowConfig(**self.model_dump())


class ConditioningSettings(_Section):
    """What a sample is told besides its text.

    Attributes:
        mixture: Relative weights of the modes, which frames are given; others than ``text`` need
            ``data.pixels`` and the autoencoder.
        text_dropout: Share of samples that are told the empty prompt: guidance needs it.
        posterior: Latents are drawn from the posterior, or are its mean.
    """

    mixture: dict[str, float] = Field(default={TEXT: 1.0}, min_length=1)
    text_dropout: float = Field(default=0.1, ge=0, le=1)
    posterior: Literal["sample", "mean"] = "sample"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for mode, weight in self.mixture.items():
            if mode not in MODES:
                raise ValueError(f"mixture: {mode!r} is none of {', '.join(MODES)}")
            if not 0 <= weight < float("inf"):
                raise ValueError(f"mixture: {mode} has the weight {weight}")
        if not sum(self.mixture.values()):
            raise ValueError("mixture: no mode has a weight")
        return self

    @property
    def modes(self) -> tuple[str, ...]:
        """Those with a weight, sorted."""
        return tuple(sorted(mode for mode, weight in self.mixture.items() if weight))

    @property
    def gives_frames(self) -> bool:
        """True when some samples are given frames."""
        return self.modes != (TEXT,)


class ValidationSettings(_Section):
    """Fixed samples, at fixed noise and fixed times.

    Attributes:
        root: Dataset root; None: the first source's, if ``split`` names a split; else none at all.
        split: Of it.
        samples: How many; the same ones each time.
        sigmas: Noise times at which the loss is told.
        every_steps: How often.
    """

    root: str | None = None
    split: str | None = None
    samples: int = Field(default=8, ge=1)
    sigmas: tuple[float, ...] = Field(default=(0.1, 0.3, 0.5, 0.7, 0.9), min_length=1)
    every_steps: int = Field(default=500, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if any(not 0 < sigma < 1 for sigma in self.sigmas):
            raise ValueError("sigmas lie between 0 and 1")
        return self


class SampleSettings(_Section):
    """Videos that are made along the way, of the averaged weights.

    Attributes:
        prompts: One video each; none: no videos.
        every_steps: How often; the end has them in any case.
        num_steps: Of the sampler.
        guidance: Scale of the text's guidance; 1: none.
    """

    prompts: tuple[str, ...] = ()
    every_steps: int = Field(default=1000, ge=1)
    num_steps: int = Field(default=20, ge=1)
    guidance: float = Field(default=3.0, ge=0)


class DenoiserTraining(_Section):
    """All of it.

    Attributes:
        kind: ``denoiser``.
        name: Of the weights, for people.
        data: The clips and their order; ``order.microbatches`` is what a step accumulates.
        vae: Autoencoder, as ``training.models.open_autoencoder`` takes it: that of
            ``data.latents`` where they are read.
        text_encoder: As ``training.models.text_encoders`` takes it: likewise.
        model: The network.
        flow: Noise times.
        conditioning: What a sample is told.
        optimizer: How weights move.
        guards: Steps that are skipped.
        validation: Fixed samples.
        samples: Videos along the way.
        steps: Length of the training.
        threads: CPU threads; None: torch's own choice. Bits may differ with their number.
        device: ``auto`` takes a GPU where there is one.
        autocast: ``auto`` computes in bfloat16 on a GPU and on processors with avx512_bf16.
        compile: Compile each block; the first step takes longer.
        checkpointing: Keep only the inputs of blocks for the way back: less memory, a third more
            time.
        log_every: Steps between lines of the log.
        save_every: Steps between checkpoints.
        keep: Checkpoints that are kept, the newest.
        keep_every: Those at multiples of so many steps are kept for good; None: none.
        tensorboard: Write events for TensorBoard.
        wandb: Project of Weights & Biases; None: not used.
    """

    kind: Literal["denoiser"] = "denoiser"
    name: str = Field(default="denoiser", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    data: DataSettings = DataSettings()
    vae: str = "clipmill-small"
    text_encoder: str = "minilm"
    model: ModelSettings = ModelSettings()
    flow: FlowSettings = FlowSettings()
    conditioning: ConditioningSettings = ConditioningSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    guards: GuardSettings = GuardSettings()
    validation: ValidationSettings = ValidationSettings()
    samples: SampleSettings = SampleSettings()
    steps: int = Field(default=10_000, ge=1)
    threads: int | None = Field(default=None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    autocast: Literal["auto", "off", "bfloat16"] = "auto"
    compile: bool = False
    checkpointing: bool = False
    log_every: int = Field(default=20, ge=1)
    save_every: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1)
    keep_every: int | None = Field(default=None, ge=1)
    tensorboard: bool = True
    wandb: str | None = None

    def data_read(self) -> DataSettings:
        """The data as it is read: without pixels where latents are read and no frame is given."""
        if self.data.latents is None or self.conditioning.gives_frames:
            return self.data
        return self.data.model_copy(update={"pixels": False})

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.conditioning.gives_frames and not self.data.pixels:
            raise ValueError(
                "conditioning.mixture gives frames, which are encoded of pixels: data.pixels: true"
            )
        if self.data.latents is None and not self.data.pixels:
            raise ValueError("data: neither latents nor pixels are to be read")
        if self.data.buckets.patch[0] != 1:
            raise ValueError("data.buckets.patch: a token is of one latent frame, [1, h, w]")
        return self
