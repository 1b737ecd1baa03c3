"""The report of a run: what it did, counted as results come, and where the dataset then stands."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from curation.catalog.account import Account
from curation.engine.unit import UnitResult
from curation.shards.writer import ShardReport


@dataclass(kw_only=True)
class RunReport:
    """What one run did; the account covers the whole root.

    Attributes:
        run_id: Its id.
        root: The dataset root.
        engine: ``ray`` or ``inline``.
        account: The root's totals after the run.
        stages: Per stage: rows, failed clips, busy seconds, units run, units reused.
        errors: Code -> number of units that ended with it in this run.
        internal_errors: Unexpected failures of units and clips, counted against the budget.
        videos_run: Units worked on.
        video_s: Seconds of video decoded in this run.
        long_videos: What was divided, see ``WaveCounts``; empty without work.
        recovered_parts: Parts that an earlier, killed run had left.
        interrupted: Sources in work when an earlier run was ended from outside.
        distrusted: Why a captioner's answers cannot be believed; empty: nothing speaks against
            them.
        asked_ahead: What each pass over the questions of all videos did, see ``Prefilled``.
        gate: What the gate of the captions found, see ``GateReport``.
        edges: What was compared to find duplicates, see ``EdgeReport``.
        remarks: What could not be done as wished when clips were chosen.
        fallbacks: What ran in place of something this machine lacks.
        first_video_s: Command start to first finished video; None without work.
        engine_start_s: Time Ray took to start; 0 inline.
        wall_s: The whole run.
        shards: What sharding did.
        fingerprints: Stage -> fingerprint.
        page: Path or URL of the report page.
    """

    run_id: str
    root: str
    engine: str
    account: Account = field(default_factory=Account)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    internal_errors: int = 0
    videos_run: int = 0
    video_s: float = 0.0
    long_videos: dict[str, int] = field(default_factory=dict)
    recovered_parts: int = 0
    interrupted: list[str] = field(default_factory=list)
    distrusted: str = ""
    asked_ahead: list[dict[str, Any]] = field(default_factory=list)
    gate: dict[str, Any] = field(default_factory=dict)
    edges: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)
    first_video_s: float | None = None
    engine_start_s: float = 0.0
    wall_s: float = 0.0
    shards: ShardReport | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)
    page: str = ""

    @property
    def balanced(self) -> bool:
        """True when everything the root was given is accounted for."""
        return self.account.balanced

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        costs = {name: asdict(cost) for name, cost in self.economics().items()}
        return asdict(self) | {"balanced": self.balanced, "economics": costs}

    def note(self, result: UnitResult, *, through: bool, at_s: float) -> None:
        """Count the result of one unit.

        Args:
            result: What a worker gave back.
            through: True when nothing more of its video is to come.
            at_s: Seconds since the command's start.
        """
        good = through and result.error is None and not result.duplicate
        if self.first_video_s is None and good:
            self.first_video_s = round(at_s, 2)
        self.internal_errors += result.internal_errors
        self.distrusted = self.distrusted or result.distrusted
        self.video_s = round(self.video_s + (result.video_s or 0.0), 3)
        if result.error and through:
            self.errors[result.error] = self.errors.get(result.error, 0) + 1
        for name, count in result.counts.items():
            total = self.stages[name]
            total["rows"] += count.rows
            total["failed"] += count.failed
            total["busy_s"] = round(total["busy_s"] + count.busy_s, 4)
            total["clips"] += count.clips
            total["media_s"] = round(total["media_s"] + count.media_s, 3)

    def economics(self) -> dict[str, StageCost]:
        """What each stage cost in this run."""
        busy_s = sum(count["busy_s"] for count in self.stages.values())
        return {
            name: StageCost(
                clips_per_s=_rate(count["clips"], count["busy_s"]),
                video_s_per_s=_rate(count["media_s"], count["busy_s"]),
                share=round(count["busy_s"] / busy_s, 4) if busy_s else 0.0,
            )
            for name, count in self.stages.items()
        }


@dataclass(frozen=True)
class StageCost:
    """What a stage cost in one run, per worker.

    Attributes:
        clips_per_s: Clips per second of its work; None for stages of whole videos.
        video_s_per_s: Seconds of video per second of its work; None where no length is known.
        share: Its part of all stages' work, 0-1.
    """

    clips_per_s: float | None
    video_s_per_s: float | None
    share: float


def _rate(amount: float, busy_s: float) -> float | None:
    return round(amount / busy_s, 3) if amount and busy_s else None


def new_run_id() -> str:
    """An id for a run that begins now; ids sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"
