"""Units of work: what the driver asks of a worker, and what it hears back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from curation.ids import digest
from curation.media.parts import Part
from curation.plan import Plan
from curation.stage import Stage
from curation.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One source and the stages it still needs, or a step on the way of a long one.

    Attributes:
        source_id: Id of the URI.
        uri: Where the bytes are.
        etag: Which state of the source this is.
        video_id: sha256 of the bytes when it is known already, else None.
        todo: Names of the stages to run, in plan order.
        whole: Do not divide the video for the first stage, however long it is.
        part: Do this part of the (only) stage and nothing else.
        done_parts: Files below ``parts/`` that hold the first stage's rows, part by part.
        failure: Code and message with which a part of the first stage failed.
        clips: Do these clips alone: first and end position in the video's clips.
    """

    source_id: str
    uri: str
    etag: str
    video_id: str | None
    todo: tuple[str, ...]
    whole: bool = False
    part: Part | None = None
    done_parts: tuple[str, ...] = ()
    failure: tuple[str, str] | None = None
    clips: tuple[int, int] | None = None

    @property
    def key(self) -> str:
        """Unique among the units of a run; begins with the source id and, if any, a dash."""
        if self.clips is not None:
            return f"{self.source_id}-clips{self.clips[0]}"
        if self.part is not None:
            return f"{self.source_id}-{self.first}-part{self.part.index}"
        if self.done_parts or self.failure:
            return f"{self.source_id}-{self.first}-joined"
        return f"{self.source_id}-{self.first}-whole" if self.whole else self.source_id

    @property
    def first(self) -> str:
        """The first stage, as a piece of a file name."""
        return digest(self.todo[0])[:8]

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Unit:
        """From plain values, as JSON gives them back."""
        part, failure, clips = row["part"], row["failure"], row["clips"]
        return cls(
            **{
                **row,
                "todo": tuple(row["todo"]),
                "part": None if part is None else Part(**part),
                "done_parts": tuple(row["done_parts"]),
                "failure": None if failure is None else (failure[0], failure[1]),
                "clips": None if clips is None else (clips[0], clips[1]),
            }
        )


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
        part_s: Wanted length of the parts of long videos; None: they are never divided.
        part_clips: Clips of one video that a worker takes on at a time; None: all.
        prints: Stage name -> fingerprint on the driver's machine; None: not known.
    """

    storage: Storage
    plan: Plan
    stages: tuple[Stage, ...]
    run_id: str
    limits: Limits
    last: bool
    part_s: float | None = None
    part_clips: int | None = None
    prints: dict[str, str] | None = None


@dataclass(kw_only=True)
class StageCount:
    """What one stage did for one unit.

    Attributes:
        rows: Rows it wrote.
        failed: Clips that failed in it.
        busy_s: Seconds it took.
        clips: Clips that came to it; 0 for a stage of whole videos.
        media_s: Seconds of video that came to it, where known: clips' own, overlap counted twice.
    """

    rows: int = 0
    failed: int = 0
    busy_s: float = 0.0
    clips: int = 0
    media_s: float = 0.0


@dataclass(kw_only=True)
class UnitResult:
    """What a worker reports of a unit.

    Attributes:
        unit: The unit, with its video id once known.
        parts: Part files published for it, in group order.
        error: Code of the failure that ended it, or None.
        message: Text of that failure.
        stage: Stage that failed, or that waits for its parts.
        duplicate: True when another source with the same bytes is being worked on.
        counts: Per stage.
        internal_errors: Error rows that are bugs, of the unit and of its clips.
        distrusted: Why a backend's answers cannot be believed; empty: nothing speaks against them.
        video_s: Length of the video in seconds, when it was decoded.
        wall_s: Time the worker spent on it.
        shares: Spans of the video's clips to be done one by one, from the stage ``stage`` on.
        division: Parts of the stage ``stage`` to be done before the unit can go on.
        mismatch: Why parts are not what they were laid for: the video has to be passed over whole.
        reused: A part that an earlier run had done.
    """

    unit: Unit
    parts: list[str] = field(default_factory=list)
    error: str | None = None
    message: str = ""
    stage: str = ""
    duplicate: bool = False
    counts: dict[str, StageCount] = field(default_factory=dict)
    internal_errors: int = 0
    distrusted: str = ""
    video_s: float | None = None
    wall_s: float = 0.0
    shares: list[tuple[int, int]] = field(default_factory=list)
    division: list[Part] = field(default_factory=list)
    mismatch: str = ""
    reused: bool = False

    @property
    def ended(self) -> bool:
        """True when no further group has anything to do for the unit."""
        return bool(self.error or self.duplicate or self.divided)

    @property
    def divided(self) -> bool:
        """True when other units have to go on where this one ended."""
        return bool(self.division or self.shares)

    def as_row(self) -> dict[str, Any]:
        """Plain values, to cross a process boundary."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> UnitResult:
        """The inverse of :meth:`as_row`."""
        counts = {name: StageCount(**c) for name, c in row["counts"].items()}
        parts = [Part(**p) for p in row["division"]]
        shares = [(first, end) for first, end in row["shares"]]
        unit = Unit.from_row(row["unit"])
        made = {"unit": unit, "counts": counts, "division": parts, "shares": shares}
        return cls(**{**row, **made})
