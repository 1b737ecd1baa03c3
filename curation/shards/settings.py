"""How kept clips are packed, and what sharding reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from curation.ids import canonical_json
from curation.shards.captions import DEFAULT_ORDER, DEFAULT_WEIGHTS, check_kind, full_weights

LAYOUT = ("audio", "bucket_frames", "seed", "target_bytes")
"""Settings that say where a clip lies and which members it has: another value packs all anew."""


class ShardSettings(BaseModel):
    """How kept clips are packed.

    Attributes:
        target_bytes: A shard is closed when the next sample would grow the file beyond this; only
            a single sample that is larger makes a larger shard. A shard that is written again
            because a text of it changed keeps its samples, whatever their new size.
        seed: Orders the clips inside a bucket.
        caption_weights: How often a trainer draws each kind of caption, relative to the others;
            see ``curation/shards/captions.py``. Kinds that are left out keep their defaults.
        caption_default: Which kind becomes the ``.txt``: the first that a clip has.
        audio: ``m4a``: the sound of a clip's MP4 once more, as a member of its own; there is some
            where ``cut.audio`` is ``keep``.
        bucket_frames: Clips whose number of frames falls in the same band of so many frames share
            a bucket; 1: only clips of one stored shape do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_bytes: int = Field(256 * 2**20, ge=4096, description="size of a shard in bytes")
    seed: int = Field(0, description="order of clips inside a bucket")
    caption_weights: dict[str, float] = Field(
        default_factory=lambda: dict(DEFAULT_WEIGHTS),
        description="kind -> relative weight of a draw; 0: stored, never drawn",
    )
    caption_default: tuple[str, ...] = Field(
        default=DEFAULT_ORDER,
        description="kinds, in the order in which they are taken for the .txt",
    )
    audio: Literal["none", "m4a"] = Field(
        "none", description="m4a: the clip's sound as a member of its own"
    )
    bucket_frames: int = Field(
        1, ge=1, description="frames per band of lengths that share a bucket; 1: exact shapes"
    )

    @field_validator("caption_weights")
    @classmethod
    def _all_kinds(cls, value: dict[str, float]) -> dict[str, float]:
        return full_weights(value)

    @field_validator("caption_default")
    @classmethod
    def _known_kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_kind(kind) for kind in value)

    def layout(self) -> str:
        """The values of :data:`LAYOUT`, as text."""
        return canonical_json(self.model_dump(include=set(LAYOUT)))


@dataclass(frozen=True)
class ShardReport:
    """What sharding did.

    Attributes:
        num_shards: Shards of the dataset.
        num_samples: Samples in them.
        num_bytes: Their size.
        reused: True when nothing had changed and nothing was written.
        num_written: Shards written now; all others were not touched.
        generation: The highest generation; 0: everything was packed at once.
    """

    num_shards: int
    num_samples: int
    num_bytes: int
    reused: bool
    num_written: int = 0
    generation: int = 0

    def words(self) -> str:
        """The report as a sentence."""
        text = f"{self.num_samples} samples in {self.num_shards} shards, {self.num_bytes} bytes"
        if self.generation:
            text += f", generations 0 to {self.generation}"
        if self.reused:
            return f"{text} (unchanged)"
        left = self.num_shards - self.num_written
        return f"{text} ({self.num_written} written, {left} left as they were)"
