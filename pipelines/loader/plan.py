"""How a dataset falls into training buckets: ``clipmill plan``.

Every sample of the index is accounted for: in a bucket, dropped with its reason, or not taken by
any source (another split). Nothing is decoded; the index alone is read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.loader.report import BucketShare, Dropped, Report, SourceShare
from pipelines.loader.takers import takers
from training.data.buckets import REASONS, Assignment, Bucket, assign
from training.data.index import ShardIndex, load_index
from training.data.plan import Stream, choose_buckets, part_of, streams_of
from training.data.settings import DataSettings

MOST_SHAPES = 5
"""Stored shapes told for each reason."""
HOUR_S = 3600


def make_plan(root: str, settings: DataSettings, *, repropose: bool = False) -> Report:
    """Count where the clips of a dataset go.

    Args:
        root: Dataset root of sources that name none.
        settings: The data.
        repropose: Propose buckets although the settings have some.

    Raises:
        ConfigError: No buckets can be proposed.
        CatalogError: A root without shards, an unknown split or source.
    """
    if repropose:
        buckets = settings.buckets.model_copy(update={"shapes": ()})
        settings = settings.model_copy(update={"buckets": buckets})
    streams = streams_of(settings, root)
    whole = {root: load_index(root) for root in dict.fromkeys(s.root for s in streams)}
    parts = [part_of(stream, whole[stream.root]) for stream in streams]
    proposed = not settings.buckets.shapes
    chosen, buckets = choose_buckets(settings, parts)
    settings = settings.model_copy(update={"buckets": chosen})
    total = sum(stream.weight for stream in streams)
    sources = [
        _source(stream, len(whole[stream.root]), part, settings, buckets, stream.weight / total)
        for stream, part in zip(streams, parts, strict=True)
    ]
    step = settings.order.microbatches
    worlds = [n for n in range(1, step + 1) if step % n == 0]
    return Report(settings, proposed, sources, step, worlds, _remarks(sources))


def _source(
    stream: Stream,
    index_clips: int,
    index: ShardIndex,
    settings: DataSettings,
    buckets: tuple[Bucket, ...],
    weight: float,
) -> SourceShare:
    assigned = assign(index, buckets, settings.buckets, pictures=stream.pictures)
    length_s = index.durations_s()
    rows = _buckets(assigned, length_s, stream.pictures)
    dropped = _dropped(assigned, index, length_s)
    full = sum(row.microbatches for row in rows)
    step = settings.order.microbatches
    microbatches = -(-full // step) * step if weight == 1 else full
    used = sum(row.clips * row.sample_tokens for row in rows)
    cost = sum(row.microbatches * row.microbatch_tokens for row in rows)
    counts = [row.clips for row in rows if row.clips]
    hours = sum(row.hours for row in rows)
    seen = sum(row.seen_hours or 0.0 for row in rows)
    return SourceShare(
        root=stream.root,
        split=_split(stream, index),
        source=stream.settings.source,
        pictures=stream.pictures,
        weight=weight,
        index_clips=index_clips,
        other_clips=index_clips - len(index),
        clips=len(index),
        hours=float(length_s.sum()) / HOUR_S,
        bucket_clips=int((assigned.bucket >= 0).sum()),
        dropped_clips=int((assigned.bucket < 0).sum()),
        buckets=rows,
        dropped=dropped,
        takers=takers(index, assigned, settings.buckets, pictures=stream.pictures),
        seen_share=None if stream.pictures or not hours else seen / hours,
        imbalance=max(counts) / min(counts) if counts else None,
        microbatches=microbatches,
        repeat_share=1 - used / (cost * microbatches / full) if full else 0.0,
        epoch_steps=microbatches / (step * weight),
    )


def _split(stream: Stream, index: ShardIndex) -> str | None:
    """The split that was taken, where it is one."""
    codes = np.unique(index["split"])
    if stream.settings.split in (None, "*") and len(codes) != 1:
        return None
    return index.words["split"][codes[0]] if len(codes) and codes[0] >= 0 else None


def _buckets(
    assigned: Assignment, length_s: NDArray[np.float64], pictures: bool
) -> list[BucketShare]:
    """The buckets a source may use, in the order of their sizes."""
    dearest = max(b.cost for b in assigned.buckets)
    taken = int((assigned.bucket >= 0).sum())
    rows = []
    for number, bucket in enumerate(assigned.buckets):
        here = np.flatnonzero(assigned.bucket == number)
        clips, single = len(here), bucket.frames == 1
        if not clips and single != pictures:
            continue  # of the other kind: that it is empty is right
        microbatches = -(-clips // bucket.samples)
        own_s = length_s[here]
        seen_s = float(np.minimum(own_s, bucket.frames / bucket.fps).sum())
        scale = assigned.scale[here]
        rows.append(
            BucketShare(
                name=bucket.name,
                clips=clips,
                hours=float(own_s.sum()) / HOUR_S,
                share=clips / taken if taken else 0.0,
                samples=bucket.samples,
                sample_tokens=bucket.tokens,
                microbatch_tokens=bucket.cost,
                below_dearest=1 - bucket.cost / dearest,
                microbatches=microbatches,
                repeats=microbatches * bucket.samples - clips,
                crop_mean=float(assigned.crop[here].mean()) if clips else None,
                scale_min=float(scale.min()) if clips else None,
                scale_max=float(scale.max()) if clips else None,
                seen_hours=None if single else seen_s / HOUR_S,
            )
        )
    return rows


def _dropped(
    assigned: Assignment, index: ShardIndex, length_s: NDArray[np.float64]
) -> list[Dropped]:
    """What fits no bucket, by reason."""
    found = []
    for number, reason in enumerate(REASONS):
        here = np.flatnonzero(assigned.reason == number)
        if not len(here):
            continue
        rows = np.stack([index["height_px"][here], index["width_px"][here]], axis=1)
        rates = np.round(index["fps"][here].astype(np.float64), 2)
        sizes, which = np.unique(
            np.concatenate([rows, rates[:, None]], axis=1), axis=0, return_inverse=True
        )
        which = which.reshape(-1)
        counts = np.bincount(which)
        shapes = []
        for place in np.argsort(-counts, kind="stable")[:MOST_SHAPES]:
            own_s = length_s[here[which == place]]
            height, width, fps = sizes[place]
            shapes.append(
                {
                    "height_px": int(height),
                    "width_px": int(width),
                    "fps": float(fps),
                    "clips": int(counts[place]),
                    "shortest_s": float(own_s.min()),
                    "longest_s": float(own_s.max()),
                }
            )
        found.append(Dropped(reason, len(here), float(length_s[here].sum()) / HOUR_S, shapes))
    return found


def _remarks(sources: list[SourceShare]) -> list[str]:
    """What a person should look at."""
    said = []
    for source in sources:
        name = f"{source.root} (single frames)" if source.pictures else source.root
        if not source.bucket_clips:
            said.append(f"{name}: no clip fits any bucket, so there is nothing to train on")
            continue
        if source.dropped_clips > 0.05 * source.clips:
            share = source.dropped_clips / source.clips
            said.append(f"{name}: {share:.0%} of the clips are dropped")
        if source.repeat_share > 0.05:
            share = source.repeat_share
            tails = sum(b.repeats * b.sample_tokens for b in source.buckets)
            cost = sum(b.microbatches * b.microbatch_tokens for b in source.buckets)
            mend = "a smaller order.microbatches"
            if tails > 0.05 * cost:
                mend = "fewer buckets, or a smaller microbatch_tokens,"
            said.append(f"{name}: {share:.0%} of an epoch are repeats: {mend} would fill up better")
        empty = [b.name for b in source.buckets if not b.clips]
        if empty:
            said.append(f"{name}: no clip goes into {', '.join(empty)}")
        enlarged = [b.name for b in source.buckets if (b.scale_max or 0) > 1.001]
        if enlarged:
            said.append(f"{name}: pictures are enlarged in {', '.join(enlarged)}")
    return said
