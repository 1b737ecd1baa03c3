"""Splits: every clip of a video, and of all that shows the same, on one side.

Videos that duplicates link, directly or over others, are one component and go together. A
component's place follows from the seed and the smallest video id in it, so more videos that have
nothing to do with it never move it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, field_validator

from curation.judging.globs import encode
from curation.judging.keys import shuffle_keys

SUM_TOLERANCE = 1e-6


class Splits(BaseModel):
    """How the dataset is divided.

    Attributes:
        shares: Wished share of each split. Videos are thrown whole, so what comes out differs;
            few videos can leave a split empty.
        seed: Another seed divides otherwise.
        by: ``video``, or ``source``: all videos of one source (as named in the manifest) together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shares: dict[str, float] = Field(
        default_factory=lambda: {"train": 0.98, "val": 0.01, "test": 0.01}, min_length=1
    )
    seed: int = 0
    by: Literal["video", "source"] = "video"

    @field_validator("shares")
    @classmethod
    def _whole(cls, shares: dict[str, float]) -> dict[str, float]:
        if any(not re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in shares):
            raise ValueError("a split is named in letters, digits, _ and -: it becomes a folder")
        if any(not 0 < share <= 1 for share in shares.values()):
            raise ValueError("each share lies between 0 and 1")
        if abs(sum(shares.values()) - 1) > SUM_TOLERANCE:
            raise ValueError(f"the shares make {sum(shares.values()):g}, not 1")
        return shares

    def assign(
        self,
        video_ids: pa.Array | pa.ChunkedArray,
        links: pa.Table | None = None,
        sources: pa.Array | pa.ChunkedArray | None = None,
    ) -> pa.Table:
        """Say which split each video belongs to.

        Args:
            video_ids: The videos; repeated ones count once.
            links: ``video_a``, ``video_b``: videos that share something. They may name videos that
                are not asked for, which join others all the same.
            sources: One per element of ``video_ids``, for ``by: source``. A video of unknown
                source stands for itself.

        Returns:
            ``video_id, split``, one row per distinct video, sorted by id.

        Raises:
            ValueError: ``by: source`` without sources.
        """
        if self.by == "source" and sources is None:
            raise ValueError("by: source needs the sources")
        first, second = _texts(links, "video_a"), _texts(links, "video_b")
        asked = _plain(video_ids)
        # Sorted, so that the smallest number of a component is its smallest id.
        everyone = pc.call_function("unique", [pa.concat_arrays([asked, first, second])])
        everyone = everyone.drop_null().sort()
        pairs = [(_places(first, everyone), _places(second, everyone))]
        if self.by == "source" and sources is not None:
            pairs.append(_same_source(_places(asked, everyone), encode(sources)))
        lowest = components(
            len(everyone),
            np.concatenate([a for a, _ in pairs]),
            np.concatenate([b for _, b in pairs]),
        )
        roots = np.unique(lowest)
        keys = shuffle_keys(self.seed, everyone.take(pa.array(roots)))
        ends = np.cumsum(list(self.shares.values()))[:-1]
        of_root = np.searchsorted(ends, keys / 2.0**64, side="right")
        number = of_root[np.searchsorted(roots, lowest)]
        names = pa.array(list(self.shares), pa.string())
        table = pa.table({"video_id": everyone, "split": names.take(pa.array(number))})
        options = pc.SetLookupOptions(value_set=asked)
        return table.filter(pc.call_function("is_in", [table.column("video_id")], options))

    def report(self, clips: pa.Table) -> SplitReport:
        """How far the splits are from the wish.

        Args:
            clips: ``video_id``, ``duration_s`` and ``split`` of the kept clips.
        """
        sums = clips.group_by("split").aggregate(
            [("duration_s", "sum"), ("video_id", "count_distinct"), ("split", "count")]
        )
        found = {row["split"]: row for row in sums.to_pylist()}
        total_s = sum(row["duration_s_sum"] or 0.0 for row in found.values())
        parts = []
        for name, wish in self.shares.items():
            row = found.get(name, {})
            seconds = row.get("duration_s_sum") or 0.0
            parts.append(
                SplitPart(
                    split=name,
                    videos=row.get("video_id_count_distinct", 0),
                    clips=row.get("split_count", 0),
                    seconds=seconds,
                    wished_share=wish,
                    share=seconds / total_s if total_s else 0.0,
                )
            )
        return SplitReport(parts, _remarks(parts, total_s))


@dataclass(frozen=True)
class SplitPart:
    """One split.

    Attributes:
        split: Its name.
        videos: Videos with a clip in it.
        clips: Its clips.
        seconds: Their length.
        wished_share: Of all seconds, as the settings have it.
        share: As it came out.
    """

    split: str
    videos: int
    clips: int
    seconds: float
    wished_share: float
    share: float


@dataclass(frozen=True)
class SplitReport:
    """The splits as they came out.

    Attributes:
        parts: In the order of the settings.
        remarks: Empty splits and large differences, in words.
    """

    parts: list[SplitPart]
    remarks: list[str]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The lowest member of each node's connected component, int64 [count].

    Labels go down along the links, and each node jumps to its label's label (Shiloach and Vishkin
    1982), so the number of rounds grows with the logarithm of the longest chain.

    Args:
        count: Nodes are numbered from 0.
        first: int [links].
        second: int [links], the other end of each.
    """
    labels = np.arange(count)
    while True:
        lower = np.minimum(labels[first], labels[second])
        before = labels.copy()
        for end in (labels[first], labels[second]):
            np.minimum.at(labels, end, lower)
        while not np.array_equal(jumped := labels[labels], labels):
            labels = jumped
        if np.array_equal(before, labels):
            return labels


def _remarks(parts: Sequence[SplitPart], total_s: float) -> list[str]:
    videos = sum(part.videos for part in parts)
    found = []
    for part in parts:
        if total_s and not part.clips:
            found.append(
                f"{part.split} is empty: {videos} videos are few for a share of "
                f"{part.wished_share:g}"
            )
        elif part.clips and not 0.5 <= part.share / part.wished_share <= 2:
            found.append(
                f"{part.split} has {part.share:.3g} of the seconds, not {part.wished_share:g}: "
                f"{part.videos} of {videos} videos"
            )
    return found


def _same_source(videos: np.ndarray, sources: pa.DictionaryArray) -> tuple[np.ndarray, np.ndarray]:
    """Links from each video to the first one of its source."""
    codes = sources.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    known = codes >= 0
    _, firsts, back = np.unique(codes[known], return_index=True, return_inverse=True)
    return videos[known], videos[known][firsts][back]


def _texts(links: pa.Table | None, name: str) -> pa.Array:
    return pa.array([], pa.string()) if links is None else _plain(links.column(name))


def _plain(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array of strings."""
    values = values.cast(pa.string())
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _places(values: pa.Array, among: pa.Array) -> np.ndarray:
    """Where each value stands in a list of distinct values that holds them all."""
    options = pc.SetLookupOptions(value_set=among)
    return pc.call_function("index_in", [values], options).to_numpy(zero_copy_only=False)
