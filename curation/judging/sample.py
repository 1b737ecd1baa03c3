"""Sampling: of the clips that pass, which are taken; caps, a mix of lengths, balance.

Caps apply in this order: per video, per source, the mix of durations, balance, the whole. Each
keeps the first clips of a shuffle by seed and clip id, so the choice depends on neither the order
of the rows nor on what else is in the catalog, and a smaller cap keeps a part of what a larger one
keeps. (Of the caps behind it that is not always true: two clips more of one video can take the
place of two others in the whole.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from curation.errors import CatalogError
from curation.judging.caps import NEARLY, Cap, Division
from curation.judging.groupings import groups_of, parse_span, spans_of, values_of
from curation.judging.keys import shuffled_order
from curation.judging.shares import Share, settle

CLUSTER = "cluster"
US_PER_S = 1_000_000
SUM_TOLERANCE = 1e-6


class VideoCaps(BaseModel):
    """Most of one video.

    Attributes:
        max_clips: Clips.
        max_s: Seconds. The first clip of the shuffle that does not fit ends it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_clips: int | None = Field(default=None, ge=1)
    max_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class SourceCaps(VideoCaps):
    """Most of one source (the column ``source``; all unknown ones are one).

    Attributes:
        max_share: Of all clips taken in the end; at least one clip may stay. Left out, with a
            remark, when there are too few sources for it.
    """

    max_share: float | None = Field(default=None, gt=0, le=1)


class Balance(BaseModel):
    """Even numbers of clips over the values of a column.

    Attributes:
        by: ``cluster`` (groups of clips that look alike, from their embeddings), or a column of
            text, whole numbers, true and false, or, with ``edges``, measured numbers. A missing
            value is a value of its own.
        num_clusters: How many clusters to make.
        edges: Where measured numbers are divided: ``[0.01, 0.1]`` makes three spans, half-open.
        max_share: Most clips of one value, of all taken in the end.
        max_per_value: Most clips of one value.
        temperature: 1 changes nothing, higher is flatter: a value of ``n`` clips, more than the
            median ``m``, keeps ``m * (n / m) ** (1 / temperature)``; those below stay whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: str = CLUSTER
    num_clusters: int | None = Field(default=None, ge=1)
    edges: tuple[float, ...] = ()
    max_share: float | None = Field(default=None, gt=0, le=1)
    max_per_value: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_way(self) -> Balance:
        ways = ("max_share", "max_per_value", "temperature")
        if sum(getattr(self, way) is not None for way in ways) != 1:
            raise ValueError(f"needs one of {', '.join(ways)}")
        if self.num_clusters is not None and self.by != CLUSTER:
            raise ValueError("num_clusters goes with by: cluster")
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges have to rise")
        if self.edges and self.by == CLUSTER:
            raise ValueError("clusters have no edges")
        return self

    @property
    def reason(self) -> str:
        """Of the clips above the cap."""
        return f"over_{self.by}_cap"


class Sampling(BaseModel):
    """Which of the clips that pass every rule are taken.

    Attributes:
        seed: Another seed chooses other clips.
        max_clips: Most clips in all.
        max_s: Most seconds in all. The first clip of the shuffle that does not fit ends it.
        per_video: Most of one video.
        per_source: Most of one source.
        duration_mix: Shares of clips by duration in seconds, half-open spans: ``{"2-4": 0.3,
            "4-8": 0.5, "8-": 0.2}``. Clips of no span go. The span that is scarcest for its share
            limits the others: with 30 clips of 2-4 s, about 100 are taken. Shares are met to within
            a clip or two.
        balance: Even numbers over the values of a column.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    max_clips: int | None = Field(default=None, ge=1)
    max_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    per_video: VideoCaps = VideoCaps()
    per_source: SourceCaps = SourceCaps()
    duration_mix: dict[str, float] = Field(default_factory=dict)
    balance: Balance | None = None

    @field_validator("duration_mix")
    @classmethod
    def _whole_mix(cls, mix: dict[str, float]) -> dict[str, float]:
        spans = sorted(parse_span(text) for text in mix)
        for (_, end), (start, _) in pairwise(spans):
            if start < end:
                raise ValueError(f"two spans share {start:g} s")
        if any(not 0 < share <= 1 for share in mix.values()):
            raise ValueError("shares lie between 0 and 1")
        if mix and abs(sum(mix.values()) - 1) > SUM_TOLERANCE:
            raise ValueError(f"the shares make {sum(mix.values()):g}, not 1")
        return mix

    def columns(self) -> list[str]:
        """All it looks at."""
        wanted = ["clip_id", "video_id", "duration_s"]
        if self.per_source != SourceCaps():
            wanted.append("source")
        if self.balance is not None and self.balance.by not in wanted:
            wanted.append(self.balance.by)
        return wanted

    def reasons(self) -> list[str]:
        """The reasons it can give, in the order of the caps."""
        balance = [] if self.balance is None else [self.balance.reason]
        return [
            *("over_video_cap", "over_source_cap", "over_duration_mix"),
            *balance,
            "over_total",
        ]

    def choose(self, clips: pa.Table, remarks: list[str] | None = None) -> pa.Array:
        """Choose among clips that pass.

        Args:
            clips: ``columns()`` of every clip that passes; with ``balance`` by cluster a column
                ``cluster``.
            remarks: What could not be done as wished is added here, in words.

        Returns:
            Why each clip is not taken, string [clips]: ``over_video_cap``, ``over_source_cap``,
            ``over_duration_mix``, ``over_cluster_cap`` (or ``over_<column>_cap``), ``over_total``;
            null: it is taken.

        Raises:
            CatalogError: A clip without a duration.
            ConfigError: A column that clips cannot be balanced by.
        """
        remarks = [] if remarks is None else remarks
        if clips.column("duration_s").null_count:
            raise CatalogError("clips without a duration cannot be sampled", where="clips")
        order = shuffled_order(self.seed, clips.column("clip_id"))
        lengths_s = np.asarray(clips.column("duration_s").to_numpy(), np.float64)[order]
        chosen = _choose(*self._limits(clips, order, lengths_s), lengths_s, remarks)
        rows = np.empty(len(order), np.int64)
        rows[order] = np.arange(len(order))
        return chosen.take(pa.array(rows))

    def _limits(
        self, clips: pa.Table, order: np.ndarray, lengths_s: np.ndarray
    ) -> tuple[list[Cap], list[Share], Cap]:
        """Caps, shares and the cap on the whole, over the clips in their shuffled order."""
        caps: list[Cap] = []
        shares: list[Share] = []

        def limit(reason: str, groups: np.ndarray, share: float | None, **most: Any) -> None:  # noqa: ANN401
            division = Division(groups)
            if any(value is not None for value in most.values()):
                caps.append(Cap(reason, division, **most))
            if share is not None:
                shares.append(Share(reason, division, max_share=share))

        video, source, balance = self.per_video, self.per_source, self.balance
        if video != VideoCaps():
            groups = groups_of(clips.column("video_id"))[order]
            most = {"max_clips": video.max_clips, "max_us": _us(video.max_s)}
            limit("over_video_cap", groups, None, **most)
        if source != SourceCaps():
            groups = groups_of(clips.column("source"))[order]
            most = {"max_clips": source.max_clips, "max_us": _us(source.max_s)}
            limit("over_source_cap", groups, source.max_share, **most)
        if self.duration_mix:
            groups, mix = spans_of(self.duration_mix, lengths_s)
            shares.append(Share("over_duration_mix", Division(groups, len(mix)), mix=mix))
        if balance is not None:
            groups = values_of(balance.by, balance.edges, clips.column(balance.by))[order]
            most = {"max_clips": balance.max_per_value, "temperature": balance.temperature}
            limit(balance.reason, groups, balance.max_share, **most)
        whole = Division(np.zeros(len(order), np.int64))
        return caps, shares, Cap("over_total", whole, self.max_clips, _us(self.max_s))


def _choose(
    caps: Sequence[Cap],
    shares: Sequence[Share],
    whole: Cap,
    lengths_s: np.ndarray,
    remarks: list[str],
) -> pa.Array:
    """Why each clip is not taken, string [clips]; null: it is."""
    lengths_us = np.round(lengths_s * US_PER_S).astype(np.int64)
    names = [*(c.reason for c in caps), *(s.reason for s in shares), whole.reason]
    codes = np.full(len(lengths_s), -1)
    kept = np.ones(len(lengths_s), bool)
    for code, cap in enumerate(caps):
        left = cap.apply(kept, lengths_us)
        codes[kept & ~left] = code
        kept = left
    possible = [s for s in shares if s.attainable(s.division.sizes(kept))]
    remarks += [_left_out(s, kept) for s in shares if s not in possible]
    filled, taken = kept, whole.apply(kept, lengths_us)
    if possible:
        most = len(kept) if whole.max_clips is None else whole.max_clips
        filled, total = settle(possible, kept, most, lambda f: whole.apply(f, lengths_us))
        taken = whole.apply(filled, lengths_us)
        for code, share in enumerate(shares, start=len(caps)):
            if share in possible:
                # Of several full groups the first in the order of the caps is told.
                limits = share.limits(total)[share.division.groups]
                full = share.division.running(filled) >= limits
                codes[kept & ~filled & full & (codes < 0)] = code
        remarks += _scarce(possible, kept, int(taken.sum()))
    codes[kept & ~taken & (codes < 0)] = len(names) - 1
    return pa.array(names, pa.string()).take(pa.array(codes, mask=codes < 0))


def _left_out(share: Share, kept: np.ndarray) -> str:
    present = int(np.count_nonzero(share.division.sizes(kept)))
    needed = ceil(1 / (share.max_share or 1) - NEARLY)
    return (
        f"{share.reason}: the share of at most {share.max_share:g} is left out: "
        f"it takes {needed} groups, and there are {present}"
    )


def _scarce(shares: Sequence[Share], candidates: np.ndarray, total: int) -> list[str]:
    """What the scarcest part of a mix does to the others, in words."""
    found = []
    for share in shares:
        if share.mix is None or not candidates.any():
            continue
        there = share.division.sizes(candidates)
        wanted = np.flatnonzero(share.mix)
        room = there[wanted] / share.mix[wanted]
        scarce = int(np.argmin(room))
        if room[scarce] < candidates.sum():
            found.append(
                f"{share.reason}: span {scarce + 1} of {len(wanted)} is the scarcest, "
                f"{there[scarce]} clips for a share of {share.mix[scarce]:g}; {total} are taken"
            )
    return found


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * US_PER_S)
