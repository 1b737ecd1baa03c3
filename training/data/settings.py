"""Settings of the data: which shards, in which order, read how."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from training.data.buckets import BucketSettings

ALL = "*"


class SourceSettings(BaseModel):
    """One source of a mixture.

    Attributes:
        root: Dataset root; None: the one that is named when the data is opened.
        split: Which split; None: ``train`` where the dataset is divided, else all; ``"*"``: all.
        source: Only clips with this given source (manifest column ``source``); None: all.
        weight: Its share of the microbatches, relative to the other sources.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str | None = None
    split: str | None = None
    source: str | None = None
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class OrderSettings(BaseModel):
    """What decides which sample comes when. A change of any of these is another training.

    Attributes:
        seed: Of the order and of every draw.
        microbatches: K, of one optimizer step: ranks x accumulation.
        image_ratio: Share of the microbatches that show single frames of the clips, in the buckets
            of one frame, 0 to 1.
        group_bytes: Media bytes of shards whose samples are shuffled together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    microbatches: int = Field(default=12, ge=1, le=1_000_000)
    image_ratio: float = Field(default=0.0, ge=0, lt=1)
    group_bytes: int = Field(default=2**30, ge=1)


class ReadSettings(BaseModel):
    """How samples are read. Which sample comes when does not depend on it.

    Attributes:
        window: Where in a longer clip the frames are taken.
        crop: Where in a larger picture.
        flip: Share of samples mirrored left to right. Never where a caption says left or right, or
            the clip has overlay text.
        scaling: Filter that scales the pictures.
        decoder: ``pyav``, or ``torchcodec`` where it is installed.
        num_workers: Workers that decode; 0: the caller's thread does.
        worker_kind: Threads or processes (spawned).
        prefetch_bytes: Decoded bytes that may wait, of all workers together.
        max_failures: Different samples that may fail on a rank, since it started, before it stops.
        pin_memory: Put batches into page-locked memory, for quick copies to a GPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: Literal["random", "start", "middle"] = "random"
    crop: Literal["center", "random"] = "center"
    flip: float = Field(default=0.0, ge=0, le=1)
    scaling: Literal["area", "bilinear", "bicubic", "lanczos"] = "bicubic"
    decoder: Literal["pyav", "torchcodec"] = "pyav"
    num_workers: int = Field(default=2, ge=0, le=256)
    worker_kind: Literal["thread", "process"] = "thread"
    prefetch_bytes: int = Field(default=2**29, ge=1)
    max_failures: int = Field(default=16, ge=0)
    pin_memory: bool = False


class DataSettings(BaseModel):
    """All of it; the ``data`` section of a training's YAML.

    Attributes:
        sources: The mixture.
        buckets: Training shapes.
        order: Which sample comes when.
        read: How it is read.
        latents: Fingerprint of a set of sibling tars to read beside the clips; None: pixels only.
        pixels: Read and decode the clips; without, only latents and texts are read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[SourceSettings, ...] = Field(default=(SourceSettings(),), min_length=1)
    buckets: BucketSettings = BucketSettings()
    order: OrderSettings = OrderSettings()
    read: ReadSettings = ReadSettings()
    latents: str | None = Field(default=None, pattern=r"^[0-9a-f]{8,64}$")
    pixels: bool = True
