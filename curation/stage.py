"""The stage: the one interface that everything which computes rows has to meet.

A stage is a frozen model whose fields are its configuration, with their units in their names. It
declares the columns it reads and those it adds, and turns batches of rows into rows. It knows
nothing of engines, files of the catalog, or resume.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from curation.models.weights import Weights
from curation.storage import Storage

if TYPE_CHECKING:
    from curation.media.parts import Part, Seams

Grain = Literal["video", "clip"]
"""What one row of a stage's input is."""


class Resources(BaseModel):
    """What one worker of a stage needs; neighbours with equal needs share a worker."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_cpus: float = Field(1.0, gt=0)
    num_gpus: float = Field(0.0, ge=0)
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One clip of a batch that failed; the rest of the batch goes on."""

    clip_id: str
    code: str
    message: str


Output = tuple[str, pa.Table] | Failure
"""What ``process`` yields: rows for a named table, or the failure of one clip."""


@dataclass(kw_only=True)
class StageContext:
    """What the engine hands to a stage before its first batch.

    Attributes:
        storage: The dataset root, for stages that write media.
        fingerprint: The stage's own fingerprint under this plan.
        beat: Call it during long work, so that the watchdog sees progress.
    """

    storage: Storage
    fingerprint: str
    beat: Callable[[], None] = field(default=lambda: None)


class Stage(BaseModel, ABC):
    """Base class of all stages, built-in or a user's own.

    Class attributes:
        name: Unique in a plan; the key of its rows in ``done`` and ``errors``.
        version: Raise it by hand when the same fields give other rows.
        grain: What one input row is.
        reads: Columns it needs, by name and type.
        adds: Columns it writes, per table. A clip-grain table gets ``clip_id`` from the stage.
        details: Tables of ``adds`` with many rows per clip or video (lists of spans, sampled
            pictures). Their columns are not offered to other stages, so any names will do.
        gated: True when only clips that the judge keeps reach it.
        divisible: True when long videos may be worked on in parts, by several workers at a time;
            for stages of video grain. Such a stage has ``lay_parts``, ``process_part`` and
            ``join_parts``, and gives the same rows either way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "clip"
    reads: ClassVar[pa.Schema]
    adds: ClassVar[Mapping[str, pa.Schema]]
    details: ClassVar[frozenset[str]] = frozenset()
    gated: ClassVar[bool] = False
    divisible: ClassVar[bool] = False
    operational: ClassVar[frozenset[str]] = frozenset({"resources", "batch_size"})
    """Fields that change how the work is done but not its result; left out of fingerprints."""

    resources: Resources = Resources()  # pyright: ignore[reportCallIssue]
    batch_size: int = Field(64, ge=1)

    def setup(self, context: StageContext) -> None:
        """Load weights and keep the context; called once per worker process and plan."""

    @abstractmethod
    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Turn a batch of input rows into rows of the declared tables.

        Args:
            batch: The columns of ``reads`` plus ``video_id`` (and ``clip_id``). At video grain
                it has exactly one row; at clip grain up to ``batch_size`` clips of one video.

        Yields:
            ``(table, rows)`` pairs, or a :class:`Failure` for one clip.

        Raises:
            MediaError: The input is at fault; becomes an error row. A batch of several clips is
                then tried clip by clip.
        """

    def lay_parts(self, row: Mapping[str, Any], part_s: float) -> list[Part]:
        """Divide a video; the same file always gives the same parts.

        Args:
            row: The columns of ``reads``.
            part_s: Wanted length of a part, seconds.

        Returns:
            The parts in order; empty when the video is better left whole.
        """
        raise NotImplementedError

    def process_part(self, row: Mapping[str, Any], part: Part) -> Iterator[Output | Seams]:
        """Do one part of a video.

        Args:
            row: The columns of ``reads``.
            part: One of those that ``lay_parts`` gave.

        Yields:
            The rows that ``process`` gives for this part, and at the end what was seen at its two
            seams: neighbours that saw different things are not joined.

        Raises:
            PartMismatch: The part is not what it was laid for; the video is then passed over whole.
        """
        raise NotImplementedError

    def join_parts(self, row: Mapping[str, Any], segments: Iterable[pa.Table]) -> Iterator[Output]:
        """The rows that only the whole video has, once the rows of all parts are there.

        Args:
            row: The columns of ``reads``; those of the file's place may be null.
            segments: The rows of the parts in the stage's first table, in order. Nothing is added
                to that table any more.
        """
        raise NotImplementedError

    def model_checksums(self) -> dict[str, str]:
        """sha256 of every weight file the stage loads; part of its fingerprint."""
        return {}

    def missing(self) -> list[Weights]:
        """Weights that are not on this machine, and without which a run must not start."""
        return []

    def problems(self) -> list[str]:
        """What else a run must not start without, each with its mend: a key, a package."""
        return []

    def unknown(self) -> frozenset[str]:
        """Columns that stay null on this machine, for want of weights."""
        return frozenset()

    def fallbacks(self) -> list[str]:
        """What runs in place of something asked for that this machine lacks, in words."""
        return []

    def settings(self) -> dict[str, object]:
        """The fields that decide the result, JSON-able."""
        return self.model_dump(mode="json", exclude=set(self.operational))
