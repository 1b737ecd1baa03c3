"""How a run is carried out and which files it takes: nothing here changes a result."""

from __future__ import annotations

import os
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field

from curation.engine.unit import Limits

MEMORY_SHARE = 0.8
"""Share of the machine's memory that all workers together may take, unless the config says."""


class RunSettings(BaseModel):
    """How a run is carried out; nothing here changes a result.

    Attributes:
        engine: ``ray`` or ``inline``.
        num_workers: Most videos in work at a time; null: as many as there are cores.
        part_s: Videos of at least two times this length are analysed in parts of about this many
            seconds, by several workers at a time; null: none is.
        part_clips: Clips of one video that a worker scores and cuts at a time, when there are at
            least two times as many; null: always all of them.
        stall_timeout_s: A worker without progress for this long is killed.
        memory_limit_bytes: A worker above this resident size is killed; null: a share of the
            machine's memory.
        max_internal_errors: A run with more unexpected failures than this stops.
        caption_gate: What happens when captions do not fit their clips over the whole run: nothing
            is shipped (fail), it is said (warn), or nobody looks (off). See ``captions/gate.py``.
            A backend that mixes up a batch stops the run whatever is set here.
        commit_rows: Rows that wait before they are committed.
        commit_every_s: Seconds before waiting rows are committed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["ray", "inline"] = "ray"
    num_workers: int | None = Field(None, ge=1)
    part_s: float | None = Field(300.0, gt=0)
    part_clips: int | None = Field(64, ge=1)
    stall_timeout_s: float = Field(300.0, gt=0)
    memory_limit_bytes: int | None = Field(None, gt=0)
    max_internal_errors: int = Field(50, ge=0)
    caption_gate: Literal["fail", "warn", "off"] = "fail"
    commit_rows: int = Field(20_000, ge=1)
    commit_every_s: float = Field(20.0, gt=0)

    def limits(self) -> Limits:
        """The watchdog's settings; without a limit a worker may take its share of the memory."""
        workers = self.num_workers or os.cpu_count() or 1
        share = int(MEMORY_SHARE * psutil.virtual_memory().total / workers)
        return Limits(
            stall_timeout_s=self.stall_timeout_s,
            memory_limit_bytes=self.memory_limit_bytes or share,
        )


class InputSettings(BaseModel):
    """Which files of a folder are taken.

    Attributes:
        extensions: File endings, lower case; a file named one by one is always taken.
        text_sidecars: Take ``NAME.txt`` beside ``NAME.mp4`` as its caption.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    extensions: tuple[str, ...] = (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts", "m2ts"),
        *("flv", "ogv", "3gp", "wmv", "mxf"),
    )
    text_sidecars: bool = True
