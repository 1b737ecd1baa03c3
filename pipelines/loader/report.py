"""What ``clipmill plan`` tells: clips by bucket, dropped clips by reason, figures of an epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipelines.loader.takers import Taker
from training.data.settings import DataSettings


@dataclass(frozen=True)
class BucketShare:
    """What one source puts into one bucket.

    Attributes:
        name: ``frames x height x width @ fps``.
        clips: Clips in it.
        hours: Their whole length.
        share: Of the clips that are in any bucket, 0 to 1.
        samples: Of a microbatch.
        sample_tokens: Tokens of a sample.
        microbatch_tokens: Tokens of a microbatch.
        below_dearest: Share by which a microbatch costs less than the dearest bucket's.
        microbatches: Of one epoch.
        repeats: Samples of weight 0 that fill the last microbatch.
        crop_mean: Mean share of the picture that is cut off.
        scale_min: Least factor of a side.
        scale_max: Greatest factor of a side; above 1 pictures are enlarged.
        seen_hours: Time the frames of one epoch stand for; None for single frames.
    """

    name: str
    clips: int
    hours: float
    share: float
    samples: int
    sample_tokens: int
    microbatch_tokens: int
    below_dearest: float
    microbatches: int
    repeats: int
    crop_mean: float | None
    scale_min: float | None
    scale_max: float | None
    seen_hours: float | None


@dataclass(frozen=True)
class Dropped:
    """Clips that fit no bucket for one reason.

    Attributes:
        reason: One of ``REASONS``.
        clips: How many.
        hours: Their length.
        shapes: The most frequent stored sizes and rates, with number and lengths.
    """

    reason: str
    clips: int
    hours: float
    shapes: list[dict[str, Any]]


@dataclass(frozen=True)
class SourceShare:
    """One source of the mixture: where its clips go.

    Attributes:
        root: Dataset root.
        split: Split that is taken; None: all.
        source: Given source that is taken; None: all.
        pictures: Single frames of the clips.
        weight: Share of the microbatches, 0 to 1.
        index_clips: Samples in the root's index.
        other_clips: Of these, not of this split and source.
        clips: Samples that are taken.
        hours: Their length.
        bucket_clips: Of the clips, those in buckets.
        dropped_clips: Of the clips, those dropped.
        buckets: All buckets this source may use, empty ones too.
        dropped: By reason.
        takers: What would take dropped clips in.
        seen_share: Of the time of the clips in buckets, what one epoch shows; None for pictures.
        imbalance: Clips of the fullest bucket over those of the emptiest that has any.
        microbatches: Of one epoch, filled to whole steps where this is the only source.
        repeat_share: Of the tokens of an epoch, those of repeats of weight 0.
        epoch_steps: Steps of one epoch of this source.
    """

    root: str
    split: str | None
    source: str | None
    pictures: bool
    weight: float
    index_clips: int
    other_clips: int
    clips: int
    hours: float
    bucket_clips: int
    dropped_clips: int
    buckets: list[BucketShare]
    dropped: list[Dropped]
    takers: list[Taker]
    seen_share: float | None
    imbalance: float | None
    microbatches: int
    repeat_share: float
    epoch_steps: float

    @property
    def balanced(self) -> bool:
        """True when every sample of the index is in one place."""
        counted = sum(b.clips for b in self.buckets), sum(d.clips for d in self.dropped)
        return (
            counted == (self.bucket_clips, self.dropped_clips)
            and self.bucket_clips + self.dropped_clips == self.clips
            and self.clips + self.other_clips == self.index_clips
        )


@dataclass(frozen=True)
class Report:
    """What is printed before anything is trained.

    Attributes:
        settings: With the buckets, proposed ones too.
        proposed: The buckets were proposed from the clips.
        sources: One for each source, and one for its single frames.
        step_microbatches: K.
        world_sizes: Numbers of ranks that can share a step.
        remarks: What may be wrong, in words.
    """

    settings: DataSettings
    proposed: bool
    sources: list[SourceShare]
    step_microbatches: int
    world_sizes: list[int]
    remarks: list[str]

    @property
    def balanced(self) -> bool:
        """True when every sample of every index is in one place."""
        return all(source.balanced for source in self.sources)

    @property
    def trainable(self) -> bool:
        """True when every source has clips in buckets."""
        return all(source.bucket_clips for source in self.sources)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "proposed": self.proposed,
            "sources": [asdict(s) | {"balanced": s.balanced} for s in self.sources],
            "step_microbatches": self.step_microbatches,
            "world_sizes": self.world_sizes,
            "remarks": self.remarks,
            "balanced": self.balanced,
            "trainable": self.trainable,
        }
