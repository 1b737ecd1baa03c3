"""What travels between the driver and those who encode: names and numbers, no pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.data.buckets import Bucket
from training.data.latents import SetDescription
from training.data.sample import Place
from training.models.autoencoder import LatentSpec
from training.models.text_encoder import TextSpec


@dataclass(frozen=True)
class Setup:
    """What a worker is built of.

    Attributes:
        root: Dataset root.
        run_id: Of the run that holds its lease.
        vae: Autoencoder; None: none.
        text_encoder: Text encoder; None: none.
        device: ``cpu`` or ``cuda``.
        vae_dtype: Precision of the autoencoder.
        text_dtype: Precision of the text encoder.
        tiling: The autoencoder works in tiles.
        max_tokens: Of a text; None: what the encoder takes.
        batch_size: Windows that are encoded at once.
        decode_threads: Threads that decode ahead.
    """

    root: str
    run_id: str
    vae: str | None
    text_encoder: str | None
    device: str
    vae_dtype: str
    text_dtype: str
    tiling: bool
    max_tokens: int | None
    batch_size: int
    decode_threads: int


@dataclass(frozen=True)
class Facts:
    """What the encoders say of themselves.

    Attributes:
        latents: None without an autoencoder.
        texts: None without a text encoder.
        empty_prompt: The file with the states of the empty prompt; empty without a text encoder.
    """

    latents: LatentSpec | None
    texts: TextSpec | None
    empty_prompt: bytes


@dataclass(frozen=True)
class Question:
    """The item that asks for :class:`Facts`."""


@dataclass(frozen=True)
class ShardItem:
    """One shard to encode.

    Attributes:
        shard: Its name.
        state: Of ``SiblingSet.prepare``.
        fingerprint: Of the set.
        described: The set.
        reads: What of a sample it is made of.
        places: Of the samples, in order.
        buckets: Of each; None: it fits none.
    """

    shard: str
    state: str
    fingerprint: str
    described: SetDescription
    reads: tuple[str, ...]
    places: tuple[Place, ...]
    buckets: tuple[Bucket | None, ...]


@dataclass
class Times:
    """Seconds of work by stage; those of several threads and processes add up.

    Attributes:
        decode_s: Reading and decoding.
        wait_s: Encoders that waited for it.
        encode_s: The autoencoder.
        text_s: The text encoder.
        write_s: Tars and tables.
    """

    decode_s: float = 0.0
    wait_s: float = 0.0
    encode_s: float = 0.0
    text_s: float = 0.0
    write_s: float = 0.0

    def add(self, other: Times) -> None:
        """Count another's in."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class ShardDone:
    """What became of a shard.

    Attributes:
        shard: Its name.
        clips: Samples in it.
        frames: That went through the autoencoder.
        texts: That went through the text encoder.
        failed: Clips that could not be encoded.
        times: By stage.
    """

    shard: str
    clips: int = 0
    frames: int = 0
    texts: int = 0
    failed: int = 0
    times: Times = field(default_factory=Times)
