"""Units of work: what the driver asks of a worker, and what it hears back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from curation.plan import Plan
from curation.stage import Stage
from curation.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One source and the stages it still needs.

    Attributes:
        source_id: Id of the URI.
        uri: Where the bytes are.
        etag: Which state of the source this is.
        video_id: sha256 of the bytes when it is known already, else None.
        todo: Names of the stages to run, in plan order.
    """

    source_id: str
    uri: str
    etag: str
    video_id: str | None
    todo: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a worker is given up.

    Attributes:
        stall_timeout_s: No heartbeat for this long.
        memory_limit_bytes: Resident size of the worker process; None: no limit.
        max_attempts: The attempt that writes the error row instead of working.
    """

    stall_timeout_s: float = 300.0
    memory_limit_bytes: int | None = None
    max_attempts: int = 3


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """Everything a worker process needs to know; travels to it once.

    Attributes:
        storage: The dataset root.
        plan: The whole plan (for wiring and fingerprints).
        stages: The stages of this worker's group.
        run_id: The run that holds the lease.
        limits: Watchdog settings.
        last: True for the plan's last group.
    """

    storage: Storage
    plan: Plan
    stages: tuple[Stage, ...]
    run_id: str
    limits: Limits
    last: bool


@dataclass(kw_only=True)
class StageCount:
    """What one stage did for one unit."""

    rows: int = 0
    failed: int = 0
    busy_s: float = 0.0


@dataclass(kw_only=True)
class UnitResult:
    """What a worker reports of a unit.

    Attributes:
        unit: The unit, with its video id once known.
        parts: Part files published for it, in group order.
        error: Code of the failure that ended it, or None.
        message: Text of that failure.
        stage: Stage that failed.
        duplicate: True when another source with the same bytes is being worked on.
        counts: Per stage.
        internal_errors: Error rows that are bugs, of the unit and of its clips.
        video_s: Length of the video in seconds, when it was decoded.
        wall_s: Time the worker spent on it.
    """

    unit: Unit
    parts: list[str] = field(default_factory=list)
    error: str | None = None
    message: str = ""
    stage: str = ""
    duplicate: bool = False
    counts: dict[str, StageCount] = field(default_factory=dict)
    internal_errors: int = 0
    video_s: float | None = None
    wall_s: float = 0.0

    def as_row(self) -> dict[str, Any]:
        """Plain values, to cross a process boundary."""
        from dataclasses import asdict

        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> UnitResult:
        """The inverse of :meth:`as_row`."""
        unit = dict(row["unit"])
        unit["todo"] = tuple(unit["todo"])
        counts = {name: StageCount(**c) for name, c in row["counts"].items()}
        return cls(**{**row, "unit": Unit(**unit), "counts": counts})
