"""Runs stages on one video without an engine: each stage gets the columns it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.stage import Failure, Stage, StageContext
from curation.stages.cut import Cut
from curation.stages.probe import Probe
from curation.stages.score import Score
from curation.stages.signals import Signals
from curation.stages.split import Split
from curation.storage import Storage

FINGERPRINT = "f" * 32
VIDEO_ID = "a" * 64


def probe_stage(**fields: Any) -> Probe:  # noqa: ANN401 - any field
    """A probe with the given fields."""
    return Probe(**fields)


def signals_stage(**fields: Any) -> Signals:  # noqa: ANN401 - any field
    """A signals stage with the given fields; without TransNetV2, which is slow, unless asked."""
    return Signals.model_validate({"transnet": "off"} | fields)


def split_stage(**fields: Any) -> Split:  # noqa: ANN401 - any field
    """A split with the given fields; ``adaptive`` unless asked: drawn textures are no footage."""
    return Split.model_validate({"detector": "adaptive"} | fields)


def score_stage(**fields: Any) -> Score:  # noqa: ANN401 - any field
    """A score with the given fields."""
    return Score(**fields)


def cut_stage(**fields: Any) -> Cut:  # noqa: ANN401 - any field
    """A cut with the given fields."""
    return Cut(**fields)


def run_stage(
    stage: Stage, rows: list[dict[str, Any]]
) -> tuple[dict[str, pa.Table], list[Failure]]:
    """Run a stage on rows holding at least its columns; tables as declared, and failures."""
    names = dict.fromkeys([*stage.reads.names, "video_id"])
    schema = pa.schema(
        [
            stage.reads.field(n) if n in stage.reads.names else pa.field(n, pa.string())
            for n in names
        ]
    )
    batch = pa.Table.from_pylist([{n: r[n] for n in names} for r in rows], schema=schema)
    parts: dict[str, list[pa.Table]] = {}
    failures = []
    for output in stage.process(batch):
        if isinstance(output, Failure):
            failures.append(output)
            continue
        table, found = output
        assert found.schema.names == stage.adds[table].names
        parts.setdefault(table, []).append(found)
    tables = {
        name: pa.concat_tables(parts[name]) if name in parts else columns.empty_table()
        for name, columns in stage.adds.items()
    }
    return tables, failures


@dataclass
class Scanned:
    """What the stages found of one video.

    Attributes:
        row: The video's columns; per-frame lists are whole.
        tables: Every table the stages wrote.
    """

    row: dict[str, Any]
    tables: dict[str, pa.Table] = field(default_factory=dict)

    def frames(self, name: str) -> np.ndarray:
        """A per-frame list as an array (null as NaN)."""
        values = self.row[f"frame_{name}"]
        kind = np.int64 if name == "pts" else bool if name == "damaged" else np.float64
        return np.array([np.nan if v is None else v for v in values], dtype=kind)

    @property
    def clips(self) -> list[dict[str, Any]]:
        """Rows of ``clips``."""
        return self.tables["clips"].to_pylist()

    @property
    def spans(self) -> list[dict[str, Any]]:
        """Rows of ``spans``."""
        return self.tables["spans"].to_pylist()

    @property
    def cuts(self) -> list[int]:
        """First new frame of each cut."""
        found = self.tables["transitions"].to_pylist()
        return [t["end_frame"] for t in found if t["kind"] == "cut"]

    def clip_rows(self) -> list[dict[str, Any]]:
        """One row per clip with the video's columns joined on and signals sliced."""
        rows = []
        for clip in self.clips:
            row = self.row | clip
            for name, values in self.row.items():
                if name.startswith("frame_"):
                    row[name] = values[clip["start_frame"] : clip["end_frame"]]
            rows.append(row)
        return rows

    def whole_clip(self) -> dict[str, Any]:
        """A row as if the whole video were one clip."""
        return self.row | {
            "clip_id": "c" * 32,
            "start_frame": 0,
            "end_frame": self.row["video_num_frames"],
            "start_pts": self.row["video_first_pts"],
            "end_pts": self.row["video_end_pts"],
            "start_s": 0.0,
            "end_s": self.row["video_duration_s"],
            "num_frames": self.row["video_num_frames"],
        }

    def score(self, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
        """The score of the whole video as one clip."""
        tables, _ = run_stage(score_stage(**fields), [self.whole_clip()])
        return tables["scores"].to_pylist()[0]


def scan(path: Path | str, signals: Signals | None = None, split: Split | None = None) -> Scanned:
    """Probe, signals and split of one file."""
    path = Path(path)
    row: dict[str, Any] = {
        "local_path": str(path),
        "uri": str(path),
        "size_bytes": path.stat().st_size,
        "video_id": VIDEO_ID,
    }
    result = Scanned(row)
    for stage in (probe_stage(), signals or signals_stage(), split or split_stage()):
        tables, failures = run_stage(stage, [row])
        assert not failures
        result.tables |= tables
        for name in ("videos", "decodes"):
            if name in tables:
                row |= tables[name].to_pylist()[0]
        if "segments" in tables:
            columns = tables["segments"].to_pydict()
            for name, lists in columns.items():
                if name.startswith("frame_"):
                    row[name] = [v for values in lists for v in values]
    return result


def cut_clips(
    rows: list[dict[str, Any]],
    root: Path,
    **fields: Any,  # noqa: ANN401 - any field
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Cut clip rows into a dataset root; media rows get ``path``, the file on this machine."""
    storage = Storage(root)
    stage = cut_stage(**fields)
    stage.setup(StageContext(storage=storage, fingerprint=FINGERPRINT))
    tables, failures = run_stage(stage, rows)
    media = tables["media"].to_pylist()
    for row in media:
        row["path"] = Path(storage.path(row["media_path"]))
    return media, failures


Beat = Callable[[], None]
