"""What is to be encoded: the set's description, each clip's bucket, and the shards as items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.errors import ConfigError
from curation.storage import Storage
from pipelines.encode.items import Facts, ShardItem
from pipelines.encode.settings import EncodeSettings
from training.data.buckets import REASONS, Assignment, Bucket, BucketSettings
from training.data.index import ShardIndex
from training.data.latents import (
    AutoencoderPart,
    SetBuckets,
    SetDescription,
    TextPart,
    description_of,
)
from training.data.sample import Part, Place
from training.data.settings import DataSettings
from training.models.autoencoder import LatentSpec


def describe(settings: EncodeSettings, data: DataSettings, facts: Facts) -> SetDescription:
    """The set that comes of some settings.

    Raises:
        ConfigError: The autoencoder does not take the buckets.
    """
    vae, text = facts.latents, facts.texts
    buckets = None
    if vae is not None:
        check_fit(vae, data.buckets)
        buckets = SetBuckets.of(data.buckets)
    return SetDescription(
        autoencoder=None
        if vae is None
        else AutoencoderPart(
            name=vae.name,
            fingerprint=vae.fingerprint,
            latent_channels=vae.latent_channels,
            temporal_stride=vae.temporal_stride,
            spatial_stride=vae.spatial_stride,
            shift=vae.shift,
            scale=vae.scale,
            dtype=settings.vae_dtype,
            tiling=settings.tiling,
        ),
        text_encoder=None
        if text is None
        else TextPart(
            name=text.name,
            fingerprint=text.fingerprint,
            dim=text.dim,
            max_tokens=text.max_tokens,
            dtype=settings.text_dtype,
        ),
        buckets=buckets,
        windows=settings.windows if vae is not None else 1,
        window=settings.window if vae is not None and settings.windows == 1 else "middle",
        scaling=data.read.scaling if vae is not None else "bicubic",
    )


def check_fit(spec: LatentSpec, buckets: BucketSettings) -> None:
    """Refuse buckets that an autoencoder does not take exactly.

    Raises:
        ConfigError: Its strides are others, or it refuses a shape.
    """
    mine = spec.temporal_stride, spec.spatial_stride
    if mine != (buckets.temporal_stride, buckets.spatial_stride):
        raise ConfigError(
            f"the autoencoder {spec.name} has the strides temporal {mine[0]} and spatial "
            f"{mine[1]}, the buckets temporal {buckets.temporal_stride} and spatial "
            f"{buckets.spatial_stride}",
            where="buckets",
            mend=f"set temporal_stride: {mine[0]} and spatial_stride: {mine[1]} in the file of "
            "the buckets, with shapes that fit them, or take another autoencoder",
        )
    for bucket in buckets.buckets():
        try:
            spec.check(bucket.frames, bucket.height_px, bucket.width_px)
        except ValueError as exc:
            raise ConfigError(str(exc), where=f"bucket {bucket.name}") from exc


def known_names(storage: Storage, folder: str, described: SetDescription) -> SetDescription:
    """The same set under the names that it has already, if it is there."""
    try:
        there = description_of(storage.read_json(f"{folder}/set.json"))
    except ValueError:
        return described
    same = there is not None and there.fingerprint() == described.fingerprint()
    return there if there is not None and same else described


@dataclass(frozen=True, eq=False)
class EncodePlan:
    """Each clip's bucket, and its place in the shards.

    Attributes:
        index: N clips.
        described: The set.
        assigned: Their buckets; None: clips are not encoded.
        order: int64 (N,): positions, shard by shard.
        starts: Where each shard's begin in it, by the index's number of the shard; one more: N.
    """

    index: ShardIndex
    described: SetDescription
    assigned: Assignment | None
    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, index: ShardIndex, described: SetDescription) -> EncodePlan:
        """The plan of a set over an index."""
        assigned = None if described.buckets is None else described.buckets.assign(index)
        order = np.argsort(index["shard"], kind="stable")
        counts = np.arange(len(index.words["shard"]) + 1)
        starts = np.searchsorted(index["shard"][order], counts)
        return cls(index, described, assigned, order, starts)

    def positions(self, shard: str) -> NDArray[np.int64]:
        """The samples of a shard, in its order."""
        number = self.index.words["shard"].index(shard)
        return self.order[self.starts[number] : self.starts[number + 1]]

    def num_windows(self) -> NDArray[np.int64]:
        """How many windows each clip has; 0 where it is in no bucket."""
        found = np.zeros(len(self.index), np.int64)
        if self.assigned is None:
            return found
        columns = [self.assigned.bucket, self.index["frames"], self.index["fps"]]
        kinds, which = np.unique(
            np.stack([c.astype(np.float64) for c in columns], axis=1), axis=0, return_inverse=True
        )
        counts = [
            len(
                self.described.starts_s(int(frames), float(fps), self.assigned.buckets[int(number)])
            )
            if number >= 0
            else 0
            for number, frames, fps in kinds
        ]
        return np.array(counts, np.int64)[which.reshape(-1)]

    def reasons(self) -> dict[str, int]:
        """How many clips fit no bucket, by reason."""
        if self.assigned is None:
            return {}
        counts = np.bincount(self.assigned.reason[self.assigned.bucket < 0], minlength=len(REASONS))
        return {name: int(n) for name, n in zip(REASONS, counts, strict=True) if n}

    def items(
        self, states: dict[str, str], fingerprint: str, reads: Iterable[str]
    ) -> Iterator[ShardItem]:
        """Shards to encode, one after the other.

        Args:
            states: Of ``SiblingSet.prepare``.
            fingerprint: Of the set.
            reads: Of the set.
        """
        for shard, state in states.items():
            positions = self.positions(shard).tolist()
            yield ShardItem(
                shard=shard,
                state=state,
                fingerprint=fingerprint,
                described=self.described,
                reads=tuple(reads),
                places=tuple(self._place(shard, p) for p in positions),
                buckets=tuple(self._bucket(p) for p in positions),
            )

    def _bucket(self, position: int) -> Bucket | None:
        number = -1 if self.assigned is None else int(self.assigned.bucket[position])
        return None if self.assigned is None or number < 0 else self.assigned.buckets[number]

    def _place(self, shard: str, position: int) -> Place:
        row = self.index
        mp4, texts = (
            Part(shard, int(row[f"{kind}_offset"][position]), int(row[f"{kind}_bytes"][position]))
            for kind in ("mp4", "json")
        )
        return Place(
            position=position,
            key_hash=int(row["key_hash"][position]),
            frames=int(row["frames"][position]),
            fps=float(row["fps"][position]),
            mp4=mp4,
            json=texts,
        )
