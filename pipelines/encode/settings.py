"""Settings of ``clipmill encode``: its own keys, and those of a training's data for the buckets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.errors import ConfigError
from curation.yaml_settings import apply_override, explained
from training.data.settings import DataSettings
from training.data.settings_file import read_settings

NONE = "none"
Dtype = Literal["float32", "bfloat16", "float16"]


class EncodeSettings(BaseModel):
    """What is made, and how the work is done.

    Attributes:
        vae: Autoencoder, as ``training.models.open_autoencoder`` takes it; ``none``: texts alone.
        text_encoder: As ``training.models.text_encoders`` takes it; ``none``: latents alone.
        vae_dtype: Precision of the autoencoder; what is stored is float16 in any case.
        text_dtype: Precision of the text encoder.
        tiling: Large pictures go through the autoencoder in tiles: less memory, other last digits.
        max_tokens: Longer texts are cut; None: what the text encoder takes.
        windows: Most windows of a clip, evenly spread; fewer where it has no room for them.
        window: Where a single window lies.
        device: ``auto`` takes a GPU where there is one.
        batch_size: Windows that go through the autoencoder at once; None: 1 on a CPU, 4 on a GPU.
            Like the device it may move the last digits, so a set is best finished as begun.
        num_workers: Processes that encode; None: one for each core or GPU.
        decode_threads: Threads of each that decode ahead; None: 1, and up to 8 beside a GPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vae: str = "clipmill-small"
    text_encoder: str = "minilm"
    vae_dtype: Dtype = "float32"
    text_dtype: Dtype = "float32"
    tiling: bool = False
    max_tokens: int | None = Field(default=None, ge=2, le=65536)
    windows: int = Field(default=1, ge=1, le=1024)
    window: Literal["start", "middle"] = "middle"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int | None = Field(default=None, ge=1, le=4096)
    num_workers: int | None = Field(default=None, ge=1, le=65536)
    decode_threads: int | None = Field(default=None, ge=1, le=256)

    @property
    def has_vae(self) -> bool:
        """True when clips are encoded."""
        return self.vae != NONE

    @property
    def has_text(self) -> bool:
        """True when captions are encoded."""
        return self.text_encoder != NONE

    @property
    def reads(self) -> list[str]:
        """What of a sample is looked at, as sibling sets name it."""
        return [*(["mp4"] if self.has_vae else []), *(["text"] if self.has_text else [])]


def read_encode_settings(
    buckets: str | None, overrides: Sequence[str], options: dict[str, Any]
) -> tuple[EncodeSettings, DataSettings]:
    """Check what was asked for.

    Args:
        buckets: YAML file or preset with the buckets; its ``read.scaling`` counts too.
        overrides: ``key=value`` of either kind of settings.
        options: Keys of :class:`EncodeSettings` that have options of their own; None is not given.

    Raises:
        ConfigError: An unknown key or value, nothing to encode, or no buckets to encode for.
    """
    given = {key: value for key, value in options.items() if value is not None}
    rest: list[str] = []
    for text in overrides:
        if text.partition("=")[0] in EncodeSettings.model_fields:
            apply_override(given, text)
        else:
            rest.append(text)
    try:
        settings = EncodeSettings.model_validate(given)
    except ValidationError as exc:
        raise explained(exc, EncodeSettings, "settings") from exc
    data = read_settings(buckets, rest)
    if not settings.reads:
        raise ConfigError("neither clips nor captions are to be encoded", mend="name an encoder")
    if settings.has_vae and not data.buckets.shapes:
        raise ConfigError(
            "latents are made for buckets that stay what they are",
            where="buckets",
            mend="--buckets laptop, or `clipmill plan OUT --propose --write buckets.yaml` and "
            "--buckets buckets.yaml; the training is given the same",
        )
    return settings, data
