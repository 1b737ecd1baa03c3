"""Stages that misbehave on purpose. Each acts only on videos or clips that its fields name."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from curation.errors import MediaError
from curation.media.parts import Part, Seams, lay_parts
from curation.schema import FLOAT64, INT32, INT64, STRING, schema
from curation.stage import Failure, Grain, Output, Stage

CATASTROPHE = re.compile(r"(a+)+b")
Deed = Literal["none", "kill", "loop", "regex", "memory", "raise", "media_error"]

ClipDeed = Deed | Literal["failure", "table", "column", "stranger", "twice"]


def commit_deed(deed: str, code: str) -> None:
    """Misbehave once."""
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == "loop":
        while True:
            pass
    elif deed == "regex":
        CATASTROPHE.match("a" * 40)  # hours of C code that holds the interpreter lock
    elif deed == "memory":
        hoard = []
        while True:
            if len(hoard) < 64:  # 4 GiB, should nobody step in
                hoard.append(bytearray(b"x") * 2**26)
            time.sleep(0.05)
    elif deed == "raise":
        raise RuntimeError("a bug")
    elif deed == "media_error":
        raise MediaError(code, "refused on purpose")


class BadVideo(Stage):
    """A video-grain stage that misbehaves on videos by their length in whole seconds."""

    name: ClassVar[str] = "bad_video"
    grain: ClassVar[Grain] = "video"
    reads: ClassVar[pa.Schema] = schema(video_duration_s=FLOAT64, local_path=STRING)
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "bad_notes": schema(note=STRING),
        "bad_lines": schema(line=INT32),
    }
    details: ClassVar[frozenset[str]] = frozenset({"bad_lines"})

    deeds: dict[str, Deed] = Field(default_factory=dict)  # seconds -> what to do
    unless: str = ""  # a file that, when it exists, makes the stage behave
    code: str = "own_code"

    operational: ClassVar[frozenset[str]] = Stage.operational | {"unless"}

    def process(self, batch: pa.Table) -> Iterator[Output]:
        row = batch.to_pylist()[0]
        deed = self.deeds.get(str(round(row["video_duration_s"])), "none")
        if self.unless and Path(self.unless).exists():
            deed = "none"
        yield "bad_lines", pa.table({"line": pa.array([1, 2, 3], pa.int32())})
        commit_deed(deed, self.code)
        yield "bad_notes", pa.table({"note": ["fine"]})


class BadPart(Stage):
    """A divisible stage that misbehaves in parts by their number."""

    name: ClassVar[str] = "bad_part"
    grain: ClassVar[Grain] = "video"
    divisible: ClassVar[bool] = True
    reads: ClassVar[pa.Schema] = schema(local_path=STRING, video_num_frames=INT64)
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "pieces": schema(piece_start_frame=INT64),
        "piece_sums": schema(num_pieces=INT32),
    }
    details: ClassVar[frozenset[str]] = frozenset({"pieces"})

    deeds: dict[str, Deed] = Field(default_factory=dict)  # number of the part -> what to do
    unless: str = ""
    code: str = "own_code"

    operational: ClassVar[frozenset[str]] = Stage.operational | {"deeds", "unless"}

    def process(self, batch: pa.Table) -> Iterator[Output]:
        row = batch.to_pylist()[0]
        starts = list(range(0, row["video_num_frames"], 50))
        yield "pieces", pa.table({"piece_start_frame": starts})
        yield "piece_sums", pa.table({"num_pieces": pa.array([len(starts)], pa.int32())})

    def lay_parts(self, row: Mapping[str, Any], part_s: float) -> list[Part]:
        return lay_parts(row["local_path"], part_s, 50)

    def process_part(self, row: Mapping[str, Any], part: Part) -> Iterator[Output | Seams]:
        deed = self.deeds.get(str(part.index), "none")
        if not (self.unless and Path(self.unless).exists()):
            commit_deed(deed, self.code)
        end = row["video_num_frames"] if part.end_frame is None else part.end_frame
        starts = list(range(part.start_frame, end, 50))
        yield "pieces", pa.table({"piece_start_frame": starts})
        yield Seams(before=str(part.start_frame), after=str(end))

    def join_parts(self, row: Mapping[str, Any], segments: Iterable[pa.Table]) -> Iterator[Output]:
        total = sum(table.num_rows for table in segments)
        yield "piece_sums", pa.table({"num_pieces": pa.array([total], pa.int32())})


class BadClip(Stage):
    """A clip-grain stage that misbehaves on clips by their index, in videos above ``above_s``."""

    name: ClassVar[str] = "bad_clip"
    grain: ClassVar[Grain] = "clip"
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, clip_index=INT32, video_duration_s=FLOAT64)
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "bad_scores": schema(clip_id=STRING, badness=FLOAT64)
    }

    deeds: dict[str, ClipDeed] = Field(default_factory=dict)  # clip index -> what to do
    above_s: float = 0.0
    unless: str = ""
    code: str = "own_code"

    operational: ClassVar[frozenset[str]] = Stage.operational | {"unless"}

    def process(self, batch: pa.Table) -> Iterator[Output]:
        good = []
        for row in batch.to_pylist():
            clip = row["clip_id"]
            deed = self.deeds.get(str(row["clip_index"]), "none")
            if row["video_duration_s"] <= self.above_s:
                deed = "none"
            if self.unless and Path(self.unless).exists():
                deed = "none"
            if deed == "failure":
                yield Failure(clip_id=clip, code=self.code, message="this one")
                continue
            if deed == "table":
                yield "nowhere", pa.table({"clip_id": [clip]})
            elif deed == "column":
                yield "bad_scores", pa.table({"clip_id": [clip], "oddity": [1.0]})
            elif deed in ("stranger", "twice"):
                other = clip if deed == "twice" else "f" * 32
                good.append({"clip_id": other, "badness": 0.0})
            else:
                commit_deed(deed, self.code)
            good.append({"clip_id": clip, "badness": float(row["clip_index"])})
        yield "bad_scores", pa.Table.from_pylist(good, schema=self.adds["bad_scores"])
